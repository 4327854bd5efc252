"""What a run answers with: counts and samples, counted as outcomes come, in a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from airflow_provider_ims.deletion.checkpoint import MAX_REQUEST_ID, Checkpoint, RunConfig, shorten
from airflow_provider_ims.deletion.policies import FILES_LEFT
from airflow_provider_ims.deletion.resolve import Outcome, TargetResult
from airflow_provider_ims.deletion.targets import Targets
from airflow_provider_ims.deletion.verify import FileState

MAX_SAMPLES = 100
MAX_SAMPLE_BYTES = 5000


def count(checkpoint: Checkpoint, results: Sequence[TargetResult]) -> None:
    """Count results that differ in their targets alone, and take samples of them."""
    first = results[0]
    outcome = first.outcome
    checkpoint.counts[outcome] = checkpoint.counts.get(outcome, 0) + len(results)
    checkpoint.inferred += first.inferred * len(results)
    if first.file == FileState.LEFT:
        checkpoint.files_left += len(results)
        for result in results:
            add_sample(checkpoint.samples.setdefault(FILES_LEFT, []), result.url or result.target.value)
    samples = checkpoint.samples.setdefault(outcome.value, [])
    for result in results:
        add_sample(samples, result.target.value)
    ids = checkpoint.request_ids
    request_id = shorten(first.request_id, MAX_REQUEST_ID)
    if request_id and len(ids) < MAX_SAMPLES and request_id not in ids[-8:]:
        ids.append(request_id)


def sum_up(
    checkpoint: Checkpoint,
    targets: Targets,
    config: RunConfig,
    *,
    unread: Iterable[TargetResult],
    report: str | None,
    resumed: bool,
) -> dict[str, Any]:
    """Return what a run answers with, of all its tries; small whatever the size of the run.

    :param unread: targets that could not be read.
    :param report: the report's folder, None without a report.
    :param resumed: whether an earlier try's work was taken up.
    """
    counts = {outcome.value: checkpoint.counts.get(outcome, 0) for outcome in Outcome}
    counts["unknown"] = len(targets) - checkpoint.judged
    samples = dict(checkpoint.samples)
    unknown: list[str] = []
    for one in unread:
        add_sample(unknown, one.target.value)
    if unknown:
        samples["unknown"] = unknown
    return {
        "requested": len(targets),
        "duplicates": targets.duplicates,
        **counts,
        "inferred": checkpoint.inferred,
        FILES_LEFT: checkpoint.files_left if config.verify_files else None,
        "requests": checkpoint.requests,
        "retries": checkpoint.retries,
        "throttled": checkpoint.throttled,
        "preview": config.preview,
        "region": config.region,
        "delete_physical_files": config.delete_physical_files,
        "report": report,
        "resumed": resumed,
        "seconds": round(checkpoint.seconds, 3),
        "samples": samples,
        "request_ids": checkpoint.request_ids,
    }


def known_outcomes(checkpoint: Checkpoint) -> tuple[dict[str, Outcome], Outcome | None]:
    """Return the outcomes of the targets that samples name; and that of all others, None if it is not certain."""
    samples, counts = checkpoint.samples, checkpoint.counts
    known = {value: outcome for outcome in Outcome for value in samples.get(outcome, [])}
    all_are_named = all(
        len(samples.get(outcome, [])) == count
        for outcome, count in counts.items()
        if outcome != Outcome.DELETED
    )
    return known, Outcome.DELETED if all_are_named else None


def add_sample(samples: list[str], value: str) -> None:
    """Add one if there is room for it, as XCom spells it: six bytes for a character beyond ASCII."""
    # The first two are quick to tell.
    if (
        len(samples) < MAX_SAMPLES
        and sum(map(len, samples)) + len(value) <= MAX_SAMPLE_BYTES
        and len(json.dumps([*samples, value])) <= MAX_SAMPLE_BYTES
    ):
        samples.append(value)
