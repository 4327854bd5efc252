"""The command line: its options, its help, and the server behind both ports."""

from __future__ import annotations

import argparse
import gc
import json
import os
import socket
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import uvicorn

from airflow_provider_ims.emulator import bounded_json, seeding, wire
from airflow_provider_ims.emulator.app import ServiceApp
from airflow_provider_ims.emulator.control import GUIDE, control_app
from airflow_provider_ims.emulator.faults import FAULT_KINDS
from airflow_provider_ims.emulator.keys import DEFAULT_KEY, read_key
from airflow_provider_ims.emulator.operations import OPERATIONS
from airflow_provider_ims.emulator.oss import FAULT_KINDS as OSS_FAULT_KINDS
from airflow_provider_ims.emulator.oss import LocalOSS
from airflow_provider_ims.emulator.sample import sample
from airflow_provider_ims.emulator.service import Service, Settings

_LOOPBACK = "127.0.0.1"
_WIDTH = 112
_TYPES = {bool: "true or false", str: "a text"}
_KEEP_ALIVE = 75
"""Seconds an idle connection stays open; longer than clients keep theirs in mind."""


class _Server(uvicorn.Server):
    """uvicorn, telling when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Callers that are kept waiting by a fault rule must not keep the emulator waiting.
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)


def _explain_kinds(*, replacing: bool) -> str:
    lines = []
    for name, kind in FAULT_KINDS.items():
        if kind.replaces is not replacing:
            continue
        first = f"  {name:16} "
        lines.append(
            textwrap.fill(kind.text, _WIDTH, initial_indent=first, subsequent_indent=" " * len(first))
        )
        for option, default in kind.options.items():
            choices = kind.choices.get(option, ())
            values = " or ".join(map(json.dumps, choices)) or _TYPES.get(type(default), "a number")
            values += ", required" if default is None else f", default {json.dumps(default)}"
            lines.append(f"{' ' * len(first)}- {option}: {values}")
    return "\n".join(lines)


def _oss_faults() -> str:
    return "; ".join(f"{kind}: {text}" for kind, text in OSS_FAULT_KINDS.items())


def _epilog() -> str:
    return f"""\
To look around: ims-emulator --sample, then the control URL in a browser.
For an Airflow: ims-emulator --sample --service-port 8090, and http://127.0.0.1:8090 as the connection's host.

Both ports listen on {_LOOPBACK} only. When ready, one line on stdout names them:
  {{"service": "http://127.0.0.1:PORT", "control": "http://127.0.0.1:PORT"}}
With --oss-port it has "oss" too; the same keys count there. Faults of OSS, for POST /oss/add_fault:
  {textwrap.fill(_oss_faults(), _WIDTH, subsequent_indent="  ")}

Operations:
  {textwrap.fill(", ".join(OPERATIONS), _WIDTH, subsequent_indent="  ")}
Key: {DEFAULT_KEY.key_id} / {DEFAULT_KEY.secret} may do everything; --keys and POST /keys add others.

Control API (JSON; times are UTC like 2024-01-31T08:00:00Z):
{textwrap.indent(GUIDE, "  ")}
Fault rules, for --faults (a JSON list) and POST /faults: {{"kind": ..., ...}}. Every rule may have:
  action           the operation it looks at; all by default
  every            strikes every n-th request it looks at
  probability      strikes with this probability, decided by `seed`; without either it strikes always
  skip, times      lets the first n pass; strikes at most n times
