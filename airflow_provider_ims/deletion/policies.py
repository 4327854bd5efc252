"""Which outcomes a user accepts: the last word on a finished run, be it of one task or of many shards."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from airflow_provider_ims.api.errors import GuardError, OutcomeError
from airflow_provider_ims.api.identifiers import (
    check_input_url,
    check_media_id,
    match_key,
    show,
    stored_object,
)
from airflow_provider_ims.arguments import read_list
from airflow_provider_ims.deletion.resolve import Outcome
from airflow_provider_ims.deletion.targets import Targets
from airflow_provider_ims.files.manifest import check_digest

OutcomePolicy = Literal["fail", "warn", "ignore"]

# With reads that lag or a wrong region, so many that all are missing are hardly a coincidence.
SUSPICIOUSLY_MANY = 20
NAMED_IN_A_MESSAGE = 5
# Text in which a comma follows a URL, and no other URL that: it may belong to the first one's name.
_URL_AND_MORE = re.compile(r"(?P<url>\w+://[^\r\n,]*,(?![^\r\n,]*://)[^\r\n,]*[^\s,])")
FILES_LEFT = "files_left"
"""Key of a result: how many deleted targets' files are still there; of its samples: the addresses."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OutcomePolicies:
    """What to do about outcomes that may be what the user expects. ``failed`` and ``unknown`` never are.

    :param on_forbidden: about targets that the service refused: ``fail``, ``warn`` or ``ignore``.
    :param on_missing: about targets that were not there.
    :param on_files_left: about targets that were deleted while their files are still in the bucket.
    :raises ValueError: for any other word.
    """

    on_forbidden: OutcomePolicy = "fail"
    on_missing: OutcomePolicy = "warn"
    on_files_left: OutcomePolicy = "warn"

    def __post_init__(self) -> None:
        for name, policy in asdict(self).items():
            if policy not in get_args(OutcomePolicy):
                raise ValueError(f"{name} is {policy!r}, not one of {', '.join(get_args(OutcomePolicy))}")

    def enforce(
        self, result: dict[str, Any], *, host: str | None = None, reason_failed: str | None = None
    ) -> None:
        """Log how a run went, and raise if an outcome is not accepted.

        :param result: of the run.
        :param host: that was asked, if it is known.
        :param reason_failed: why the first of those that failed did, if that is known.
        :raises OutcomeError: when there are outcomes that are not accepted. It carries the result.
        """
        asked = {"region": result["region"], "host": host}
        where = ", ".join(f"{name} {value}" for name, value in asked.items() if value) or "an unknown host"
        why = f": {reason_failed}" if reason_failed else ""
        broken = []
        for outcome, policy, meaning in (
            ("failed", "fail", f"still there although the service was asked to delete them{why}"),
            ("unknown", "fail", "could not be read, so nobody knows"),
            (
                "forbidden",
                self.on_forbidden,
                "refused by the service, usually for lack of rights on the bucket",
            ),
            ("missing", self.on_missing, f"were not there before; asked was {where}"),
            (
                FILES_LEFT,
                self.on_files_left,
                "deleted from the library, while the file is still in the bucket and costs storage; "
                "may AliyunICEDefaultRole delete there?",
            ),
        ):
            if not result.get(outcome) or policy == "ignore":
                continue
            words = _some(result, outcome, meaning)
            if policy == "fail":
                broken.append(words)
            else:
                log.warning("%s.", words)
        if result["requested"] >= SUSPICIOUSLY_MANY and result["missing"] == result["requested"]:
            log.warning(
                "None of %s media was found. Is it the right region? Asked was %s.",
                f"{result['requested']:,}",
                where,
            )
        if result["requested"]:
            _sum_up(result)
        if broken:
            report = f". Report: {result['report']}" if result["report"] else ""
            raise OutcomeError("; ".join(broken) + report, result)


def _some(result: dict[str, Any], outcome: str, meaning: str) -> str:
    count = result[outcome]
    names = ", ".join(result["samples"].get(outcome, [])[:NAMED_IN_A_MESSAGE])
    more = f" and {count - NAMED_IN_A_MESSAGE:,} more" if count > NAMED_IN_A_MESSAGE else ""
    what = "files left" if outcome == FILES_LEFT else outcome
    return f"{count:,} of {result['requested']:,} {what} ({meaning}): {names}{more}"


