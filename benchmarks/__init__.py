"""What this provider costs, side by side with what one would use instead. ``make bench`` runs all of it."""
