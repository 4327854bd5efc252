"""Operators of the IMS provider."""
