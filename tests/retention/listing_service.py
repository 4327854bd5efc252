"""A service on loopback that lists a library as badly as it is told to. Only for tests of the listing."""

from __future__ import annotations

import json
import random
import threading
import time
from bisect import insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.credentials import StaticCredentials
from airflow_provider_ims.api.endpoints import parse_host


def seconds_of(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def text_of(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Medium:
    """``created`` may have a fraction, which is not shown. ``basic`` replaces fields; None leaves one out."""

    media_id: str
    created: float
    basic: dict[str, Any] = field(default_factory=dict)
    size: int | None = 1000

    def shown(self) -> dict[str, Any]:
        basic = {
            "MediaId": self.media_id,
            "InputURL": f"https://bucket.oss-cn-shanghai.aliyuncs.com/{self.media_id}.mp4",
            "Title": f"{self.media_id}.mp4",
            "MediaType": "video",
            "BusinessType": "general",
            "Source": "oss",
            "Status": "Normal",
            "CreateTime": text_of(self.created),
            "DeletedTime": "",
            "MediaTags": "",
            **self.basic,
        }
        files = [] if self.size is None else [{"FileBasicInfo": {"FileSize": str(self.size)}}]
        return {
            "MediaId": self.media_id,
            "MediaBasicInfo": {name: value for name, value in basic.items() if value is not None},
            "FileInfoList": files,
        }


@dataclass
class Faults:
    """How badly. Shares are of requests, 0 to 1.

    :param cap: only so many of the matches are ever shown, and no token is given for more.
    :param total_is_capped: and no more than these are counted.
    :param order: ``asc`` as asked, or what the service does instead.
    :param start_is_inclusive: the documentation says that it is not.
    :param deletes: media that somebody else deletes after each request.
    :param adds: media that somebody else registers after each request: now, so later than a listing goes.
    :param adds_late: the same, but they show up among those that were created before, as if by another clock.
    :param calm_from: the number of the request from which on nobody deletes or registers any more.
    :param refuses_from: the number of the request from which on the key may no longer list.
    """

    cap: int | None = None
    total_is_capped: bool = False
    short_pages: float = 0
    empty_pages: float = 0
    skips: float = 0
    repeats: float = 0
    bad_tokens: float = 0
    lost_tokens: float = 0
    endless_tokens: bool = False
    throttles: float = 0
    unavailable: float = 0
    resets: float = 0
    order: str = "asc"
    start_is_inclusive: bool = False
    ignores_start: bool = False
    deletes: int = 0
    adds: int = 0
    adds_late: int = 0
    calm_from: int | None = None
    refuses_from: int | None = None
    wrong_total: Any = "right"


class ListingService:
    """Answers ``ListMediaBasicInfos`` and nothing else; page tokens are plain offsets.

    :ivar most_in_flight: requests that were being answered at the same time.
    """

    def __init__(self, media: Iterable[Medium] = (), faults: Faults | None = None, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self.load(media, faults, seed)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def load(
        self, media: Iterable[Medium], faults: Faults | None = None, seed: int = 0, seconds: float = 0
    ) -> None:
        """Start over with a library; each answer takes ``seconds``."""
        with self._lock:
            self.media = sorted(media, key=lambda medium: (medium.created, medium.media_id))
            self.faults = faults or Faults()
            self.random = random.Random(seed)
            self.seconds = seconds
            self._added = 0
            self.requests = self.in_flight = self.most_in_flight = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def client(self, **options: Any) -> IMSClient:
        return IMSClient(parse_host(self.endpoint), StaticCredentials("id", "secret"), **options)

    def answer(self, query: dict[str, str]) -> tuple[int, dict[str, Any]] | None:
        """Give status and body; None for no answer at all."""
        with self._lock:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        time.sleep(self.seconds)
        with self._lock:
            self.in_flight -= 1
            return self._answer(query)

    def _answer(self, query: dict[str, str]) -> tuple[int, dict[str, Any]] | None:
        self.requests += 1
        faults, chance = self.faults, self.random.random
        if faults.refuses_from is not None and self.requests >= faults.refuses_from:
            return 403, {"Code": "Forbidden.RAM", "Message": "no longer", "RequestId": "r"}
        if chance() < faults.resets:
            return None
        if chance() < faults.throttles:
            return 400, {"Code": "Throttling.User", "Message": "slower", "RequestId": "r"}
        if chance() < faults.unavailable:
            return 503, {"Code": "ServiceUnavailable", "Message": "later", "RequestId": "r"}
        start, end = seconds_of(query["StartTime"]), seconds_of(query["EndTime"])
        start = 0 if faults.ignores_start else start
        matches = [
            medium
            for medium in self.media
            if (start < medium.created or (faults.start_is_inclusive and start == medium.created))
            and medium.created <= end
        ]
        total: int | None = len(matches)
        if "desc" in (faults.order, query["SortBy"]):
            matches.reverse()
        elif faults.order == "swapped once" and self.requests == 1:
            matches[0], matches[-1] = matches[-1], matches[0]
        elif faults.order == "random":
            self.random.shuffle(matches)
        if faults.cap is not None:
            matches = matches[: faults.cap]
            total = len(matches) if faults.total_is_capped else total
        offset, size = int(query.get("NextToken", 0)), int(query["MaxResults"])
        if offset and chance() < faults.bad_tokens:
            return 400, {"Code": "InvalidParameter.NextToken", "Message": "unknown token", "RequestId": "r"}
        if chance() < faults.short_pages:
            size = self.random.randint(1, size)
        if chance() < faults.empty_pages:
            size = 0
        page = matches[offset : offset + size]
        if page and chance() < faults.skips:
            page.pop(self.random.randrange(len(page)))
        if page and chance() < faults.repeats:
            page.insert(0, self.random.choice(page))
        body = {"RequestId": "r", "MediaInfos": [medium.shown() for medium in page], "TotalCount": total}
        if offset + size < len(matches) and chance() >= faults.lost_tokens:
            body["NextToken"] = str(offset + size)
        if faults.endless_tokens:
            body["NextToken"] = str(offset + size)
        if faults.wrong_total != "right":
            body["TotalCount"] = faults.wrong_total
        if faults.calm_from is None or self.requests < faults.calm_from:
            self._change()
        return 200, body

    def _change(self) -> None:
        """Delete and register, as others do meanwhile."""
        for _ in range(min(self.faults.deletes, len(self.media))):
            self.media.pop(self.random.randrange(len(self.media)))
        for _ in range(self.faults.adds):
            self._add(time.time())
        for _ in range(self.faults.adds_late if self.media else 0):
            self._add(self.random.uniform(self.media[0].created, self.media[-1].created))

    def _add(self, created: float) -> None:
        """Register a medium under an id that none ever had."""
        self._added += 1
        insort(self.media, Medium(f"added-{self._added}", created), key=lambda medium: medium.created)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        respond: Callable[[dict[str, str]], tuple[int, dict[str, Any]] | None] = self.answer

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # An answer leaves at once, and whole.
            wbufsize = -1
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
                answer = respond(query)
                if answer is None:
                    self.close_connection = True
                    return
                body = json.dumps(answer[1]).encode()
                self.send_response(answer[0])
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def any_library(rng: random.Random, most: int) -> list[Medium]:
    """Make up a library of an awkward shape: creation times are never even."""
    count = rng.choice([0, 1, rng.randrange(most), rng.randrange(most), rng.randrange(most)])
    newest, year = int(time.time()) - 3600, 365 * 86400
    crowd = newest - rng.randrange(10 * year)
    shapes: dict[str, Callable[[], float]] = {
        "even": lambda: newest - rng.randrange(2 * year),
        "growing": lambda: newest - rng.paretovariate(0.5) * 60 % (10 * year),
        "one second": lambda: crowd,
        "one hour": lambda: crowd + rng.randrange(3600),
        "one hour, to parts of a second": lambda: crowd + rng.random() * 3600,
        "two clusters": lambda: newest - rng.choice([0, 10 * year]) - rng.randrange(600),
        "an import among others": lambda: (
            crowd + rng.randrange(3600) if rng.random() < 0.8 else newest - rng.randrange(10 * year)
        ),
        "crowded seconds": lambda: crowd + rng.randrange(1 + count // 150) * 7,
    }
    created = shapes[rng.choice(sorted(shapes))]
    media = [Medium(f"{rng.getrandbits(128):032x}", created()) for _ in range(count)]
    for medium in rng.sample(media, count // 20):
        medium.basic = rng.choice(
            [
                {"MediaTags": "hold"},
                {"MediaTags": None},
                {"Status": "Init"},
                {"CreateTime": None},
                {"Title": None},
            ]
        )
    return media


def library(count: int, *, seed: int = 0, until: float | None = None, per_second: int = 1) -> list[Medium]:
    """Make up media, ``per_second`` of them in the same second at most."""
    rng = random.Random(seed)
    newest = int(time.time() - 3600 if until is None else until)
    return [
        Medium(f"{rng.getrandbits(128):032x}", newest - rng.randrange(0, max(1, count // per_second)) * 7)
        for _ in range(count)
    ]
