"""Hooks of the IMS provider."""
