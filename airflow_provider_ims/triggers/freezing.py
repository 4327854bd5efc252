"""Short garbage collections while a poller runs.

A full collection looks at every object of the process, and the event loop, with every trigger in it, waits that
long. Most of that is Airflow's: what it has loaded, 195,000 objects, takes 110 to 310 ms on a slow core; then 50
objects for each trigger, 13 of which are of this package. 5,000 triggers that do nothing but sleep bring such a pause
about too, and no thrift in this package could make it short (``tests/triggers/figures.py`` measures both). So what is
there when a poller starts, and whatever has come when a quarter more wait, is set aside with :func:`gc.freeze`, as
Airflow itself does around its forks: collections only look at what has come since.

That concerns the whole process, and is kept as harmless as it can be. Objects that are set aside are freed as ever
when their last reference goes. Only cycles among them that become garbage stay, until the last poller stops and
everything is put back. It can't add up, however long a poller runs: it sets more aside only when more wait than ever.
Whoever else has frozen objects before finds them frozen afterwards.
"""

from __future__ import annotations

import gc
import threading
from math import inf
from typing import ClassVar

# More that must wait than at the last time for the next, so that few begin with a freeze each.
GROWTH, MORE = 1.25, 100


class HeapFreeze:
    """Keeps objects out of garbage collections during the block, until the last of such blocks ends."""

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _holders: ClassVar[int] = 0
    _others_froze: ClassVar[bool] = False

    def __init__(self) -> None:
        self._next = inf

    def __enter__(self) -> HeapFreeze:
        with self._lock:
            if not HeapFreeze._holders:
                HeapFreeze._others_froze = gc.get_freeze_count() > 0
            HeapFreeze._holders += 1
        self._freeze(0)
        return self

    def __exit__(self, *_: object) -> None:
        self._next = inf
        with self._lock:
            HeapFreeze._holders -= 1
            if not HeapFreeze._holders and not HeapFreeze._others_froze:
                gc.unfreeze()

    def grown_to(self, waiting: int) -> None:
        """Set aside what has come, if by now many more wait.

        :param waiting: how many wait.
        """
        if waiting >= self._next:
            self._freeze(waiting)

    def _freeze(self, waiting: int) -> None:
        self._next = waiting * GROWTH + MORE
        gc.freeze()
