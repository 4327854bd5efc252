"""The control API: seeds, shows, protects, breaks and resets. No keys, no signatures; on a port of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from airflow_provider_ims.emulator import bounded_json, browsers, page, seeding, times, wire
from airflow_provider_ims.emulator.faults import read_rule
from airflow_provider_ims.emulator.job_seeding import read_job
from airflow_provider_ims.emulator.job_shapes import show_job
from airflow_provider_ims.emulator.jobs import Job
from airflow_provider_ims.emulator.keys import DEFAULT_KEY, read_key
from airflow_provider_ims.emulator.library import Filter, Library, Medium, Position, shown_title
from airflow_provider_ims.emulator.operations import OPERATIONS
from airflow_provider_ims.emulator.service import Service

_PAGE = 1000
_SHOWN = 50
"""How many requests, deletions and media the page shows at a time."""
_LONGEST_BODY = 256 * 2**20
"""Bytes: a million media of ``POST /seed``."""
_OSS_CALLS = ("make_bucket", "put", "get", "remove", "names", "leave_files", "add_fault", "drop_faults")
_GENERATOR_OPTIONS = {"count", "seed", "days", "protected", "twice", "until"}

GUIDE = """\
GET  /            for a browser: a page that shows all of this and follows it; else this text and the counts
GET  /guide       this text
GET  /stats       counts: requests by action, status and code, outcomes, deletions, faults that struck
GET  /library     registered media, oldest first; ?limit= ?after=(next) ?media_type= ?source= ?business_type=
                  ?status= ?start=(exclusive) ?end=(inclusive)
GET  /ids         all media ids, oldest first, one a line
GET  /media/ID    one medium: what is registered, its file, its deletion
GET  /deleted     every deletion since the start or the last reset; ?after=N (skip N) ?limit=
GET  /requests    the last requests and what came of each; ?after=NUMBER ?limit= ?action=
GET  /keys        the AccessKeys, without secrets
GET  /faults      the rules in force, how often each looked and struck
GET  /jobs/ID     a job as the service shows it
GET  /overview    what the page shows: counts, rules, newest requests and deletions, media (?after=)

POST /seed        {"media": [{"url": ..., "media_id", "created", "title", "media_type", "source", "business_type",
                  "status", "tags", "size", "streams": [url, ...], "file", "protected", "undeletable"}, ...]}
                  or {"count": N, "seed", "days", "protected": share, "twice": share, "until": time};
                  content type application/x-ndjson: one medium a line
POST /protect     {"media_ids": [...], "protected": true|false, "undeletable": true|false}
POST /keys        {"key_id", "secret", "actions": ["ice:Get*"], "security_token", "expires" or "expires_in" s,
                  "status": "active"|"inactive"}; a known key_id is replaced
POST /faults      one rule or a list of rules; DELETE /faults drops all of them
POST /jobs        a job: {"kind": "transcode"|"convert"|"workflow"|"producing", "outputs": [url or {"url", "name",
                  "media_id" (a stream of that medium), "code", "message"}, ...], "source": media id or URL,
                  "seconds": N or "polls": reads until its end, "good" and "bad": its words for either end,
                  "statuses", "state": where it stands, "code", "message", "grouped": true|false (convert),
                  "activity_results": text (workflow)}
POST /jobs/ID     {"statuses": ["Success", "Fail", ...], "state": text}: one status for each output; any may be named
POST /oss/CALL    something in the local OSS: make_bucket {"bucket"}, put {"bucket", "key", "content"},
                  get and remove {"bucket", "key"}, names {"bucket", "prefix"}, leave_files {"buckets": [...]},
                  add_fault {"kind", "operation", "every", "skip", "times", "seconds", "status", "code"}, drop_faults
