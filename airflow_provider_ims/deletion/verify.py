"""Is the file gone, too? Looks in OSS for the files of media that were deleted with them.

What the service does when its role lacks rights on a bucket is not documented: the registration may be gone and the
file stay, which nobody finds again and everybody pays for. A listing of OSS shows a deletion at once; but whether IMS
deletes a file before it answers is not documented either, so one that is there is looked for again.

Source: https://www.alibabacloud.com/help/en/ims/developer-reference/api-ice-2020-11-09-deletemediainfos
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, Future
from enum import StrEnum
from typing import NamedTuple, Protocol

from airflow_provider_ims.api.identifiers import oss_region, stored_object
from airflow_provider_ims.deletion.checkpoint import MAX_REASON
from airflow_provider_ims.deletion.resolve import TargetResult

# Files are looked for in so many requests at once, when so many have gathered, or after so many seconds.
REQUESTS_AT_ONCE, FILES_AT_ONCE, GATHER_SECONDS = 4, 500, 0.25


class FileState(StrEnum):
    """What OSS says of the file of a medium that was deleted with it."""

    GONE = "gone"
    LEFT = "left"
    UNKNOWN = "unknown"


class Bucket(Protocol):
    """What is needed of a file system: :class:`airflow_provider_ims.files.oss.OSSFileSystem` has it."""

    def existing(self, bucket: str, keys: Iterable[str]) -> set[str]:
        """Return which of some keys are there.

        :raises OSError: if that can't be found out.
        """


class FileVerifier:
    """Finds out what became of files. Used by several threads at once.

    :param store: OSS, by the keys of the connection.
    :param region: of the connection, None when it is not known.
    """

    def __init__(self, store: Bucket, region: str | None) -> None:
        self._store = store
        self._region = region

    def look(self, results: Sequence[TargetResult]) -> list[TargetResult]:
        """Return deleted targets with what became of their files, each bucket asked once."""
        found: dict[int, TargetResult] = {}
        buckets: dict[str, dict[int, str]] = defaultdict(dict)
        for place, result in enumerate(results):
            stored = stored_object(result.url) if result.url else None
            region = oss_region(result.url) if result.url else None
            if not result.url:
                found[place] = _unknown(result, "the address of its file is not known")
            elif stored is None or not stored[0].startswith("oss://"):
                found[place] = _unknown(result, "its file does not lie in OSS")
            elif region and self._region and region != self._region:
                found[place] = _unknown(
                    result, f"its file lies in {region}, the connection is to {self._region}"
                )
            else:
                buckets[stored[0].removeprefix("oss://")][place] = stored[1]
        for bucket, keys in buckets.items():
            try:
                there = self._store.existing(bucket, keys.values())
            except (OSError, ValueError) as error:
                found |= {place: _unknown(results[place], str(error)) for place in keys}
                continue
            for place, key in keys.items():
                state = FileState.LEFT if key in there else FileState.GONE
                found[place] = results[place]._replace(file=state.value)
        return [found[place] for place in range(len(results))]


class _Look(NamedTuple):
    """Deleted targets whose files are looked for: when, and how often that was done before."""

    results: Sequence[TargetResult]
    due: float = 0.0
    looks: int = 0


class FileSearch:
    """Looks for the files of what a run deletes, side by side with its requests.

    Many are looked for at a time, for one request tells of all that lie near each other. One thread uses it, and the
    looks run in a pool.

    :param verifier: does a look.
    :param pauses: a file that is there is looked for again after each of these seconds.
    """

    def __init__(self, verifier: FileVerifier, pauses: Sequence[float]) -> None:
        self._verifier = verifier
        self._pauses = pauses
        self._gathered: list[TargetResult] = []
        self._gather_until = 0.0
        self._again: list[_Look] = []
        self._running: dict[Future[list[TargetResult]], _Look] = {}

    @property
    def running(self) -> Iterable[Future[list[TargetResult]]]:
        """The looks that are under way."""
        return self._running.keys()

    @property
    def is_over(self) -> bool:
        """Whether nothing is looked for any more."""
        return not (self._gathered or self._again or self._running)

    def gather(self, results: Iterable[TargetResult]) -> None:
        """Take in deleted targets."""
        self._gathered += results

    def start(self, pool: Executor, *, at_once: bool) -> None:
        """Begin the looks that are due.

        :param at_once: there is nothing more to gather.
        """
        now = time.monotonic()
        is_due = at_once or len(self._gathered) >= FILES_AT_ONCE or now >= self._gather_until
        if self._gathered and is_due and len(self._running) < REQUESTS_AT_ONCE:
            self._look(pool, _Look(self._gathered))
            self._gathered, self._gather_until = [], now + GATHER_SECONDS
        due = [look for look in self._again if look.due <= now]
        self._again = [look for look in self._again if look.due > now]
        for look in due:
            self._look(pool, look)

    def settle(self, future: Future[list[TargetResult]]) -> list[TargetResult]:
        """Return what is known by a look that is over; the rest is looked for again, like media that reads show."""
        look = self._running.pop(future)
        settled, again = list[TargetResult](), list[TargetResult]()
        for result in future.result():
            if result.file == FileState.LEFT and look.looks < len(self._pauses):
                again.append(result._replace(file=None))
            else:
                settled.append(result)
        if again:
            due = time.monotonic() + self._pauses[look.looks]
            self._again.append(_Look(again, due, look.looks + 1))
        return settled

    def _look(self, pool: Executor, look: _Look) -> None:
        self._running[pool.submit(self._verifier.look, look.results)] = look


def _unknown(result: TargetResult, reason: str) -> TargetResult:
    return result._replace(file=FileState.UNKNOWN.value, reason=reason[:MAX_REASON])
