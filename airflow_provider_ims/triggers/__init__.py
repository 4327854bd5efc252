"""Waiting for what IMS does in its own time: the triggers, what asks on their behalf, and the worker's half of it."""
