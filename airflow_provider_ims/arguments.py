"""How arguments are read that a template may have rendered to text."""

from __future__ import annotations

# How Jinja and hand-written conf spell nothing.
NOTHING = ("", "[]", "None", "null", "()", "{}")