POST /reset       back to the state at the start: library, keys and rules as given then, request log empty
"""


def control_app(service: Service, address: str) -> wire.App:
    """Make the application that answers at the control port, to this machine and its own page alone.

    :param address: the URL at which the service answers, to be shown.
    """
    endpoints = _Endpoints(service, address)
    routes: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
        ("GET", "/", endpoints.index),
        ("GET", "/guide", endpoints.guide),
        ("GET", "/overview", endpoints.overview),
        ("GET", "/stats", endpoints.stats),
        ("GET", "/library", endpoints.library),
        ("GET", "/ids", endpoints.ids),
        ("GET", "/media/{media_id}", endpoints.medium),
        ("GET", "/deleted", endpoints.deleted),
        ("GET", "/requests", endpoints.requests),
        ("GET", "/keys", endpoints.keys),
        ("POST", "/keys", endpoints.add_key),
        ("POST", "/oss/{call}", endpoints.oss),
        ("GET", "/faults", endpoints.faults),
        ("POST", "/faults", endpoints.add_faults),
        ("DELETE", "/faults", endpoints.drop_faults),
        ("POST", "/seed", endpoints.seed),
        ("POST", "/protect", endpoints.protect),
        ("POST", "/jobs", endpoints.add_job),
        ("GET", "/jobs/{job_id}", endpoints.job),
        ("POST", "/jobs/{job_id}", endpoints.put_job),
        ("POST", "/reset", endpoints.reset),
    ]
    app = Starlette(
        routes=[Route(path, endpoint, methods=[method]) for method, path, endpoint in routes],
        exception_handlers={ValueError: _bad_request, _NotFound: _not_found},
    )

    async def guarded(scope: wire.Scope, receive: wire.Receive, send: wire.Send) -> None:
        refused = browsers.refusal(scope["method"], wire.headers(scope), has_body=wire.has_body(scope))
        body = None if refused else await wire.read_body(receive, _LONGEST_BODY)
        if refused is None and body is None:
            refused = 413, f"the body must not be longer than {_LONGEST_BODY} bytes"
        if refused is not None:
            status, reason = refused
            await _Answer({"error": reason}, status, headers={"connection": "close"})(scope, receive, send)
            return
        await app(scope, wire.replay(body or b"", receive), send)

    return guarded


class _Answer(JSONResponse):
    """JSON in ASCII: half a surrogate pair, which a body's escapes can bring, has no other spelling."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


