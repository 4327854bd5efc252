"""Work in a thread of its own, waited for by one that an exception may strike at any moment; and its ends.

Airflow ends a task whose time is over, or that is being stopped, by an exception out of a signal handler: it strikes
the main thread between any two steps. Futures, events and ``Thread.start`` wait inside a ``Condition``, which such an
exception can leave without its lock: it then ends as "cannot release un-acquired lock", and nobody learns of the
time-out. So the main thread waits on bare locks here: those are taken or not, and nothing lies in between.
"""

from __future__ import annotations

import _thread
import math
import threading
import time
from collections.abc import Callable

# How often one that waits looks at the event that another is linked to.
_LOOK_SECONDS = 0.05


class LinkedEvent(threading.Event):
    """An event that counts as set, too, once another is, which stays as it is when this one is set.

    :param other: it is somebody else's.
    """

    def __init__(self, other: threading.Event) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        """Whether either is."""
        return super().is_set() or self._other.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until either is set; return whether one is.

        :param timeout: in seconds.
        """
        end = math.inf if timeout is None else time.monotonic() + timeout
        while not self.is_set() and (left := end - time.monotonic()) > 0:
            super().wait(min(left, _LOOK_SECONDS))
        return self.is_set()


def run_interruptible(work: Callable[[], None], *, name: str, cancel: Callable[[], None]) -> None:
    """Run ``work`` in another thread; return when it is over.

    :param name: of the thread.
    :param cancel: called when an exception strikes this thread; makes ``work`` end soon. It is waited for.
    :raises BaseException: what ``work`` raised, or else what struck this thread.
    """
    # Held by ``work`` from its beginning on, or by an exception that came before it.
    begun = _thread.allocate_lock()
    # Held until ``work`` is over.
    running = _thread.allocate_lock()
    running.acquire()
    is_over = False
    error: BaseException | None = None

    def end(reason: BaseException | None = None) -> None:
        nonlocal is_over, error
        error, is_over = reason, True
        running.release()

    def run() -> None:
        if not begun.acquire(blocking=False):
            return
        try:
            work()
        except BaseException as reason:  # noqa: BLE001 - raised again where it is waited for
            end(reason)
        else:
            end()

    def start() -> None:
        try:
            threading.Thread(target=run, name=name).start()
        except RuntimeError as reason:  # there can't be more threads
            end(reason)

    try:
        # ``Thread.start`` waits in a Condition, so another thread does it.
        _thread.start_new_thread(start, ())
        running.acquire()
    except BaseException:
        cancel()
        # Looked at before the lock: this thread may have got it just before it was struck.
        if not begun.acquire(blocking=False) and not is_over:
            running.acquire()
        raise
    if error:
        raise error
