"""The pages as an API server of Airflow serves them: to whom, about what, and nothing else."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS
from local_airflow import LocalAirflow

from airflow_provider_ims.emulator import Emulator
from tests.web.conftest import Visitor

if not AIRFLOW_V_3_1_PLUS:
    pytest.skip("Airflow has no such pages", allow_module_level=True)

PAGES = [("plan", "plan"), ("delete", "deletion")]


def address(dag: str, run: str, task: str, page: str, map_index: int | str = -1) -> str:
    return f"/ims/dags/{dag}/runs/{quote(run, safe='')}/tasks/{task}/{map_index}/{page}"


@pytest.fixture(scope="module")
def run(
    airflow: LocalAirflow, ims_emulator_session: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """A run that planned and deleted, where the service refused 7."""
    ids = ims_emulator_session.generate(200, seed=4, days=400)
    ims_emulator_session.protect(ids[:7])
    run = airflow.trigger("pages", {"folder": str(tmp_path_factory.mktemp("files"))})
    assert airflow.wait("pages", run) == "success"
    return run


def words(answer: requests.Response) -> str:
    assert answer.status_code == 200, answer.text
    return words_of(answer)


def words_of(answer: requests.Response) -> str:
    return " ".join(re.sub(r"<style.*?</style>|<[^>]*>", " ", answer.text, flags=re.DOTALL).split())


# What is shown


def test_a_plan(reader: Visitor, airflow: LocalAirflow, run: str) -> None:
    plan = airflow.xcom("pages", run, "plan")
    shown = words(reader.get(address("pages", run, "plan", "plan")))
    rows = [json.loads(line) for line in Path(plan["manifest"]).read_text().splitlines()[1:]]
    assert f"Plan to delete {plan['selected']} of {plan['population']} media" in shown
    assert f"1–50 of {plan['selected']}" in shown
    for part in (
        plan["digest"],
        plan["manifest"],
        "created more than 90 days before the run",
        "legal-hold",
        "media a month",
    ):
        assert part in shown
    assert [row["media_id"] for row in rows if row["media_id"] in shown] == [
        row["media_id"] for row in rows[:50]
    ]


def test_a_plan_over_its_cap_can_be_looked_at(
    reader: Visitor, airflow: LocalAirflow, run: str, tmp_path: Path, ims_emulator_session: Emulator
) -> None:
    """By way of the task that failed because of it."""
    ims_emulator_session.generate(5, seed=12, days=400)
    refused = airflow.trigger("pages", {"folder": str(tmp_path), "max_media": 1})
    assert airflow.wait("pages", refused) == "failed"
    links = f"dags/pages/dagRuns/{quote(refused)}/taskInstances/plan/links"
    url = airflow.request("GET", links).json()["extra_links"]["Plan"]
    shown = words(reader.get(url))
    assert "Nothing can be deleted from this plan" in shown
    assert airflow.xcom("pages", refused, "plan")["digest"] in shown


def test_a_deletion(reader: Visitor, airflow: LocalAirflow, run: str) -> None:
    result = airflow.xcom("pages", run, "delete")
    assert result["forbidden"] == 7
    shown = words(reader.get(address("pages", run, "delete", "deletion")))
    assert f"{result['deleted']} of {result['requested']} deleted" in shown
    assert "forbidden 7 the service refused it" in shown
    assert f"{result['requests']} requests" in shown
    assert "Files stay in the bucket" in shown
    assert result["report"] in shown
    forbidden = words(reader.get(address("pages", run, "delete", "deletion"), outcome="forbidden"))
    assert "1–7 of 7" in forbidden
    for value in result["samples"]["forbidden"]:
        assert value in forbidden


@pytest.mark.parametrize(("task", "page"), PAGES)
def test_its_pages_show_each_row_once(
    reader: Visitor, airflow: LocalAirflow, run: str, task: str, page: str
) -> None:
    lines = Path(airflow.xcom("pages", run, "plan")["manifest"]).read_text().splitlines()[1:]
    wanted = [json.loads(line)["media_id"] for line in lines]
    first = address("pages", run, task, page)
    for relation in ("next", "prev"):
        url: str | None = first if relation == "next" else first + last_link(reader.get(first))
        found: list[str] = []
        while url:
            answer = reader.get(url)
            rows = re.findall(r"<code><bdi>([0-9a-f]{32})</bdi>", answer.text)
            found = found + rows if relation == "next" else rows + found
            link = re.search(rf'rel="{relation}" href="([^"#]*)', answer.text)
            url = first + link[1].replace("&amp;", "&") if link else None
        assert sorted(found) == sorted(wanted)
        if page == "plan":
            assert found == wanted


def last_link(answer: requests.Response) -> str:
    link = re.search(r'href="([^"#]*)[^>]*>Last<', answer.text)
    assert link
    return link[1].replace("&amp;", "&")


@pytest.mark.parametrize(("task", "page"), PAGES)
def test_one_medium_is_found_by_id_title_url_and_tag(
    reader: Visitor, airflow: LocalAirflow, run: str, task: str, page: str
) -> None:
    lines = Path(airflow.xcom("pages", run, "plan")["manifest"]).read_text().splitlines()
    row = json.loads(lines[-1])
    for text in (row["media_id"], row["title"].upper(), row["input_url"][8:]):
        shown = words(reader.get(address("pages", run, task, page), q=text))
        assert row["media_id"] in shown, text
        assert shown.count("https://") == 1
    tagged = [json.loads(line) for line in lines[1:] if "source" in json.loads(line)["tags"]]
    shown = words(reader.get(address("pages", run, task, page), q="source"))
    assert 0 < len(tagged) == shown.count("https://") <= 50
    assert json.loads(lines[1])["media_id"] not in words(
        reader.get(address("pages", run, task, page), q=row["media_id"])
    )
    assert "none" in words(reader.get(address("pages", run, task, page), q="nobody has this"))


def test_a_deletion_without_a_report(
    reader: Visitor, airflow: LocalAirflow, ims_emulator_session: Emulator
) -> None:
    ids = ims_emulator_session.generate(30)
    run = airflow.trigger("delete_by_id", {"media_ids": [*ids, "nobody"]})
    assert airflow.wait("delete_by_id", run) == "success"
    shown = words(reader.get(address("delete_by_id", run, "delete", "deletion")))
    assert f"{len(ids)} of {len(ids) + 1} would be deleted" in shown
    assert "A preview: nothing was deleted." in shown
    assert "up to 100 of each outcome are shown" in shown
    assert "nobody" in shown


def test_files_in_oss_are_read_with_the_tasks_own_connection(
    reader: Visitor, airflow: LocalAirflow, ims_emulator_session: Emulator
) -> None:
    ids = ims_emulator_session.generate(60, seed=5, days=400)
    ims_emulator_session.oss.make_bucket("plans-of-a-team")
    conf = {
        "folder": "oss://plans-of-a-team/ims",
        "ims_conn_id": "ims_team",
    }  # ims_default leads to no such OSS
    run = airflow.trigger("pages", conf)
    assert airflow.wait("pages", run) == "success"
    for task, page, field in (("plan", "plan", "manifest"), ("delete", "deletion", "report")):
        assert airflow.xcom("pages", run, task)[field].startswith("oss://ims_team@plans-of-a-team/ims/")
        shown = words(reader.get(address("pages", run, task, page)))
        assert sum(media_id in shown for media_id in ids) > 10, shown


def test_the_links_lead_to_the_pages(reader: Visitor, airflow: LocalAirflow, run: str) -> None:
    for task, page, name in (("plan", "plan", "Plan"), ("delete", "deletion", "Deletion")):
        path = f"dags/pages/dagRuns/{quote(run)}/taskInstances/{task}/links"
        link = airflow.request("GET", path).json()["extra_links"][name]
        assert link == address("pages", run, task, page)
        assert reader.get(link).status_code == 200


def test_a_run_is_watched(
    reader: Visitor, airflow: LocalAirflow, ims_emulator_session: Emulator, tmp_path: Path
) -> None:
    pytest.importorskip("airflow.models.task_state_store")
    ims_emulator_session.generate(600, seed=8, days=400)
    ims_emulator_session.add_fault("limit", rate=2, burst=2, action="DeleteMediaInfos")
    try:
        run = airflow.trigger("pages", {"folder": str(tmp_path)})
        airflow.wait_for_task("pages", run, "delete", "running")
        url = address("pages", run, "delete", "deletion")
        percents: set[int] = set()
        deadline = time.monotonic() + 90
        while len(percents) < 3 and time.monotonic() < deadline:
            answer = reader.get(url)
            if found := re.search(r"<progress max=\"(\d+)\" value=\"(\d+)\"", answer.text):
                assert answer.headers["Refresh"] == "5"
                assert "left at this rate" in answer.text
                percents.add(100 * int(found[2]) // int(found[1]))
            time.sleep(0.5)
        assert len(percents) >= 3
        links = f"dags/pages/dagRuns/{quote(run)}/taskInstances/delete/links"
        assert airflow.request("GET", links).json()["extra_links"] == {"Deletion": url}
    finally:
        ims_emulator_session.drop_faults()
    assert airflow.wait("pages", run) == "success"
    answer = reader.get(url)
    assert "Refresh" not in answer.headers
    result = airflow.xcom("pages", run, "delete")
    assert f"{result['deleted']} of {result['requested']} deleted" in words(answer)


# To whom


@pytest.mark.parametrize(("task", "page"), PAGES)
def test_nobody_sees_it_without_a_login(
    visit: Callable[[str | None], Visitor], run: str, task: str, page: str
) -> None:
    answer = visit(None).get(address("pages", run, task, page))
    assert answer.status_code == 401
    assert "Log in to Airflow" in answer.text
    assert "Plan to" not in answer.text
    assert "deleted" not in words_of(answer)
    for token in ("garbage", "e30.e30.e30"):
        headers = {"Authorization": f"Bearer {token}"}
        asked = requests.get(visit(None).url + address("pages", run, task, page), headers=headers, timeout=30)
        assert asked.status_code in (401, 403)
        assert "sha-256" not in asked.text.lower()


@pytest.mark.parametrize("name", ["stranger", "clerk"])
@pytest.mark.parametrize(("task", "page"), PAGES)
def test_nobody_sees_it_without_the_right_to_read_xcoms(
    visit: Callable[[str | None], Visitor], run: str, name: str, task: str, page: str
) -> None:
    visitor = visit(name)
    assert visitor.get(address("pages", run, task, page)).status_code == 403
    # Nor whether there is such a run.
    assert visitor.get(address("pages", "no-such-run", task, page)).status_code == 403


# About what


def test_what_does_not_exist_is_not_found(reader: Visitor, run: str) -> None:
    for path in (
        address("no-such-dag", run, "plan", "plan"),
        address("pages", "no-such-run", "plan", "plan"),
        address("pages", run, "no-such-task", "plan"),
        address("pages", run, "plan", "plan", 0),
        address("pages", run, "plan", "plan", "x"),
        address("~", "~", "~", "plan"),
        address("pages", run, "plan", "no-such-page"),
        address("pages", run, "plan", "deletion"),
        address("pages", run, "delete", "plan"),
    ):
        answer = reader.get(path)
        assert answer.status_code == 404, path
        assert "Not Found" in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/ims/",
        "/ims/docs",
        "/ims/openapi.json",
        "/ims/static/../../etc/passwd",
        "/ims/dags/../../../etc/passwd",
        "/ims/%2e%2e/%2e%2e/etc/passwd",
        "/ims/dags/pages/runs/x/tasks/%2Fetc%2Fpasswd/-1/plan",
        "/ims/dags/pages/runs/..%2f..%2f/tasks/plan/-1/plan",
        "/ims/dags/pages/runs/x/tasks/plan%00/-1/plan",
    ],
)
def test_no_path_leads_out(reader: Visitor, path: str) -> None:
    prepared = requests.Request("GET", reader.url).prepare()
    prepared.url = reader.url + path  # as it stands: requests would tidy it up
    prepared.headers["Cookie"] = "; ".join(f"{one.name}={one.value}" for one in reader.http.cookies)
    answer = reader.http.send(prepared, allow_redirects=False, timeout=30)
    assert answer.status_code in (307, 404), answer.text[:300]
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    "query",
    [
        {"manifest": "/etc/passwd"},
        {"path": "/etc/passwd"},
        {"report": "/etc"},
        {"after": "-1"},
        {"after": str(10**30)},
        {"before": str(10**30)},
        {"before": "0"},
        {"row": "0"},
        {"outcome": "../../etc/passwd"},
        {"q": "\x00"},
        {"q": "x" * 100_000},
        {"dag_id": "anything"},
    ],
)
@pytest.mark.parametrize(("task", "page"), PAGES)
def test_no_argument_leads_elsewhere(
    reader: Visitor, run: str, task: str, page: str, query: dict[str, str]
) -> None:
    answer = reader.get(address("pages", run, task, page), **query)
    assert answer.status_code in (200, 400, 404)
    assert "root:" not in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
def test_it_is_for_reading(reader: Visitor, run: str, method: str) -> None:
    answer = reader.http.request(method, reader.url + address("pages", run, "plan", "plan"), timeout=30)
    assert answer.status_code == 405


def test_only_files_of_this_provider_are_shown(
    reader: Visitor, airflow: LocalAirflow, run: str, tmp_path: Path
) -> None:
    """What a result names is checked, whoever wrote the result."""
    plan, deletion = airflow.xcom("pages", run, "plan"), airflow.xcom("pages", run, "delete")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "part-00001.jsonl").write_text('{"password": "hunter2"}\n')
    (tmp_path / "ids.txt").write_text("hunter2\n")
    (tmp_path / "one-line").write_bytes(b"hunter2" * 10**6)
    (tmp_path / "header.jsonl").write_text('{"plan": 1, "secret": "hunter2"}\n')
    (tmp_path / "deep.jsonl").write_text("[" * 10**5)
    os.mkfifo(tmp_path / "pipe")
    values: list[tuple[str, Any]] = [
        *(
            ("plan", {**plan, "manifest": manifest})
            for manifest in (
                "/etc/passwd",
                "/dev/zero",
                "file:///etc/passwd",
                "no-such-scheme://x/y",
                "s3://no_such_connection@bucket/key",
                "",
                None,
                7,
                ["/etc/passwd"],
                str(tmp_path),
                *map(str, tmp_path.iterdir()),
                deletion["report"],
            )
        ),
        *(
            ("deletion", {**deletion, "report": report})
            for report in (
                "/etc",
                "",
                "/proc/self",
                str(tmp_path),
                str(tmp_path / "report"),
                plan["manifest"],
            )
        ),
        ("deletion", {**deletion, "deleted": -1}),
        ("deletion", {**deletion, "requested": "all"}),
        ("deletion", {**deletion, "samples": [1]}),
        ("deletion", {**deletion, "seconds": "long"}),
        ("deletion", {"requested": 1}),
        ("plan", "hunter2"),
        ("plan", ["hunter2"]),
    ]
    made = airflow.trigger("anything", {"values": [value for _, value in values]})
    assert airflow.wait("anything", made, timeout=300) == "success"
    for index, (page, value) in enumerate(values):
        answer = reader.get(address("anything", made, "returns", page, index))
        counted = (
            page == "deletion"
            and value.keys() == deletion.keys()
            and "report" in differences(value, deletion)
        )
        assert answer.status_code == (200 if counted else 404), (value, answer.text)
        assert not counted or "So up to 100 of each outcome are shown" in answer.text
        assert "root:" not in answer.text
        assert "hunter2" not in answer.text.replace(str(value), "")


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [name for name in one if one[name] != other[name]]


def test_each_answer_keeps_the_browser_from_running_and_keeping_anything(
    visit: Callable[[str | None], Visitor], reader: Visitor, run: str
) -> None:
    policies = set()
    for visitor, path in (
        (reader, address("pages", run, "plan", "plan")),
        (reader, address("pages", run, "plan", "plan")),
        (reader, address("pages", run, "delete", "deletion")),
        (reader, address("pages", run, "no-such-task", "plan")),
        (reader, "/ims/nothing"),
        (visit(None), address("pages", run, "plan", "plan")),
        (visit("clerk"), address("pages", run, "plan", "plan")),
    ):
        answer = visitor.get(path)
        policy = dict(
            part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";")
        )
        assert policy.pop("style-src").startswith("'nonce-")
        assert policy == {
            "default-src": "'none'",
            "form-action": "'self'",
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
        }
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        policies.add(answer.headers["Content-Security-Policy"])
    assert len(policies) == 7  # no nonce is used twice
