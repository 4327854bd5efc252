"""Numbers as the log says them."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_ims.cleanup.judge import Outcome


def outcomes_in_words(counts: Mapping[str, int], inferred: int, *, preview: bool) -> str:
    """Say how many ended in which outcome, such as ``58 deleted, 2 missing (1 inferred)``."""
    parts = [
        f"{counts[outcome]:,} {'would be deleted' if preview and outcome == 'deleted' else outcome.value}"
        for outcome in Outcome
        if counts.get(outcome)
    ]
    return (", ".join(parts) or "nothing done") + (f" ({inferred:,} inferred)" if inferred else "")


def targets_in_words(number: int) -> str:
    """Say how many targets."""
    return f"{number:,} target{'' if number == 1 else 's'}"


def duration_in_words(seconds: float) -> str:
    """Say a time as ``2:05``, or ``1:02:05`` where there are hours."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
