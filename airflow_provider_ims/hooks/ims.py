"""The hook: an Airflow connection in, IMS operations out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_ims.api.errors import IMSAuthError, IMSPermissionError
from airflow_provider_ims.api.identifiers import is_missing, show
from airflow_provider_ims.arguments import is_nothing
from airflow_provider_ims.compat import BaseHook
from airflow_provider_ims.connection import ConnectionSettings, connection_fields, read_connection
from airflow_provider_ims.exceptions import raised_for_airflow

if TYPE_CHECKING:
    from airflow_provider_ims.api.client import IMSClient
    from airflow_provider_ims.api.jobs import Job
    from airflow_provider_ims.api.operations import Deletion, MediaInfo
    from airflow_provider_ims.deletion.policies import OutcomePolicy
    from airflow_provider_ims.deletion.run import DeletionRun
    from airflow_provider_ims.deletion.targets import Targets
    from airflow_provider_ims.deletion.verify import FileVerifier

T = TypeVar("T")


class IMSHook(BaseHook):
    """Talks to Alibaba Cloud Intelligent Media Services with the keys of an Airflow connection.

    One hook keeps one client, which several threads may share. The connection is read when it is first needed.

    :param ims_conn_id: the connection's id.
    :param region: such as ``cn-shanghai``; overrides the connection's.
    """

    conn_name_attr = "ims_conn_id"
    default_conn_name = "ims_default"
    conn_type = "alibaba_ims"
    hook_name = "Alibaba Cloud IMS"

    def __init__(self, ims_conn_id: str = default_conn_name, region: str | None = None) -> None:
        super().__init__()
        self.ims_conn_id = ims_conn_id
        self._region = region
        self._fields: tuple[Any, ...] | None = None

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Make the form's own fields for Airflow 2.11 to 3.1; later ones read the provider info themselves."""
        from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget  # type: ignore[import-not-found]
        from flask_babel import lazy_gettext  # type: ignore[import-not-found]
        from wtforms import PasswordField, StringField  # type: ignore[import-untyped]
        from wtforms.validators import Optional  # type: ignore[import-untyped]

        from airflow_provider_ims.get_provider_info import CONNECTION_FIELDS

        def field(label: str, description: str, schema: dict[str, Any]) -> Any:
            kind, widget = (
                (PasswordField, BS3PasswordFieldWidget())
                if schema.get("format") == "password"
                else (StringField, BS3TextFieldWidget())
            )
            if choices := schema.get("enum") or schema.get("examples"):
                description += f" ({', '.join(choices)})"
            return kind(
                lazy_gettext(label),
                description=description,
                widget=widget,
                validators=[Optional()],
                default=None,
            )

        return {name: field(**declared) for name, declared in CONNECTION_FIELDS.items()}

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Say how the form shows its standard fields, for Airflow 2.11 to 3.1."""
        from airflow_provider_ims.get_provider_info import UI_FIELD_BEHAVIOUR

        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}

    @cached_property
    def settings(self) -> ConnectionSettings:
        """What the connection says.

        :raises ValueError: naming the field that makes no sense, or a region that is given and empty.
        """
        region = self._region
        if region is not None and not is_nothing(region) and not isinstance(region, str):
            raise ValueError(f"region is {show(region)} ({type(region).__name__}), not a text")
        if region is not None and (is_nothing(region) or is_missing(region)):
            raise ValueError(
                f"region is {show(region)}, which names none; leave it out to use the connection's"
            )
        stored = self.get_connection(self.ims_conn_id)
        self._fields = connection_fields(stored)
        return read_connection(stored, region.strip() if region else None)

    @cached_property
    def client(self) -> IMSClient:
        """The one client of this hook."""
        # Imported here: `requests` costs more than all else that a DAG file of this provider loads.
        from airflow_provider_ims.api.client import IMSClient
        from airflow_provider_ims.api.rate_limit import RateLimiter

        settings = self.settings
        return IMSClient(
            settings.endpoint,
            settings.credentials,
            connection=self.ims_conn_id,
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            retry_seconds=settings.retry_seconds,
            verify=settings.verify,
            proxy=settings.proxy,
            pace=RateLimiter(max_requests_per_second=settings.max_requests_per_second),
        )

    def ask(self, question: Callable[[IMSClient], T]) -> T:
        """Return what a question gets with this hook's client.

        If the key is refused, and the connection says something else by now, it is asked once more with that: a key
        may be rotated while a task waits.
        """
        try:
            return question(self.client)
        except (IMSAuthError, IMSPermissionError):
            if not self._has_changed():
                raise
        self.log.info("Connection %r has changed, and is used as it is now.", self.ims_conn_id)
        for made_of_it in ("client", "settings"):
            self.__dict__.pop(made_of_it, None)
        return question(self.client)

    def _has_changed(self) -> bool:
        try:
            return connection_fields(self.get_connection(self.ims_conn_id)) != self._fields
        except Exception:  # noqa: BLE001 - of a secrets backend; what was refused says more
            return False

    def get_conn(self) -> IMSClient:
        """Give the client, as every hook does."""
        return self.client

    @property
    def region(self) -> str | None:
        """The region that is asked; None when the connection names only a host."""
        return self.settings.region

    @property
    def host(self) -> str:
        """The host that is asked."""
        return self.settings.endpoint.host

    def call(self, action: str, **params: Any) -> dict[str, Any]:
        """Call any IMS operation, signed, with the parameters spelled as IMS does; its answer as it came.

        A request whose answer was lost is sent again: give an operation that must not be done twice its
        ``ClientToken``, if it takes one.

        :param action: such as ``SubmitMediaConvertJob``.
        :param params: text, numbers and booleans; lists and objects as JSON text, as IMS takes them.
        :raises ValueError: for what can't be the name of an operation.
        """
        if not (isinstance(action, str) and action.isascii() and action.strip().isalnum()):
            raise ValueError(f"action is {show(action)}, not the name of an operation such as GetMediaInfo")
        return self.client.call(action, params, dict).value

    def delete_media_infos(
        self,
        *,
        media_ids: Sequence[str] | None = None,
        input_urls: Sequence[str] | None = None,
        delete_physical_files: bool = False,
    ) -> Deletion:
        """Delete up to 20 media in one request, by id or by URL. Final: IMS has no recycle bin.

        The answer names what was *not* deleted, and an ignored id proves nothing: :meth:`delete_media` finds out.
        """
        from airflow_provider_ims.api import operations

        return operations.delete_media_infos(
            self.client,
            media_ids=() if media_ids is None else media_ids,
            input_urls=() if input_urls is None else input_urls,
            delete_physical_files=delete_physical_files,
        ).value

    def delete_play_info(
        self, media_id: str, *, file_urls: Sequence[str], delete_physical_files: bool = False
    ) -> Deletion:
        """Delete up to 20 streams of one medium by their URLs in one request; the medium and its source file stay.

        The answer names what was *not* deleted: ignored URLs belong to no stream of this medium, or to no medium.

        :param file_urls: at least one; what the service does without is not documented.
        :param delete_physical_files: also delete the files of transcoded streams.
        """
        from airflow_provider_ims.api import operations

        return operations.delete_play_info(
            self.client, media_id, file_urls=file_urls, delete_physical_files=delete_physical_files
        ).value

    def batch_get_media_infos(self, media_ids: Sequence[str]) -> tuple[MediaInfo, ...]:
        """Read up to 20 media in one request; those that do not exist are absent."""
        from airflow_provider_ims.api import operations

        return operations.batch_get_media_infos(self.client, media_ids).value

    def get_media_info(self, media_id: str | None = None, input_url: str | None = None) -> MediaInfo | None:
        """Read one medium by id or by URL; None when there is none."""
        from airflow_provider_ims.api import operations

        return operations.get_media_info(self.client, media_id=media_id, input_url=input_url).value

    def list_media_basic_infos(self, **filters: Any) -> Iterator[MediaInfo]:
        """Go through all pages of a listing.

        :param filters: ``start_time``, ``end_time``, ``media_type``, ``business_type``, ``source``, ``status``,
            ``sort_by``, ``include_file_basic_info``.
        """
        from airflow_provider_ims.api import operations

        return operations.list_all_media(self.client, **filters)

    def get_media_convert_job(self, job_id: str) -> Job:
        """Read a convert job with all its outputs."""
        from airflow_provider_ims.api.jobs import read_job

        return read_job(self.client, "media convert job", job_id)

    def get_workflow_task(self, task_id: str) -> Job:
        """Read a workflow task; its outputs are what its activities tell."""
        from airflow_provider_ims.api.jobs import read_job

        return read_job(self.client, "workflow task", task_id)

    def get_media_producing_job(self, job_id: str) -> Job:
        """Read a producing job."""
        from airflow_provider_ims.api.jobs import read_job

        return read_job(self.client, "media producing job", job_id)

    def get_transcode_job(self, parent_job_id: str) -> Job:
        """Read a transcoding job; its outputs are its sub-jobs.

        IMS announced the end of this operation for the end of 2025: :meth:`get_media_convert_job` is what follows.
        """
        from airflow_provider_ims.api.jobs import read_job

        return read_job(self.client, "transcoding job", parent_job_id)

    @raised_for_airflow()
    def deletion_run(
        self,
        targets: Targets,
        *,
        max_media: int | None = None,
        manifest_digest: str | None = None,
        protect: Iterable[str] | str | None = None,
        on_forbidden: OutcomePolicy = "fail",
        on_missing: OutcomePolicy = "warn",
        verify_files: bool = False,
        on_files_left: OutcomePolicy = "warn",
        **options: Any,
    ) -> DeletionRun:
        """Prepare a run over targets: check all that can be checked before the first request.

        :param targets: what :func:`~airflow_provider_ims.deletion.targets.read_targets` gives.
        :param max_media: more targets than this are an ``IMSGuardError``.
        :param manifest_digest: SHA-256 of the manifest as it was approved.
        :param protect: ids or URLs of media that must not be among the targets, in any spelling of a list; None
            protects nothing, and an empty list is an ``IMSGuardError``.
        :param on_forbidden: ``fail``, ``warn`` or ``ignore`` when targets were forbidden, after all were tried.
        :param on_missing: the same for targets that were not there.
        :param verify_files: with ``delete_physical_files``, and refused without, look in OSS whether the files are
            gone. Needs the extra ``oss`` and the right ``oss:ListObjects`` on their buckets.
        :param on_files_left: ``fail``, ``warn`` or ``ignore`` when files are still there, though their
            media are deleted. ``fail`` is refused without ``verify_files``.
        :param options: of :class:`~airflow_provider_ims.deletion.run.DeletionRun`, such as
            ``delete_physical_files``, ``preview``, ``max_concurrency``, ``report_base``.
        :raises IMSGuardError: when a guard forbids it, or the targets are a plan that must not be deleted from here.
        :raises ValueError: when an option makes no sense.
        """
        from airflow_provider_ims.deletion.policies import OutcomePolicies, check_guards
        from airflow_provider_ims.deletion.run import DeletionRun
        from airflow_provider_ims.retention.plan import check_plan
        from airflow_provider_ims.retention.policy import why_kept

        policies = OutcomePolicies(on_forbidden, on_missing, on_files_left)
        check_guards(targets, max_media=max_media, digest=manifest_digest, protect=protect)
        if (header := targets.plan_header) is not None:
            rows = len(targets) + targets.duplicates
            policy = check_plan(header, region=self.region, host=self.host, rows=rows)
            options["why_kept"] = partial(why_kept, policy)
        if verify_files and not options.get("delete_physical_files"):
            raise ValueError(
                "verify_files looks whether files are gone, but delete_physical_files is False, so that they stay; "
                "set that to True, or leave verify_files out"
            )
        if on_files_left == "fail" and not verify_files:
            raise ValueError(
                "on_files_left is 'fail', but without verify_files nobody looks for files; set that to True too"
            )
        if verify_files and not options.get("preview"):
            options["verifier"] = self._file_verifier()
        return DeletionRun(
            self.client,
            targets,
            region=self.region,
            connection=self.ims_conn_id,
            policies=policies,
            **options,
        )

    def _file_verifier(self) -> FileVerifier:
        from airflow_provider_ims.deletion.verify import FileVerifier
        from airflow_provider_ims.files.oss import get_fs

        try:
            store = get_fs(self.ims_conn_id)
            _ = store.client  # a connection that can't ask OSS says so before anything is deleted
        except (ImportError, ValueError) as error:
            raise ValueError(f"verify_files: {error}") from error
        return FileVerifier(store, self.region)

    @raised_for_airflow()
    def delete_media(self, targets: Targets | Iterable[str] | str | None, **options: Any) -> dict[str, Any]:
        """Delete any number of media and find out what became of each.

        :param targets: media ids in any spelling, or what
            :func:`~airflow_provider_ims.deletion.targets.read_targets` gives for URLs and manifests.
        :param options: of :meth:`deletion_run`.
        :returns: the same as :class:`~airflow_provider_ims.operators.ims.IMSDeleteMediaInfosOperator`.
        :raises IMSDeletionError: when an outcome is not accepted; it carries the result.
        :raises IMSGuardError: before the first deletion, when a guard forbids it.
        :raises ValueError: before the first deletion, when an argument makes no sense.
        :raises IMSTransientError: when nothing went through for the whole retry time.
        :raises IMSAPIError: when the service refuses.
        """
        from airflow_provider_ims.deletion.targets import Targets, read_targets

        if not isinstance(targets, Targets):
            targets = read_targets(media_ids=targets)
        return self.deletion_run(targets, **options).execute()

    def test_connection(self) -> tuple[bool, str]:
        """Make one cheap read and say in a sentence how it went; never raises, takes 15 s at most."""
        from airflow_provider_ims.connection import read_settings
        from airflow_provider_ims.hooks.diagnosis import diagnose

        try:
            settings = read_settings(self.get_connection(self.ims_conn_id), self._region)
        except ValueError as error:
            return False, f"These fields don't make a connection: {error}."
        except Exception as error:  # noqa: BLE001 - of a secrets backend; its text may say anything
            return False, f"The connection {self.ims_conn_id!r} can't be read ({type(error).__name__})."
        return diagnose(settings)
