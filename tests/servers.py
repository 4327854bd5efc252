"""Redis, PostgreSQL and MariaDB, each a process on a free port of this machine, in a folder of its own.

Their drivers are imported where they are used: no environment of the tests has all of them.
"""

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
from itertools import chain
from pathlib import Path

from local_airflow import free_port

START_SECONDS = 60
STOP_SECONDS = 10


@contextmanager
def run_redis(folder: Path) -> Iterator[str]:
    """Run Redis, which keeps nothing; give its URL."""
    import redis

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
    """Run PostgreSQL with an empty database; give its address without a scheme."""
    import psycopg2

    binaries = max(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda found: int(found.parent.name), default=None
    )
    if binaries is None:
        raise FileNotFoundError("PostgreSQL is not installed: apt-get install postgresql")
    port, password = free_port(), secrets.token_hex(16)
    as_user = _folder_of("postgres", folder, password=password)
    data = folder / "data"
    initdb = [*as_user, str(binaries / "initdb"), "--pgdata", str(data), "--no-sync", "--encoding=UTF8"]
    initdb += ["--username=airflow", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}"]
    _make(initdb)
    server = [str(binaries / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port)]
    # 200 connections: each process of Airflow keeps a pool. Nobody cares for these data after a power cut.
    settings = ("max_connections=200", "fsync=off", "full_page_writes=off")
    server += ["-k", str(folder), *chain.from_iterable(("-c", setting) for setting in settings)]

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
def run_mariadb(folder: Path) -> Iterator[str]:
    """Run MariaDB with an empty database, made as Airflow's manual says; give its address without a scheme.

    No packet may be larger than 1 MiB, the least that any MySQL allowed by default.
    """
    import MySQLdb

    server = "/usr/sbin/mariadbd"
    if not Path(server).exists():
        raise FileNotFoundError("MariaDB is not installed: apt-get install mariadb-server")
    port, password = free_port(), secrets.token_hex(16)
    grants = f"""
        CREATE DATABASE airflow CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
        CREATE USER 'airflow'@'127.0.0.1' IDENTIFIED BY '{password}';
        GRANT ALL PRIVILEGES ON airflow.* TO 'airflow'@'127.0.0.1';
    """
    as_user = _folder_of("mysql", folder, **{"grants.sql": " ".join(grants.split()).replace("; ", ";\n")})
    data = f"--datadir={folder / 'data'}"
    _make([*as_user, "mariadb-install-db", "--no-defaults", data, "--skip-test-db"])
    options = ["--bind-address=127.0.0.1", f"--port={port}", f"--socket={folder / 'socket'}"]
    options += [f"--pid-file={folder / 'pid'}", f"--init-file={folder / 'grants.sql'}"]
    options += ["--max-connections=200", "--max-allowed-packet=1M", "--innodb-flush-log-at-trx-commit=0"]

    def answers() -> bool:
        try:
            MySQLdb.connect(
                host="127.0.0.1", port=port, user="airflow", password=password, database="airflow"
            ).close()
        except MySQLdb.OperationalError:
            return False
        return True

    with _process(
        [*as_user, server, "--no-defaults", data, *options], folder / "log", answers, stop=signal.SIGTERM
    ):
        yield f"airflow:{password}@127.0.0.1:{port}/airflow?charset=utf8mb4"


def _folder_of(user: str, folder: Path, **files: str) -> list[str]:
    """Make a server's folder with some files in it; give the words that go before its commands.

    The servers refuse to run as root, so that root gives the folder to the user that Debian's package makes.
    """
    folder.mkdir()
    for name, text in files.items():
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(text)
    if os.geteuid():
        return []
    entry = pwd.getpwnam(user)
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, entry.pw_uid, entry.pw_gid)
    return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]


def _make(command: Sequence[str]) -> None:
    """Make a server's data."""
    made = subprocess.run(command, capture_output=True, text=True, cwd="/")
    if made.returncode:
        raise RuntimeError(f"{command[0]} ended with {made.returncode}: {made.stderr}")


@contextmanager
def _process(
    command: Sequence[str], log: Path, answers: Callable[[], bool], *, stop: int = signal.SIGINT
) -> Iterator[None]:
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
        process.send_signal(stop)  # end now, in good order
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