Kinds that stand in place of an answer, with their own options; at most one rule of these strikes a request:
{_explain_kinds(replacing=True)}
Kinds that add to these and to each other:
{_explain_kinds(replacing=False)}
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ims-emulator",
        usage="%(prog)s [--sample] [--service-port PORT] [--control-port PORT] [option ...]; --help lists all",
        description="A local Alibaba Cloud IMS: checks requests as the service does, keeps a media library, and "
        "misbehaves on demand.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--service-port", type=int, default=0, metavar="PORT", help="where IMS answers (default: a free one)"
    )
    parser.add_argument(
        "--control-port",
        type=int,
        default=0,
        metavar="PORT",
        help="where the page and the control API answer (default: a free one)",
    )
    parser.add_argument(
        "--oss-port",
        type=int,
        metavar="PORT",
        help="where a local OSS answers, in which media have their files (default: there is none; 0: a free port)",
    )
    parser.add_argument(
        "--ready-file", type=Path, metavar="PATH", help="write the ready line to this file too"
    )
    parser.add_argument("--region", default="cn-shanghai", help="the region it plays (default: %(default)s)")
    parser.add_argument(
        "--library", type=Path, metavar="PATH", help="media to start with, JSON lines (POST /seed)"
    )
    parser.add_argument(
        "--sample",
        action="store_true",
        help="start with a media team's library of 308 media: titles, tags, types and ages that mean something, "
        "some of them protected",
    )
    parser.add_argument("--generate", type=int, default=0, metavar="N", help="start with N made-up media")
    parser.add_argument("--seed", type=int, default=0, help="for --generate (default: %(default)s)")
    parser.add_argument(
        "--protected",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of --generate, 0 to 1: may not be deleted",
    )
    parser.add_argument(
        "--twice",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of --generate, 0 to 1: register the file of the one before again",
    )
    parser.add_argument("--keys", type=Path, metavar="PATH", help="AccessKeys, a JSON list (POST /keys)")
    parser.add_argument("--faults", type=Path, metavar="PATH", help="fault rules, a JSON list (see below)")
    parser.add_argument(
        "--job-seconds",
        type=float,
        default=5.0,
        metavar="S",
        help="time a transcoding job takes (default: 5)",
    )
    parser.add_argument(
        "--keep-requests",
        type=int,
        default=10_000,
        metavar="N",
        help="requests kept in full (default: 10000)",
    )
    parser.add_argument("--end-with-stdin", action="store_true", help="end when standard input is closed")
    return parser


def _settings(arguments: argparse.Namespace) -> Settings:
    return Settings(
        region=arguments.region,
        keys=[read_key(fields) for fields in _json_list(arguments.keys, "keys")],
        rules=_json_list(arguments.faults, "fault rules"),
        seeds=partial(_seeds, arguments),
        job_seconds=arguments.job_seconds,
        keep_requests=arguments.keep_requests,
        oss=None
        if arguments.oss_port is None
        else LocalOSS(region=arguments.region, port=arguments.oss_port),
    )


def _json_list(path: Path | None, what: str) -> list[Any]:
    if path is None:
        return []
    try:
        content = bounded_json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must hold a JSON list of {what}: {error}") from None
    if not isinstance(content, list):
        raise ValueError(f"{path} must hold a JSON list of {what}")
    return content


def _seeds(arguments: argparse.Namespace) -> Iterable[seeding.Seed]:
    return chain(
        () if arguments.library is None else seeding.read_file(arguments.library),
        sample(region=arguments.region) if arguments.sample else (),
        seeding.generate(
            count=arguments.generate,
            region=arguments.region,
            seed=arguments.seed,
            protected=arguments.protected,
            twice=arguments.twice,
        ),
    )


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_LOOPBACK, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise ValueError(f"port {port} can't be used: {error}; 0 takes a free one") from None
    return listener


def _end_with_stdin(server: uvicorn.Server) -> None:
    # Not sys.stdin: a thread that waits inside it holds its lock when the interpreter ends.
    while os.read(0, 1024):
        pass
    server.should_exit = True


def run() -> None:
    """Run the emulator until it is interrupted."""
    parser = _parser()
    arguments = parser.parse_args()
    try:
        service = Service(_settings(arguments))
        listeners = [_listen(arguments.service_port), _listen(arguments.control_port)]
    except (OSError, ValueError) as error:
        parser.error(str(error))
    # The garbage collector need not look through the library again and again.
    gc.freeze()
    service_port, control_port = (listener.getsockname()[1] for listener in listeners)
    addresses = {
        name: f"http://{_LOOPBACK}:{port}"
        for name, port in (("service", service_port), ("control", control_port))
    }
    if (oss := service.settings.oss) is not None:
        oss.start()
        addresses["oss"] = oss.endpoint
    service_app = ServiceApp(service)
    control = control_app(service, addresses["service"])

    async def front(scope: wire.Scope, receive: wire.Receive, send: wire.Send) -> None:
        await (control if scope["server"][1] == control_port else service_app)(scope, receive, send)

    def ready() -> None:
        line = json.dumps(addresses)
        if arguments.ready_file is not None:
            arguments.ready_file.write_text(f"{line}\n", encoding="utf-8")
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    options: dict[str, Any] = {
        "http": wire.Protocol,
        "ws": "none",
        "lifespan": "off",
        "log_level": "error",
        "access_log": False,
        "date_header": False,
        "server_header": False,
        "timeout_keep_alive": _KEEP_ALIVE,
        "timeout_graceful_shutdown": 1,
    }
    server = _Server(uvicorn.Config(front, **options), ready)
    if arguments.end_with_stdin:
        threading.Thread(target=_end_with_stdin, args=(server,), daemon=True).start()
    with suppress(KeyboardInterrupt):
        server.run(sockets=listeners)
