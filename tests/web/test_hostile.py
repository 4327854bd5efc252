"""Whatever titles, tags, URLs, reasons and ids hold, a page has the elements and attributes of a plain one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

if not AIRFLOW_V_3_1_PLUS:
    pytest.skip("Airflow has no such pages", allow_module_level=True)

from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_ims.deletion.checkpoint import Checkpoint
from airflow_provider_ims.deletion.lines import LINE_LOST
from airflow_provider_ims.deletion.resolve import Outcome
from airflow_provider_ims.files.storage import to_line
from airflow_provider_ims.web import app as app_module
from airflow_provider_ims.web.task_instance import SavedProgress, TaskInstanceInfo, _result

MARKUP = (
    "<script>document.title='taken'</script>",
    '"><img src=x onerror="document.title=1">',
    "</td></table><style>body{display:none}</style>",
    "<meta http-equiv=refresh content='0;url=https://example.com'>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; & <b>",
    "\u202egpj.exe",
    "a\x00b\x1b[31mc",
    "\ud800",
    "]]><!--",
)
TEXT = st.text(max_size=60) | st.sampled_from(MARKUP) | st.lists(st.sampled_from(MARKUP)).map("".join)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
PLAN_HEADER: dict[str, Any] = {
    "plan": 1,
    "refused": None,
    "region": "cn-shanghai",
    "host": "ice.cn-shanghai.aliyuncs.com",
    "as_of": "2026-11-23T12:00:00Z",
    "policy": None,
    "population": 5,
    "selected": 1,
    "percent": 20.0,
    "bytes": 1,
    "size_unknown": 0,
    "oldest": "2026-01-01T00:00:00Z",
    "newest": "2026-01-01T00:00:00Z",
    "kept": {"older_than": 4},
    "undecided": 0,
    "months": {"2026-01": [5, 1]},
    "types": {"video": [1, 1]},
}
RESULT: dict[str, Any] = {
    "requested": 1,
    "duplicates": 0,
    **{outcome.value: int(outcome is Outcome.KEPT) for outcome in Outcome},
    "inferred": 0,
    "requests": 1,
    "retries": 0,
    "throttled": 0,
    "preview": False,
    "region": "cn-shanghai",
    "delete_physical_files": False,
    "resumed": False,
    "seconds": 1.5,
    "samples": {"kept": ["x"]},
    "request_ids": ["x"],
}


class Elements(HTMLParser):
    """What a browser would make of a page."""

    VOID = ("meta", "br", "input", "link", "img", "hr")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.shape: set[tuple[str, tuple[str, ...]]] = set()
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shape.add((tag, tuple(name for name, _ in attrs)))
        self.links += [value or "" for name, value in attrs if name in ("href", "action", "src")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shape.add((tag, tuple(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


class Server:
    """The pages without an Airflow: whoever asks may see what the test says."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.result: dict[str, Any] = {}
        self.instance: TaskInstanceInfo | None = None
        patch.setattr(
            app_module,
            "read_task_instance",
            lambda *ids: self.instance or TaskInstanceInfo("success", self.result, None),
        )
        patch.setattr(app_module, "open_question", lambda *ids: None)
        patch.setitem(app_module.app.dependency_overrides, app_module._may_read.dependency, lambda: None)
        self.client = TestClient(app_module.app)

    def plan(self, rows: list[Any], q: str = "", **header: Any) -> Any:
        import pendulum

        from airflow_provider_ims.retention.policy import make_policy

        as_of = pendulum.datetime(2026, 11, 23)
        policy = make_policy(older_than="P90D", as_of=as_of).as_json()
        file = self.folder / "plan.jsonl"
        file.write_bytes(b"".join(map(to_line, [{**PLAN_HEADER, "policy": policy, **header}, *rows])))
        self.result = {"manifest": str(file), "digest": "d"}
        return self.get("plan", q)

    def deletion(self, rows: list[Any], q: str = "", **result: Any) -> Any:
        report = self.folder / "report"
        report.mkdir(exist_ok=True)
        (report / "part-00001.jsonl").write_bytes(b"".join(map(to_line, rows)))
        self.result = {**RESULT, "report": str(report), **result}
        return self.get("deletion", q)

    def get(self, page: str, q: str) -> Any:
        return self.client.get(f"/dags/d/runs/r/tasks/t/-1/{page}", params={"q": q} if q else {})


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(tmp_path, monkeypatch)


def plan_row(text: Any = "Take", **fields: Any) -> dict[str, Any]:
    return {
        "media_id": str(text),
        "input_url": text,
        "title": text,
        "media_type": text,
        "created": text,
        "size": 1,
        "tags": [text],
        "reason": text,
        **fields,
    }