class _Endpoints:
    def __init__(self, service: Service, address: str) -> None:
        self.service = service
        self.address = address

    async def index(self, request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(page.HTML, headers=page.HEADERS)
        stats = json.dumps(self._stats(), indent=2)
        text = f"Emulated IMS, {self.service.settings.region}\n\n{GUIDE}\n{stats}\n"
        return PlainTextResponse(text, headers={"vary": "accept"})

    async def guide(self, request: Request) -> Response:
        return PlainTextResponse(GUIDE)

    async def overview(self, request: Request) -> Response:
        """Answer what the page asks for every second: small, whatever the size of library and request log."""
        records = self.service.records
        return _Answer(
            {
                "region": self.service.settings.region,
                "service": self.address,
                "key": DEFAULT_KEY.key_id,
                "stats": self._stats(),
                "rules": [rule.describe() for rule in self.service.faults.rules],
                "requests": [entry.describe() for entry in islice(reversed(records.requests), _SHOWN)],
                "deletions": [deletion.describe() for deletion in reversed(records.deletions[-_SHOWN:])],
                "library": self._library_page(Filter(), request, _SHOWN),
            }
        )

    async def stats(self, request: Request) -> Response:
        return _Answer(self._stats())

    def _stats(self) -> dict[str, Any]:
        self.service.settle()
        return {
            "media": len(self.service.library),
            "jobs": len(self.service.jobs),
            **self.service.records.stats(),
            "faults": dict(self.service.faults.fired),
        }

    async def library(self, request: Request) -> Response:
        self.service.settle()
        query = request.query_params
        wanted = Filter(
            after=times.from_text(query["start"]) if "start" in query else None,
            until=times.from_text(query["end"]) if "end" in query else None,
            **{name: query.get(name) for name in ("media_type", "business_type", "source", "status")},
        )
        return _Answer(self._library_page(wanted, request, _limit(request)))

    def _library_page(self, wanted: Filter, request: Request, size: int) -> dict[str, Any]:
        after = None
        if "after" in request.query_params:
            created, _, media_id = request.query_params["after"].partition("-")
            after = Position(int(created), media_id)
        library = self.service.library
        media, last = library.page(wanted, size, after=after)
        return {
            "total": library.count(wanted),
            "media": [_describe(library, medium) for medium in media],
            "next": None if last is None else f"{last.created}-{last.media_id}",
        }

    async def ids(self, request: Request) -> Response:
        self.service.settle()
        return StreamingResponse(_lines(list(self.service.library)), media_type="text/plain")

    async def medium(self, request: Request) -> Response:
        self.service.settle()
        media_id = request.path_params["media_id"]
        medium = self.service.library.shown(media_id)
        deletion = self.service.records.deletion_of(media_id)
        if medium is None and deletion is None:
            raise _NotFound(media_id)
        shown = {} if medium is None else _describe(self.service.library, medium)
        return _Answer(
            {
                "media_id": media_id,
                "registered": medium is not None and not medium.deleted,
                "shown": medium is not None,
                "deletion": None if deletion is None else deletion.describe(),
                **shown,
            }
        )

    async def deleted(self, request: Request) -> Response:
        deletions = self.service.records.deletions
        after = int(request.query_params.get("after", 0))
        page = deletions[after : after + _limit(request)]
        return _Answer({"total": len(deletions), "deletions": [deletion.describe() for deletion in page]})

    async def requests(self, request: Request) -> Response:
        after = int(request.query_params.get("after", 0))
        action = request.query_params.get("action")
        records = self.service.records
        found = (
            entry.describe()
            for entry in records.requests
            if entry.number > after and action in (None, entry.action)
        )
        return _Answer({"total": records.total, "requests": list(islice(found, _limit(request)))})

    async def keys(self, request: Request) -> Response:
        return _Answer({"keys": [key.describe() for key in self.service.gateway.keys.values()]})

    async def add_key(self, request: Request) -> Response:
        key = read_key(_object(await _json(request)))
        self.service.gateway.keys[key.key_id] = key
        return _Answer(key.describe(), 201)

    async def faults(self, request: Request) -> Response:
        faults = self.service.faults
        return _Answer({"rules": [rule.describe() for rule in faults.rules], "fired": dict(faults.fired)})

    async def add_faults(self, request: Request) -> Response:
        given = await _json(request)
        rules = [read_rule(fields, OPERATIONS) for fields in (given if isinstance(given, list) else [given])]
        self.service.faults.rules.extend(rules)
        return _Answer({"rules": [rule.describe() for rule in self.service.faults.rules]}, 201)

    async def drop_faults(self, request: Request) -> Response:
        self.service.faults.rules.clear()
        return _Answer({"rules": []})

    async def seed(self, request: Request) -> Response:
        if request.headers.get("content-type", "").startswith("application/x-ndjson"):
            seeds: Iterable[seeding.Seed] = seeding.read_lines((await request.body()).decode())
        else:
            seeds = self._seeds(_object(await _json(request)))
        # All are looked at before the first is registered: a bad one leaves the library as it was.
        seeds = list(seeds)
        taken: set[str] = set()
        for medium, _ in seeds:
            if medium.media_id in taken or self.service.library.shown(medium.media_id) is not None:
                raise ValueError(f"the media id {medium.media_id} is taken (made-up media: use another seed)")
            taken.add(medium.media_id)
        added = seeding.fill(self.service.library, seeds)
        return _Answer(
            {
                "added": len(added),
                "media": len(self.service.library),
                "media_ids": [medium.media_id for medium in added[:_PAGE]],
            },
            201,
        )

    def _seeds(self, given: dict[str, Any]) -> Iterable[seeding.Seed]:
        if isinstance(given.get("media"), list):
            return map(seeding.read_medium, given["media"])
        if "count" not in given or set(given) - _GENERATOR_OPTIONS:
            raise ValueError(f"give 'media' or 'count' with {', '.join(sorted(_GENERATOR_OPTIONS))}")
        if "until" in given:
            given = {**given, "until": times.from_text(str(given["until"]))}
        return seeding.generate(region=self.service.settings.region, **given)

    async def protect(self, request: Request) -> Response:
        given = _object(await _json(request))
        media_ids = _texts(given.pop("media_ids", None), "media_ids")
        switches = all(isinstance(value, bool) for value in given.values())
        if not given or not switches or set(given) - {"protected", "undeletable"}:
            raise ValueError("give 'media_ids' and 'protected' or 'undeletable', each true or false")
        media = []
        for media_id in media_ids:
            medium = self.service.library.shown(media_id)
            if medium is None:
                raise _NotFound(media_id)
            media.append(medium)
        for medium in media:
            for switch, value in given.items():
                setattr(medium, switch, value)
        return _Answer({"changed": len(media)})

    async def add_job(self, request: Request) -> Response:
        job = read_job(_object(await _json(request)), self.service)
        self.service.jobs.submit(job)
        return _Answer(self._show_job(job), 201)

    async def job(self, request: Request) -> Response:
        return _Answer(self._show_job(self._job(request)))

    async def put_job(self, request: Request) -> Response:
        job = self._job(request)
        given = _object(await _json(request))
        statuses = _texts(given["statuses"], "statuses") if "statuses" in given else None
        state = given.get("state")
        if (statuses is None and state is None) or not isinstance(state, str | None):
            raise ValueError("give 'statuses', one for each output, or 'state', the job's own")
        job.put(statuses, state)
        self.service.jobs.resume(job)
        return _Answer(self._show_job(job))

    def _job(self, request: Request) -> Job:
        job = self.service.jobs.get(request.path_params["job_id"])
        if job is None:
            raise _NotFound(request.path_params["job_id"])
        return job

    def _show_job(self, job: Job) -> dict[str, Any]:
        self.service.settle()
        (shown,) = show_job(job, self.service.library, time.time()).values()
        return dict(shown)

    async def oss(self, request: Request) -> Response:
        """Do something in the local OSS."""
        oss, call = self.service.settings.oss, request.path_params["call"]
        if oss is None:
            raise ValueError("there is no local OSS; start the emulator with --oss-port")
        if call not in _OSS_CALLS:
            raise ValueError(f"no such call {call!r}; known are {', '.join(_OSS_CALLS)}")
        arguments = _object(await _json(request))
        if "content" in arguments:
            arguments["content"] = str(arguments["content"]).encode()
        try:
            found = getattr(oss, call)(**arguments)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{call}: {error}") from None
        return _Answer({"result": found.decode() if isinstance(found, bytes) else found})

    async def reset(self, request: Request) -> Response:
        self.service.reset()
        return _Answer(self._stats())


class _NotFound(Exception):
    pass


async def _json(request: Request) -> Any:
    return bounded_json.loads(await request.body())


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object is expected, not {value!r}")
    return value


def _texts(value: Any, name: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{name!r} must be a list of texts, not {value!r}")
    return value


def _limit(request: Request) -> int:
    return max(1, int(request.query_params.get("limit", _PAGE)))


def _lines(media: list[Medium]) -> Iterator[str]:
    for start in range(0, len(media), _PAGE):
        yield "".join(f"{medium.media_id}\n" for medium in media[start : start + _PAGE])


def _describe(library: Library, medium: Medium) -> dict[str, Any]:
    return {
        "media_id": medium.media_id,
        "url": medium.url,
        "title": shown_title(medium.title, medium.url),
        "created": times.to_text(medium.created),
        "media_type": medium.media_type,
        "source": medium.source,
        "business_type": medium.business_type,
        "status": medium.status,
        "tags": medium.tags,
        "size": medium.size,
        "streams": list(medium.streams),
        "file": library.has_file(medium),
        "protected": medium.protected,
        "undeletable": medium.undeletable,
        "deleted": medium.deleted,
    }


async def _bad_request(request: Request, error: Exception) -> Response:
    return _Answer({"error": str(error)}, 400)


async def _not_found(request: Request, error: Exception) -> Response:
    return _Answer({"error": f"not found: {error}"}, 404)
