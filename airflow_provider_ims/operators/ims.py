"""The operators: delete media, and plan what to delete."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_ims.cleanup.targets import check_one_input
from airflow_provider_ims.exceptions import IMSDeletionError
from airflow_provider_ims.hooks.ims import IMSHook

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_ims.cleanup.resume import StateStore

POLICIES = ("fail", "warn", "ignore")


class IMSDeleteMediaInfosOperator(BaseOperator):
    """Delete media in IMS, any number of them, and say what became of each. Deleting is final.

    Exactly one of ``media_ids``, ``input_urls`` and ``manifest`` names the media. ``None``, ``[]``, ``""``,
    ``"[]"`` and ``"None"`` mean nothing to delete: the task succeeds with a warning and sends no request.

    Every target ends in one outcome: ``deleted``; ``missing`` (was not there, checked by a read); ``forbidden``
    (refused by the service); ``failed`` (still there after it was asked twice); ``unknown`` (could not be read);
    ``kept`` (a plan named it, but it changed since).

    :param media_ids: a list of media ids, text with commas or line ends between them, or what Jinja makes of a
        list. (templated)
    :param input_urls: URLs as they are registered in IMS, spelled alike. (templated)
    :param manifest: path of a plan, or of a text file with one media id a line. (templated)
    :param manifest_digest: SHA-256 of the manifest as it was approved; another file is an ``IMSGuardError``
        before the first deletion. (templated)
    :param delete_physical_files: delete the files from the bucket too. IMS's default is not documented, so it is
        always sent.
    :param max_media: more targets than this are an ``IMSGuardError`` before the first deletion.
    :param on_forbidden: ``fail``, ``warn`` or ``ignore`` when targets were forbidden, after all were tried.
    :param on_missing: the same for targets that were not there.
    :param preview: do everything but delete; ``deleted`` then counts what would be.
    :param report: folder for the report, a line for each target in JSON lines; any object storage path. (templated)
    :param durable: go on where an earlier try was cut (Airflow >= 3.3; before that, a try starts over).
    :param max_concurrency: requests in flight at most, 1 to 64.
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
        "report",
        "ims_conn_id",
        "region",
    )
    ui_color = "#ffe6cc"

    # Made by a run, since Airflow copies operators and an event can't be copied.
    _stop: threading.Event | None = None

    def __init__(
        self,
        *,
        media_ids: Iterable[str] | str | None = None,
        input_urls: Iterable[str] | str | None = None,
        manifest: str | ObjectStoragePath | None = None,
        manifest_digest: str | None = None,
        delete_physical_files: bool = False,
        max_media: int | None = None,
        on_forbidden: Literal["fail", "warn", "ignore"] = "fail",
        on_missing: Literal["fail", "warn", "ignore"] = "warn",
        preview: bool = False,
        report: str | ObjectStoragePath | None = None,
        durable: bool = True,
        max_concurrency: int = 8,
        ims_conn_id: str = IMSHook.default_conn_name,
        region: str | None = None,
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
        self.on_forbidden = on_forbidden
        self.on_missing = on_missing
        self.preview = preview
        self.report = report
        self.durable = durable
        self.max_concurrency = max_concurrency
        self.ims_conn_id = ims_conn_id
        self.region = region

    def execute(self, context: Context) -> dict[str, Any]:
        """Delete."""
        from airflow_provider_ims.cleanup.report import column_folder
        from airflow_provider_ims.cleanup.resume import forget

        ti = context["ti"]
        store = self._state_store(context)
        report = None
        if self.report:
            columns = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id}
            if (map_index := getattr(ti, "map_index", -1)) >= 0:
                columns["map_index"] = str(map_index)
            report = column_folder(self.report, columns)
        try:
            result = self._delete(report=report, attempt=ti.try_number, store=store)
        except IMSDeletionError as error:
            # So that a task downstream with trigger rule all_done can tell what happened.
            ti.xcom_push(key="return_value", value=error.result)
            if store is not None:
                forget(store)
            raise
        if store is not None:
            forget(store)
        return result

    def dry_run(self) -> None:
        """Run the preview, without report and state."""
        self.preview = True
        self.log.info("Result: %s", self._delete())

    def _delete(
        self, *, report: ObjectStoragePath | None = None, attempt: int = 1, store: StateStore | None = None
    ) -> dict[str, Any]:
        from airflow_provider_ims.cleanup.deletion import check_guards
        from airflow_provider_ims.cleanup.targets import read_targets

        self._check_arguments()
        self._stop = threading.Event()
        hook = IMSHook(self.ims_conn_id, self.region)
        targets = read_targets(self.media_ids, self.input_urls, self.manifest)
        try:
            check_guards(targets, max_media=self.max_media, digest=self.manifest_digest)
            if not len(targets):
                report = store = None
            return hook.delete_media(
                targets,
                delete_physical_files=self.delete_physical_files,
                on_forbidden=self.on_forbidden,
                on_missing=self.on_missing,
                preview=self.preview,
                report=report,
                attempt=attempt,
                store=store,
                max_concurrency=self.max_concurrency,
                stop=self._stop,
            )
        finally:
            targets.close()

    def on_kill(self) -> None:
        """Start no new request; those in flight are waited for, and what they did is reported."""
        if self._stop:
            self._stop.set()

    def _check_arguments(self) -> None:
        for name in ("on_forbidden", "on_missing"):
            if getattr(self, name) not in POLICIES:
                raise ValueError(f"{name} is {getattr(self, name)!r}, not one of {', '.join(POLICIES)}")
        if self.max_media is not None and not (type(self.max_media) is int and self.max_media >= 0):
            raise ValueError(f"max_media is {self.max_media!r}, not a number of media")
        if not (type(self.max_concurrency) is int and 1 <= self.max_concurrency <= 64):
            raise ValueError(f"max_concurrency is {self.max_concurrency!r}, not a number from 1 to 64")
        for name in ("delete_physical_files", "preview", "durable"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name} is {getattr(self, name)!r}, not True or False")

    def _state_store(self, context: Context) -> StateStore | None:
        """Airflow's store for the state of a task, which Airflow has from 3.3 on."""
        store: StateStore | None = context.get("task_state_store") if self.durable else None
        if self.durable and store is None:
            self.log.info("This Airflow keeps no task state (3.3 and newer do): a retry would start over.")
        return store
