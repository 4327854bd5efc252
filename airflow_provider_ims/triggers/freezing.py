"""Short garbage collections while a poller runs.

A full collection looks at every object of the process, and the event loop, with every trigger in it, waits that long.
What Airflow has loaded takes most of the time: 195,000 objects and 110 to 310 ms on a slow core, where what 5,000
tasks wait with takes 15 to 25 ms. 5,000 triggers that do nothing but sleep bring such a pause about too, and no
thrift in this package can shorten it (``tests/triggers/figures.py`` measures both). So what is loaded when the first
poller starts is set aside with :func:`gc.freeze`, as Airflow itself does around its forks: collections no longer look
at it, and only look at what has come since.

That concerns the whole process, and is kept as harmless as it can be. Objects that are set aside are freed as ever
when their last reference goes. Only cycles among them that become garbage meanwhile stay, at most what was there at
that moment, until the last poller stops and everything is put back. Whoever else has frozen objects before finds them
frozen afterwards.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_holders = 0
_others_froze = False


@contextmanager
def heap_frozen() -> Iterator[None]:
    """Keep the objects that there are now out of garbage collections, until the last of these blocks ends."""
    global _holders, _others_froze  # there is one heap in a process
    with _lock:
        _holders += 1
        if _holders == 1:
            _others_froze = gc.get_freeze_count() > 0
            gc.freeze()
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0 and not _others_froze:
                gc.unfreeze()
