"""The fixtures in these tests, and as a user's project meets them: in an empty folder without a conftest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.exceptions import IMSDeletionError, IMSThrottlingError
from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.pytest_plugin import MakeConnection, MediaLibrary

HEAVY = (
    "airflow",
    "starlette",
    "uvicorn",
    "requests",
    "alibabacloud_credentials",
    "airflow_provider_ims.emulator",
)

DAG = """
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator

with DAG("clean_up", schedule=None, params={"media_ids": []}) as dag:
    IMSDeleteMediaInfosOperator(task_id="delete", media_ids="{{ params.media_ids }}", on_forbidden="warn")
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty folder, without this repository's options."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    return pytester


def test_a_dag_deletes_what_it_was_given_and_nothing_else(
    project: pytest.Pytester, airflow_database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project.mkdir("dags")
    (folder / "clean_up.py").write_text(DAG)
    bundle = {
        "name": "dags",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(folder)},
    }
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
    project.makepyfile("""
        from dags.clean_up import dag

        def test_it(ims_library, ims_emulator, ims_connection):
            wanted = ims_library.old + ims_library.protected + ims_library.missing
            run = dag.test(run_conf={"media_ids": wanted})
            assert run.state == "success"
            assert {deletion["media_id"] for deletion in ims_emulator.deleted()} == set(ims_library.old)
    """)
    project.runpytest_subprocess().assert_outcomes(passed=1)


ROLES = [
    ("old", "deleted"),
    ("recent", "deleted"),
    ("keep", "deleted"),
    ("protected", "forbidden"),
    ("undeletable", "failed"),
    ("missing", "missing"),
]


