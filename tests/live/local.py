"""An IMS and an OSS on this machine that know of each other, with a foreign library in both, to ask instead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from airflow_provider_ims.api.identifiers import stored_object
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.emulator.oss import LocalOSS

FOREIGN = 200
_LONGEST_SECONDS = 240


class LocalService:
    """Both, for as long as the ``with`` block; a file that IMS deletes with its medium is gone from OSS.

    :param rules: faults of the emulator.
    """

    bucket = "media-team"
    folder = f"oss://{bucket}/ims-live"

    def __init__(self, *arguments: str, rules: Iterable[Mapping[str, Any]] = ()) -> None:
        self.emulator = Emulator("--generate", str(FOREIGN), "--keep-requests", "100000", *arguments)
        self.oss = LocalOSS(self.bucket)
        self._rules = list(rules)
        self._ended = threading.Event()
        self._carrier = threading.Thread(target=self._carry, daemon=True)

    def __enter__(self) -> Self:
        self.emulator.start()
        self.oss.start()
        self.foreign = {medium["media_id"]: medium for medium in self.emulator.library()}
        for medium in self.foreign.values():
            self.oss.put(self.bucket, urlsplit(medium["url"]).path.lstrip("/"), b"foreign")
        self.foreign_files = self.oss.names(self.bucket)
        if self._rules:
            self.emulator.ask("POST", "/faults", self._rules)
        self._carrier.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._carrier.join()
        self.oss.stop()
        self.emulator.stop()

    @property
    def environment(self) -> dict[str, str]:
        """What a run must find in its environment."""
        extra = {"region": self.oss.region, "oss_endpoint": self.oss.endpoint}
        return {
            "AIRFLOW_CONN_IMS_LIVE": self.emulator.airflow_connection(extra=extra),
            "no_proxy": "127.0.0.1",
        }

    def start(self, output: Path, *options: str) -> subprocess.Popen[str]:
        """Start a run against these two, in a hurry."""
        command = [sys.executable, "-m", "tests.live", "--folder", self.folder, "--output", str(output)]
        hurry = ("--rate", "300", "--max-rate", "300", "--poll-seconds", "0.1")
        return subprocess.Popen(
            [*command, *hurry, *options],
            cwd=Path(__file__).parents[2],
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, output: Path, *options: str) -> tuple[int, str]:
        """Run to the end; return the exit code and what was said."""
        with self.start(output, *options) as process:
            said, _ = process.communicate(timeout=_LONGEST_SECONDS)
        return process.returncode, said

    def own_media(self) -> list[str]:
        """Return the ids of media that are there and are not of the foreign library."""
        return [media_id for media_id in self.emulator.media_ids() if media_id not in self.foreign]

    def own_files(self) -> list[str]:
        """Return the keys of files that are there and are not foreign."""
        return sorted(set(self.oss.names(self.bucket)) - set(self.foreign_files))

    def check_foreign(self) -> None:
        """Raise AssertionError unless every foreign medium and file is untouched, and none was ever named."""
        there = {medium["media_id"]: medium for medium in self.emulator.library()}
        assert {media_id: there.get(media_id) for media_id in self.foreign} == self.foreign
        assert set(self.foreign_files) <= set(self.oss.names(self.bucket))
        named = {target.strip().lower() for entry in self.emulator.requests() for target in entry["targets"]}
        foreign_urls = {medium["url"].lower() for medium in self.foreign.values()}
        assert not named & (set(self.foreign) | foreign_urls), "a request named a foreign medium"

    def _carry(self) -> None:
        seen = 0
        while not self._ended.wait(0.05):
            page = self.emulator.ask("GET", "/deleted", after=seen, limit=1000)
            seen += len(page["deletions"])
            for deletion in page["deletions"]:
                if deletion["files"] and (found := stored_object(deletion["url"])):
                    self.oss.remove(self.bucket, found[1])


def answers_of(text: str) -> dict[str, Any]:
    """Return the answers of ``answers.json`` by the names of their questions."""
    return {one["name"]: one for one in json.loads(text)["answers"]}
