"""Sensors that wait until media are gone, or until a transcoding job is done."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_ims.arguments import check_one_input
from airflow_provider_ims.exceptions import IMSJobFailedError
from airflow_provider_ims.sensors.base import IMSBaseSensor

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_ims.deletion.targets import Targets
    from airflow_provider_ims.triggers.wait import MediaWait


class IMSMediaDeletedSensor(IMSBaseSensor):
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

        return read_targets(self.media_ids, self.input_urls, self.manifest, from_report=True)

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
        )

    def _look(self) -> dict[str, Any] | None:
        return {"media": len(self._targets)} if self._wait.is_over() else None

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


class IMSTranscodeJobSensor(IMSBaseSensor):
    """Waits until *every* part of a transcoding job has succeeded.

    A parent's own ``Success`` may mean only one of its sub-jobs, so these are looked at one by one. A state that is
    not documented counts as running. Source:
    https://www.alibabacloud.com/help/en/ims/developer-reference/api-ice-2020-11-09-gettranscodejob

    :param parent_job_id: the id that ``SubmitTranscodeJob`` gave. (templated)
    :returns: ``parent_job_id``, ``outputs`` (of each sub-job ``job_id``, ``media_id`` and ``url``, without a
        signature) and ``seconds``.
    :raises IMSJobFailedError: as soon as a sub-job failed or was deleted; it names them.
    """

    template_fields: Sequence[str] = ("parent_job_id", *IMSBaseSensor.template_fields)
    required = frozenset({"parent_job_id"})

    def __init__(self, *, parent_job_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parent_job_id = parent_job_id

    def _look(self) -> dict[str, Any] | None:
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
