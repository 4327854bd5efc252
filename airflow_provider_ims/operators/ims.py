"""The operators: delete media, and plan what to delete."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_ims.arguments import check_one_input, read_bool, read_whole_number
from airflow_provider_ims.compat import conf
from airflow_provider_ims.exceptions import IMSDeletionError, IMSTransientError, raised_for_airflow
from airflow_provider_ims.links.ims import IMSReportLink
from airflow_provider_ims.operators.base import IMSBaseOperator
from airflow_provider_ims.operators.retention import IMSPlanMediaRetentionOperator

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage  # type: ignore[import-not-found]

    from airflow_provider_ims.compat import Context, ObjectStoragePath
    from airflow_provider_ims.deletion.checkpoint import StateStore
    from airflow_provider_ims.deletion.policies import OutcomePolicy
    from airflow_provider_ims.deletion.run import DeletionRun
    from airflow_provider_ims.operators.lineage import DroppedFiles

__all__ = ["IMSDeleteMediaInfosOperator", "IMSPlanMediaRetentionOperator"]

_STILL_SHOWN = "the service took all deletions, but reads went on to show some media: {}"


class IMSDeleteMediaInfosOperator(IMSBaseOperator):
    """Delete media in IMS, any number of them, and say what became of each. Deleting is final.

    Exactly one of ``media_ids``, ``input_urls`` and ``manifest`` names the media. ``None``, ``[]``, ``""``,
    ``"[]"`` and ``"None"`` mean nothing to delete: the task succeeds with a warning and sends no request.

    Every target ends in one outcome: ``deleted``; ``missing`` (was not there, checked by a read); ``forbidden``
    (refused by the service); ``failed`` (still there, though the service was asked); ``unknown`` (could not be read);
    ``kept`` (a plan named it, but it changed since).

    :param media_ids: a list of media ids, text with commas or line ends between them, or what Jinja makes of a
        list. (templated)
    :param input_urls: URLs as they are registered in IMS, spelled alike. (templated)
    :param manifest: path of a plan, or of a text file with one media id a line. (templated)
    :param manifest_digest: SHA-256 of the manifest as it was approved; another file is an ``IMSGuardError``
        before the first deletion. (templated)
    :param delete_physical_files: delete the files from the bucket too. IMS's default is not documented, so it is
        always sent. A bool, or its name in text; so is ``preview``. Where OpenLineage's provider is installed, it is
        told which files a try dropped, up to 100, of targets that are URLs or come from a plan. (templated)
    :param max_media: more targets than this are an ``IMSGuardError`` before the first deletion. (templated)
    :param protect: ids or URLs of media that must not be among the targets, a plan's URLs included: if they are,
        it is an ``IMSGuardError`` before the first request. (templated)
    :param on_forbidden: ``fail``, ``warn`` or ``ignore`` when targets were forbidden, after all were tried.
        (templated)
    :param on_missing: the same for targets that were not there. (templated)
    :param verify_files: with ``delete_physical_files``, and refused without, look in OSS whether the files are gone
        (extra ``oss``, right ``oss:ListObjects``). A target whose file is still there when reads have settled stays
        ``deleted``, counts in the result's ``files_left``, and has ``"file": "left"`` in its report line; the others
        have ``"gone"``, or ``"unknown"`` with the reason.
    :param on_files_left: ``fail``, ``warn`` or ``ignore`` when there are such files; ``fail`` is refused without
        ``verify_files``.
    :param preview: do everything but delete; ``deleted`` then counts what would be. (templated)
    :param report: folder for the report, a line for each target in JSON lines; any object storage path. (templated)
    :param durable: resume an earlier try that was killed or failed (Airflow >= 3.3; before that, a try starts over).
    :param max_concurrency: requests in flight at most, 1 to 64.
    :param wait_for_completion: wait until what was deleted is gone from reads, ``execution_timeout`` at most.
    :param poll_interval: seconds between two looks while waiting.
    :param deferrable: wait in the triggerer, without a worker.
    :param ims_conn_id: the connection. (templated)
    :param region: overrides the connection's. (templated)
    :returns: ``requested``, ``duplicates``, one count for each outcome, ``inferred`` (deleted, though the answer
        was lost), ``requests``, ``retries``, ``throttled``, ``preview``, ``region``, ``delete_physical_files``,
        ``report`` (its folder), ``resumed``, ``seconds``, ``samples`` (up to 100 targets of each outcome) and
        ``request_ids`` (up to 100). Pushed to XCom also when the task fails with ``IMSDeletionError``.
    :raises IMSDeletionError: targets are ``failed`` or ``unknown``, or what ``on_forbidden``, ``on_missing`` say.
    :raises IMSGuardError: nothing was deleted, because a guard forbids it.
    :raises ValueError: nothing was deleted, because an argument makes no sense.
    """

    template_fields: Sequence[str] = (
        "media_ids",
        "input_urls",
        "manifest",
        "manifest_digest",
        "delete_physical_files",
        "max_media",
        "protect",
        "on_forbidden",
        "on_missing",
        "preview",
        "report",
        *IMSBaseOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = dict.fromkeys(
        ("media_ids", "input_urls", "protect"), "json"
    )
    inputs = frozenset({"media_ids", "input_urls", "manifest"})
    guards = frozenset({"manifest_digest", "max_media", "protect"})
    operator_extra_links = (IMSReportLink(),)
    ui_color = "#ffe6cc"

    # Made by a run, since Airflow copies operators and an event can't be copied.
    _stop: threading.Event | None = None
    _dropped: DroppedFiles | None = None

    def __init__(
        self,
        *,
        media_ids: Iterable[str] | str | None = None,
        input_urls: Iterable[str] | str | None = None,
        manifest: str | ObjectStoragePath | None = None,
        manifest_digest: str | None = None,
        delete_physical_files: bool | str = False,
        max_media: int | str | None = None,
        protect: Iterable[str] | str | None = None,
        on_forbidden: OutcomePolicy = "fail",
        on_missing: OutcomePolicy = "warn",
        verify_files: bool = False,
        on_files_left: OutcomePolicy = "warn",
        preview: bool | str = False,
        report: str | ObjectStoragePath | None = None,
        durable: bool = True,
        max_concurrency: int = 32,
        wait_for_completion: bool = False,
        poll_interval: float = 30,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_one_input(media_ids=media_ids, input_urls=input_urls, manifest=manifest)
        self.media_ids = media_ids
        self.input_urls = input_urls
        self.manifest = manifest
        self.manifest_digest = manifest_digest
        self.delete_physical_files = delete_physical_files
        self.max_media = max_media
        self.protect = protect
        self.on_forbidden = on_forbidden
        self.on_missing = on_missing
        self.verify_files = verify_files
        self.on_files_left = on_files_left
        self.preview = preview
        self.report = report
        self.durable = durable
        self.max_concurrency = max_concurrency
        self.wait_for_completion = wait_for_completion
        self.poll_interval = poll_interval
        self.deferrable = deferrable

    def execute(self, context: Context) -> dict[str, Any]:
        """Delete; then wait, if asked to."""
        self.check_given()
        began = time.time()
        IMSReportLink().show(context)
        try:
            preview = read_bool("preview", self.preview)
            run, result = self._delete(
                preview, store=self._state_store(context), **self._report_options(context)
            )
            if self.wait_for_completion and not preview:
                self._push(context, result)  # whatever becomes of the wait
                self._wait(run, result, began)
        except IMSDeletionError as error:
            self._end(context, error)
            raise
        except IMSTransientError as error:
            # Some targets could not be read: the next try asks about them, and this is known until then.
            if known := getattr(error, "result", None):
                self._push(context, known)
            raise
        self._end(context)
        return result

    def execute_complete(
        self,
        context: Context,
        event: dict[str, Any] | None,
        result: dict[str, Any] | None = None,
        dropped: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Go on after a deferral, with the result and the dropped files that were there before it.

        :param result: of the deletion. ``dag.test()`` of Airflow up to 3.3.2 drops it; it is in XCom then.
        """
        from airflow_provider_ims.operators.lineage import DroppedFiles
        from airflow_provider_ims.triggers.events import WaitTimedOut, raise_unless_over

        self._dropped = DroppedFiles(dropped)
        if result is None:
            result = context["ti"].xcom_pull(task_ids=self.task_id, map_indexes=context["ti"].map_index)
        try:
            raise_unless_over(event)
        except WaitTimedOut as error:
            late = IMSDeletionError(_STILL_SHOWN.format(error), result)
            self._end(context, late)
            raise late from None
        self._end(context)
        return result

    def dry_run(self) -> None:
        """Run the preview, without report and state."""
        self.check_given()
        self.log.info("Result: %s", self._delete(preview=True)[1])

    def _report_options(self, context: Context) -> dict[str, Any]:
        """Say where the report goes: a folder for this task instance, and in it one for this try."""
        from airflow_provider_ims.files.report import column_folder

        base = self.storage_path("report")
        if base is None:
            return {}
        ti = context["ti"]
        columns = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id}
        if (map_index := getattr(ti, "map_index", -1)) >= 0:
            columns["map_index"] = str(map_index)
        return {"report_base": column_folder(base, columns), "attempt": ti.try_number}

    @raised_for_airflow()
    def _delete(
        self, preview: bool, store: StateStore | None = None, **report_options: Any
    ) -> tuple[DeletionRun, dict[str, Any]]:
        from airflow_provider_ims.deletion.targets import read_targets
        from airflow_provider_ims.operators.lineage import DroppedFiles

        self._check_arguments()
        delete_physical_files = read_bool("delete_physical_files", self.delete_physical_files)
        self._stop = threading.Event()
        self._dropped = DroppedFiles()
        targets = read_targets(
            self.media_ids,
            self.input_urls,
            self.storage_path("manifest") or self.manifest,
            manifest_digest=self.manifest_digest,
        )
        run = self.hook.deletion_run(
            targets,
            max_media=read_whole_number("max_media", self.max_media, least=0),
            manifest_digest=self.manifest_digest,
            protect=self.protect,
            on_forbidden=self.on_forbidden,
            on_missing=self.on_missing,
            verify_files=self.verify_files,
            on_files_left=self.on_files_left,
            delete_physical_files=delete_physical_files,
            preview=preview,
            max_concurrency=self.max_concurrency,
            stop=self._stop,
            on_result=self._dropped.record if delete_physical_files and not preview else None,
            # Nothing to delete leaves nothing behind.
            **({"store": store, **report_options} if len(targets) else {}),
        )
        return run, run.execute()

    def _wait(self, run: DeletionRun, result: dict[str, Any], began: float) -> None:
        """Wait until what was deleted is gone from reads, here or through a trigger.

        :raises IMSDeletionError: when it isn't within ``execution_timeout``, or else Airflow's time-out of sensors.
        """
        from airflow_provider_ims.triggers.events import WaitTimedOut
        from airflow_provider_ims.triggers.wait import MediaWait, wait_until_gone

        values = run.gone()
        if values is None:
            self.log.warning(
                "Not waiting: without a report it is not known in full what earlier tries deleted."
            )
            return
        if self.execution_timeout:
            # A little before Airflow's own time-out, whose error would not carry the result.
            patience = self.execution_timeout.total_seconds() * 0.95
        else:
            patience = conf.getfloat("sensors", "default_timeout", fallback=604800.0)
        dropped = self._dropped.urls if self._dropped else []
        try:
            wait_until_gone(
                self,
                MediaWait(self.hook, run.targets.kind, values, path=result["report"]),
                poll_interval=self.poll_interval,
                deadline=began + patience,
                deferrable=self.deferrable,
                kwargs={"result": result, **({"dropped": dropped} if dropped else {})},
            )
        except WaitTimedOut as error:
            raise IMSDeletionError(_STILL_SHOWN.format(error), result) from None

    def _push(self, context: Context, result: dict[str, Any]) -> None:
        """Leave the result of a task that may fail, so that one downstream with trigger rule all_done can tell."""
        context["ti"].xcom_push(key="return_value", value=result)

    def _end(self, context: Context, error: IMSDeletionError | None = None) -> None:
        """Drop the kept state: the task is over, and starts anew when it is cleared."""
        from airflow_provider_ims.deletion.checkpoint import forget

        if error:
            self._push(context, error.result)
        if (store := self._state_store(context)) is not None:
            forget(store)

    def get_openlineage_facets_on_complete(self, _: Any) -> OperatorLineage:
        """Tell OpenLineage which files this try dropped; it asks after a failure, too."""
        from airflow_provider_ims.operators.lineage import lineage

        return lineage(self._dropped)

    def on_kill(self) -> None:
        """Start no new request; those in flight are waited for, and what they did is reported."""
        if self._stop:
            self._stop.set()

    def _check_arguments(self) -> None:
        if not (isinstance(self.poll_interval, int | float) and self.poll_interval > 0):
            raise ValueError(f"poll_interval is {self.poll_interval!r}, not a number of seconds")
        for name in ("durable", "wait_for_completion", "deferrable", "verify_files"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name} is {getattr(self, name)!r}, not True or False")

    def _state_store(self, context: Context) -> StateStore | None:
        """Airflow's store for the state of a task, which Airflow has from 3.3 on."""
        return context.get("task_state_store") if self.durable else None
