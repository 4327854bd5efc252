"""The operator that plans which media a retention policy selects. It deletes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_ims.exceptions import IMSGuardError, raised_for_airflow
from airflow_provider_ims.links.ims import IMSPlanLink
from airflow_provider_ims.operators.base import IMSBaseOperator
from airflow_provider_ims.retention.filters import LIST_FILTERS, RETENTION_FILTERS

if TYPE_CHECKING:
    from airflow_provider_ims.compat import Context, ObjectStoragePath
    from airflow_provider_ims.retention.filters import Age, Moment, StrOrList

CLOCK_TOLERANCE = timedelta(minutes=5)


class IMSPlanMediaRetentionOperator(IMSBaseOperator):
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
    :returns: ``manifest`` and ``page`` (their paths), ``digest`` (the plan's SHA-256), ``question`` (Markdown for
        an approval form: how many, how large, how old, a few titles, the policy), ``selected``, ``bytes``
        (of those whose size is known), ``population`` (media in the library), ``percent`` (selected of them),
        ``kept`` (how many of the others each filter keeps), ``undecided``.
    :raises IMSGuardError: the selection goes over a cap: the plan is there to be looked at, marked so that nothing
        can be deleted from it. Or the plan can't be written: nothing was sent.
    :raises ValueError: an argument makes no sense, or the run lies in the future. Nothing was sent.
    :raises StorageError: the plan or its page could not be written; what stood in its place is still there.
    :raises IMSAPIError: with code ``IncompleteListing`` when the service does not show all media that it counts.
    """

    operator_extra_links = (IMSPlanLink(),)
    template_fields: Sequence[str] = (
        "manifest",
        *RETENTION_FILTERS,
        "max_media",
        "max_percent",
        *IMSBaseOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = dict.fromkeys(LIST_FILTERS, "json")
    required = frozenset({"manifest"})
    guards = frozenset({"max_media", "max_percent"})
    ui_color = "#e6f0ff"

    def __init__(
        self,
        *,
        manifest: str | ObjectStoragePath,
        older_than: Age | None = None,
        created_before: Moment | None = None,
        media_type: StrOrList | None = None,
        source: StrOrList | None = None,
        business_type: StrOrList | None = None,
        status: StrOrList = ("Normal",),
        require_tags: StrOrList | None = None,
        exclude_tags: StrOrList | None = None,
        title_pattern: str | None = None,
        keep_latest: int | str | None = None,
        max_media: int | str | None = 1000,
        max_percent: float | str | None = 20.0,
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

    @raised_for_airflow()
    def execute(self, context: Context) -> dict[str, Any]:
        """Plan."""
        from airflow_provider_ims.retention.listing import list_whole
        from airflow_provider_ims.retention.page import write_page
        from airflow_provider_ims.retention.plan import read_caps, write_plan
        from airflow_provider_ims.retention.policy import make_policy
        from airflow_provider_ims.retention.question import write_question

        self.check_given()
        as_of = run_moment(context)
        if as_of > datetime.now(UTC) + CLOCK_TOLERANCE:
            raise ValueError(
                f"the run is for {as_of.isoformat()}, which lies in the future: ages can't be told yet"
            )
        policy = make_policy(as_of=as_of, **{name: getattr(self, name) for name in RETENTION_FILTERS})
        caps = read_caps(self.max_media, self.max_percent)
        hook = self.hook
        self.log.info(
            "Listing the library at %s. A medium is selected if it %s.",
            hook.host,
            "; ".join(policy.describe()),
        )
        manifest = self.storage_path("manifest")
        assert manifest  # check_given() refuses a plan without a path
        with closing(list_whole(hook.client, until=as_of)) as media:
            plan = write_plan(
                manifest,
                media,
                policy=policy,
                caps=caps,
                as_of=as_of,
                region=hook.region,
                host=hook.host,
            )
        page = write_page(plan)
        for line in plan.describe():
            self.log.info("%s", line)
        self.log.info("A page to look at: %s", page)
        ti: Any = context.get("ti")
        link = IMSPlanLink().get_link(None, ti_key=ti) if ti else ""
        counts = ("selected", "bytes", "population", "percent", "kept", "undecided")
        result = {
            "manifest": str(plan.path),
            "page": str(page),
            "digest": plan.digest,
            "question": write_question(plan, page, link),
            **{name: plan.header[name] for name in counts},
        }
        if plan.header["refused"]:
            if ti:  # so that its page can be looked at
                ti.xcom_push(key="return_value", value=result)
            raise IMSGuardError(
                f"{plan.header['refused']}; the plan is at {plan.path} to be looked at, and nothing can be deleted "
                "from it"
            )
        return result


def run_moment(context: Context) -> datetime:
    """Give the moment that a run's ages are counted to, the same in every try, to the second.

    Runs that an asset triggers, and manual ones without a logical date, have no data interval.
    """
    run: Any = context["dag_run"]
    # Airflow 2 lacks run_after; there every run has a data interval. Clearing a run moves its start, not this.
    moment: datetime = context.get("data_interval_end") or getattr(run, "run_after", None) or run.start_date
    return datetime.fromtimestamp(int(moment.timestamp()), UTC)
