"""The local IMS's own books, read through its control API, and whether what tasks report agrees with them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from media_team import Cleanup

from airflow_provider_ims.emulator import EmulatedOSS, Emulator

BATCH_LIMIT = 20
OUTCOMES = ("deleted", "missing", "forbidden", "failed", "unknown", "kept")


@dataclass(frozen=True)
class Books:
    """What the local IMS holds and what it did, at one moment.

    :ivar media: media id to URL of everything that is registered.
    :ivar files: the URLs of the files in the bucket.
    :ivar deletions: every deletion: ``media_id``, ``url``, ``files``.
    :ivar batches: how many targets each ``DeleteMediaInfos`` named.
    """

    media: dict[str, str]
    files: set[str]
    deletions: list[dict[str, Any]]
    batches: list[int]


def read(ims: Emulator) -> Books:
    """Look at the books now."""
    media = [medium for medium in ims.library() if not medium["deleted"]]  # reads may lag behind
    deletions = ims.deleted()
    removed = {deletion["url"] for deletion in deletions if deletion["files"]}
    urls = {medium["url"] for medium in media if medium["file"]} | {deletion["url"] for deletion in deletions}
    return Books(
        media={medium["media_id"]: medium["url"] for medium in media},
        files=urls - removed,
        deletions=deletions,
        batches=[len(request["targets"]) for request in ims.requests("DeleteMediaInfos")],
    )


def report_lines(report: str | Path, oss: EmulatedOSS | None = None) -> Iterator[dict[str, Any]]:
    """Read a task's report, of which nothing but its parts is there.

    :param oss: where a report under ``oss://`` lies.
    """
    if oss and str(report).startswith("oss://"):
        bucket, _, folder = str(report).rpartition("@")[2].removeprefix("oss://").partition("/")
        files = {
            key[len(folder) + 1 :]: partial(oss.get, bucket, key) for key in oss.names(bucket, f"{folder}/")
        }
    else:
        files = {part.name: part.read_text for part in Path(report).iterdir()}
    for name, read in sorted(files.items()):
        assert name.startswith("part-"), name
        for text in read().split("\n")[:-1]:
            yield json.loads(text)


def compare(
    work: Cleanup,
    before: Books,
    after: Books,
    results: Mapping[str, Mapping[str, Any]],
    oss: EmulatedOSS | None = None,
) -> Iterator[tuple[str, bool]]:
    """Hold the tasks' results and reports against the books: a sentence and whether it is true, each.

    :param oss: where reports under ``oss://`` lie.
    """
    by_id, by_url = results["delete_by_id"], results["delete_by_url"]
    gone = before.media.keys() - after.media.keys()
    kept_files = {d["media_id"] for d in after.deletions if not d["files"]}
    urls_gone = {d["url"] for d in after.deletions if d["files"]}
    yield f"{by_id['deleted']} deleted by id, as the task says", len(kept_files) == by_id["deleted"]
    yield f"{by_url['deleted']} URLs deleted with their files", len(urls_gone) == by_url["deleted"]
    yield (
        f"the {by_id['forbidden']} protected media are still there, and named in the result",
        work.protected <= after.media.keys() and set(by_id["samples"]["forbidden"]) == work.protected,
    )
    yield "everything that was to go is gone, and nothing else", gone == work.leaving
    yield (
        "only the files of the uploads left the bucket",
        before.files - after.files == work.leaving_files,
    )
    yield (
        f"{len(after.batches)} deletion requests, none for more than {BATCH_LIMIT} media",
        max(after.batches) <= BATCH_LIMIT,
    )
    yield (
        "every target has one outcome: the counts add up",
        all(_adds_up(result) for result in results.values())
        and work.by_id.items() <= by_id.items()
        and work.by_url.items() <= by_url.items(),
    )
    for task, result in results.items():
        lines = Counter(line["outcome"] for line in report_lines(result["report"], oss))
        counts = {outcome: result[outcome] for outcome in OUTCOMES if result[outcome]}
        yield f"the report of {task} has {lines.total()} lines, one for every target", lines == counts


def _adds_up(result: Mapping[str, Any]) -> bool:
    return bool(result["requested"] == sum(result.get(outcome, 0) for outcome in OUTCOMES))
