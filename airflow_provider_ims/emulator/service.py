"""The emulated service: one account in one region, and how a request goes through it.

Gateway, fault rules, operation, answer: in this order, and every step of it in the request log.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from airflow_provider_ims.emulator import seeding
from airflow_provider_ims.emulator.call import Answer, Call
from airflow_provider_ims.emulator.errors import Refusal
from airflow_provider_ims.emulator.faults import FAULT_KINDS, Faults, Limit, Rule, read_rule
from airflow_provider_ims.emulator.gateway import Gateway, Request, expired_token
from airflow_provider_ims.emulator.jobs import Jobs
from airflow_provider_ims.emulator.keys import DEFAULT_KEY, Key
from airflow_provider_ims.emulator.library import Library
from airflow_provider_ims.emulator.operations import OPERATIONS
from airflow_provider_ims.emulator.oss import LocalOSS
from airflow_provider_ims.emulator.records import Entry, Records

_JSON = "application/json;charset=utf-8"
_HTML = "text/html"
_LISTS = ("IgnoredList", "ForbiddenList", "MediaInfos")
_ECHOES = ("IgnoredList", "ForbiddenList")
_AS_USUAL = Rule("otherwise", dict(FAULT_KINDS["otherwise"].options))
_THROTTLES = {400: "Throttling.User", 403: "RequestsTooFrequent", 429: "Throttling"}
_BREAKDOWNS = {
    500: "InternalError",
    502: "InternalError",
    503: "ServiceUnAvailable",
    504: "ServiceUnAvailable",
}
_TITLES = {
    200: "Sign in",
    500: "500 Internal Server Error",
    502: "502 Bad Gateway",
    503: "503 Service Temporarily Unavailable",
    504: "504 Gateway Time-out",
}


@dataclass(slots=True)
class Settings:
    """How an emulator starts, and what a reset brings back.

    :param seeds: gives the media to start with.
    :param job_seconds: how long a job takes.
    :param keep_requests: how many requests are kept in full.
    :param oss: a local OSS, in which media have their files and the same keys count.
    """

    region: str = "cn-shanghai"
    keys: list[Key] = field(default_factory=list)
    rules: list[Mapping[str, Any]] = field(default_factory=list)
    seeds: Callable[[], Iterable[seeding.Seed]] = tuple
    job_seconds: float = 5.0
    keep_requests: int = 10_000
    oss: LocalOSS | None = None


@dataclass(slots=True)
class Reply:
    """An answer, ready for the wire.

    :param honest: it says what was done.
    """

    status: int
    body: bytes
    content_type: str = _JSON
    retry_after: int = 0
    honest: bool = True


@dataclass(slots=True)
class Exchange:
    """A request on its way through the service.

    :param rule: the fault rule that decides about the answer, if one does.
    :param clock_error: seconds by which the service's clock is off for this request.
    :param delay_before: seconds to wait before the work, and ``delay_after`` after it.
    :param reply: the answer; None if there will be none.
    """

    request: Request
    entry: Entry
    rule: Rule | None = None
    clock_error: float = 0.0
    delay_before: float = 0.0
    delay_after: float = 0.0
    reply: Reply | None = None

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Give the answer's headers, but for its length."""
        assert self.reply is not None
        headers = [
            (b"date", formatdate(time.time() + self.clock_error, usegmt=True).encode()),
            (b"content-type", self.reply.content_type.encode()),
            (b"x-acs-request-id", self.entry.request_id.encode()),
        ]
        if self.reply.retry_after:
            headers.append((b"x-acs-retry-after", str(self.reply.retry_after).encode()))
        return headers


