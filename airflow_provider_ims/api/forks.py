"""What a process must not share with a child that it forks: connections, locks, pace, credentials.

A connection would be read by both, and each would take the other's answers for its own; a lock that another thread
held when the process forked is never released in the child.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """Whatever has parts that belong to one process."""

    def start_anew(self) -> None:
        """Make those parts anew. In a child nothing else runs yet."""


_owners: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def start_anew_in_children(owner: ForkAware) -> None:
    """Have ``owner`` start anew in every child, as long as it lives."""
    _owners.add(owner)


def _in_child() -> None:
    for owner in list(_owners):
        owner.start_anew()


os.register_at_fork(after_in_child=_in_child)
