"""Says now and then how far a run is: every few seconds at first, rarely in one that takes hours."""

from __future__ import annotations

import logging
import time
from collections import deque

from airflow_provider_ims.api.client import RequestStats
from airflow_provider_ims.deletion.policies import duration_in_words, targets_in_words

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0
"""Seconds from one line to the next."""
PAUSE_GROWTH = 1 / 20
"""Of the time that the run has taken: ten minutes bring 56 lines, ten hours 650."""
LINES_LOOKED_BACK = 6
"""The rate is that of so many lines. That of a whole run, begun slowly or hit by an outage, would mislead."""

log = logging.getLogger(__name__)


class Progress:
    """The lines of one try.

    :param total: targets of the run.
    :param judged: how many had an outcome before this try.
    """

    def __init__(self, total: int, judged: int) -> None:
        self._total = total
        self._began = time.monotonic()
        self._next_line = self._began + FIRST_PAUSE
        self._logged = deque([(self._began, judged)], maxlen=LINES_LOOKED_BACK)

    @property
    def seconds_left(self) -> float:
        """Until the next line is due."""
        return max(self._next_line - time.monotonic(), 0.0)

    def log(
        self,
        judged: int,
        summary: str,
        stats: RequestStats,
        *,
        asked_again: int = 0,
        files_sought: int = 0,
        trouble: str | None = None,
    ) -> None:
        """Log a line.

        :param judged: targets that have an outcome by now.
        :param summary: of the outcomes, in words.
        :param stats: of the requests of this try.
        :param asked_again: how many targets are left that are only asked about again, if there are no others. That
            takes the time that reads are given to catch up, whatever the rate was.
        :param files_sought: the same for those that are gone, while their files are looked for.
        :param trouble: why nothing goes through at the moment.
        """
        now = time.monotonic()
        earlier, judged_then = self._logged[0]
        rate = (judged - judged_then) / (now - earlier)
        self._logged.append((now, judged))
        pause = PAUSE_GROWTH * (now - self._began)
        self._next_line = now + min(max(FIRST_PAUSE, pause), LONGEST_PAUSE)
        losses = [
            f"{count:,} {name}"
            for name, count in (
                ("throttled", stats.throttled),
                (f"answer{'' if stats.lost == 1 else 's'} lost", stats.lost),
            )
            if count
        ]
        waits = [
            f"{what} the last {targets_in_words(count)}"
            for what, count in (
                ("asking again about", asked_again),
                ("looking for the files of", files_sought),
            )
            if count
        ]
        if waits:
            pace = ", ".join(waits)
        else:
            left = duration_in_words((self._total - judged) / rate) if rate > 0 else "unknown time"
            pace = f"{rate:.0f} a second, {left} left"
        log.info(
            "%s of %s done (%d %%), %s: %s%s%s",
            f"{judged:,}",
            f"{self._total:,}",
            100 * judged // self._total,
            pace,
            summary,
            f" [{', '.join(losses)} of {stats.requests:,} requests]" if losses else "",
            f". Nothing goes through: {trouble}" if trouble and rate == 0 else "",
        )
