"""A whole Airflow 3 on this machine: SQLite, loopback only, every part a process of its own, none left behind.

The demo and the system tests run on it. Each part (API server, scheduler, DAG processor, triggerer) is
started as ``python -m airflow ...`` in a session of its own, because tasks move to process groups of their
own but stay in the session: whoever is in it at the end is ended.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import psutil
import requests

T = TypeVar("T")

START_SECONDS = 120
"""How long Airflow may take to come up; about 20 s on a quiet machine with 2 cores."""

STOP_SECONDS = 4
"""How long a process may take to end by itself before it is killed."""

FINAL_STATES = {"success", "failed", "skipped", "upstream_failed", "removed"}

HEARTBEATS = {
    "scheduler": ("scheduler", "latest_scheduler_heartbeat"),
    "dag-processor": ("dag_processor", "latest_dag_processor_heartbeat"),
    "triggerer": ("triggerer", "latest_triggerer_heartbeat"),
}
"""Where ``/api/v2/monitor/health`` says when a part was last alive."""


_TEST_DAG = """
import json, sys
from airflow.configuration import conf
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(dag_folder=conf.get("core", "dags_folder"))
assert sys.argv[1] in bag.dags, bag.import_errors
run = bag.dags[sys.argv[1]].test(logical_date=None, run_conf=json.loads(sys.argv[2]), use_executor=True)
print("\\n" + json.dumps([run.run_id, str(run.state)]))
"""


class LocalAirflowError(Exception):
    """Airflow did not come up, ended by itself, or did not do what was asked in time."""


@dataclass
class _Process:
    name: str
    arguments: list[str]
    log: Path
    popen: subprocess.Popen[bytes] | None = None
    sessions: list[int] = field(default_factory=list)
    started: float = 0.0

    def start(self, environment: Mapping[str, str]) -> None:
        self.started = time.time()
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                [sys.executable, *self.arguments],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.sessions.append(self.popen.pid)

    def signal(self, number: int) -> None:
        if self.popen and self.popen.poll() is None:
            self.popen.send_signal(number)

    def members(self) -> list[int]:
        """Every living process that this one started, orphans included."""
        return [pid for pid in psutil.pids() if _session_of(pid) in self.sessions and _alive(pid)]

    def kill_members(self) -> None:
        for pid in self.members():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.popen:
            self.popen.wait(STOP_SECONDS)

    def last_lines(self, count: int = 20) -> str:
        return f"last lines of {self.log}:\n" + "\n".join(f"  {line}" for line in self.lines_about()[-count:])

    def lines_about(self, *words: str) -> list[str]:
        """The lines of its log that have all of some words."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return [line for line in lines if all(word in line for word in words)]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def free_port() -> int:
    """A loopback port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LocalAirflow:
    """A running Airflow, for as long as the ``with`` block lasts.

    :param home: an empty folder: database, configuration, task logs, and the processes' own logs in
        ``logs-of-processes``. It is not removed.
    :param dags: the folder with the DAG files.
    :param scheduler: start the scheduler with its LocalExecutor.
    :param triggerer: start the triggerer.
    :param dag_processor: start the DAG processor.
    :param env: further environment variables for every process, such as ``AIRFLOW_CONN_...``; they win over
        the settings made here.
    """

    user = "admin"

    def __init__(
        self,
        home: Path,
        dags: Path,
        *,
        scheduler: bool = True,
        triggerer: bool = True,
        dag_processor: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home.resolve()
        self.dags = dags.resolve()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.password = secrets.token_urlsafe(9)
        self.environment = self._environment() | dict(env or {})
        self._processes: dict[str, _Process] = {}
        for name, arguments, wanted in (
            ("api-server", [], True),
            ("scheduler", ["--skip-serve-logs"], scheduler),
            ("dag-processor", [], dag_processor),
            ("triggerer", ["--skip-serve-logs"], triggerer),
        ):
            if wanted:
                self._processes[name] = self._process(name, "-m", "airflow", name, *arguments)
        self._http = requests.Session()
        self._http.trust_env = False

    def _process(self, name: str, *arguments: str) -> _Process:
        return _Process(name, list(arguments), self.home / "logs-of-processes" / f"{name}.log")

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        settings = {
            "CORE__DAGS_FOLDER": str(self.dags),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": "3",
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{self.user}:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.home / "passwords.json"),
            "CORE__TEST_CONNECTION": "Enabled",
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home / 'airflow.db'}",
            "LOGGING__BASE_LOG_FOLDER": str(self.home / "logs"),
            "API__BASE_URL": self.url,
            "API__HOST": "127.0.0.1",
            "API__PORT": str(self.port),
            "API__WORKERS": "1",
            "API__SECRET_KEY": secrets.token_hex(16),
            "API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
            "DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
            "DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(self.home / "bundles"),
        }
        return inherited | {
            "AIRFLOW_HOME": str(self.home),
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
        }

    # Life

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        (self.home / "logs-of-processes").mkdir(parents=True)
        passwords = self.home / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({self.user: self.password}))
        self._run("db-migrate", "-m", "airflow", "db", "migrate")
        for process in self._processes.values():
            process.start(self.environment)
        self._wait_until_up(*self._processes)

    def _run(self, name: str, *arguments: str, timeout: float = START_SECONDS) -> _Process:
        """Run a process to its end."""
        process = self._process(name, *arguments)
        process.start(self.environment)
        assert process.popen
        try:
            code = process.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise LocalAirflowError(f"{name} took over {timeout:.0f} s; {process.last_lines()}") from None
        finally:
            process.kill_members()
        if code:
            raise LocalAirflowError(f"{name} ended with {code}; {process.last_lines()}")
        return process

    def _wait_until_up(self, *names: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        missing = set(names)
        while missing:
            for name in missing:
                self._check_running(name)
            if time.monotonic() > deadline:
                raise LocalAirflowError(
                    f"not up within {START_SECONDS} s: {', '.join(sorted(missing))}; "
                    + "\n".join(self._processes[name].last_lines() for name in sorted(missing))
                )
            time.sleep(0.5)
            missing -= self._up()

    def _check_running(self, name: str) -> None:
        process = self._processes[name]
        if process.popen and (code := process.popen.poll()) is not None:
            raise LocalAirflowError(f"{name} ended by itself with {code}; {process.last_lines()}")

    def _up(self) -> set[str]:
        """The parts that showed a sign of life after they were started."""
        try:
            answer = self._http.get(f"{self.url}/api/v2/monitor/health", timeout=5)
            answer.raise_for_status()
        except requests.RequestException:
            return set()
        health = answer.json()
        up = {"api-server"}
        for name, (part, heartbeat) in HEARTBEATS.items():
            at = health.get(part, {}).get(heartbeat)
            if at and name in self._processes and _timestamp(at) > self._processes[name].started:
                up.add(name)
        return up

    def stop(self) -> None:
        """End every process; those that need too long are killed. Safe to call again."""
        with _not_interrupted():
            server_last = sorted(self._processes.values(), key=lambda process: process.name == "api-server")
            for group in (server_last[:-1], server_last[-1:]):
                for process in reversed(group):
                    process.signal(signal.SIGTERM)
                deadline = time.monotonic() + STOP_SECONDS
                for process in group:
                    with suppress(subprocess.TimeoutExpired):
                        if process.popen:
                            process.popen.wait(max(0.0, deadline - time.monotonic()))
                    process.kill_members()
            self._http.close()

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to every process of one part and wait for their end, as when a pod dies.

        :param name: ``api-server``, ``scheduler``, ``dag-processor`` or ``triggerer``.
        """
        process = self._processes[name]
        for pid in process.members():
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        assert process.popen
        process.popen.wait(STOP_SECONDS)
        process.kill_members()

    def restart(self, name: str) -> None:
        """Start one part again, after :meth:`kill` or instead of it, and wait until it is up."""
        process = self._processes[name]
        process.signal(signal.SIGTERM)
        if process.popen:
            with suppress(subprocess.TimeoutExpired):
                process.popen.wait(STOP_SECONDS)
        process.kill_members()
        process.start(self.environment)
        self._wait_until_up(name)

    def members(self) -> list[int]:
        """The living processes of all parts."""
        return [pid for process in self._processes.values() for pid in process.members()]

    # The REST API

    def request(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """One request to ``/api/v2/<path>`` as the administrator.

        :raises LocalAirflowError: for every answer but 2xx and 404.
        """
        if "Authorization" not in self._http.headers:
            login = {"username": self.user, "password": self.password}
            answer = self._http.post(f"{self.url}/auth/token", json=login, timeout=30)
            answer.raise_for_status()
            self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        answer = self._http.request(method, f"{self.url}/api/v2/{path}", timeout=30, **kwargs)
        if not answer.ok and answer.status_code != 404:
            raise LocalAirflowError(f"{method} {path}: {answer.status_code} {answer.text[:2000]}")
        return answer

    def _get(self, path: str, **params: Any) -> Any:
        answer = self.request("GET", path, params=params)
        if answer.status_code == 404:
            raise LocalAirflowError(f"GET {path}: {answer.text[:2000]}")
        return answer.json()

    def create_connection(self, conn_id: str, **fields: str) -> None:
        """Put a connection into the database, where Admin > Connections shows it."""
        self.request("POST", "connections", json={"connection_id": conn_id, **fields})

    def wait_for_dag(self, dag_id: str, timeout: float = 60) -> None:
        """Wait until the DAG processor has read a DAG."""

        def describe() -> str:
            errors = self._get("importErrors")["import_errors"]
            traces = "".join(f"\n{error['filename']}: {error['stack_trace']}" for error in errors)
            return f"DAG {dag_id} was not read{traces}"

        self._poll(lambda: self.request("GET", f"dags/{dag_id}").ok, timeout, describe)

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler run a DAG when it is due; :meth:`trigger` does so by itself."""
        self.wait_for_dag(dag_id)
        self.request("PATCH", f"dags/{dag_id}", json={"is_paused": False})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run by hand (no logical date) and return its id. Only DAGs that are triggered ever run."""
        self.unpause(dag_id)
        body = {"logical_date": None, "conf": dict(conf or {})}
        return str(self.request("POST", f"dags/{dag_id}/dagRuns", json=body).json()["dag_run_id"])

    def wait(self, dag_id: str, run_id: str, timeout: float = 120) -> str:
        """Wait for the end of a run and return its state."""

        def state() -> str | None:
            found = self.run_state(dag_id, run_id)
            return found if found in FINAL_STATES else None

        ended = self._poll(state, timeout, lambda: f"run {run_id}: {self.task_states(dag_id, run_id)}")
        if ended == "failed":
            self._show_failures(dag_id, run_id)
        return ended

    def _show_failures(self, dag_id: str, run_id: str) -> None:
        """Print why tasks failed: pytest shows it where nobody expected that they would."""
        for task_id, state in self.task_states(dag_id, run_id).items():
            if state != "failed":
                continue
            name, _, index = task_id.partition("[")
            events = self.log(dag_id, run_id, name, map_index=int(index.rstrip("]") or -1))
            print(f"{dag_id}.{task_id} failed; the end of its log:", *events[-8:], sep="\n  ")
            about = self._processes["scheduler"].lines_about(name, run_id)
            print("and what the scheduler said of it:", *about[-8:], sep="\n  ")

    def wait_for_run(self, dag_id: str, timeout: float = 60) -> str:
        """Wait until the scheduler has made a run of a DAG, and return its id."""

        def first() -> str | None:
            runs = self._get(f"dags/{dag_id}/dagRuns")["dag_runs"]
            return str(runs[0]["dag_run_id"]) if runs else None

        return self._poll(first, timeout, lambda: f"no run of {dag_id}")

    def wait_for_task(
        self, dag_id: str, run_id: str, task_id: str, *states: str, timeout: float = 60, map_index: int = -1
    ) -> str:
        """Wait until a task is in one of some states, and return it."""

        def state() -> str | None:
            found = self.task_state(dag_id, run_id, task_id, map_index)
            return found if found in states else None

        return self._poll(
            state, timeout, lambda: f"{task_id} not {states}: {self.task_states(dag_id, run_id)}"
        )

    def wait_for_try(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        try_number: int,
        timeout: float = 60,
        map_index: int = -1,
    ) -> str:
        """Wait for the end of a certain try of a task, and return its state."""

        def state() -> str | None:
            task = self.task(dag_id, run_id, task_id, map_index)
            ended = task["try_number"] >= try_number and task["state"] in FINAL_STATES
            return str(task["state"]) if ended else None

        return self._poll(
            state, timeout, lambda: f"try {try_number} of {task_id}: {self.task_states(dag_id, run_id)}"
        )

    def _poll(self, look: Callable[[], T | None], timeout: float, describe: Callable[[], str]) -> T:
        deadline = time.monotonic() + timeout
        while not (found := look()):
            for name, process in self._processes.items():
                if process.popen and process.popen.returncode is None:
                    self._check_running(name)
            if time.monotonic() > deadline:
                raise LocalAirflowError(f"waited {timeout:.0f} s in vain: {describe()}")
            time.sleep(0.5)
        return found

    def test_dag(
        self, dag_id: str, conf: Mapping[str, Any] | None = None, timeout: float = 120
    ) -> tuple[str, str]:
        """Run ``dag.test(use_executor=True)``, for an Airflow without scheduler: the run's id and state.

        It is quicker than the whole of Airflow, and as real: worker processes, the execution API, the triggerer.
        """
        process = self._run("dag-test", "-c", _TEST_DAG, dag_id, json.dumps(conf or {}), timeout=timeout)
        run_id, state = json.loads(process.last_lines(1).splitlines()[-1])
        return run_id, state

    def run_state(self, dag_id: str, run_id: str) -> str:
        """The state of a run."""
        return str(self._get(f"dags/{dag_id}/dagRuns/{quote(run_id)}")["state"])

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """The state of every task of a run."""
        found = self._get(f"dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances")["task_instances"]
        return {
            task["task_id"] + ("" if task["map_index"] < 0 else f"[{task['map_index']}]"): task["state"]
            for task in found
        }

    def task(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """Everything the API says of a task instance."""
        path = f"dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}"
        found: dict[str, Any] = self._get(path if map_index < 0 else f"{path}/{map_index}")
        return found

    def task_state(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str | None:
        """The state of one task instance; None before it is scheduled."""
        state: str | None = self.task(dag_id, run_id, task_id, map_index)["state"]
        return state

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1
    ) -> Any:
        """A value that a task handed on."""
        path = f"dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/xcomEntries/{key}"
        return self._get(path, map_index=map_index)["value"]

    def log(
        self, dag_id: str, run_id: str, task_id: str, try_number: int | None = None, map_index: int = -1
    ) -> list[dict[str, Any]]:
        """The records that a task logged: ``event`` is the message, ``logger`` and ``level`` may be there.

        :param try_number: which try; the last one by default.
        """
        number = try_number or self.task(dag_id, run_id, task_id, map_index)["try_number"]
        path = f"dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/logs/{number}"
        content = self._get(path, map_index=map_index, full_content=True)["content"]
        return [line if isinstance(line, dict) else {"event": line} for line in content]

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Have a task run once more, whatever its state."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": [task_id], "only_failed": False}
        self.request("POST", f"dags/{dag_id}/clearTaskInstances", json=body)


def _timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@contextmanager
def _not_interrupted() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the processes are ended."""
    held: list[int] = []

    def hold(number: int, _: FrameType | None) -> None:
        held.append(number)

    try:
        before = {number: signal.signal(number, hold) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread, which no signal reaches
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for held_back in held:
        signal.raise_signal(held_back)
