"""How often a task that waits says how far it is. Not with the rest of waiting, which a DAG file need not load."""

from __future__ import annotations

import time
from math import inf

LOG_SECONDS = 60.0


class LogInterval:
    """Says when a task that waits shall log again how far it is: once a minute."""

    def __init__(self) -> None:
        self._last = -inf

    def is_over(self, since: float = -inf) -> bool:
        """Return whether a minute has passed since this was last True.

        :param since: and since this moment of the monotonic clock.
        """
        now = time.monotonic()
        if now - max(self._last, since) < LOG_SECONDS:
            return False
        self._last = now
        return True
