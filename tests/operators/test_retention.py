"""The operator that plans, as a DAG author meets it: runs of every kind, caps, templates, failures.

Runs against the emulator; what was deleted is always nothing.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pendulum
import pytest

from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.exceptions import IMSAPIError, IMSGuardError
from airflow_provider_ims.operators.retention import IMSPlanMediaRetentionOperator, run_moment
from airflow_provider_ims.pytest_plugin import MakeConnection

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)

pytestmark = pytest.mark.usefixtures("ims_connection")


def context(**given: Any) -> dict[str, Any]:
    """What the operator needs of a run by hand, without a logical date."""
    run = SimpleNamespace(run_after=given.pop("run_after", NOW), start_date=given.pop("start_date", NOW))
    return {"dag_run": run, **given}


def execute(folder: Path, run: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
    arguments = {
        "manifest": str(folder / "plan.jsonl"),
        "older_than": "P90D",
        "max_percent": None,
    } | arguments
    operator = IMSPlanMediaRetentionOperator(task_id="plan", **arguments)
    result = operator.execute(run or context())  # type: ignore[arg-type]
    assert json.loads(json.dumps(result)) == result
    return result


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "plan.jsonl").read_text(encoding="utf-8").splitlines()]


def medium(number: int, age: timedelta, **fields: Any) -> dict[str, Any]:
    created = (NOW - age).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "media_id": f"{number:032x}",
        "url": f"https://bucket.oss-cn-shanghai.aliyuncs.com/{number}.mp4",
        "created": created,
        "size": 1000,
        **fields,
    }


@pytest.fixture(autouse=True)
def nothing_is_deleted(ims_emulator: Emulator) -> Any:
    ims_emulator.seed(medium(number, number * DAY) for number in range(1, 201))
    yield
    assert ims_emulator.deleted() == []
    assert set(ims_emulator.stats()["by_action"]) <= {"ListMediaBasicInfos"}


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Gives what a task logged: Airflow 3 prints it here, Airflow 2 hands it to Python's loggers."""
    caplog.set_level("INFO")
    return lambda: capsys.readouterr().out + caplog.text


def test_result_and_files(tmp_path: Path, logged: Callable[[], str]) -> None:
    result = execute(tmp_path)
    log = logged()
    path = tmp_path / "plan.jsonl"
    assert "**110 of 200 media** (55.0%, 110.0 kB)" in result.pop("question")
    assert result == {
        "manifest": str(path),
        "page": f"{path}.html",
        "digest": hashlib.sha256(path.read_bytes()).hexdigest(),
        "selected": 110,
        "bytes": 110_000,
        "population": 200,
        "percent": 55.0,
        "kept": {"older_than": 90},
        "undecided": 0,
    }
    header, *media = rows(tmp_path)
    assert [int(row["media_id"], 16) for row in media] == list(range(200, 90, -1))
    assert (header["region"], header["selected"]) == ("cn-shanghai", 110)
    assert Path(result["page"]).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "Selected 110 of 200 media (55.0%), 110.0 kB, created " in log
    assert "Kept 90 by older_than" in log


def test_a_retry_makes_the_same_bytes(tmp_path: Path) -> None:
    run = context()
    first = execute(tmp_path, run)
    content = (tmp_path / "plan.jsonl").read_bytes()
    assert execute(tmp_path, run) == first
    assert (tmp_path / "plan.jsonl").read_bytes() == content


@pytest.mark.parametrize(
    ("run", "moment"),
    [
        (context(), NOW),
        (context(run_after=NOW - DAY), NOW - DAY),
        (context(run_after=None, start_date=NOW - 2 * DAY), NOW - 2 * DAY),
        (context(data_interval_end=NOW - 3 * DAY), NOW - 3 * DAY),
        (context(data_interval_end=pendulum.instance(NOW - 3 * DAY).in_tz("Asia/Shanghai")), NOW - 3 * DAY),
        (context(data_interval_end=None), NOW),
        (context(data_interval_end=NOW - 40 * DAY, run_after=NOW), NOW - 40 * DAY),
        (context(run_after=NOW + timedelta(microseconds=999_999)), NOW),
    ],
)
def test_ages_count_to_the_run_and_not_to_the_clock(
    tmp_path: Path, run: dict[str, Any], moment: datetime
) -> None:
    assert run_moment(run) == moment  # type: ignore[arg-type]
    back = (NOW - moment).days
    result = execute(tmp_path, run)
    assert result["selected"] == 110 - back
    # What was made since is none of this run's business, so that a retry sees the same library.
    assert result["population"] == 200 - max(0, back - 1)


def test_a_run_in_the_future_is_refused(tmp_path: Path, ims_emulator: Emulator) -> None:
    with pytest.raises(ValueError, match="lies in the future"):
        execute(tmp_path, context(data_interval_end=NOW + 365 * DAY))
    assert ims_emulator.requests() == []


@pytest.mark.parametrize(
    "caps", [{"max_media": 109}, {"max_media": 1000, "max_percent": 54}, {"max_percent": 20.0}]
)
def test_a_cap_fails_the_task_and_leaves_a_marked_plan(tmp_path: Path, caps: dict[str, Any]) -> None:
    with pytest.raises(IMSGuardError, match=r"110 .*more than max_.*plan\.jsonl to be looked at") as raised:
        execute(tmp_path, **caps)
    assert pickle.loads(pickle.dumps(raised.value)).args == raised.value.args
    header, *media = rows(tmp_path)
    assert len(media) == 110
    assert "more than" in header["refused"]
    assert "Nothing can be deleted from this plan" in (tmp_path / "plan.jsonl.html").read_text(
        encoding="utf-8"
    )