def _sum_up(result: dict[str, Any]) -> None:
    log.info(
        "All %s have an outcome: %s. %s requests in %s, %s of them retries, %s throttled.%s",
        targets_in_words(result["requested"]),
        outcomes_in_words(result, result["inferred"], preview=result["preview"]),
        f"{result['requests']:,}",
        duration_in_words(result["seconds"]),
        f"{result['retries']:,}",
        f"{result['throttled']:,}",
        " Inferred: the answer was lost, and reads show the medium gone." if result["inferred"] else "",
    )


def check_guards(
    targets: Targets, *, max_media: int | None = None, digest: str | None = None, protect: Any = None
) -> None:
    """Refuse what its author did not have in mind.

    :param max_media: more targets than this are a mistake.
    :param digest: SHA-256 of the manifest as it was approved.
    :param protect: ids or URLs of media that must not be among the targets, in any spelling of a list.
    :raises GuardError: in either case, and when ``protect`` names nothing.
    :raises ValueError: when ``max_media`` is no number of media, or ``protect`` names what can't be a medium.
    """
    if max_media is not None and not (type(max_media) is int and max_media >= 0):
        raise ValueError(f"max_media is {max_media!r}, not a number of media")
    if digest is not None:
        check_digest(targets.manifest_digest, approved=digest)
    if max_media is not None and len(targets) > max_media:
        raise GuardError(
            f"{len(targets):,} media are named, more than max_media={max_media:,}. Nothing was deleted"
        )
    if protect is not None:
        _check_protected(targets, protect)


def _check_protected(targets: Targets, protect: Any) -> None:
    if isinstance(protect, str) and protect.strip()[:1] not in ("[", "(", "{"):
        _refuse_comma_in_url(protect)
    named = list(read_list("protect", protect))
    ids = [check_media_id(value, "protect") for value in named if "://" not in value]
    # Not sent, so a comma in it does no harm.
    urls = [check_input_url(value, "protect", is_alone=True) for value in named if "://" in value]
    if not named:
        raise GuardError(
            f"protect is {show(protect)}, which names nothing, so it would guard nothing. Nothing was deleted"
        )
    # A file that is spelled in two ways is still one file.
    protected = {*map(match_key, named), *filter(None, map(_place, urls))}
    found, unguarded = list[str](), dict.fromkeys(["ids"] * bool(ids) + ["URLs"] * bool(urls), 0)
    for target in targets:
        values = {target.value}
        if target.columns and isinstance(url := target.columns.get("input_url"), str):
            values.add(url)
        if not protected.isdisjoint({*map(match_key, values), *map(_place, values)}):
            found.append(target.value)
        kinds = {"URLs" if "://" in value else "ids" for value in values}
        for kind in unguarded.keys() - kinds:
            unguarded[kind] += 1
    if found:
        more = f" and {len(found) - NAMED_IN_A_MESSAGE:,} more" if len(found) > NAMED_IN_A_MESSAGE else ""
        names = ", ".join(found[:NAMED_IN_A_MESSAGE])
        raise GuardError(
            f"{len(found):,} of {targets_in_words(len(targets))} must not be deleted, as protect says: "
            f"{names}{more}. Nothing was deleted"
        )
    for kind, count in unguarded.items():
        if count:
            other = "ids" if kind == "URLs" else "URLs"
            raise GuardError(
                f"protect names media by {kind}, but {targets_in_words(count)} can be compared by {other} alone, so "
                f"it would guard nothing there; name what it protects by {other}. Nothing was deleted"
            )


def _place(url: str) -> tuple[str, str] | None:
    """Return where a file lies, whatever the protocol that it is fetched by."""
    if not (stored := stored_object(url)):
        return None
    return stored[0].removeprefix("http:").removeprefix("https:"), stored[1]


def _refuse_comma_in_url(names: str) -> None:
    if found := _URL_AND_MORE.search(names):
        raise ValueError(
            f"protect: {show(found['url'])} is a URL with a comma in it, or several names; "
            "give a list, or a name on each line"
        )


def outcomes_in_words(counts: Mapping[str, int], inferred: int, *, preview: bool) -> str:
    """Say how many ended in which outcome, such as ``58 deleted, 2 missing (1 inferred)``."""
    parts = [
        f"{counts[outcome]:,} {'would be deleted' if preview and outcome == 'deleted' else outcome.value}"
        for outcome in Outcome
        if counts.get(outcome)
    ]
    return (", ".join(parts) or "nothing done") + (f" ({inferred:,} inferred)" if inferred else "")


def targets_in_words(number: int) -> str:
    """Say how many targets."""
    return f"{number:,} target{'' if number == 1 else 's'}"


def duration_in_words(seconds: float) -> str:
    """Say a time as ``0.4 s``, ``2:05``, or ``1:02:05`` where there are hours."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
