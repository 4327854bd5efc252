"""What was found out, as a page for people and as JSON, with nothing in it that must not leave the account."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from airflow_provider_ims.api.sanitize import CUT, sanitize
from tests.live.media import LeftOver
from tests.live.question import Answered

NOT_ASKED = {
    "A deletion that names nothing": "it could mean everything",
    "Files for which the service has no right": "the account's role would have to lose it",
    "Whether sprites, snapshots and transcoded files go with a medium": "they would have to be made first, at a cost",
    "Events, such as DeleteMediaComplete and MediaConvertComplete": "an account has one setting for them, which is "
    "not the run's to change",
    "A bucket in another region; media of VOD": "the run has one folder",
    "Media in use by an editing project": "the run makes no projects",
    "SearchMedia": "the provider does not use it",
    "Which region ice.aliyuncs.com serves": "keys are sent to the connection's host alone",
    "Whether IgnoredList names media that could not be read for a moment": "it can't be brought about",
    "Parameters in a body instead of the query": "the provider sends none",
    "Whether jobs of SubmitTranscodeJob can still be read": "the run starts none",
    "What makes IMS skip an output of a job": "no way is known to bring it about",
    "An output written into a medium that does not exist": "the run could not know beforehand which id it gets",
    "How long page tokens and jobs are kept": "it would take days",
}
"""What stays open, and why."""

# Whatever looks like a key, a token, an account or a signature, whoever's it is.
_LOOKS_SECRET = re.compile(
    r"LTAI[A-Za-z0-9]{8,}"
    r"|STS\.[A-Za-z0-9._-]{8,}"
    r"|acs:[\w-]+:[\w-]*:\d*:[^\s\"',]*"
    r"|(?i:(?:oss)?accesskeyid|signature|security-?token|x-oss-[\w-]+|authorization)(?:=|%3D|\"?:\s*\"?)[^\s\"'&|,]+"
    # Accounts, users and roles; users by their names too.
    r"|(?<![0-9A-Za-z-])\d{15,20}(?![0-9A-Za-z-])"
    r"|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
)


@dataclass(frozen=True)
class Summary:
    """What a report says of the run itself."""

    run_id: str
    at: str
    region: str
    host: str
    versions: str
    requests: int
    media: int
    operations: tuple[str, ...]
    interrupted: str = ""


def cleanse(text: str, secrets: Collection[str]) -> tuple[str, int]:
    """Return a text without what must not be repeated, and how many places were cut out.

    :param secrets: the keys and names that are known; whatever looks like one is cut out too.
    """
    cuts = 0
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        cuts += text.count(secret)
        text = text.replace(secret, CUT)
    text, more = _LOOKS_SECRET.subn(CUT, text)
    return text, cuts + more


def write_report(
    folder: Path,
    summary: Summary,
    answered: Sequence[Answered],
    left: Sequence[LeftOver],
    secrets: Collection[str],
) -> int:
    """Write ``answers.md`` and ``answers.json``; return how many places had to be cut out of them.

    :param secrets: what neither may hold: keys, tokens, the bucket.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cuts = 0
    document = json.dumps(_document(summary, answered, left), indent=1, ensure_ascii=False)
    for name, text in (("answers.json", document), ("answers.md", _page(summary, answered, left))):
        clean, found = cleanse(text, secrets)
        cuts += found
        (folder / name).write_text(f"{clean.rstrip()}\n", encoding="utf-8")
    return cuts


def _document(summary: Summary, answered: Sequence[Answered], left: Sequence[LeftOver]) -> dict[str, Any]:
    return {
        "run": asdict(summary),
        "answers": [
            {
                "name": one.question.name,
                "question": one.question.text,
                "belief": one.question.belief,
                "verdict": one.verdict,
                "value": _plain(one.answer.value),
                "seen": sanitize(one.answer.seen),
                "where": one.question.where,
                "if_not": one.question.if_not,
                "request_ids": one.request_ids,
                "seconds": round(one.seconds, 1),
            }
            for one in answered
        ],
        "not_asked": NOT_ASKED,
        "left_over": [asdict(one) for one in left],
    }


def _plain(value: Any) -> Any:
    """Sanitize every text in it: some are the service's own words."""
    if isinstance(value, str):
        return sanitize(value)
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _page(summary: Summary, answered: Sequence[Answered], left: Sequence[LeftOver]) -> str:
    counts = Counter(one.verdict for one in answered)
    lines = [
        "# What IMS answers",
        "",
        f"Asked on {summary.at} in {summary.region} ({summary.host}) with {summary.versions}: "
        f"{len(answered)} questions, {summary.requests} requests, {summary.media} media made.",
        f"Run {summary.run_id}; operations called: {', '.join(summary.operations)}.",
        "",
        f"Of what the code believes, {counts['holds']} hold, {counts['does not hold']} do not, and "
        f"{counts['not told']} could not be told; {counts['noted']} answers are noted where nothing is believed.",
    ]
    if summary.interrupted:
        lines += ["", f"**Interrupted: {summary.interrupted}. What was not asked by then is not below.**"]
    lines += ["", "## What is left over", ""]
    lines += [f"- {one.what}: {_cell(one.reason)}" for one in left] or [
        "Nothing; all that was made is gone again."
    ]
    wrong = [one for one in answered if one.verdict == "does not hold"]
    lines += ["", "## What the code believes and IMS does not", ""]
    for one in wrong:
        lines += [f"- **{one.question.text}** {_say(one)}", f"  - The code believes: {one.question.belief}"]
        lines += [f"  - Therefore: {one.question.if_not}", f"  - See {one.question.where}."]
    lines += [] if wrong else ["Nothing of what could be told."]
    unheard = [one for one in answered if one.verdict == "not told"]
    lines += ["", "## What could not be told", ""]
    lines += [f"- {one.question.text} {_cell(one.answer.seen)}" for one in unheard] or ["Nothing."]
    lines += ["", "## All answers"]
    for subject, group in groupby(answered, lambda one: one.question.subject):
        lines += ["", f"### {subject}", "", "| question | IMS | the code believes | |", "|---|---|---|---|"]
        lines += [
            f"| {one.question.text} | {_say(one)} | {one.question.belief} | {one.verdict} |" for one in group
        ]
    lines += ["", "## Not asked", "", "| what | why |", "|---|---|"]
    lines += [f"| {what} | {why} |" for what, why in NOT_ASKED.items()]
    lines += ["", "Request ids of each question, for Alibaba Cloud's support, are in answers.json."]
    return "\n".join(lines)


def _say(one: Answered) -> str:
    value = _plain(one.answer.value)
    if isinstance(value, dict):
        said = "; ".join(f"{name.replace('_', ' ')}: {_short(item)}" for name, item in value.items())
    else:
        said = "" if value is None else _short(value)
    return _cell(f"{said}. {one.answer.seen}" if one.answer.seen and said else said or one.answer.seen)


def _short(value: Any) -> str:
    if isinstance(value, list):
        return " → ".join(map(_short, value)) or "none seen"
    return value if isinstance(value, str) else json.dumps(value)


def _cell(text: str) -> str:
    return sanitize(text).replace("|", "\\|")
