"""Redis and PostgreSQL, each a process on a free port of this machine, in a folder of its own."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import redis
from local_airflow import free_port

START_SECONDS = 60
STOP_SECONDS = 10


@contextmanager
def run_redis(folder: Path) -> Iterator[str]:
    """Run Redis, which keeps nothing; give its URL."""
    folder.mkdir()
    port, password = free_port(), secrets.token_hex(16)
    (folder / "redis.conf").write_text(
        f'bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir {folder}\nsave ""\nappendonly no\n'
    )

    def answers() -> bool:
        try:
            return bool(redis.Redis(port=port, password=password).ping())
        except redis.ConnectionError:
            return False

    with _process(["redis-server", str(folder / "redis.conf")], folder / "log", answers):
        yield f"redis://:{password}@127.0.0.1:{port}/0"


@contextmanager
def run_postgresql(folder: Path) -> Iterator[str]:
    """Run PostgreSQL with an empty database; give its address without a scheme.

    It refuses to run as root, so that its folder is given to the user that Debian's package makes.
    """
    binaries = max(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda found: int(found.parent.name), default=None
    )
    if binaries is None:
        raise FileNotFoundError("PostgreSQL is not installed: apt-get install postgresql")
    folder.mkdir()
    port, password = free_port(), secrets.token_hex(16)
    (folder / "password").write_text(password)
    as_user: list[str] = []
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        for path in (folder, folder / "password"):
            shutil.chown(path, user.pw_uid, user.pw_gid)
    data = folder / "data"
    initdb = [*as_user, str(binaries / "initdb"), "--pgdata", str(data), "--no-sync", "--encoding=UTF8"]
    initdb += ["--username=airflow", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}"]
    made = subprocess.run(initdb, cwd=folder, capture_output=True, text=True)
    if made.returncode:
        raise RuntimeError(f"initdb ended with {made.returncode}: {made.stderr}")
    server = [
        str(binaries / "postgres"),
        "-D",
        str(data),
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-k",
        str(folder),
    ]
    # 200 connections: each process of Airflow keeps a pool. Nobody cares for these data after a power cut.
    server += ["-c", "max_connections=200", "-c", "fsync=off", "-c", "full_page_writes=off"]

    def answers() -> bool:
        try:
            psycopg2.connect(
                host="127.0.0.1", port=port, user="airflow", password=password, dbname="postgres"
            ).close()
        except psycopg2.OperationalError:
            return False
        return True

    with _process([*as_user, *server], folder / "log", answers):
        yield f"airflow:{password}@127.0.0.1:{port}/postgres"


@contextmanager
def _process(command: Sequence[str], log: Path, answers: Callable[[], bool]) -> Iterator[None]:
    """Run a server from when it answers until the block ends."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + START_SECONDS
        while not answers():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command[0]} does not answer; {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGINT)  # for both: end now, in good order
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
