"""One look at what is waited for: the same request and the same judgement in the worker and in the triggerer."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import TYPE_CHECKING, Literal, get_args

from airflow_provider_ims.api.identifiers import MAX_MEDIA_PER_CALL
from airflow_provider_ims.api.jobs import JobKind, read_job

if TYPE_CHECKING:
    from airflow_provider_ims.api.client import IMSClient

MediaKind = Literal["media_id", "input_url"]
SubjectKind = MediaKind | JobKind

# How many of a kind one request can ask for.
MAX_AT_ONCE: dict[SubjectKind, int] = {
    "media_id": MAX_MEDIA_PER_CALL,
    "input_url": 1,
    **dict.fromkeys(get_args(JobKind), 1),
}


def still_pending(
    client: IMSClient, kind: SubjectKind, values: Collection[str], stop: threading.Event | None = None
) -> set[str]:
    """Ask, with one request if all are taken, which of ``values`` must be waited for any longer.

    A medium is gone when reads no longer show it, or prove its deletion (:attr:`MediaInfo.is_gone`).

    :param values: up to 20 media ids; or one URL; or the id of one job.
    :raises IMSAPIError: also when the service refuses to tell of one of them.
    """
    # Imported here: `requests` costs more than all else that a DAG file of this provider loads.
    from airflow_provider_ims.api import operations

    if kind == "media_id" or kind == "input_url":
        found = operations.find_media(client, list(values), by=kind, stop=stop).value
        for refusal in found.refused.values():
            raise refusal
        return set(found.shown)
    (value,) = values
    return set() if read_job(client, kind, value, stop=stop).is_over else {value}


def describe_pending(kind: SubjectKind, pending: Collection[str], total: int) -> str:
    """Return a sentence for the log."""
    if kind in ("media_id", "input_url"):
        return describe_gone(total - len(pending), total)
    return f"The {kind} {', '.join(pending)} is not over yet."


def describe_gone(gone: int, total: int) -> str:
    """Return a sentence for the log: how far waiting for media is."""
    return f"{gone:,} of {total:,} media {'is' if gone == 1 else 'are'} gone."
