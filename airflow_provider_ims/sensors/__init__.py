"""Sensors of the IMS provider."""
