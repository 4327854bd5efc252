"""The operator that plans which media a retention policy selects. It deletes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_ims.exceptions import IMSGuardError
from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.links.ims import IMSConsoleLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_ims.retention.plan import Plan
    from airflow_provider_ims.retention.policy import Age, Moment, Texts

CLOCK_TOLERANCE = timedelta(minutes=5)


class IMSPlanMediaRetentionOperator(BaseOperator):
    """Write down which media a retention policy selects, for a person to approve and for the delete operator.

    Reads the whole library, or fails; never deletes. The plan is a file of JSON lines: the first describes it,
    each other is a medium. Next to it lies a page that shows it to a person. The same library and policy give the
    same bytes, and a retry makes the same plan: ages are counted to the end of the DAG run's data interval, or,
    in a run without one, to the time that the run was due.

    A medium is selected if it passes every filter. Kept, and counted as undecided, is one whose creation time,
    status, type or tag list can't be read, whatever the filters; its source, business type or title if a filter
    asks for it. An untagged medium has an empty tag list; one that the service shows without any list is
    undecided. Each filter that is given must name something: to do without it, leave it out.

    The connection's key needs the RAM action ``ice:ListMediaBasicInfos``.

    :param manifest: path where the plan goes, in any object storage that Airflow knows. The page goes to the same
        path with ``.html`` after it. (templated)
    :param older_than: media created longer ago than this: a ``pendulum.Duration``, a ``timedelta``, or ISO 8601
        text such as ``P90D`` or ``P6M``. (templated)
    :param created_before: instead of ``older_than``: media created before this: a time with its zone, or a date,
        which stands for its first moment in UTC. (templated)
    :param media_type: ``video``, ``audio``, ``image`` or ``text``, or several of them. (templated)
    :param source: ``oss``, ``vod``, ``live``, ``general``, or several. (templated)
    :param business_type: such as ``general`` or ``cover``, or several. (templated)
    :param status: a medium's status has to be this, or one of these. Media in preparation or being transcoded
        have others than the default. (templated)
    :param require_tags: a medium has to carry all of these, spelled just so. (templated)
    :param exclude_tags: a medium that carries one of these is kept, whatever else holds, and whatever the case or
        width of the tag's letters. (templated)
    :param title_pattern: has to fit the whole title; ``*``, ``?`` and ``[...]`` as in a shell. (templated)
    :param keep_latest: the newest of those that pass all other filters but age are kept, so many of them. Which
        are newest is told by the moment of creation, then by the id. At least 1. (templated)
    :param max_media: more selected media than this are an ``IMSGuardError``; None does without. (templated)
    :param max_percent: a larger part of the library than this is an ``IMSGuardError``; 0 to 100, None does
        without. (templated)
    :param ims_conn_id: the connection. (templated)
    :param region: overrides the connection's. (templated)
    :returns: ``manifest`` and ``page`` (their paths), ``digest`` (the plan's SHA-256), ``selected``, ``bytes``
        (of those whose size is known), ``population`` (media in the library), ``percent`` (selected of them),
        ``kept`` (how many of the others each filter keeps), ``undecided``.
    :raises IMSGuardError: the selection goes over a cap. The plan is there to be looked at, marked so that
        nothing can be deleted from it.
    :raises ValueError: an argument makes no sense, or the run lies in the future. Nothing was sent.
    :raises IMSAPIError: with code ``IncompleteListing`` when the service does not show all media that it counts.
    """

    operator_extra_links = (IMSConsoleLink(),)
    template_fields: Sequence[str] = (
        "manifest",
        "older_than",
        "created_before",
        "media_type",
        "source",
        "business_type",
        "status",
        "require_tags",
        "exclude_tags",
        "title_pattern",
        "keep_latest",
        "max_media",
        "max_percent",
        "ims_conn_id",
        "region",
    )
    ui_color = "#e6f0ff"

    def __init__(
        self,
        *,
        manifest: str | ObjectStoragePath,
        older_than: Age | None = None,
        created_before: Moment | None = None,
        media_type: Texts | None = None,
        source: Texts | None = None,
        business_type: Texts | None = None,
        status: Texts = ("Normal",),
        require_tags: Texts | None = None,
        exclude_tags: Texts | None = None,
        title_pattern: str | None = None,
        keep_latest: int | str | None = None,
        max_media: int | str | None = 1000,
        max_percent: float | str | None = 20.0,
        ims_conn_id: str = IMSHook.default_conn_name,
        region: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (older_than is None) == (created_before is None):
            raise ValueError("exactly one of older_than and created_before is needed")
        self.manifest = manifest
        self.older_than = older_than
        self.created_before = created_before
        self.media_type = media_type
        self.source = source
        self.business_type = business_type
        self.status = status
        self.require_tags = require_tags
        self.exclude_tags = exclude_tags
        self.title_pattern = title_pattern
        self.keep_latest = keep_latest
        self.max_media = max_media
        self.max_percent = max_percent
        self.ims_conn_id = ims_conn_id
        self.region = region

    def execute(self, context: Context) -> dict[str, Any]:
        """Plan."""
        from airflow_provider_ims.files.storage import check_writable, storage_path
        from airflow_provider_ims.retention.listing import list_whole
        from airflow_provider_ims.retention.plan import read_caps, write_plan
        from airflow_provider_ims.retention.plan_page import write_page
        from airflow_provider_ims.retention.policy import make_policy

        as_of = run_moment(context)
        if as_of > datetime.now(UTC) + CLOCK_TOLERANCE:
            raise ValueError(
                f"the run is for {as_of.isoformat()}, which lies in the future: ages can't be told yet"
            )
        policy = make_policy(
            as_of=as_of,
            older_than=self.older_than,
            created_before=self.created_before,
            media_type=self.media_type,
            source=self.source,
            business_type=self.business_type,
            status=self.status,
            title_pattern=self.title_pattern,
            require_tags=self.require_tags,
            exclude_tags=self.exclude_tags,
            keep_latest=self.keep_latest,
        )
        caps = read_caps(self.max_media, self.max_percent)
        path = storage_path(self.manifest, "manifest", ims_conn_id=self.ims_conn_id)
        check_writable(path.parent, "manifest")
        hook = IMSHook(self.ims_conn_id, self.region)
        self.log.info("Looking in %s for media that are: %s.", hook.host, "; ".join(policy.in_words()))
        plan = write_plan(
            path,
            list_whole(hook.client, until=as_of),
            policy=policy,
            caps=caps,
            as_of=as_of,
            region=hook.region,
            host=hook.host,
        )
        page = write_page(plan)
        for line in plan.in_words():
            self.log.info("%s", line)
        self.log.info("A page to look at: %s", page)
        if plan.header["refused"]:
            raise IMSGuardError(
                f"{plan.header['refused']}; the plan is at {path} to be looked at, and nothing can be deleted from it"
            )
        return _result(plan, str(page))


def run_moment(context: Context) -> datetime:
    """Give the moment that a run's ages are counted to, the same in every try, to the second.

    Runs that an asset triggers, and manual ones without a logical date, have no data interval.
    """
    run: Any = context["dag_run"]
    # Airflow 2 lacks run_after; there every run has a data interval. Clearing a run moves its start, not this.
    moment: datetime = context.get("data_interval_end") or getattr(run, "run_after", None) or run.start_date
    return datetime.fromtimestamp(int(moment.timestamp()), UTC)


def _result(plan: Plan, page: str) -> dict[str, Any]:
    counts = ("selected", "bytes", "population", "percent", "kept", "undecided")
    return {
        "manifest": str(plan.path),
        "page": page,
        "digest": plan.digest,
        **{name: plan.header[name] for name in counts},
    }
