"""A worker that dies: from a chosen moment on, nothing of a run reaches its store, its report or the service."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from airflow_provider_ims.api.credentials import Credentials
from airflow_provider_ims.deletion.resolve import BatchResult
from airflow_provider_ims.deletion.run import DeletionRun, Work
from airflow_provider_ims.files.report import ReportWriter
from airflow_provider_ims.files.storage import is_local

MAX_STATE_BYTES = 64 * 1024


class Killed(BaseException):
    """Stands for the end of the process."""


class Life:
    """Counts how often each point is passed, and ends at one of them. Shared by threads.

    :param point: where to die; None to live on.
    :param passes: how often to pass it before.
    """

    def __init__(self, point: str | None = None, passes: int = 0) -> None:
        self._point = point
        self._left = passes
        self._lock = threading.Condition()
        self._busy = 0
        self.over = False

    def ends_at(self, point: str) -> bool:
        """Pass a point; whether it is the last one."""
        with self._lock:
            if self.over:
                raise Killed
            if point == self._point:
                self._left -= 1
                self.over = self._left < 0
            return self.over

    def at(self, point: str) -> None:
        """Pass a point, or die there."""
        if self.ends_at(point):
            raise Killed

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Say that requests may be in flight."""
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1
                self._lock.notify_all()

    def end(self, patience: float) -> None:
        """Be over, and wait for what is in flight: the service does it all the same, and it is in the books."""
        with self._lock:
            self.over = True
            self._lock.wait_for(lambda: not self._busy, patience)


class MortalStore:
    """A state store that outlives the process which writes to it."""

    def __init__(self, kept: dict[str, str], life: Life) -> None:
        self._kept = kept
        self._life = life

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self._kept[key]) if key in self._kept else default

    def set(self, key: str, value: Any) -> None:
        self._life.at("keep")
        text = json.dumps(value)
        if len(text) >= MAX_STATE_BYTES:
            raise AssertionError(f"the state is {len(text)} bytes long")
        self._kept[key] = text
        self._life.at("kept")

    def delete(self, key: str) -> None:
        self._kept.pop(key, None)


class MortalCredentials:
    """Signs as long as the process lives; ``renew`` works, as with keys that are fetched."""

    def __init__(
        self, credentials: Credentials, life: Life, stop: threading.Event, stop_after: int | None
    ) -> None:
        self._credentials = credentials
        self._life = life
        self._stop = stop
        self._left = stop_after

    def current(self) -> Credentials:
        self._life.at("request")
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                self._stop.set()
        return self._credentials

    def renew(self) -> bool:
        return True


class MortalReport(ReportWriter[Any]):
    """A report whose writer may die: before lines, around a file and in the middle of it, around the parts."""

    life: Life

    def add(self, lines: Iterable[tuple[int, bytes]], notes: Iterable[Any]) -> None:
        self.life.at("write")
        super().add(lines, notes)
        self.life.at("written")

    def _cut(self) -> Callable[[], None]:
        folder, number = self.folder, self._files
        write = super()._cut()
        if number == 0:  # of a try that has not begun
            return write

        def mortal() -> None:
            self.life.at("file")
            if self.life.ends_at("torn"):
                if is_local(folder):
                    (folder / "_journal" / ".torn.part").write_bytes(b'{"ordinal": 3, "media')
                raise Killed
            write()
            self.life.at("filed")

        return mortal

    def write_parts(self, lines: Callable[[], Iterable[bytes]]) -> None:
        self.life.at("part")
        super().write_parts(lines)
        self.life.at("parted")


class MortalRun(DeletionRun):
    """A run whose process may die."""

    life: Life

    def _ask(self, work: Work) -> BatchResult:
        with self.life.busy():
            result = super()._ask(work)
        self.life.at("answer")
        return result

    def _settle(self, work: Work, result: BatchResult) -> None:
        self.life.at("settle")
        super()._settle(work, result)
