"""What leaves the run holds no key, no token, no account and no signed URL, wherever it was planted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.live.media import LeftOver, NotTold
from tests.live.question import Answer, Answered, Question, Run, ask
from tests.live.report import Summary, cleanse, write_report

KEY_ID, SECRET, TOKEN = (
    "LTAI5tPlantedKeyIdOfARun",
    "PlantedSecretOfTheKey0123456789",
    "CAISplanted+token/of==",
)
ACCOUNT = "1234567890123456"
SIGNED = (
    "https://media-team.oss-cn-shanghai.aliyuncs.com/a.mp4?Expires=1700000000&OSSAccessKeyId=TMP.abcdefgh"
    "&Signature=c2lnbmF0dXJl%3D&security-token=CAISxyz"
)
PLANTED = [
    KEY_ID,
    SECRET,
    TOKEN,
    ACCOUNT,
    "LTAI4FOtherKeyOfSomebody",
    "STS.NTqOtherTemporaryKey",
    f"acs:ram::{ACCOUNT}:role/aliyunicedefaultrole",
    SIGNED,
    SIGNED.replace("&", "&amp;"),
    "x-oss-signature=0123456789abcdef0123456789abcdef",
    '"AuthPrincipalOwnerId": "9876543210987654"',
    "Authorization: ACS3-HMAC-SHA256Credential",
    "The user 281234567890123456 (bob@acme.onaliyun.com) may not",
]
MUST_NOT_STAY = (
    *(KEY_ID, SECRET, TOKEN, ACCOUNT, "9876543210987654", "c2lnbmF0dXJl", "CAISxyz", "TMP.abcdefgh"),
    *("LTAI4FOtherKeyOfSomebody", "STS.NTqOtherTemporaryKey", "media-team", "ACS3-HMAC-SHA256Credential"),
    "0123456789abcdef0123456789abcdef",
    *("281234567890123456", "bob@", "acme.onaliyun"),
)


def summary(**fields: Any) -> Summary:
    return Summary("0123456789abcdef", "now", "cn-shanghai", "host", "1.0", 1, 1, ("GetMediaInfo",), **fields)


def planted(text: str) -> list[Answered]:
    """An answer with a text in every place that the service's words can reach."""
    one = Question("name", "Which?", "None.", "nowhere", "Nothing.", lambda run: Answer(None, None))
    values = [text, {"in": text}, {text: 1}, [text], [[text]], {"a": {"b": [text]}}]
    return [Answered(one, Answer(value, False, text), ("id",), 0.1) for value in values]


@pytest.mark.parametrize("text", PLANTED)
def test_planted_secrets_are_cut_out(tmp_path: Path, text: str) -> None:
    left = [LeftOver(f"medium {text}", f"refused: {text}")]
    write_report(
        tmp_path, summary(interrupted=text), planted(text), left, {KEY_ID, SECRET, TOKEN, "media-team"}
    )
    for name in ("answers.md", "answers.json"):
        written = (tmp_path / name).read_text()
        assert not [secret for secret in MUST_NOT_STAY if secret in written]
    json.loads((tmp_path / "answers.json").read_text())


def test_what_tells_nothing_stays() -> None:
    ids = "a1b2c3d4e5f60718293a4b5c6d7e8f90 4BAEA8E8-1C16-5CD3-AC50-123456789012 0123456789abcdef"
    text = f"{ids} 2026-11-25T01:02:03Z S00000001-200010"
    assert cleanse(text, {SECRET}) == (text, 0)


def test_a_question_that_can_not_be_told_says_why() -> None:
    def raises(run: Run) -> Answer:
        raise NotTold("nothing is left")

    class NoRun:
        request_ids: list[str] = []  # noqa: RUF012 - never changed

    found = ask(NoRun(), Question("name", "Which?", "None.", "nowhere", "Nothing.", raises))  # type: ignore[arg-type]
    assert (found.verdict, found.answer.seen) == ("not told", "Not told: nothing is left.")
