"""Whatever operators and sensors have Airflow keep fits into its tables, also at the extremes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from airflow_provider_ims.api import operations
from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.credentials import StaticCredentials
from airflow_provider_ims.api.endpoints import parse_host
from airflow_provider_ims.emulator import Emulator
from tests.databases.airflow_database import MILLION_KEY
from tests.databases.dags.extremes import LONGEST
from tests.databases.runs import CUT_AT, EACH, FOUR_BYTES, LONGEST_RUN_ID, Runs

# A text column of MySQL, and Airflow's own `[state_store] max_value_storage_bytes`, beyond which it warns.
MAX_BYTES = 65_535
PATIENCE = 240
# What the scheduler does every `[scheduler] parsing_cleanup_interval`, by default each minute.
CLEAN_UP = """
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
SchedulerJobRunner(job=Job())._update_asset_orphanage()
"""

pytestmark = pytest.mark.timeout(600)


def delete(emulator: Emulator, ids: Sequence[str]) -> None:
    client = IMSClient(
        parse_host(emulator.endpoint), StaticCredentials(emulator.access_key_id, emulator.access_key_secret)
    )
    for at in range(0, len(ids), 20):
        operations.delete_media_infos(client, media_ids=list(ids[at : at + 20]), delete_physical_files=False)


def test_the_longest_names_and_ids_are_kept_and_a_killed_run_goes_on_from_them(runs: Runs) -> None:
    task = LONGEST, runs.longest, LONGEST
    assert runs.longest == LONGEST_RUN_ID
    state = runs.airflow.wait_for_task(*task, "deferred", "failed", timeout=PATIENCE)
    assert state == "deferred", runs.log(*task)
    runs.figures.deferred = runs.database.deferred_bytes(LONGEST)
    saves = runs.saves(LONGEST)
    assert runs.database.state_bytes(LONGEST) == saves[-1]["bytes"]
    runs.figures.state_longest = int(max(save["bytes"] for save in saves))
    assert runs.figures.state_longest <= MAX_BYTES
    result, log = runs.airflow.xcom(*task), runs.log(*task)
    assert result["resumed"], log
    assert "max_value_storage_bytes" not in log
    # Of the missing, those that the killed try may have sent count as deleted.
    assert (result["requested"], result["forbidden"]) == (3 * EACH, EACH)
    assert result["deleted"] >= EACH
    assert result["deleted"] + result["missing"] == 2 * EACH
    assert len(result["request_ids"]) == 100
    assert {len(one) for one in result["samples"]["missing"]} == {128}
    runs.figures.result = runs.database.result_bytes(LONGEST)
    assert 0 < runs.figures.result <= MAX_BYTES
    if runs.has_triggerer:
        assert runs.airflow.wait(LONGEST, runs.longest, PATIENCE) == "success"
        assert runs.airflow.xcom(*task) == result


def test_triggers_carry_what_fits_and_a_path_for_more(runs: Runs) -> None:
    sizes = {}
    for task_id in ("media_ids", "input_urls", "manifest"):
        runs.airflow.wait_for_task("waits", runs.waits, task_id, "deferred", timeout=PATIENCE)
        sizes[task_id] = runs.database.trigger_bytes("waits", task_id)
        assert 0 < sizes[task_id] <= MAX_BYTES
    runs.figures.trigger_ids, runs.figures.trigger_urls = sizes["media_ids"], sizes["input_urls"]
    runs.figures.trigger_path = sizes["manifest"]
    if not runs.has_triggerer:
        return
    delete(runs.emulator, [*runs.carried, *runs.others, *runs.at_urls])
    assert runs.airflow.wait("waits", runs.waits, PATIENCE) == "success"
    media = {task_id: runs.airflow.xcom("waits", runs.waits, task_id)["media"] for task_id in sizes}
    assert media == {
        "media_ids": len(runs.carried),
        "input_urls": len(runs.at_urls),
        "manifest": len(runs.carried) + len(runs.others),
    }


def test_what_the_service_says_is_kept_whatever_its_characters(runs: Runs) -> None:
    ended = runs.airflow.wait_for_task("waits", runs.waits, "job", "success", "failed", timeout=PATIENCE)
    assert ended == "success", runs.log("waits", runs.waits, "job")
    (output,) = runs.airflow.xcom("waits", runs.waits, "job")["outputs"]
    assert output["name"] == rf"\u0000{FOUR_BYTES}"
    assert output["url"].endswith(f"{FOUR_BYTES}.mp4")


def test_the_state_of_a_million_is_small_and_quickly_kept(runs: Runs) -> None:
    until = time.monotonic() + PATIENCE
    while runs.emulator.stats()["deleted"] < CUT_AT:
        assert time.monotonic() < until, runs.airflow.task_states("million", runs.million)
        time.sleep(0.2)
    runs.emulator.add_key(**MILLION_KEY, status="inactive")
    assert runs.airflow.wait("million", runs.million, PATIENCE) == "failed"
    saves = runs.saves("million")
    assert len(saves) > 10
    # What the next try would go on from.
    assert runs.database.state_bytes("million") == saves[-1]["bytes"]
    runs.figures.state = int(max(save["bytes"] for save in saves))
    runs.figures.save = 1000 * statistics.median(save["seconds"] for save in saves)
    assert 0 < runs.figures.state <= MAX_BYTES


def test_the_largest_trigger_fits_as_airflow_2_encrypts_it(runs: Runs) -> None:
    done = run_python(runs, str(Path(__file__).parent / "store_triggers.py"))
    assert done.returncode == 0, done.stderr
    sizes = json.loads(done.stdout.splitlines()[-1])
    runs.figures.trigger_encrypted = max(sizes.values())
    assert runs.figures.trigger_encrypted <= MAX_BYTES, sizes


def test_one_query_of_airflow_s_scheduler_is_refused(runs: Runs) -> None:
    """What docs/scale.md says of MariaDB: when this fails, that is to be written anew."""
    done = run_python(runs, "-c", CLEAN_UP)
    is_refused = "ProgrammingError" in done.stderr and "WITH" in done.stderr
    assert is_refused is (runs.database.dialect == "mysql"), done.stderr
    assert is_refused is (done.returncode != 0)


def run_python(runs: Runs, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python as one of Airflow's processes."""
    command, env = [sys.executable, *arguments], runs.airflow.environment
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)
