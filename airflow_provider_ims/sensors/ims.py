"""Sensors that wait until media are gone, or until a transcoding job is done."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_ims.api.errors import IMSTransientError
from airflow_provider_ims.compat import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)
from airflow_provider_ims.exceptions import IMSJobFailedError
from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.links.ims import IMSConsoleLink
from airflow_provider_ims.triggers.events import WaitTimedOut, raise_unless_over

if TYPE_CHECKING:
    from airflow_provider_ims.compat import Context, ObjectStoragePath
    from airflow_provider_ims.triggers.wait import MediaWait


class _IMSSensor(BaseSensorOperator):
    """What both sensors have in common: one way to look, whether the task sleeps, is rescheduled or deferred.

    A deferrable sensor looks in the worker first and defers out of ``poke``, so that Airflow's own handling of
    ``soft_fail``, ``never_fail`` and ``silent_fail`` applies to every mode alike.

    :param ims_conn_id: the connection. (templated)
    :param region: overrides the connection's. (templated)
    :param deferrable: wait in the triggerer, without a worker. Default: ``[operators] default_deferrable``.
    """

    template_fields: Sequence[str] = ("ims_conn_id", "region")
    operator_extra_links = (IMSConsoleLink(),)

    def __init__(
        self,
        *,
        ims_conn_id: str = IMSHook.default_conn_name,
        region: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ims_conn_id = ims_conn_id
        self.region = region
        self.deferrable = deferrable
        self._started: float | None = None
        self._went_through = False

    @cached_property
    def hook(self) -> IMSHook:
        """What is asked with."""
        return IMSHook(self.ims_conn_id, self.region or None)

    @abstractmethod
    def _look(self) -> dict[str, Any] | None:
        """Give the result, or None if it is not over."""

    @abstractmethod
    def _defer(self, started: float, deadline: float) -> None:
        """Hand over to a trigger; return only if that can't be done, and the task must wait itself."""

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Look once.

        Throttling and network trouble are tried again for the connection's ``retry_seconds``, and once a look
        went through, until the sensor's own time-out. A refusal fails the task at once.
        """
        first_poke = _first_reschedule(self, context) if self.reschedule else None
        self._started = self._started or first_poke or time.time()
        try:
            result = self._look()
        except IMSTransientError as error:
            if not (first_poke or self._went_through):
                raise
            self.log.warning("This look failed and will be repeated: %s.", error)
            return False
        self._went_through = True
        if result is not None:
            return PokeReturnValue(is_done=True, xcom_value=_timed(result, self._started))
        if self.deferrable:
            self._defer(self._started, self._started + self.timeout)
        return False

    def _check(self, event: dict[str, Any] | None) -> None:
        """Return if the trigger says that it is over.

        :raises AirflowSensorTimeout: if time is up.
        :raises IMSAPIError: what the trigger met.
        """
        try:
            raise_unless_over(event)
        except WaitTimedOut as error:
            raise AirflowSensorTimeout(f"not over after {self.timeout:g} s: {error}") from None

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a deferral; ``never_fail`` covers every error, as it does without one."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSkipException:
            raise
        except Exception as error:
            if self.never_fail:
                raise AirflowSkipException(f"skipped, since never_fail is set: {error}") from error
            raise


class IMSMediaDeletedSensor(_IMSSensor):
    """Waits until all of some media are gone: no longer shown by reads, or shown with the time of deletion.

    Exactly one of ``media_ids``, ``input_urls`` and ``manifest`` is given. Naming no medium is success.
    Deferred, the sensor carries up to 500 ids or a file's path, which the triggerer must be able to read; a longer
    list without a file is waited for in the worker, until no more than 500 are left.

    :param media_ids: a list of media ids, text with commas or line ends between them, or what Jinja makes of a
        list. (templated)
    :param input_urls: URLs as they are registered in IMS, spelled in the same ways. A read per URL and look.
        (templated)
    :param manifest: path of a plan, of a text file with one media id a line, or of a report's folder, of which the
        ``deleted`` lines count. (templated)
    :returns: ``media`` (how many) and ``seconds`` (from the first look to the last).
    """

    template_fields: Sequence[str] = ("media_ids", "input_urls", "manifest", *_IMSSensor.template_fields)

    def __init__(
        self,
        *,
        media_ids: Sequence[str] | str | None = None,
        input_urls: Sequence[str] | str | None = None,
        manifest: str | ObjectStoragePath | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.media_ids = media_ids
        self.input_urls = input_urls
        self.manifest = manifest
        self._count = 0

    @cached_property
    def _wait(self) -> MediaWait:
        """What is looked at; it remembers what is gone already."""
        from airflow_provider_ims.deletion.targets import read_targets
        from airflow_provider_ims.triggers.wait import MediaWait

        targets = read_targets(self.media_ids, self.input_urls, self.manifest, from_report=True)
        self._count = len(targets)
        if not targets:
            self.log.warning("No media are named, so there is nothing to wait for.")
        return MediaWait(
            self.hook,
            targets.kind,
            (target.value for target in targets),
            path=None if self.manifest is None else str(self.manifest),
            digest=targets.digest,
        )

    def _look(self) -> dict[str, Any] | None:
        return {"media": self._count} if self._wait.is_over() else None

    def _defer(self, started: float, deadline: float) -> None:
        from airflow_provider_ims.triggers.wait import deferral_timeout

        if trigger := self._wait.trigger(poll_interval=self.poke_interval, deadline=deadline):
            self.defer(
                trigger=trigger,
                method_name="execute_complete",
                kwargs={"started": started, "media": self._count},
                timeout=deferral_timeout(deadline),
            )

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None, started: float, media: int
    ) -> dict[str, Any]:
        """Go on after a deferral, with the result that the other modes give."""
        self._check(event)
        return _timed({"media": media}, started)


class IMSTranscodeJobSensor(_IMSSensor):
    """Waits until *every* part of a transcoding job has succeeded.

    A parent's own ``Success`` may mean only one of its sub-jobs, so these are looked at one by one. A state that is
    not documented counts as running. Source:
    https://www.alibabacloud.com/help/en/ims/developer-reference/api-ice-2020-11-09-gettranscodejob

    :param parent_job_id: the id that ``SubmitTranscodeJob`` gave. (templated)
    :returns: ``parent_job_id``, ``outputs`` (of each sub-job ``job_id``, ``media_id`` and ``url``, without a
        signature) and ``seconds``.
    :raises IMSJobFailedError: as soon as a sub-job failed or was deleted; it names them.
    """

    template_fields: Sequence[str] = ("parent_job_id", *_IMSSensor.template_fields)

    def __init__(self, *, parent_job_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parent_job_id = parent_job_id

    def _look(self) -> dict[str, Any] | None:
        if str(self.parent_job_id or "").strip() in ("", "None"):
            raise ValueError(f"parent_job_id is {self.parent_job_id!r}, which names no job")
        job = self.hook.get_transcode_job(self.parent_job_id)
        states = Counter(sub.status or "unknown" for sub in job.sub_jobs)
        shown = ", ".join(f"{number} {state}" for state, number in states.items()) or job.status
        if failed := job.failures:
            raise IMSJobFailedError(
                f"transcoding job {job.parent_job_id} failed in {', '.join(failed)}; its sub-jobs: {shown}"
            )
        if not job.is_over:
            self.log.info("Transcoding job %s is not done yet: %s", job.parent_job_id, shown)
            return None
        outputs = [
            {"job_id": sub.job_id, "media_id": sub.media_id, "url": sub.output_url} for sub in job.sub_jobs
        ]
        return {"parent_job_id": job.parent_job_id, "outputs": outputs}

    def _defer(self, started: float, deadline: float) -> None:
        from airflow_provider_ims.triggers.ims import IMSTranscodeJobTrigger
        from airflow_provider_ims.triggers.wait import deferral_timeout

        self.defer(
            trigger=IMSTranscodeJobTrigger(
                self.parent_job_id,
                ims_conn_id=self.ims_conn_id,
                region=self.hook.region,
                poll_interval=self.poke_interval,
                deadline=deadline,
            ),
            method_name="execute_complete",
            kwargs={"started": started},
            timeout=deferral_timeout(deadline),
        )

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None, started: float
    ) -> dict[str, Any]:
        """Go on after a deferral: read the job, and judge it as the other modes do."""
        self._check(event)
        result = self._look()
        if result is None:
            self._defer(started, started + self.timeout)
        return _timed(result or {}, started)


def _timed(result: dict[str, Any], started: float) -> dict[str, Any]:
    return {**result, "seconds": round(time.time() - started, 1)}


def _first_reschedule(sensor: BaseSensorOperator, context: Context) -> float | None:
    """When a rescheduled sensor first looked, in seconds since the epoch; None at its first look."""
    ti: Any = context["ti"]
    if hasattr(ti, "get_first_reschedule_date"):
        first = ti.get_first_reschedule_date(context)
    else:  # Airflow 2
        from airflow.sensors.base import _orig_start_date  # type: ignore[import-not-found]

        first = _orig_start_date(
            dag_id=ti.dag_id,
            task_id=ti.task_id,
            run_id=ti.run_id,
            map_index=ti.map_index,
            try_number=(ti.max_tries or 0) - (sensor.retries or 0) + 1,
        )
    return first.timestamp() if first else None
