"""The page that shows a plan: whole, harmless, and telling the truth. With Chromium, if it is there, looked at."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_ims.api.operations import MediaInfo
from airflow_provider_ims.retention.page import write_page
from airflow_provider_ims.retention.plan import Plan, read_caps, write_plan
from airflow_provider_ims.retention.policy import make_policy

AS_OF = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

HOSTILE = [
    "<script>document.title='taken over'</script>",
    '"><img src=x onerror="document.title=\'taken over\'">',
    "</td></table><style>body{display:none}</style>",
    "<meta http-equiv=refresh content='0;url=https://example.com'>",
    "&lt;not escaped twice&gt; & <b>",
    "\u202egpj.exe txet tfel-ot-thgir",
    "\u2066\u2067\u2068 isolates that are never closed",
    "עברית و العربية 123",
    "x" * 10_000,
    "a\x00b\x1b[31mc\nd\u200be",
    "\ud800 half a pair",
    None,
]


def medium(age_days: float, **fields: Any) -> MediaInfo:
    created = (AS_OF - timedelta(days=age_days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    given = {
        "media_id": f"{round(age_days * 1000):032x}",
        "input_url": "https://bucket.oss-cn-shanghai.aliyuncs.com/raw/take.mp4",
        "title": "Take",
        "media_type": "video",
        "source": "oss",
        "business_type": "general",
        "status": "Normal",
        "created": created,
        "deleted": None,
        "tags": ("raw",),
        "size": 10**9,
    }
    return MediaInfo(**(given | fields))


def page(tmp_path: Path, media: list[MediaInfo], *, caps: Any = None, **given: Any) -> tuple[Plan, str]:
    plan = write_plan(
        str(tmp_path / "plan.jsonl"),
        media,
        policy=make_policy(as_of=AS_OF, **({"older_than": "P90D"} | given)),
        caps=read_caps(caps, None),
        as_of=AS_OF,
        region="cn-shanghai",
        host="ice.cn-shanghai.aliyuncs.com",
    )
    return plan, Path(str(write_page(plan))).read_text(encoding="utf-8")


def hostile_library() -> list[MediaInfo]:
    return [
        medium(200 + number, title=title, tags=(title[:20],) if title else (), input_url=title)
        for number, title in enumerate(HOSTILE)
    ] + [medium(30)]


class Elements(HTMLParser):
    """Collects what a browser would make of the page, and checks that all is closed."""

    VOID = ("meta", "br")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_titles_stay_text(tmp_path: Path) -> None:
    plain = Elements(page(tmp_path, [medium(200 + number) for number in range(12)])[1])
    _, html = page(tmp_path, hostile_library())
    hostile = Elements(html)
    assert hostile.names == plain.names
    assert hostile.attributes == plain.attributes
    assert HOSTILE[0] in hostile.words
    assert "x" * 161 not in html
    assert "… (10,000 characters)" in html
    # Whatever turns or hides text is shown as its code, not obeyed.
    assert not re.search("[\u200b-\u200f\u202a-\u202e\u2066-\u2069\x00\x1b]", html)
    assert "\\u202egpj.exe" in html


def test_loads_and_runs_nothing(tmp_path: Path) -> None:
    _, html = page(tmp_path, hostile_library())
    assert Elements(html).attributes & {"src", "href", "onerror", "onload", "action"} == set()
    assert not re.search(r"url\(|@import", html)
    allowed = "default-src 'none'; style-src 'unsafe-inline'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{allowed}">' in html


def test_tells_what_the_plan_tells(tmp_path: Path) -> None:
    media = [medium(100 + number / 10) for number in range(60)] + [medium(10), medium(20, tags=None)]
    plan, html = page(tmp_path, media, exclude_tags=["legal-hold"], keep_latest=3)
    text = " ".join(Elements(html).words)
    for shown in (
        "Plan to delete 58 of 62 media",
        "93.55%",
        "58.0 GB",
        "does not carry the tag legal-hold",
        "is not one of the newest 3 that fit all of this but the age",
        "was created more than 90 days before the run, that is before 2026-08-25T12:00:00Z",
        "have no tags that can be read",
        "undecided: tags",
        plan.digest,
        str(plan.path),
    ):
        assert shown in text
    ids = [row["media_id"] for row in plan.first + plan.last]
    assert len(ids) == len(set(ids)) == 40
    assert all(media_id in text for media_id in ids)
    assert "Nothing can be deleted" not in text


def test_a_refused_plan_says_so_first(tmp_path: Path) -> None:
    _, html = page(tmp_path, [medium(100), medium(101)], caps=1)
    text = " ".join(Elements(html).words)
    assert "Nothing can be deleted from this plan: 2 media are selected, more than max_media=1 ." in " ".join(
        text.split()
    )


@pytest.mark.parametrize("count", [0, 1, 20, 21, 40, 41])
def test_each_row_is_shown_once(tmp_path: Path, count: int) -> None:
    plan, html = page(tmp_path, [medium(100 + number) for number in range(count)])
    ids = [row["media_id"] for row in plan.first + plan.last]
    assert len(ids) == len(set(ids)) == min(count, 40)
    assert ("The newest</h2>" in html) == (count > 20)


def test_many_months_are_shown_as_years(tmp_path: Path) -> None:
    _, html = page(tmp_path, [medium(100 + 31 * number) for number in range(60)])
    assert "media a year" in html
    assert html.count('class="bar"') <= 7


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [1200, 400])
def test_a_browser_shows_it_whole(tmp_path: Path, width: int) -> None:
    page(tmp_path, hostile_library() + [medium(300 + number) for number in range(60)])
    file = tmp_path / "plan.jsonl.html"
    # The page's own script, which the policy forbids, would be needed to measure it from inside: a frame does.
    frame = tmp_path / "frame.html"
    frame.write_text(
        f"<body style='margin:0'><iframe src='{file.name}' style='border:0;width:{width}px;height:800px'></iframe>"
        "<script>onload=()=>{const inner=document.querySelector('iframe').contentDocument;"
        "document.body.dataset.title=inner.title;"
        "document.body.dataset.overflow=inner.documentElement.scrollWidth-inner.documentElement.clientWidth;"
        "document.body.dataset.rows=inner.querySelectorAll('.rows tbody tr').length}</script>"
    )
    done = subprocess.run(
        [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--allow-file-access-from-files",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=3000",
            "--dump-dom",
            frame.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = dict(re.findall(r'data-(\w+)="([^"]*)"', done.stdout))
    assert found == {"title": "Plan to delete 72 media", "overflow": "0", "rows": "40"}
