"""Triggers that wait for IMS on behalf of deferred tasks."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, ClassVar

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_ims.api.jobs import JobKind
from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.triggers.events import error_event, outcome_event
from airflow_provider_ims.triggers.poller import Poller
from airflow_provider_ims.triggers.status import SubjectKind

# A scheduler (seen with Airflow 3.3) fails a task that comes back from its trigger before the scheduler has noted
# that the worker ended in a deferral, which it does once a round; a busy one needs seconds for that.
MIN_SECONDS = 5.0

log = logging.getLogger(__name__)


class _IMSTrigger(BaseTrigger):
    """Waits through the poller of a connection, and tells with one event how it ended.

    :param ims_conn_id: the connection's id.
    :param region: overrides the connection's.
    :param poll_interval: seconds between two looks, 1 at least.
    :param deadline: seconds since the epoch; a restarted triggerer keeps to it. None waits for ever.
    """

    def __init__(
        self,
        *,
        ims_conn_id: str = IMSHook.default_conn_name,
        region: str | None = None,
        poll_interval: float = 60.0,
        deadline: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ims_conn_id = ims_conn_id
        self.region = region
        self.poll_interval = poll_interval
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and the arguments, which make an equal trigger."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            **self._subject(),
            "ims_conn_id": self.ims_conn_id,
            "region": self.region,
            "poll_interval": self.poll_interval,
            "deadline": self.deadline,
        }

    @abstractmethod
    def _subject(self) -> dict[str, Any]:
        """Return the arguments that say what is waited for."""

    @abstractmethod
    async def _values(self) -> tuple[SubjectKind, Collection[str]]:
        """Return what the poller shall ask for."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait; see :mod:`airflow_provider_ims.triggers.events` for what the event says."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            kind, values = await self._values()
            pending, error = await Poller.for_connection(self.ims_conn_id, self.region).wait(
                kind, values, interval=self.poll_interval, deadline=self.deadline, log_pending=log.info
            )
            event = error_event(error) if error else outcome_event(pending)
        except Exception as error:  # noqa: BLE001 - raised again in the worker
            event = error_event(error)
        await asyncio.sleep(started + MIN_SECONDS - loop.time())
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]


class IMSMediaDeletedTrigger(_IMSTrigger):
    """Waits until media are gone.

    :param media_ids: ids of the media.
    :param input_urls: or their URLs.
    :param manifest: or the path of a manifest or report that names them.
    :param digest: SHA-256 of the targets that the manifest named when the task deferred.
    :param kwargs: ``ims_conn_id``, ``region``, ``poll_interval`` (seconds, 60) and ``deadline`` (seconds since
        the epoch, none).
    """

    def __init__(
        self,
        media_ids: Sequence[str] | None = None,
        input_urls: Sequence[str] | None = None,
        manifest: str | None = None,
        digest: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.media_ids = media_ids
        self.input_urls = input_urls
        self.manifest = manifest
        self.digest = digest

    def _subject(self) -> dict[str, Any]:
        return {
            "media_ids": None if self.media_ids is None else list(self.media_ids),
            "input_urls": None if self.input_urls is None else list(self.input_urls),
            "manifest": self.manifest,
            "digest": self.digest,
        }

    async def _values(self) -> tuple[SubjectKind, Collection[str]]:
        if self.media_ids is not None:
            return "media_id", self.media_ids
        if self.input_urls is not None:
            return "input_url", self.input_urls
        return await sync_to_async(self._read_manifest, thread_sensitive=False)()

    def _read_manifest(self) -> tuple[SubjectKind, Collection[str]]:
        from airflow_provider_ims.deletion.targets import read_targets
        from airflow_provider_ims.files.storage import storage_path

        path = storage_path(self.manifest or "", "manifest", ims_conn_id=self.ims_conn_id)
        targets = read_targets(manifest=path, from_report=True)
        if self.digest and targets.digest != self.digest:
            raise ValueError(f"{self.manifest} names other media than when the task began to wait for them")
        return targets.kind, [target.value for target in targets]


class IMSJobTrigger(_IMSTrigger):
    """Waits until a job is over, well or badly: the worker reads it again and judges.

    A subclass names the kind of job, and the argument that is its id.
    """

    kind: ClassVar[JobKind]
    id_argument: ClassVar[str]

    def _subject(self) -> dict[str, Any]:
        return {self.id_argument: getattr(self, self.id_argument)}

    async def _values(self) -> tuple[SubjectKind, Collection[str]]:
        return self.kind, [getattr(self, self.id_argument)]


class IMSMediaConvertJobTrigger(IMSJobTrigger):
    """Waits until a convert job has ended, or one of its outputs has failed.

    :param job_id: the job's id.
    :param kwargs: ``ims_conn_id``, ``region``, ``poll_interval`` (seconds, 60) and ``deadline`` (seconds since
        the epoch, none).
    """

    kind = "media convert job"
    id_argument = "job_id"

    def __init__(self, job_id: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id


class IMSWorkflowTaskTrigger(IMSJobTrigger):
    """Waits until a workflow task has ended.

    :param workflow_task_id: the task's id.
    :param kwargs: as of :class:`IMSMediaConvertJobTrigger`.
    """

    kind = "workflow task"
    id_argument = "workflow_task_id"

    def __init__(self, workflow_task_id: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.workflow_task_id = workflow_task_id


class IMSMediaProducingJobTrigger(IMSJobTrigger):
    """Waits until a producing job has ended.

    :param job_id: the job's id.
    :param kwargs: as of :class:`IMSMediaConvertJobTrigger`.
    """

    kind = "media producing job"
    id_argument = "job_id"

    def __init__(self, job_id: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id


class IMSTranscodeJobTrigger(IMSJobTrigger):
    """Waits until all parts of a transcoding job have succeeded, or one has failed.

    :param parent_job_id: the job's id.
    :param kwargs: as of :class:`IMSMediaConvertJobTrigger`.
    """

    kind = "transcoding job"
    id_argument = "parent_job_id"

    def __init__(self, parent_job_id: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parent_job_id = parent_job_id