def test_caps_are_on_by_default(tmp_path: Path) -> None:
    operator = IMSPlanMediaRetentionOperator(
        task_id="plan", manifest=str(tmp_path / "plan"), older_than="P90D"
    )
    assert (operator.max_media, operator.max_percent) == (1000, 20.0)
    with pytest.raises(IMSGuardError, match="max_percent=20"):
        operator.execute(context())  # type: ignore[arg-type]


def test_a_pattern_that_fits_nothing_is_told(tmp_path: Path, logged: Callable[[], str]) -> None:
    assert execute(tmp_path, title_pattern="^.*$")["selected"] == 0
    assert "Selected 0 of 200 media. Most were kept by title_pattern: 200." in logged()


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"older_than": "None"}, "older_than"),
        ({"exclude_tags": "[]"}, "exclude_tags"),
        ({"max_media": "lots"}, "max_media"),
        ({"max_percent": 101}, "max_percent"),
        ({"status": []}, "status"),
        ({"manifest": "nosuchstore://bucket/plan.jsonl"}, "nosuchstore"),
    ],
)
def test_bad_arguments_are_named_before_the_first_request(
    tmp_path: Path, ims_emulator: Emulator, arguments: dict[str, Any], names: str
) -> None:
    with pytest.raises(ValueError, match=names):
        execute(tmp_path, **arguments)
    assert ims_emulator.requests() == []


@pytest.mark.parametrize("limits", [{}, {"older_than": "P1D", "created_before": "2026-01-01"}])
def test_one_limit_is_needed(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="exactly one of older_than and created_before"):
        IMSPlanMediaRetentionOperator(task_id="plan", manifest="plan", **limits)


def test_filters_reach_the_plan(tmp_path: Path, ims_emulator: Emulator) -> None:
    old = 150 * DAY
    ims_emulator.seed(
        [
            medium(901, old, tags="draft", title="tmp-1", media_type="audio"),
            medium(902, old, tags="draft,Legal-Hold", title="tmp-2", media_type="audio"),
            medium(903, old, tags="draft", title="tmp-3", media_type="audio", status="Transcoding"),
            medium(904, old, tags="draft", title="final", media_type="audio"),
            medium(905, old, tags="", title="tmp-5", media_type="audio"),
            medium(906, old - DAY, tags="draft", title="tmp-6", media_type="audio"),
        ]
    )
    result = execute(
        tmp_path,
        older_than=None,
        created_before=(NOW - 100 * DAY).isoformat(),
        media_type="audio",
        source=("oss", "vod"),
        business_type="general",
        require_tags=["draft"],
        exclude_tags=["legal-hold"],
        title_pattern="tmp-*",
        keep_latest=1,
    )
    assert [int(row["media_id"], 16) for row in rows(tmp_path)[1:]] == [901]
    assert result["kept"] == {
        "media_type": 200,
        "exclude_tags": 1,
        "keep_latest": 1,
        "require_tags": 1,
        "status": 1,
        "title_pattern": 1,
    }


def test_all_that_a_user_types_can_be_templated() -> None:
    operator = IMSPlanMediaRetentionOperator(
        task_id="plan",
        manifest="{{ x }}/plan.jsonl",
        older_than="P{{ n }}D",
        exclude_tags=["{{ x }}", "keep"],
        max_media="{{ n }}",  # type: ignore[arg-type]
    )
    operator.render_template_fields({"x": "hold", "n": 90})  # type: ignore[arg-type]
    assert operator.manifest == "hold/plan.jsonl"
    assert operator.older_than == "P90D"
    assert operator.exclude_tags == ["hold", "keep"]
    assert operator.max_media == "90"


def test_faults_of_the_network_do_not_change_the_plan(tmp_path: Path, ims_emulator: Emulator) -> None:
    digest = execute(tmp_path)["digest"]
    for number, kind in enumerate(("reset", "error", "throttle", "truncated", "html")):
        ims_emulator.add_fault(kind, every=7, skip=number, action="ListMediaBasicInfos")
    for _ in range(2):
        assert execute(tmp_path)["digest"] == digest
    assert sum(ims_emulator.stats()["by_action"].values()) > 3 * 3


def test_a_refusal_leaves_no_plan(tmp_path: Path, make_ims_connection: MakeConnection) -> None:
    make_ims_connection(password="wrong")
    with pytest.raises(IMSAPIError):
        execute(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_dag_file_stays_light() -> None:
    code = """
import sys
from airflow.providers.common.compat.sdk import AirflowFailException, BaseHook, BaseOperator
before = set(sys.modules)
import airflow_provider_ims.operators.retention
print({"requests", "sqlite3", "alibabacloud_credentials"} & (set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    "name", ["n" * 256, "n" * 251, "x\0y", "None/plan.jsonl", "folder.jsonl", "page.jsonl", "/dev/null/x"]
)
def test_a_plan_or_page_that_cant_be_written_is_noticed_before_the_library_is_read(
    name: str, tmp_path: Path, ims_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "page.jsonl.html").mkdir()
    before = sorted(tmp_path.iterdir())
    manifest = name if name.startswith(("None", "/")) else f"{tmp_path}/{name}"
    with pytest.raises((ValueError, IMSGuardError), match=r"^manifest") as refused:
        execute(tmp_path, manifest=manifest)
    assert "Error" not in str(refused.value)
    assert ims_emulator.stats()["requests"] == 0
    assert sorted(tmp_path.iterdir()) == before
