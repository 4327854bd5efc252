"""What is to be deleted, and what must be true of it afterwards: reports and results against the emulator's books."""

from __future__ import annotations

import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from books import report_lines

from airflow_provider_ims.emulator import Emulator

MISSING = 100
REPEATED = 500
OTHERS = 2_000


@dataclass
class Work:
    """What a run deletes. ``missing`` were never there, ``repeated`` are named twice, ``others`` are not named."""

    named: list[str]
    missing: set[str]
    repeated: list[str]
    others: set[str]

    @property
    def lines(self) -> list[str]:
        """The manifest."""
        return self.named + self.repeated


def seed(emulator: Emulator, count: int, number: int) -> Work:
    """Fill the library and name ``count`` media."""
    dice = random.Random(f"celery {number}")  # not the seed of the ids that the emulator makes up
    library = emulator.generate(count - MISSING + OTHERS, seed=number)
    dice.shuffle(library)
    missing = {f"{dice.getrandbits(128):032x}" for _ in range(MISSING)}
    named = [*library[OTHERS:], *missing]
    dice.shuffle(named)
    return Work(named, missing, dice.sample(named, REPEATED), set(library[:OTHERS]))


def check(
    emulator: Emulator, work: Work, results: Sequence[Mapping[str, Any]], merged: Mapping[str, Any]
) -> Iterator[tuple[str, bool]]:
    """Say what must be true, and whether it is."""
    books = {deletion["media_id"] for deletion in emulator.deleted()}
    lines = [line for result in results for line in report_lines(Path(result["report"]))]
    told = Counter(line["media_id"] for line in lines)
    outcomes = Counter(line["outcome"] for line in lines)
    yield (
        f"{len(work.named):,} targets have exactly one line over the reports of {len(results)} shards",
        told == Counter(work.named),
    )
    yield f"all {len(books):,} that are gone were named", books <= set(work.named)
    yield "all that were named are gone", set(work.named) - work.missing <= books
    yield f"the {len(work.others):,} that were not named are there", set(emulator.media_ids()) == work.others
    wrong = [line for line in lines if not _is_true(line, books)]
    called = sum(line["media_id"] in work.missing and line["outcome"] == "deleted" for line in lines)
    yield (
        f"every outcome is true ({called} of {len(work.missing)} missing ones count as deleted, inferred)"
        + (f"; not so {wrong[:3]}" if wrong else ""),
        not wrong,
    )
    yield (
        f"the merged result agrees: {merged['requested']:,} requested, {merged['deleted']:,} deleted, "
        f"{merged['missing']} missing, {merged['duplicates']} duplicates",
        outcomes == Counter({name: merged[name] for name in outcomes})
        and (merged["requested"], merged["duplicates"]) == (len(work.named), len(work.repeated)),
    )


def _is_true(line: Mapping[str, Any], books: set[str]) -> bool:
    if line["media_id"] in books:
        return bool(line["outcome"] == "deleted")
    # Of what a killed try may have sent, what is gone counts as deleted.
    return bool(line["outcome"] == "missing" or (line["outcome"] == "deleted" and line["inferred"]))


@dataclass
class Traffic:
    """What the service saw of a run. Seconds count from its first request.

    :param seconds: until its last.
    :param used: share of the limit that was used until then.
    :param throttled: share of the requests.
    :param finished: when each shard's last request was answered, by the shard's number.
    """

    requests: int
    seconds: float
    used: float
    throttled: float
    finished: dict[int, float]
    began: float
    _through: list[tuple[float, int | None]]

    @property
    def slowest(self) -> float:
        """When the last shard finished, against the median."""
        return max(self.finished.values()) / statistics.median(self.finished.values())

    def each(self, start: float, end: float) -> dict[int, float]:
        """How many requests a second each shard got through between two moments."""
        counts = Counter(shard for at, shard in self._through if shard is not None and start <= at < end)
        return {shard: counts[shard] / (end - start) for shard in sorted(self.finished)}

    def total(self, start: float, end: float) -> float:
        """How many requests a second got through in all."""
        return sum(start <= at < end for at, _ in self._through) / (end - start)


def measure(emulator: Emulator, shards: Sequence[Mapping[str, Any]], limit: float) -> Traffic:
    """Read the books."""
    shard_of = {
        media_id: number
        for number, shard in enumerate(shards)
        for media_id in Path(shard["manifest"]).read_text().split()
    }
    requests = emulator.requests()
    began, ended = requests[0]["at"], max(request["at"] + request["seconds"] for request in requests)
    through = []
    finished: dict[int, float] = defaultdict(float)
    throttled = 0
    for request in requests:
        if request["code"].startswith("Throttling"):
            throttled += 1
            continue
        shard = shard_of.get(request["targets"][0]) if request["targets"] else None
        through.append((request["at"] - began, shard))
        if shard is not None:
            finished[shard] = max(finished[shard], request["at"] + request["seconds"] - began)
    seconds = ended - began
    return Traffic(
        requests=len(requests),
        seconds=seconds,
        used=len(through) / (limit * seconds),
        throttled=throttled / len(requests),
        finished=dict(finished),
        began=began,
        _through=through,
    )
