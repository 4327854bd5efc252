"""Sensors that wait until media are gone, or until a job is done."""

from __future__ import annotations

import re
import time
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_ims.api.identifiers import show
from airflow_provider_ims.arguments import check_one_input, read_bool
from airflow_provider_ims.exceptions import IMSJobFailedError
from airflow_provider_ims.sensors.base import IMSBaseSensor

# The triggers, the jobs and what they load are needed by a running task only: a DAG file shall not pay for them.
if TYPE_CHECKING:
    from airflow_provider_ims.api.jobs import Job, JobFile, JobPart
    from airflow_provider_ims.compat import Context, ObjectStoragePath
    from airflow_provider_ims.deletion.targets import Targets
    from airflow_provider_ims.triggers.events import WaitTimedOut
    from airflow_provider_ims.triggers.ims import IMSJobTrigger
    from airflow_provider_ims.triggers.wait import MediaWait

# So many failures are named in an error.
_MAX_NAMED = 20
_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")


class IMSMediaDeletedSensor(IMSBaseSensor):
    """Waits until all of some media are gone: no longer shown by reads, or shown as deleted beyond doubt.

    Exactly one of ``media_ids``, ``input_urls`` and ``manifest`` is given. Naming no medium is success.
    Deferred, the sensor carries up to 500 ids or a file's path, which the triggerer must be able to read, for up to
    200,000; what is more, and a longer list without a file, is waited for in the worker until no more are left.

    :param media_ids: a list of media ids, text with commas or line ends between them, or what Jinja makes of a
        list. (templated)
    :param input_urls: URLs as they are registered in IMS, spelled in the same ways. A read per URL and look.
        (templated)
    :param manifest: path of a plan, of a text file with one media id a line, or of a report's folder, of which the
        ``deleted`` lines count. (templated)
    :returns: ``media`` (how many) and ``seconds`` (from the first look to the last).
    """

    template_fields: Sequence[str] = ("media_ids", "input_urls", "manifest", *IMSBaseSensor.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = dict.fromkeys(("media_ids", "input_urls"), "json")
    inputs = frozenset({"media_ids", "input_urls", "manifest"})

    def __init__(
        self,
        *,
        media_ids: Sequence[str] | str | None = None,
        input_urls: Sequence[str] | str | None = None,
        manifest: str | ObjectStoragePath | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_one_input(media_ids=media_ids, input_urls=input_urls, manifest=manifest)
        self.media_ids = media_ids
        self.input_urls = input_urls
        self.manifest = manifest

    @cached_property
    def _targets(self) -> Targets:
        from airflow_provider_ims.deletion.targets import read_targets

        return read_targets(
            self.media_ids,
            self.input_urls,
            self.storage_path("manifest") or self.manifest,
            from_report=True,
        )

    @cached_property
    def _wait(self) -> MediaWait:
        """What is looked at; it remembers what is gone already."""
        from airflow_provider_ims.triggers.wait import MediaWait

        targets = self._targets
        if not targets:
            self.log.warning("No media are named, so there is nothing to wait for.")
        return MediaWait(
            self.hook,
            targets.kind,
            (target.value for target in targets),
            path=None if self.manifest is None else str(self.manifest),
            digest=targets.digest,
            log_interval=self._log_interval,
        )

    def _look(self) -> dict[str, Any] | None:
        return {"media": len(self._targets)} if self._wait.is_over() else None

    def _describe(self) -> str:
        return self._wait.describe()

    def _defer(self, started: float, deadline: float) -> None:
        from airflow_provider_ims.triggers.wait import deferral_timeout

        if trigger := self._wait.trigger(poll_interval=self.poke_interval, deadline=deadline):
            self.defer(
                trigger=trigger,
                method_name="execute_complete",
                kwargs={"started": started, "media": len(self._targets)},
                timeout=deferral_timeout(deadline),
            )

    def execute_complete(
        self,
        context: Context,
        event: dict[str, Any] | None,
        started: float | None = None,
        media: int | None = None,
    ) -> dict[str, Any]:
        """Go on after a deferral, with the result that the other modes give."""
        self._check(event)
        return self._timed({"media": len(self._targets) if media is None else media}, context, started)


class _IMSJobSensor(IMSBaseSensor):
    """Waits until a job has ended well; one that has ended badly is an error, at once.

    A subclass names the trigger, which knows the kind of job and the argument that is its id, and says what the
    result tells.
    """

    trigger_name: ClassVar[str]
    required = frozenset({"job_id", "workflow_task_id", "parent_job_id"})
    accept_skipped: bool = False

    @property
    def _trigger_class(self) -> type[IMSJobTrigger]:
        from airflow_provider_ims.triggers import ims as triggers

        return getattr(triggers, self.trigger_name)  # type: ignore[no-any-return]

    @abstractmethod
    def _result(self, job: Job) -> dict[str, Any]:
        """Return what the XCom tells of a job that has ended well, but for its id."""

    def _look(self) -> dict[str, Any] | None:
        from airflow_provider_ims.api.jobs import check_job_id, read_job
        from airflow_provider_ims.triggers.wait import interruptible

        trigger = self._trigger_class
        job_id = check_job_id(getattr(self, trigger.id_argument), trigger.kind, trigger.id_argument)
        accept_skipped = read_bool("accept_skipped", self.accept_skipped)
        job = self.hook.ask(
            lambda client: interruptible(lambda stop: read_job(client, trigger.kind, job_id, stop=stop))
        )
        self._seen = job.describe()
        if failures := job.failures(accept_skipped=accept_skipped):
            more = f"; and {len(failures) - _MAX_NAMED} more" if len(failures) > _MAX_NAMED else ""
            raise IMSJobFailedError(
                f"{trigger.kind} {job.job_id} failed: {'; '.join(failures[:_MAX_NAMED])}{more}. "
                f"Its state is {job.describe()}"
            )
        return {trigger.id_argument: job.job_id, **self._result(job)} if job.is_over else None

    def _describe(self) -> str:
        trigger = self._trigger_class
        return f"The {trigger.kind} {getattr(self, trigger.id_argument)} is not over yet: {self._seen}."

    def _describe_pending(self, error: WaitTimedOut) -> str:
        trigger = self._trigger_class
        return f"{trigger.kind} {show(getattr(self, trigger.id_argument))} was still pending at the last look"

    def _defer(self, started: float, deadline: float) -> None:
        from airflow_provider_ims.triggers.wait import deferral_timeout

        trigger = self._trigger_class
        job_id = getattr(self, trigger.id_argument)
        self.defer(
            trigger=trigger(
                **{trigger.id_argument: job_id.strip()},
                ims_conn_id=self.hook.ims_conn_id,
                region=self.hook.region,
                poll_interval=self.poke_interval,
                deadline=deadline,
            ),
            method_name="execute_complete",
            kwargs={"started": started},
            timeout=deferral_timeout(deadline),
        )

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None, started: float | None = None
    ) -> dict[str, Any]:
        """Go on after a deferral: read the job, and judge it as the other modes do."""
        self._check(event)
        result = self._look()
        if result is None:
            started = started or time.time()
            self._defer(started, started + self.timeout)
        return self._timed(result or {}, context, started)


class IMSMediaConvertJobSensor(_IMSJobSensor):
    """Waits until a convert job has ended well, and with it *every* output.

    A source may go once its renditions are there, so a job that calls itself complete is not enough: each output, and
    each group of outputs, must be. A state that is not documented counts as running.

    Whether an output was written into the very medium that was the job's input can be seen from the result:
    ``protect`` of :class:`~airflow_provider_ims.operators.ims.IMSDeleteMediaInfosOperator` takes the outputs.

    :param job_id: the id that ``SubmitMediaConvertJob`` gave. (templated)
    :param accept_skipped: take an output that was skipped, of which no file is promised, for one that is done.
        Default: it is a failure.
    :returns: ``job_id``, ``inputs`` (of each ``media_id`` and ``url``), ``outputs`` (of each ``name``, ``media_id``
        and ``url``, without a signature) and ``seconds``.
    :raises IMSJobFailedError: as soon as an output has failed or the job has ended badly; it names outputs, codes and
        messages. Also for a job that has ended well and shows no output.
    """

    template_fields: Sequence[str] = ("job_id", *IMSBaseSensor.template_fields)
    trigger_name = "IMSMediaConvertJobTrigger"

    def __init__(self, *, job_id: str, accept_skipped: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.accept_skipped = accept_skipped

    def _result(self, job: Job) -> dict[str, Any]:
        return {"inputs": _files(job.inputs), "outputs": _files(job.outputs, "name", "media_id", "url")}


class IMSWorkflowTaskSensor(_IMSJobSensor):
    """Waits until a workflow task has succeeded.

    How IMS writes what the activities of a workflow made is not documented, so the ids that can be found are given;
    to be sure of a rendition, wait for the job that made it.

    :param workflow_task_id: the id that ``StartWorkflow`` gave as ``TaskId``. (templated)
    :returns: ``workflow_task_id``, ``inputs`` (of each ``media_id`` and ``url``), ``activities`` (of each ``name``,
        ``state``, ``job_id`` and ``media_id``) and ``seconds``.
    :raises IMSJobFailedError: when the task has failed or was canceled; it names the activities that have failed.
    """

    template_fields: Sequence[str] = ("workflow_task_id", *IMSBaseSensor.template_fields)
    trigger_name = "IMSWorkflowTaskTrigger"

    def __init__(self, *, workflow_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.workflow_task_id = workflow_task_id

    def _result(self, job: Job) -> dict[str, Any]:
        activities = _files(job.outputs, "name", "state", "job_id", "media_id")
        return {"inputs": _files(job.inputs), "activities": activities}


class IMSMediaProducingJobSensor(_IMSJobSensor):
    """Waits until a producing job has succeeded; its materials may go then.

    :param job_id: the id that ``SubmitMediaProducingJob`` gave. (templated)
    :returns: ``job_id``, ``media_id`` and ``url`` (without a signature) of what it made, and ``seconds``.
    :raises IMSJobFailedError: when the job has failed; it names code and message.
    """

    template_fields: Sequence[str] = ("job_id", *IMSBaseSensor.template_fields)
    trigger_name = "IMSMediaProducingJobTrigger"

    def __init__(self, *, job_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id

    def _result(self, job: Job) -> dict[str, Any]:
        output = next(iter(_files(job.outputs)), {"media_id": None, "url": None})
        return dict(output)


class IMSTranscodeJobSensor(_IMSJobSensor):
    """Waits until *every* part of a transcoding job has succeeded.

    IMS announced the end of ``SubmitTranscodeJob`` and ``GetTranscodeJob`` for the end of 2025; for new jobs there is
    :class:`IMSMediaConvertJobSensor`.

    A parent's own ``Success`` may mean only one of its sub-jobs, so these are looked at one by one. A state that is
    not documented counts as running. Source:
    https://www.alibabacloud.com/help/en/ims/developer-reference/api-ice-2020-11-09-gettranscodejob

    :param parent_job_id: the id that ``SubmitTranscodeJob`` gave. (templated)
    :returns: ``parent_job_id``, ``inputs`` (of each ``media_id`` and ``url``), ``outputs`` (of each sub-job
        ``job_id``, ``media_id`` and ``url``, without a signature) and ``seconds``.
    :raises IMSJobFailedError: as soon as a sub-job failed or was deleted; it names them.
    """

    template_fields: Sequence[str] = ("parent_job_id", *IMSBaseSensor.template_fields)
    trigger_name = "IMSTranscodeJobTrigger"

    def __init__(self, *, parent_job_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parent_job_id = parent_job_id

    def _result(self, job: Job) -> dict[str, Any]:
        return {"inputs": _files(job.inputs), "outputs": _files(job.outputs, "job_id", "media_id", "url")}


def _files(things: Iterable[JobFile | JobPart], *names: str) -> list[dict[str, str | None]]:
    return [
        {name: _storable(getattr(thing, name)) for name in names or ("media_id", "url")} for thing in things
    ]


def _storable(text: str | None) -> str | None:
    r"""Return what the service says as every database of Airflow's takes it in JSON.

    PostgreSQL refuses NUL, and nothing can send half of a pair of surrogates: they become ``\uXXXX``.
    """
    return text and _NOT_STORABLE.sub(lambda found: rf"\u{ord(found[0]):04x}", text)