class Service:
    """Everything behind the service's port."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.reset()

    def reset(self) -> None:
        """Go back to the state at the start: library, keys and rules as given then, request log empty."""
        oss = self.settings.oss
        self.library = Library(self.settings.region, files=oss)
        self.jobs = Jobs()
        self.records = Records(keep=self.settings.keep_requests)
        self.faults = Faults([read_rule(fields, OPERATIONS) for fields in self.settings.rules])
        keys = {key.key_id: key for key in (DEFAULT_KEY, *self.settings.keys)}
        self.gateway = Gateway(OPERATIONS, keys)
        if oss is not None:
            oss.reset()
            oss.keys = keys
        seeding.fill(self.library, self.settings.seeds())

    def settle(self) -> None:
        """Let time pass: reads catch up with deletions, jobs go on."""
        now = time.time()
        self.library.settle(now)
        self.jobs.settle(self.library, now)

    def admit(self, request: Request) -> Exchange:
        """Pass a request through the gateway and choose its faults; a refusal is its reply already."""
        now = time.time()
        entry = Entry(
            number=self.records.total + 1,
            at=now,
            request_id=str(uuid.uuid4()).upper(),
            action=request.headers.get("x-acs-action", "")[:64],
        )
        self.records.open(entry)
        exchange = Exchange(request, entry)
        try:
            action = self.gateway.check_operation(request)
            clock = self.faults.take("wrong_clock", entry)
            exchange.clock_error = 0.0 if clock is None else clock.number("seconds")
            key = self.gateway.check_caller(request, now=now + exchange.clock_error)
            entry.key_id = key.key_id
            if key.security_token is not None and self.faults.take("expired_token", entry):
                raise expired_token()
            self.gateway.check_permission(key, action)
            self._choose_faults(exchange)
        except Refusal as refusal:
            exchange.reply = _refuse(exchange, refusal)
        return exchange

    def work(self, exchange: Exchange) -> None:
        """Do what is asked, unless it was refused or a fault comes before, and make the reply."""
        if exchange.reply is not None:
            return
        rule = exchange.rule
        if rule is None or rule.options.get("when", "after") == "after":
            exchange.reply = self._perform(exchange)
        if rule is not None:
            exchange.reply = _misbehave(exchange, rule)

    def _choose_faults(self, exchange: Exchange) -> None:
        delay = self.faults.take("delay", exchange.entry)
        if delay is not None:
            seconds = (delay.number("milliseconds") + delay.random.random() * delay.number("jitter")) / 1000
            if delay.options["when"] == "before":
                exchange.delay_before = seconds
            else:
                exchange.delay_after = seconds
        rule = self.faults.take_replacing(exchange.entry)
        if rule is not None and rule.kind in ("throttle", "limit", "refuse"):
            raise _refusal_by(rule)
        exchange.rule = rule

    def _perform(self, exchange: Exchange) -> Reply:
        self.settle()
        entry = exchange.entry
        call = Call(
            params={**exchange.request.params, **exchange.request.form},
            entry=entry,
            library=self.library,
            jobs=self.jobs,
            records=self.records,
            faults=self.faults,
            now=time.time(),
            job_seconds=self.settings.job_seconds,
            otherwise=(self.faults.take("otherwise", entry) or _AS_USUAL).options,
        )
        try:
            answer = OPERATIONS[entry.action](call)
        except Refusal as refusal:
            return _refuse(exchange, refusal)
        entry.done = True
        self._edit(answer, entry)
        entry.status = 200
        return Reply(200, _to_json({"RequestId": entry.request_id, **answer}))

    def _edit(self, answer: Answer, entry: Entry) -> None:
        """Let fault rules write the answer's lists in odd ways that say the same."""
        if not self.faults.rules:
            return
        echoed = [name for name in _ECHOES if answer.get(name)]
        echo = self.faults.take("echo", entry) if echoed else None
        if echo is not None:
            for name in echoed:
                answer[name] = [
                    f"{echo.options['before']}{text}{echo.options['after']}" for text in answer[name]
                ]
        empty = [name for name in _LISTS if answer.get(name) == []]
        if empty and self.faults.take("null_lists", entry):
            answer.update(dict.fromkeys(empty))
        if empty and self.faults.take("absent_lists", entry):
            for name in empty:
                del answer[name]


def _refusal_by(rule: Rule) -> Refusal:
    options = rule.options
    if rule.kind == "refuse":
        return Refusal(options["status"], options["code"], options["message"])
    wait = rule.wait if isinstance(rule, Limit) and options["retry_after"] else int(options["retry_after"])
    code = _THROTTLES[options["status"]]
    return Refusal(options["status"], code, "Request was denied due to flow control.", retry_after=wait)


def _refuse(exchange: Exchange, refusal: Refusal) -> Reply:
    entry = exchange.entry
    entry.status = refusal.status
    entry.code = refusal.code
    body = {
        "RequestId": entry.request_id,
        "HostId": exchange.request.headers.get("host", ""),
        "Code": refusal.code,
        "Message": refusal.message,
        "Recommend": "https://api.aliyun.com/troubleshoot"
        f"?q={refusal.code}&product=ICE&requestId={entry.request_id}",
        **refusal.details,
    }
    return Reply(refusal.status, _to_json(body), retry_after=refusal.retry_after)


def _misbehave(exchange: Exchange, rule: Rule) -> Reply | None:
    """Put what a fault rule asks for in place of the reply; truncated and overlong ones keep theirs."""
    entry = exchange.entry
    options = rule.options
    match rule.kind:
        case "reset" | "timeout":
            entry.status = 0
            return None
        case "error":
            entry.status = options["status"]
            if options["body"] == "json":
                message = "The request has failed due to a temporary failure of the server."
                reply = _refuse(exchange, Refusal(entry.status, _BREAKDOWNS[entry.status], message))
            else:
                body = _page(entry.status) if options["body"] == "html" else b""
                reply = Reply(entry.status, body, _HTML)
        case "html":
            entry.status = 200
            reply = Reply(200, _page(200), _HTML)
        case "wrong_shape":
            entry.status = 200
            reply = Reply(200, _to_json(_shapeless(options["shape"], entry.request_id)))
        case _:
            return exchange.reply
    reply.honest = False
    return reply


def _shapeless(shape: str, request_id: str) -> Any:
    match shape:
        case "array":
            return []
        case "text":
            return "ok"
        case "empty":
            return {}
        case "texts_for_lists":
            return {"RequestId": request_id, **dict.fromkeys(_LISTS, "none")}
        case _:
            return {"RequestId": request_id, **{name: [{"Value": 1}] for name in _LISTS}}


def _page(status: int) -> bytes:
    title = _TITLES[status]
    return f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n".encode()


def _to_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
