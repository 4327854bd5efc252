"""One look at what is waited for: the same request and the same judgement in the worker and in the triggerer."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import TYPE_CHECKING, Literal, get_args

from airflow_provider_ims.api.identifiers import match_key
from airflow_provider_ims.api.jobs import JobKind, read_job

if TYPE_CHECKING:
    from airflow_provider_ims.api.client import IMSClient

MediaKind = Literal["media_id", "input_url"]
SubjectKind = MediaKind | JobKind

# How many of a kind one request can ask for.
MAX_AT_ONCE: dict[SubjectKind, int] = {"media_id": 20, "input_url": 1, **dict.fromkeys(get_args(JobKind), 1)}


def still_pending(
    client: IMSClient, kind: SubjectKind, values: Collection[str], stop: threading.Event | None = None
) -> set[str]:
    """Ask with one request which of ``values`` must be waited for any longer.

    A medium is gone when reads no longer show it, or prove its deletion (:attr:`MediaInfo.is_gone`).

    :param values: up to 20 media ids; or one URL; or the id of one job.
    """
    # Imported here: `requests` costs more than all else that a DAG file of this provider loads.
    from airflow_provider_ims.api import operations

    if kind == "media_id":
        media = operations.batch_get_media_infos(client, list(values), stop=stop).value
        shown = {match_key(medium.media_id) for medium in media if not medium.is_gone}
        return {value for value in values if match_key(value) in shown}
    (value,) = values
    if kind == "input_url":
        medium = operations.get_media_info(client, input_url=value, stop=stop).value
        return set() if medium is None or medium.is_gone else {value}
    return set() if read_job(client, kind, value, stop=stop).is_over else {value}


def describe_pending(kind: SubjectKind, pending: Collection[str], total: int) -> str:
    """Return a sentence for the log."""
    if kind in ("media_id", "input_url"):
        return describe_gone(total - len(pending), total)
    return f"The {kind} {', '.join(pending)} is not over yet."


def describe_gone(gone: int, total: int) -> str:
    """Return a sentence for the log: how far waiting for media is."""
    return f"{gone:,} of {total:,} media {'is' if gone == 1 else 'are'} gone."