@pytest.mark.parametrize(("role", "outcome"), ROLES)
def test_every_role_ends_as_it_is_described(
    role: str,
    outcome: str,
    ims_library: MediaLibrary,
    ims_emulator: Emulator,
    ims_connection: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("airflow_provider_ims.deletion.run.LOOK_AGAIN_SECONDS", (0.1,))
    assert sorted(ims_emulator.media_ids()) == sorted(ims_library.registered)
    ids = getattr(ims_library, role)
    try:
        result = IMSHook(ims_connection).delete_media(ids)
    except IMSDeletionError as error:
        result = error.result
    assert result[outcome] == len(ids) > 0


def test_the_media_of_the_library(
    ims_library: MediaLibrary, ims_emulator: Emulator, ims_connection: str
) -> None:
    hook = IMSHook()
    media = {medium["media_id"]: medium for medium in ims_emulator.library()}
    for media_id in ims_library.registered:
        assert media[media_id]["url"] == ims_library.urls[media_id]
    for media_id in ims_library.missing:
        assert hook.get_media_info(input_url=ims_library.urls[media_id]) is None
    assert max(media[media_id]["created"] for media_id in ims_library.old) < min(
        media[media_id]["created"] for media_id in ims_library.recent
    )
    assert {media[media_id]["tags"] for media_id in ims_library.plain} == {"transcoded"}
    assert {media[media_id]["tags"] for media_id in ims_library.keep} == {"transcoded,keep"}


def test_each_test_begins_with_a_clean_emulator_and_all_share_one_process(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import pytest

        pids = set()

        @pytest.mark.parametrize("number", range(3))
        def test_it(ims_emulator, number):
            stats = ims_emulator.stats()
            assert (stats["media"], stats["requests"], stats["deleted"], stats["faults"]) == (0, 0, 0, {})
            assert ims_emulator.ask("GET", "/faults")["rules"] == []
            ims_emulator.generate(5)
            ims_emulator.add_fault("reset")
            pids.add(ims_emulator.pid)
            assert len(pids) == 1

        def test_what_lives_longer_sees_the_same(ims_emulator_session):
            assert ims_emulator_session.pid in pids
            assert len(ims_emulator_session.media_ids()) == 5
    """)
    project.runpytest_subprocess().assert_outcomes(passed=4)


def test_faults_by_name(ims_library: MediaLibrary, ims_emulator: Emulator, ims_connection: str) -> None:
    ims_emulator.add_fault("throttle", every=2)
    assert IMSHook().delete_media(ims_library.old)["deleted"] == 6
    ims_emulator.add_fault("reset", when="after", times=1)
    assert IMSHook().delete_media(ims_library.recent)["deleted"] == 4
    assert set(ims_emulator.stats()["faults"]) == {"throttle", "reset_after"}


def test_a_service_that_refuses_everything_ends_a_test_within_seconds(
    ims_library: MediaLibrary, ims_emulator: Emulator, ims_connection: str
) -> None:
    ims_emulator.add_fault("throttle")
    began = time.monotonic()
    with pytest.raises(IMSThrottlingError):
        IMSHook().delete_media(ims_library.old)
    assert time.monotonic() - began < 100


def test_connections_of_other_names(make_ims_connection: MakeConnection, ims_emulator: Emulator) -> None:
    ims_emulator.add_key("reader", "s", actions=["ice:List*"])
    team = make_ims_connection("ims_team", login="reader", password="s", extra={"region": "cn-beijing"})
    assert team == "ims_team"
    assert IMSHook(team).region == "cn-beijing"
    assert IMSHook(team).test_connection()[0]
    assert "AIRFLOW_CONN_IMS_DEFAULT" not in os.environ


def test_connections_end_with_their_test(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import os

        def connections():
            return [name for name in os.environ if name.startswith("AIRFLOW_CONN_IMS")]

        def test_one(ims_connection):
            assert connections() == ["AIRFLOW_CONN_IMS_DEFAULT"]

        def test_none():
            assert connections() == []
    """)
    project.runpytest_subprocess().assert_outcomes(passed=2)


def test_a_proxy_of_the_machine_does_not_matter(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    request.getfixturevalue("ims_connection")
    assert IMSHook().test_connection()[0]


def test_each_worker_of_xdist_has_its_own(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_it(ims_emulator, number, request):
            assert ims_emulator.media_ids() == []
            ims_emulator.generate(100)
            with open(f"{request.config.rootpath}/pids", "a") as pids:
                pids.write(f"{ims_emulator.pid}\\n")
    """)
    project.runpytest_subprocess("-n", "2", "--dist", "each").assert_outcomes(passed=8)
    assert len(set((project.path / "pids").read_text().split())) == 2


def test_without_the_extra_it_fails_with_what_to_do(project: pytest.Pytester) -> None:
    project.makeconftest("import sys; sys.modules['uvicorn'] = None")
    project.makepyfile("def test_it(ims_connection): pass")
    result = project.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*needs uvicorn: pip install 'airflow-provider-ims[[]emulator]'*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*another exception*")


def test_the_fixtures_explain_themselves(project: pytest.Pytester) -> None:
    listed = project.runpytest_subprocess("--fixtures").stdout.str()
    for name in (
        "ims_emulator",
        "ims_emulator_session",
        "ims_library",
        "ims_connection",
        "make_ims_connection",
    ):
        assert f"\n{name}" in listed
    assert "no docstring available" not in listed.partition("airflow_provider_ims")[2].partition("-----")[0]


def test_nothing_heavy_is_loaded_where_it_is_not_used(project: pytest.Pytester) -> None:
    project.makepyfile(f"""
        import sys

        loaded = set(sys.modules)

        def test_it():
            assert "airflow_provider_ims.pytest_plugin" in loaded
            assert [name for name in {HEAVY!r} if name in sys.modules] == []
    """)
    project.runpytest_subprocess().assert_outcomes(passed=1)


def test_the_plugin_costs_little_beside_pytest_itself() -> None:
    """Everybody who has the package installed pays for it in each run of pytest."""
    script = """
import time
began = time.process_time()
import pytest
pytest_itself = time.process_time() - began
import airflow_provider_ims.pytest_plugin
print((time.process_time() - began - pytest_itself) / pytest_itself)
"""
    command = [sys.executable, "-c", script]
    tries = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(3)]
    assert min(float(done.stdout) for done in tries) < 0.1
