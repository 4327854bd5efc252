"""One manifest -> shards that many tasks delete, and their results -> one again.

A shard is a manifest of the same kind: of an id list an id list, of a plan a plan. Which shard an id goes to depends
on the id, however it is spelled, and on how many shards there are, so duplicates meet in one shard, where the
deletion drops them.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from airflow_provider_ims.api.identifiers import check_media_id, match_key, show
from airflow_provider_ims.arguments import is_nothing
from airflow_provider_ims.deletion.policies import FILES_LEFT, OutcomePolicies, OutcomePolicy
from airflow_provider_ims.deletion.resolve import Outcome
from airflow_provider_ims.deletion.result import MAX_SAMPLES, add_sample
from airflow_provider_ims.exceptions import IMSDeletionError, raised_for_airflow
from airflow_provider_ims.files.manifest import ManifestReader, ManifestRow
from airflow_provider_ims.files.storage import storage_path, temporary_file_error, to_line, write_whole
from airflow_provider_ims.retention.plan import check_plan, percentage

if TYPE_CHECKING:
    from airflow_provider_ims.compat import ObjectStoragePath

MAX_SHARDS = 128
"""Paths and digests of all shards must fit into an XCom, which MySQL may cut at 64 KB; and each is an open file."""

SUMS = (
    "requested",
    "duplicates",
    *(outcome.value for outcome in Outcome),
    "inferred",
    "requests",
    "retries",
    "throttled",
)
"""What of a result is added up."""

PIECE_BYTES = 2**20

log = logging.getLogger(__name__)


@dataclass
class _Shard:
    """The rows of one shard in a temporary file, and what they add up to."""

    file: IO[bytes]
    rows: int = 0
    bytes: int = 0
    size_unknown: int = 0
    created: list[str] = field(default_factory=list)  # the first and the last in time

    def add(self, row: ManifestRow) -> None:
        self.rows += 1
        line = row.media_id.strip().encode() + b"\n" if row.columns is None else to_line(row.columns)
        try:
            self.file.write(line)
        except OSError as error:
            raise temporary_file_error(error) from error
        if row.columns is None:
            return
        size, created = row.columns.get("size"), row.columns.get("created")
        self.bytes += size if isinstance(size, int) else 0
        self.size_unknown += not isinstance(size, int)
        if isinstance(created, str):
            self.created = [min([created, *self.created]), max([created, *self.created])]

    def header(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        """Describe the shard as the plan that it is."""
        population = plan.get("population")
        return {
            **plan,
            "selected": self.rows,
            "percent": percentage(self.rows, population) if isinstance(population, int) else None,
            "bytes": self.bytes,
            "size_unknown": self.size_unknown,
            "oldest": self.created[0] if self.created else None,
            "newest": self.created[-1] if self.created else None,
            "months": None,  # not known for a shard, as the types are not
            "types": None,
        }


def shard_of(media_id: str, shards: int) -> int:
    """Tell which of so many shards an id belongs to, from 0; the same on every machine."""
    digest = hashlib.blake2b(match_key(media_id).encode(), digest_size=8).digest()
    return int.from_bytes(digest) % shards


@raised_for_airflow()
def split_manifest(
    manifest: str | ObjectStoragePath | None,
    folder: str | ObjectStoragePath,
    shards: int,
    *,
    manifest_digest: str | None = None,
) -> list[dict[str, Any]]:
    """Split an id list or a plan into shards, each with about as many media, in memory that does not grow with it.

    All is read and checked before the first shard is written. A retry over the same manifest writes the same bytes.

    :param manifest: path of a plan, or of a text file with one media id a line. Nothing (``None``, ``""``) gives
        no shards.
    :param folder: where the shards go; any object storage path that every worker sees.
    :param shards: how many, 1 to 128. More than there are ids leaves some of them empty.
    :param manifest_digest: SHA-256 of the manifest as it was approved.
    :returns: for each shard the arguments of an ``IMSDeleteMediaInfosOperator``: ``manifest``, its path;
        ``manifest_digest``, so that a shard that was changed or cut is refused; ``max_media``, its lines. Small
        enough for XCom whatever the size of the manifest; hand it to ``expand_kwargs``.
    :raises ValueError: naming the line that can't be read, or the argument that makes no sense.
    :raises IMSGuardError: the manifest is not the one that was approved, or a plan that must not be deleted.
    """
    if type(shards) is not int or not 1 <= shards <= MAX_SHARDS:
        raise ValueError(f"shards is {shards!r}, not a number from 1 to {MAX_SHARDS}")
    if manifest is None or is_nothing(manifest):
        log.warning("Nothing to split: no manifest is given.")
        return []
    base = storage_path(folder, "folder")
    with ExitStack() as stack:
        parts = [_Shard(stack.enter_context(tempfile.TemporaryFile())) for _ in range(shards)]
        reader = ManifestReader(manifest, manifest_digest)
        for row in reader:
            media_id = check_media_id(row.media_id, f"{reader.path}, line {row.line}")
            parts[shard_of(media_id, shards)].add(row)
        total = sum(part.rows for part in parts)
        if (plan := reader.plan_header) is not None:
            # Where it may be deleted is known to the tasks that delete.
            check_plan(plan, region=plan.get("region"), host=plan.get("host", ""), rows=total)
        suffix = "txt" if plan is None else "jsonl"
        arguments = []
        for number, part in enumerate(parts, start=1):
            path = base / f"shard-{number:03d}-of-{shards:03d}.{suffix}"
            first = b""
            if plan is not None:
                place = {"number": number, "of": shards, "plan": reader.digest}
                first = to_line({**part.header(plan), "shard": place})
            try:
                part.file.seek(0)  # writes what is not written yet
            except OSError as error:
                raise temporary_file_error(error) from error
            # Whole or not at all: a try that was thought dead may write while the next one's shards are deleted.
            digest = write_whole(
                path, itertools.chain([first], iter(partial(part.file.read, PIECE_BYTES), b""))
            )
            arguments.append({"manifest": str(path), "manifest_digest": digest, "max_media": part.rows})
    log.info(
        "Split %s (%s lines, SHA-256 %s) into %s shards of %s to %s lines in %s.",
        reader.path,
        f"{total:,}",
        reader.digest,
        shards,
        f"{min(part.rows for part in parts):,}",
        f"{max(part.rows for part in parts):,}",
        base,
    )
    return arguments


@raised_for_airflow()
def merge_results(
    shards: Sequence[Mapping[str, Any]] | None,
    results: Iterable[Mapping[str, Any] | None] | None,
    *,
    on_forbidden: OutcomePolicy = "fail",
    on_missing: OutcomePolicy = "warn",
    on_files_left: OutcomePolicy = "warn",
) -> dict[str, Any]:
    """Make one result of those of all shards, and judge it as if one task had deleted them all.

    :param shards: what :func:`split_manifest` gave; None if it failed.
    :param results: what the deletions of the shards returned, those that failed with ``IMSDeletionError`` too; None
        if there is none.
    :param on_forbidden: ``fail``, ``warn`` or ``ignore``, as the deletions had it; so are ``on_missing`` and
        ``on_files_left``.
    :returns: the same as the operator, summed up, with the number of ``shards``. ``seconds`` are those of the shard
        that took longest, ``report`` is the folder that all reports lie in.
    :raises ValueError: what is given is a text, as templates make one.
    :raises IMSDeletionError: a shard has no result, the counts don't add up, or there are outcomes that the policies
        don't accept. It carries the merged result.
    """
    for name, given in (("shards", shards), ("results", results)):
        if isinstance(given, str):
            raise ValueError(f"{name} is the text {show(given)}; give the output of the tasks itself")
    policies = OutcomePolicies(on_forbidden, on_missing, on_files_left)
    found = [result for result in results or () if result]
    merged = _sum_up(found, len(shards or ()))
    if shards is None:
        raise IMSDeletionError("The manifest was not split, so its media were not deleted", merged)
    lines = sum(shard["max_media"] for shard in shards)
    judged = sum(merged[outcome.value] for outcome in Outcome)
    wrong = []
    if len(found) != len(shards):
        wrong.append(f"{len(shards) - len(found)} of {len(shards)} shards have no result")
    if merged["requested"] + merged["duplicates"] != lines:
        wrong.append(
            f"the shards name {lines:,} media, but the results speak of {merged['requested']:,} "
            f"and {merged['duplicates']:,} duplicates"
        )
    if judged != merged["requested"]:
        wrong.append(f"{judged:,} of {merged['requested']:,} have an outcome")
    if wrong:
        raise IMSDeletionError(f"The shards don't add up: {'; '.join(wrong)}", merged)
    policies.enforce(merged)
    return merged


def _sum_up(results: Sequence[Mapping[str, Any]], shards: int) -> dict[str, Any]:
    samples: dict[str, list[str]] = {}
    for result in results:
        for outcome, names in result["samples"].items():
            for name in names:
                add_sample(samples.setdefault(outcome, []), name)
    request_ids = itertools.chain.from_iterable(result["request_ids"] for result in results)
    # Each lies in ``<folder>/map_index=<n>/attempt=<n>``; empty shards have none.
    folders = {result["report"].partition("/map_index=")[0] for result in results if result["report"]}
    verified = [left for result in results if (left := result.get(FILES_LEFT)) is not None]
    one: Mapping[str, Any] = results[0] if results else {}
    return {
        **{name: sum(result[name] for result in results) for name in SUMS},
        FILES_LEFT: sum(verified) if verified else None,
        "preview": one.get("preview", False),
        "region": one.get("region"),
        "delete_physical_files": one.get("delete_physical_files", False),
        "report": folders.pop() if len(folders) == 1 else None,
        "resumed": any(result["resumed"] for result in results),
        "seconds": max((result["seconds"] for result in results), default=0.0),
        "samples": samples,
        "request_ids": list(itertools.islice(request_ids, MAX_SAMPLES)),
        "shards": shards,
    }
