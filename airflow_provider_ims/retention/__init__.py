"""Which media may go: a policy, a whole listing, a plan and the page that shows it."""
