"""What a run may touch: media and files that it made itself, and ids that it made up. Everything else is refused.

The guard stands in the client, where every request passes that any part of the provider sends. It knows each
operation that may be called and each parameter that may be given, so what nobody thought of is refused too.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote

from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.identifiers import stored_object
from airflow_provider_ims.api.responses import Response

T = TypeVar("T")

UNKNOWN_OPERATION = "NoSuchOperationOfIMS"


class ForeignTargetError(Exception):
    """A request would have named something that this run did not make; it was not sent."""


class Guard:
    """Knows what is this run's own.

    :param run_id: 16 hexadecimal digits that nobody else has.
    :param folder: ``oss://bucket/key`` of the run's own folder, which ends in the run's id.
    """

    def __init__(self, run_id: str, folder: str) -> None:
        if len(run_id) < 16 or not folder.endswith(run_id):
            raise ValueError(f"the folder {folder!r} of a run must end in its id of 16 digits")
        self.run_id = run_id
        self._bucket, self._key = stored_object(f"{folder}/") or ("", "")
        self._ids: set[str] = set()

    def adopt(self, media_id: str, url: str) -> None:
        """Take over a medium or a job that the service made of a file in this run's folder."""
        self._check_url(url)
        self._ids.add(media_id.strip().casefold())

    def adopt_job(self, job_id: str) -> None:
        """Take over a job that the service started for this run."""
        self._ids.add(job_id.casefold())

    def make_up(self, text: str = "") -> str:
        """Return an id that nobody has: 32 hexadecimal digits, or a text with the run's id in it."""
        made_up = f"{text}-{self.run_id}" if text else secrets.token_hex(16)
        self._ids.add(made_up.casefold())
        return made_up

    def owns_url(self, url: str) -> bool:
        """Whether a URL, in whatever spelling, lies in this run's folder."""
        found = stored_object(url.strip())
        # Whichever side decodes, and however often: no spelling may lead out of the folder.
        spellings = {found[1], unquote(found[1]), unquote(unquote(found[1]))} if found else set()
        return bool(found) and found[0] == self._bucket and all(self._owns_key(key) for key in spellings)

    def _owns_key(self, key: str) -> bool:
        inside = key.removeprefix(self._key)
        # A second URL in it would be one more target for a service that takes lists.
        return (
            inside != key
            and bool(inside)
            and "://" not in inside
            and not {".", ".."} & set(inside.split("/"))
        )

    def check(self, action: str, params: Mapping[str, Any]) -> None:
        """Raise ForeignTargetError unless the request is about this run's own things alone."""
        allowed = _ALLOWED.get(action)
        if allowed is None:
            raise ForeignTargetError(f"{action} is no operation that a run may call")
        for name, value in params.items():
            if value is None:
                continue
            if name not in allowed:
                raise ForeignTargetError(f"{action} may not be called with {name}")
            try:
                allowed[name](self, value)
            except ForeignTargetError as error:
                raise ForeignTargetError(f"{action}, {name}: {error}") from None
        if action in _NEEDS_TARGET and not any(params.get(name) for name in _NEEDS_TARGET[action]):
            raise ForeignTargetError(f"{action} without a target; nothing must never mean everything")

    def _check_id(self, media_id: str) -> None:
        if not isinstance(media_id, str) or media_id.strip().casefold() not in self._ids:
            raise ForeignTargetError(f"{media_id!r} was not made by this run")

    def _check_ids(self, media_ids: str) -> None:
        for media_id in media_ids.split(","):
            self._check_id(media_id)

    def _check_url(self, url: str) -> None:
        if not isinstance(url, str) or not self.owns_url(url):
            raise ForeignTargetError(f"{url!r} is not in this run's folder")

    def _check_urls(self, urls: str) -> None:
        for url in urls.split(","):
            self._check_url(url)

    def _check_media(self, value: str) -> None:
        """A medium, or a file by its URL."""
        (self._check_url if "://" in str(value) else self._check_id)(value)

    def _check_file_name(self, name: str) -> None:
        if not re.fullmatch(r"[\w-]+(\.[\w-]+)*", str(name), re.ASCII):
            raise ForeignTargetError(f"{name!r} is more than a file's name")

    def _check_json(self, text: str) -> None:
        """Each field by its name; one that nobody thought of is refused."""
        try:
            document = json.loads(text, object_pairs_hook=_unique)
        except (ValueError, TypeError, RecursionError):
            raise ForeignTargetError("it is no JSON that can be read in one way only") from None
        for name, value in _fields(document):
            if name not in _ALLOWED_IN_JSON:
                raise ForeignTargetError(f"{name or value!r} is no field that a run may give")
            _ALLOWED_IN_JSON[name](self, value)

    def _check_nothing(self, value: object) -> None:
        """It names no medium and no file."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raise ValueError for a field that is given twice: which of the two counts is the reader's choice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field is given twice")
    return found


def _fields(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all that is no list or object, with the name of the field in which it stands."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _fields(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _fields(item, name)
    else:
        yield name, value


_Check = Callable[[Guard, Any], None]
_ID, _IDS, _URL, _URLS = Guard._check_id, Guard._check_ids, Guard._check_url, Guard._check_urls
_JSON, _PLAIN = Guard._check_json, Guard._check_nothing
_ALLOWED: Mapping[str, Mapping[str, _Check]] = {
    "RegisterMediaInfo": {
        "InputURL": _URL,
        **dict.fromkeys(("Title", "MediaTags", "MediaType", "RegisterConfig", "ClientToken"), _PLAIN),
    },
    "BatchGetMediaInfos": {"MediaIds": _IDS, "AdditionType": _PLAIN, "AuthTimeout": _PLAIN},
    "GetMediaInfo": {"MediaId": _ID, "InputURL": _URL, "AuthTimeout": _PLAIN},
    # Only reads; of what it shows of others nothing is kept.
    "ListMediaBasicInfos": {
        **dict.fromkeys(("StartTime", "EndTime", "SortBy", "MaxResults", "NextToken", "AuthTimeout"), _PLAIN),
        **dict.fromkeys(("MediaType", "BusinessType", "Source", "Status", "IncludeFileBasicInfo"), _PLAIN),
    },
    "DeleteMediaInfos": {"MediaIds": _IDS, "InputURLs": _URLS, "DeletePhysicalFiles": _PLAIN},
    "DeletePlayInfo": {"MediaId": _ID, "FileURLs": _URLS, "DeletePhysicalFiles": _PLAIN},
    "SubmitMediaConvertJob": {"Config": _JSON, "ClientToken": _PLAIN},
    "SubmitMediaProducingJob": {"Timeline": _JSON, "OutputMediaConfig": _JSON, "ClientToken": _PLAIN},
    "StartWorkflow": {"TaskInput": _JSON, "WorkflowId": _PLAIN},
    "GetMediaConvertJob": {"JobId": _ID},
    "GetMediaProducingJob": {"JobId": _ID},
    "GetWorkflowTask": {"TaskId": _ID},
    "GetTranscodeJob": {"ParentJobId": _ID},
    UNKNOWN_OPERATION: {},
}
_ALLOWED_IN_JSON: Mapping[str, _Check] = {
    **dict.fromkeys(("Media", "MediaId"), Guard._check_media),
    "MediaURL": _URL,
    "OutputFileName": Guard._check_file_name,
    **dict.fromkeys(("JobName", "Name", "Type", "TemplateId", "Width", "Height"), _PLAIN),
    # Of an output: settings, as JSON in the JSON.
    "OverrideParams": _JSON,
    "IsCheckResoFail": _PLAIN,
}
_NEEDS_TARGET: Mapping[str, tuple[str, ...]] = {
    "RegisterMediaInfo": ("InputURL",),
    "DeleteMediaInfos": ("MediaIds", "InputURLs"),
    "DeletePlayInfo": ("FileURLs",),
}


class GuardedClient(IMSClient):
    """The provider's own client, which sends nothing that the guard refuses."""

    def __init__(self, guard: Guard, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.guard = guard
        self.actions: set[str] = set()

    def call(
        self,
        action: str,
        params: Mapping[str, Any],
        parse: Callable[[dict[str, Any]], T],
        *,
        stop: threading.Event | None = None,
    ) -> Response[T]:
        self.guard.check(action, params)
        self.actions.add(action)
        return super().call(action, params, parse, stop=stop)
