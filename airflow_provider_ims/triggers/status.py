"""One look at what is waited for: the same request and the same judgement in the worker and in the triggerer."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

from airflow_provider_ims.api.identifiers import match_key

if TYPE_CHECKING:
    from airflow_provider_ims.api.client import IMSClient

SubjectKind = Literal["media_id", "input_url", "parent_job_id"]

# How many of a kind one request can ask for.
MAX_AT_ONCE: dict[SubjectKind, int] = {"media_id": 20, "input_url": 1, "parent_job_id": 1}


def still_pending(
    client: IMSClient, kind: SubjectKind, values: Collection[str], stop: threading.Event | None = None
) -> set[str]:
    """Ask with one request which of ``values`` must be waited for any longer.

    A medium is gone when reads no longer show it, or show it with the time of its deletion.

    :param values: up to 20 media ids; or one URL; or one job.
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
    job = operations.get_transcode_job(client, value, stop=stop).value
    return set() if job.is_over else {value}