def report_row(text: Any = "Take", **fields: Any) -> dict[str, Any]:
    row = {
        **plan_row(text),
        "outcome": "kept",
        "inferred": False,
        "request_id": text,
        "at": text,
        "reason": text,
    }
    return row | fields


SETTINGS = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@SETTINGS
@given(text=TEXT.filter(bool))
def test_text_stays_text(server: Server, text: str) -> None:
    plain = Elements(server.plan([plan_row()]).text)
    hostile = Elements(server.plan([plan_row(text)], region=text, host=text, kept={text: 4}).text)
    assert hostile.shape == plain.shape
    assert hostile.links == plain.links
    plain = Elements(server.deletion([report_row()]).text)
    hostile = Elements(
        server.deletion([report_row(text)], region=text, samples={"kept": [text]}, request_ids=[text]).text
    )
    assert hostile.shape == plain.shape
    assert hostile.links == plain.links


@SETTINGS
@given(text=TEXT)
def test_what_is_searched_for_stays_text(server: Server, text: str) -> None:
    text = text.encode("utf-8", "replace").decode()[:200]
    answer = server.plan([plan_row()], q=text)
    assert answer.status_code == 200
    found, nothing = (server.plan([plan_row()], q=q).text for q in ("Take", "nobody has this"))
    shape = Elements(found).shape | Elements(nothing).shape | Elements(server.plan([plan_row()]).text).shape
    assert Elements(answer.text).shape <= shape


@settings(SETTINGS, max_examples=200)
@given(
    planned=st.sampled_from(list(plan_row())),
    header=st.sampled_from(list(PLAN_HEADER)),
    reported=st.sampled_from(list(report_row())),
    field=st.sampled_from([*RESULT, "report"]),
    value=ANYTHING,
)
def test_values_of_any_kind_are_shown_or_refused(
    server: Server, planned: str, header: str, reported: str, field: str, value: Any
) -> None:
    """A file that only looks like one of ours is a page or a refusal, never an error of the server."""
    assert server.plan([plan_row(**{planned: value})]).status_code == 200
    assert server.plan([plan_row()], **{header: value}).status_code in (200, 404)
    assert server.deletion([report_row(**{reported: value})]).status_code == 200
    assert server.deletion([report_row()], **{field: value}).status_code in (200, 404)


def test_a_line_whose_outcome_was_lost_is_shown_as_what_it_is(server: Server) -> None:
    """A checkpoint names up to 100 targets of each outcome: what became of the others went with its line."""
    lost = report_row("first", outcome=None, inferred=None, request_id=None, at=None, reason=LINE_LOST)
    shown = server.deletion([lost, report_row("second")], requested=2, missing=1).text
    for words in ("first", LINE_LOST, "not recorded", "second", "kept"):
        assert words in shown
    assert "can't be read" not in shown
    assert "no report that this release can show" not in shown


@pytest.mark.parametrize(("requested", "says_so"), [(30, True), (31, False)])
def test_what_is_left_of_a_run_is_said_to_be_looked_at_again(
    server: Server, requested: int, says_so: bool
) -> None:
    """That may be media that nobody took, or files of media that are gone."""
    kept = Checkpoint("", requested, counts={"deleted": 10}, open=dict.fromkeys(range(20), True))
    server.instance = TaskInstanceInfo("running", {}, SavedProgress(kept, datetime.now(UTC)))
    shown = server.get("deletion", "").text
    assert f"10 of {requested} done" in shown
    assert ("looked at again" in shown) == says_so
    assert "taken by nobody" not in shown


@pytest.mark.parametrize("page", ["plan", "deletion"])
def test_a_result_that_a_backend_keeps_elsewhere_is_told(server: Server, page: str) -> None:
    """What Airflow's database has then is an address."""
    server.instance = TaskInstanceInfo("success", _result("s3://xcoms/d/r/t/0/return_value"), None)
    answer = server.get(page, "")
    assert answer.status_code == 404
    assert "unless an XCom backend keeps results elsewhere" in answer.text


def test_each_route_asks_for_the_right_to_read() -> None:
    for route in app_module.app.routes:
        assert route.methods == {"GET"}  # type: ignore[attr-defined]
        guards = [one.call for one in route.dependant.dependencies]  # type: ignore[attr-defined]
        assert guards[0] is app_module._may_read.dependency
    assert json.dumps(sorted(route.path for route in app_module.app.routes)) == json.dumps(  # type: ignore[attr-defined]
        [
            f"/dags/{{dag_id}}/runs/{{run_id}}/tasks/{{task_id}}/{{map_index}}/{page}"
            for page in ("deletion", "plan")
        ]
    )
