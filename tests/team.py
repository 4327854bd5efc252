"""What a team has around Airflow, on this machine: a chat's webhook, a mail server, a database."""

from __future__ import annotations

import json
import socketserver
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Team:
    """What was told so far, and how Airflow reaches all of it.

    :ivar messages: the JSON that the webhook was sent.
    :ivar mails: whole mails, headers and all.
    """

    messages: list[dict[str, Any]] = field(default_factory=list)
    mails: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)


@contextmanager
def team(folder: Path, media_ids: Iterable[str]) -> Iterator[Team]:
    """Start it.

    :param media_ids: of the videos that the editors have deleted.
    """
    told = Team()

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    class Smtp(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 ready\r\n")
            while line := self.rfile.readline().strip().upper():
                if line == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    mail = b"".join(iter(self.rfile.readline, b".\r\n"))
                    told.mails.append(mail.decode())
                self.wfile.write(b"221 bye\r\n" if line == b"QUIT" else b"250 ok\r\n")

    with (
        closing(sqlite3.connect(folder / "media.db")) as database,
        HTTPServer(("127.0.0.1", 0), Webhook) as webhook,
        socketserver.ThreadingTCPServer(("127.0.0.1", 0), Smtp) as smtp,
    ):
        database.execute("CREATE TABLE videos (media_id TEXT, title TEXT, deleted_by_editor BOOLEAN)")
        rows = [(media_id, f"video {number}", True) for number, media_id in enumerate(media_ids)]
        database.executemany("INSERT INTO videos VALUES (?, ?, ?)", [*rows, ("f" * 32, "in use", False)])
        database.commit()
        mail = {"conn_type": "smtp", "host": "127.0.0.1", "port": smtp.server_address[1]}
        mail["extra"] = {"disable_ssl": True, "disable_tls": True}
        told.environment |= {
            "AIRFLOW_VAR_TEAM_WEBHOOK": f"http://127.0.0.1:{webhook.server_port}/",
            "AIRFLOW_CONN_SMTP_DEFAULT": json.dumps(mail),
            "AIRFLOW_CONN_MEDIA_DB": json.dumps({"conn_type": "sqlite", "host": str(folder / "media.db")}),
        }
        for server in (webhook, smtp):
            threading.Thread(target=server.serve_forever, daemon=True).start()
        yield told
        for server in (webhook, smtp):
            server.shutdown()
