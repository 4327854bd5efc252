"""The request log: what was asked, what was answered, and, forever, what was deleted."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from airflow_provider_ims.emulator.library import Medium, shown_title


class Deletion(NamedTuple):
    """A medium that is gone.

    :param title: None stands for the file's name.
    :param files: its physical file was deleted with it.
    :param by: the operation that did it.
    :param at: seconds since the epoch.
    """

    media_id: str
    url: str
    title: str | None
    files: bool
    by: str
    request_id: str
    at: float

    def describe(self) -> dict[str, Any]:
        """Show the deletion as JSON."""
        return {**self._asdict(), "title": shown_title(self.title, self.url)}


@dataclass(slots=True)
class Entry:
    """One request and what came of it.

    :param targets: the ids or URLs it named, as they were written.
    :param outcomes: what the service did with each target, whether or not an answer told so.
    :param done: the operation did its work.
    :param answered: an answer that says what was done went out whole.
    :param seconds: how long the caller waited.
    """

    number: int
    at: float
    request_id: str
    action: str = ""
    key_id: str = ""
    targets: list[str] = field(default_factory=list)
    outcomes: dict[str, str] = field(default_factory=dict)
    delete_physical_files: bool | None = None
    status: int = 0
    code: str = ""
    faults: list[str] = field(default_factory=list)
    done: bool = False
    answered: bool = False
    seconds: float = 0.0

    def describe(self) -> dict[str, Any]:
        """Show the entry as JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Records:
    """Bookkeeping in bounded memory: the last requests in full, all others as counts, every deletion.

    :param keep: how many requests are kept in full.
    """

    keep: int = 10_000
    requests: deque[Entry] = field(default_factory=deque)
    deletions: list[Deletion] = field(default_factory=list)
    total: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    largest_batch: int = 0
    asked_again: int = 0
    actions: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    _deleted: dict[str, int] = field(default_factory=dict)

    def open(self, entry: Entry) -> None:
        """A request arrived."""
        self.total += 1
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        self.requests.append(entry)
        if len(self.requests) > self.keep:
            self.requests.popleft()

    def close(self, entry: Entry) -> None:
        """The request is over, however it ended."""
        self.in_flight -= 1
        self.actions[entry.action] += 1
        self.statuses[str(entry.status)] += 1
        if entry.code:
            self.codes[entry.code] += 1
        if entry.action == "DeleteMediaInfos":
            self.largest_batch = max(self.largest_batch, len(entry.targets))
            self.outcomes.update(entry.outcomes.values())

    def deleted(self, medium: Medium, *, files: bool, entry: Entry) -> None:
        """A medium was deleted."""
        self._deleted[medium.media_id] = len(self.deletions)
        self.deletions.append(
            Deletion(
                medium.media_id,
                medium.url,
                medium.title,
                files,
                entry.action,
                entry.request_id,
                entry.at,
            )
        )

    def deletion_of(self, media_id: str) -> Deletion | None:
        """Give the last deletion of a media id."""
        index = self._deleted.get(media_id)
        return None if index is None else self.deletions[index]

    def asked(self, media_ids: list[str]) -> None:
        """A deletion named these ids; count those that were deleted before."""
        self.asked_again += sum(media_id.strip() in self._deleted for media_id in media_ids)

    def stats(self) -> dict[str, Any]:
        """Show the counts as JSON."""
        return {
            "requests": self.total,
            "in_flight": self.in_flight,
            "peak_in_flight": self.peak_in_flight,
            "by_action": dict(self.actions),
            "by_status": dict(self.statuses),
            "by_code": dict(self.codes),
            "deleted": len(self.deletions),
            "largest_batch": self.largest_batch,
            "asked_again": self.asked_again,
            "outcomes": dict(self.outcomes),
        }
