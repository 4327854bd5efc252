"""The question that is put to whoever approves: what it says, and that nobody's title becomes markup in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from airflow_provider_ims.api.operations import MediaInfo
from airflow_provider_ims.retention.plan import Plan, read_caps, write_plan
from airflow_provider_ims.retention.policy import describe_duration, make_policy
from airflow_provider_ims.retention.question import write_question

AS_OF = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
HOSTILE = [
    "**bold** [link](https://example.com) ![](https://example.com/x.png)",
    "<img src=x onerror=alert(1)> <script>alert(1)</script> &lt;b&gt;",
    "` ``code`` ```",
    "https://example.com www.example.com a@example.com",
    "| a | b |\n|---|---|\n# head\n\n---",
    "\u202egpj.exe \x1b[31m \u2028",
    "{{ ti }} {% raw %}",
    " `",
    "x" * 10_000,
]


def planned(folder: Path, titles: list[Any], **given: Any) -> Plan:
    media = [
        MediaInfo(
            media_id=f"{number:032x}",
            input_url="https://bucket.oss-cn-shanghai.aliyuncs.com/take.mp4",
            title=title,
            media_type="video",
            source="oss",
            business_type="general",
            status="Normal",
            created=(AS_OF - timedelta(days=100 + number)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            deleted=None,
            tags=(),
            size=10**9 if number else None,
        )
        for number, title in enumerate(titles)
    ]
    return write_plan(
        str(folder / "plan.jsonl"),
        media,
        policy=make_policy(as_of=AS_OF, **({"older_than": "P90D"} | given)),
        caps=read_caps(None, None),
        as_of=AS_OF,
        region="cn-shanghai",
        host="ice.cn-shanghai.aliyuncs.com",
    )


def elements(text: str) -> tuple[set[str], str]:
    """Return what CommonMark with tables and autolinks makes of a text: the kinds of elements, and what is read."""
    tokens = MarkdownIt("gfm-like").parse(text)
    inline = [child for token in tokens for child in token.children or ()]
    return {token.type for token in [*tokens, *inline]}, "\n".join(child.content for child in inline)


def test_it_says_what_is_decided(tmp_path: Path) -> None:
    plan = planned(
        tmp_path,
        [f"Take {number}" for number in range(50)],
        exclude_tags=["legal-hold", "keep"],
        title_pattern="Take *",
    )
    question = write_question(plan, f"{plan.path}.html", "/ims/dags/d/plan")
    _, text = elements(question)
    for part in (
        "50 of 50 media",
        "100.0%, 49.0 GB and 1 of unknown size",
        "ice.cn-shanghai.aliyuncs.com",
        "can't be brought back",
        "2026-06-27",
        "2026-08-15",
        "Take 49",
        "Take 0",
        "was created more than 90 days before the run",
        "has the status Normal",
        "does not carry the tags keep or legal-hold",
        "has a title that matches Take *",
        f"{plan.path}.html",
        plan.digest,
    ):
        assert part in text, part
    assert question.count("\n- `Take ") == 5
    assert "[Look at all of them](/ims/dags/d/plan)" in question
    assert "Look at all" not in write_question(plan, f"{plan.path}.html")
    assert len(question) < 2000


@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 40, 41])
def test_few_media_are_all_shown(tmp_path: Path, count: int) -> None:
    plan = planned(tmp_path, [f"Take {number}" for number in range(count)])
    question = write_question(plan, "page")
    assert question.count("\n- `Take ") == min(count, 5)
    assert ("from the oldest to the newest" in question) == (count > 5)


def test_nothing_selected(tmp_path: Path) -> None:
    question = write_question(planned(tmp_path, []), "page")
    assert "**0 of 0 media** (0.0%, 0 bytes)" in question
    assert "oldest" not in question


def test_titles_stay_text(tmp_path: Path) -> None:
    plain = elements(write_question(planned(tmp_path, ["Take", "Two", "3", "4", "5"]), "page"))[0]
    for title in HOSTILE:
        found, text = elements(write_question(planned(tmp_path, [title] * 5), "page"))
        assert found == plain, title
        assert "x" * 81 not in text
        assert "\u202e" not in text


def test_codes_of_invisible_characters_are_those_that_python_reads() -> None:
    from airflow_provider_ims.retention.plan import printable

    title = "a\n\U000e0001"
    assert printable(title, 80).encode().decode("unicode_escape") == title


@given(st.text(min_size=1).filter(str.strip))
def test_any_title_is_read_as_it_is(title: str) -> None:
    from airflow_provider_ims.retention.plan import printable
    from airflow_provider_ims.retention.question import _code

    found = MarkdownIt("gfm-like").parse(f"- {_code(title)}, 1 kB")
    (inline,) = (token for token in found if token.type == "inline")
    code, rest = inline.children or ()
    assert (code.type, code.content) == ("code_inline", printable(title, 80))
    assert rest.content == ", 1 kB"


@pytest.mark.parametrize(
    ("spelled", "words"),
    [
        ("P90D", "90 days"),
        ("P1D", "1 day"),
        ("P6M", "6 months"),
        ("PT6M", "6 minutes"),
        ("P1Y2M3DT4H5M6S", "1 year, 2 months, 3 days, 4 hours, 5 minutes and 6 seconds"),
        ("P2M1D", "2 months and 1 day"),
        ("P0D", "0 days"),
        ("soon", "soon"),
    ],
)
def test_durations_in_words(spelled: str, words: str) -> None:
    assert describe_duration(spelled) == words
