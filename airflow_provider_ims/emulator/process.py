"""An emulator in a process of its own, for tests and demos: started, asked and ended from Python."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

from airflow_provider_ims.emulator.extra import require_extra
from airflow_provider_ims.emulator.keys import DEFAULT_KEY

_PAGE = 1000
_PATIENCE = 5.0
_OPENER = build_opener(ProxyHandler({}))
"""Never through a proxy: the emulator listens on this machine."""


class EmulatedOSS:
    """The local OSS of an emulator that was started with ``--oss-port``: media have their files there.

    :param endpoint: its address, for a connection's ``oss_endpoint``.
    """

    def __init__(self, emulator: Emulator, endpoint: str) -> None:
        self.endpoint = endpoint
        self._emulator = emulator

    def _call(self, call: str, **arguments: Any) -> Any:
        return self._emulator.ask("POST", f"/oss/{call}", arguments)["result"]

    def make_bucket(self, bucket: str) -> None:
        """Make a bucket, if it is not there."""
        self._call("make_bucket", bucket=bucket)

    def put(self, bucket: str, key: str, content: str) -> None:
        """Put a text into a bucket, which is made."""
        self._call("put", bucket=bucket, key=key, content=content)

    def get(self, bucket: str, key: str) -> str:
        """Return a text; a ``ControlError`` if it is not there."""
        return str(self._call("get", bucket=bucket, key=key))

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        """Return the keys of a bucket that begin with something, sorted."""
        return list(self._call("names", bucket=bucket, prefix=prefix))

    def remove(self, bucket: str, key: str) -> None:
        """Take a file out, if it is there."""
        self._call("remove", bucket=bucket, key=key)

    def leave_files(self, *buckets: str) -> None:
        """Let the service delete no files in some buckets, as where its role lacks the right."""
        self._call("leave_files", buckets=list(buckets))

    def add_fault(self, kind: str, **fields: Any) -> None:
        """Let something go wrong; ``ims-emulator --help`` lists the kinds."""
        self._call("add_fault", kind=kind, **fields)

    def drop_faults(self) -> None:
        """Let everything go right again."""
        self._call("drop_faults")


class ControlError(Exception):
    """The control API refused; the message is its own."""


class Emulator:
    """Runs an emulator as long as the ``with`` block, and speaks to its control API.

    It ends with the block, and also when the process that started it dies.

    :param arguments: further command-line arguments, as ``python -m airflow_provider_ims.emulator --help`` lists
        them.
    :param start_timeout: seconds until it must be ready.
    """

    access_key_id = DEFAULT_KEY.key_id
    access_key_secret = DEFAULT_KEY.secret

    def __init__(self, *arguments: str, start_timeout: float = 60.0) -> None:
        self.arguments = arguments
        self.start_timeout = start_timeout
        self.endpoint = ""
        self.control = ""
        self._oss_endpoint = ""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def host(self) -> str:
        """The service's ``host:port``."""
        return self.endpoint.removeprefix("http://")

    @property
    def oss(self) -> EmulatedOSS:
        """Its local OSS.

        :raises RuntimeError: if it was started without ``--oss-port``.
        """
        if not self._oss_endpoint:
            raise RuntimeError("the emulator has no local OSS; start it with --oss-port 0")
        return EmulatedOSS(self, self._oss_endpoint)

    @property
    def pid(self) -> int:
        """The process id."""
        if self._process is None:
            raise RuntimeError("the emulator is not running")
        return self._process.pid

    def airflow_connection(self, *, extra: Mapping[str, Any] | None = None, **fields: Any) -> str:
        """Write an Airflow connection to this emulator, in the JSON form that ``AIRFLOW_CONN_<ID>`` takes.

        :param extra: the connection's extras, such as ``region``.
        :param fields: replace ``login``, ``password``, ``host``.
        """
        connection = {
            "conn_type": "alibaba_ims",
            "host": self.endpoint,
            "login": self.access_key_id,
            "password": self.access_key_secret,
            **fields,
            "extra": dict(extra or {}),
        }
        return json.dumps(connection)

    def start(self) -> None:
        """Start the process and wait until it answers.

        :raises ModuleNotFoundError: if the extra ``emulator`` is not installed.
        :raises RuntimeError: if it ends, or is not ready in time; its own words are on stderr.
        """
        require_extra()
        command = [sys.executable, "-m", "airflow_provider_ims.emulator", "--end-with-stdin", *self.arguments]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._process = process
        assert process.stdout is not None
        patience = threading.Timer(self.start_timeout, process.kill)
        patience.start()
        line = process.stdout.readline()
        patience.cancel()
        if not line:
            self.stop()
            raise RuntimeError(f"the emulator did not start; its exit code is {process.returncode}")
        addresses = json.loads(line)
        self.endpoint = addresses["service"]
        self.control = addresses["control"]
        self._oss_endpoint = addresses.get("oss", "")

    def stop(self) -> None:
        """End the process and wait for it."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def ask(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Call the control API.

        :raises ControlError: if it refuses.
        :raises RuntimeError: if it has ended.
        """
        url = f"{self.control}{path}" + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        request = Request(url, data, {"content-type": "application/json"}, method=method)
        try:
            with _OPENER.open(request, timeout=120) as response:
                content = response.read()
                return json.loads(content) if "json" in response.headers["content-type"] else content.decode()
        except HTTPError as error:
            with error:
                raise ControlError(error.read().decode(errors="replace")) from None
        except OSError as error:
            code = self._process.poll() if self._process else None
            if code is None:
                raise
            raise RuntimeError(f"the emulator has ended; its exit code is {code}") from error

    def seed(self, media: Iterable[Mapping[str, Any]]) -> list[str]:
        """Register media, given as the control API's ``POST /seed`` takes them; give their first 1,000 ids."""
        answer = self.ask("POST", "/seed", {"media": list(media)})
        return list(answer["media_ids"])

    def generate(self, count: int, **options: Any) -> list[str]:
        """Register ``count`` media made up by the emulator; give all media ids, oldest first.

        :param options: ``seed``, ``days``, ``protected``, ``twice``, ``until``.
        """
        self.ask("POST", "/seed", {"count": count, **options})
        return self.media_ids()

    def media_ids(self) -> list[str]:
        """Give the ids of all media, oldest first."""
        return str(self.ask("GET", "/ids")).split()

    def library(self, **filters: str) -> list[dict[str, Any]]:
        """Give all media, oldest first."""
        media: list[dict[str, Any]] = []
        after: dict[str, str] = {}
        while True:
            page = self.ask("GET", "/library", limit=_PAGE, **filters, **after)
            media.extend(page["media"])
            if page["next"] is None:
                return media
            after = {"after": page["next"]}

    def medium(self, media_id: str) -> dict[str, Any]:
        """Give what is known of one medium, gone or not."""
        return dict(self.ask("GET", f"/media/{media_id}"))

    def deleted(self) -> list[dict[str, Any]]:
        """Give every deletion, in order."""
        deletions: list[dict[str, Any]] = []
        while True:
            page = self.ask("GET", "/deleted", after=len(deletions), limit=_PAGE)
            deletions.extend(page["deletions"])
            if len(deletions) >= page["total"]:
                return deletions

    def requests(self, action: str | None = None) -> list[dict[str, Any]]:
        """Give the requests that are kept in full, oldest first."""
        query = {} if action is None else {"action": action}
        requests: list[dict[str, Any]] = []
        while True:
            after = requests[-1]["number"] if requests else 0
            page = self.ask("GET", "/requests", after=after, limit=_PAGE, **query)["requests"]
            requests.extend(page)
            if len(page) < _PAGE:
                return requests

    def stats(self) -> dict[str, Any]:
        """Give the counts."""
        return dict(self.ask("GET", "/stats"))

    def protect(self, media_ids: Iterable[str], **switches: bool) -> None:
        """Set ``protected`` (the default) or ``undeletable`` of some media."""
        self.ask("POST", "/protect", {"media_ids": list(media_ids), **(switches or {"protected": True})})

    def add_key(self, key_id: str, secret: str, **fields: Any) -> None:
        """Add or replace an AccessKey, as the control API's ``POST /keys`` takes it."""
        self.ask("POST", "/keys", {"key_id": key_id, "secret": secret, **fields})

    def add_fault(self, kind: str, **fields: Any) -> None:
        """Add a fault rule, as the control API's ``POST /faults`` takes it."""
        self.ask("POST", "/faults", {"kind": kind, **fields})

    def drop_faults(self) -> None:
        """Drop all fault rules."""
        self.ask("DELETE", "/faults")

    def add_job(self, **fields: Any) -> dict[str, Any]:
        """Start a job, as the control API's ``POST /jobs`` takes it; return it as the service shows it."""
        return dict(self.ask("POST", "/jobs", fields))

    def put_job(
        self, job_id: str, statuses: list[str] | None = None, state: str | None = None
    ) -> dict[str, Any]:
        """Set the states of a job's outputs, and its own."""
        given = {"statuses": statuses, "state": state}
        fields = {name: value for name, value in given.items() if value is not None}
        return dict(self.ask("POST", f"/jobs/{job_id}", fields))

    def reset(self) -> None:
        """Go back to the state at the start."""
        self.ask("POST", "/reset")
