"""IMS operations, typed in and out.

An answer is read leniently where that can't hide anything (absent or null lists, numbers as text, unknown
fields) and strictly where it could: a list that is no list is a bad answer, never an empty one.
Signed URLs, which the service puts into read answers, are dropped here and get no further.

Source: https://www.alibabacloud.com/help/en/ims/developer-reference/api-ice-2020-11-09-deletemediainfos and its
sister pages for each operation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.errors import IMSAPIError
from airflow_provider_ims.api.fields import check_nothing_else, number, objects, text, texts, unsigned
from airflow_provider_ims.api.identifiers import (
    MAX_MEDIA_PER_CALL,
    check_input_url,
    check_media_id,
    is_list,
    match_key,
    show,
)
from airflow_provider_ims.api.responses import Response
from airflow_provider_ims.api.times import read_time, write_time

# Of a batch that is refused: asking for so few each by itself costs no more than halving it further.
MAX_MEDIA_ONE_BY_ONE = 5
MAX_PAGE = 100
# The service signs the URLs in its answers for this many seconds at least. They are dropped, so: the least.
SIGNED_URL_SECONDS = 1
# All that are documented: https://help.aliyun.com/zh/ims/developer-reference/data-type-3. In small letters.
LIVING_STATUSES = frozenset(
    {"init", "preparing", "preparefail", "normal", "uploading", "uploadsucc", "uploadfail"}
    | {"transcoding", "transcodefail", "checking", "blocked"}
)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Deletion:
    """Answer of a deletion: what was *not* deleted, as the service echoed it.

    :param ignored: could not be found or read; proves nothing yet.
    :param forbidden: exist, and may not be deleted.
    """

    ignored: tuple[str, ...]
    forbidden: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """A medium as the service shows it. What is absent or unreadable is None, never a default.

    :param created: ``yyyy-MM-ddTHH:mm:ssZ``, as the service spells it; so is ``deleted``.
    :param tags: None when the service shows none of the field.
    :param size: bytes of all its files; None unless files were asked for and all tell their size.
    """

    media_id: str
    input_url: str | None
    title: str | None
    media_type: str | None
    source: str | None
    business_type: str | None
    status: str | None
    created: str | None
    deleted: str | None
    tags: tuple[str, ...] | None
    size: int | None

    @property
    def is_gone(self) -> bool:
        """Whether a read that still shows the medium proves its deletion. In doubt it is still there.

        ``DeletedTime`` alone proves nothing: the sample of https://help.aliyun.com/document_detail/441159.htm has
        one, equal to its ``CreateTime``, on a medium whose ``Status`` is ``Normal``.
        """
        created, deleted = read_time(self.created), read_time(self.deleted)
        if created is None or deleted is None or self.status is None:
            return False
        return deleted > created and self.status.casefold() not in LIVING_STATUSES


@dataclass(frozen=True, slots=True)
class FoundMedia:
    """What reads say of some media, by the ids or URLs that were asked for. What is in neither is gone.

    :param shown: those that are there.
    :param refused: those of which the service tells nothing, and its refusal.
    """

    shown: dict[str, MediaInfo]
    refused: dict[str, IMSAPIError]


@dataclass(frozen=True, slots=True)
class MediaPage:
    """One page of ``ListMediaBasicInfos``. ``next_token`` is None on the last; ``total`` when not told."""

    media: tuple[MediaInfo, ...]
    total: int | None
    next_token: str | None


def delete_media_infos(
    client: IMSClient,
    *,
    media_ids: Sequence[str] = (),
    input_urls: Sequence[str] = (),
    delete_physical_files: bool,
    stop: threading.Event | None = None,
) -> Response[Deletion]:
    """Delete up to 20 media, by id or by URL. Final: there is no recycle bin.

    :raises ValueError: for none, too many, or both kinds (the service would silently drop the URLs); for what can't
        be an id or a URL; and unless ``delete_physical_files`` is a bool.
    """
    media_ids, input_urls = _listed("media_ids", media_ids), _listed("input_urls", input_urls)
    if bool(media_ids) == bool(input_urls):
        raise ValueError("exactly one of media_ids and input_urls is needed")
    return client.call(
        "DeleteMediaInfos",
        {
            "MediaIds": _joined("media_ids", media_ids, check_media_id) if media_ids else None,
            "InputURLs": _joined("input_urls", input_urls, check_input_url) if input_urls else None,
            "DeletePhysicalFiles": _checked_bool(delete_physical_files),
        },
        _read_deletion,
        stop=stop,
    )


def delete_play_info(
    client: IMSClient,
    media_id: str,
    *,
    file_urls: Sequence[str],
    delete_physical_files: bool,
    stop: threading.Event | None = None,
) -> Response[Deletion]:
    """Delete up to 20 streams of one medium by their URLs; the medium and its source file stay.

    What the service does without URLs is not documented, so they are needed here: nothing never means everything.
    Nor is a maximum, so that of ``DeleteMediaInfos`` is used.

    Source: https://www.alibabacloud.com/help/en/ims/developer-reference/api-ice-2020-11-09-deleteplayinfo

    :param delete_physical_files: also delete the files of transcoded streams; the service never deletes the source's.
    :raises ValueError: for what is no id, for no URLs or too many, and for a URL that can't be sent, such as
        one with a comma.
    """
    if not media_id:
        raise ValueError(f"media_id is {media_id!r}; name the medium whose streams are to go")
    return client.call(
        "DeletePlayInfo",
        {
            "MediaId": check_media_id(media_id, "media_id"),
            "FileURLs": _joined("file_urls", file_urls, check_input_url),
            "DeletePhysicalFiles": _checked_bool(delete_physical_files),
        },
        _read_deletion,
        stop=stop,
    )


def batch_get_media_infos(
    client: IMSClient, media_ids: Sequence[str], *, stop: threading.Event | None = None
) -> Response[tuple[MediaInfo, ...]]:
    """Read up to 20 media in one request. One that is not in the answer does not exist.

    Whether one bad id fails the whole request is not documented: :func:`find_media` gets along with both.
    """
    return client.call(
        "BatchGetMediaInfos",
        {"MediaIds": _joined("media_ids", media_ids, check_media_id), "AuthTimeout": SIGNED_URL_SECONDS},
        _read_batch,
        stop=stop,
    )


def get_media_info(
    client: IMSClient,
    *,
    media_id: str | None = None,
    input_url: str | None = None,
    stop: threading.Event | None = None,
) -> Response[MediaInfo | None]:
    """Read one medium by id or URL; None when there is none.

    How a missing medium is answered is not documented: as an empty object, or as ``ResourceNotFound``. Both are
    taken for the same, the latter only from an answer that carries a request id, as the service's own do.

    :raises ValueError: unless exactly one is given, and can be an id or a URL.
    """
    if bool(media_id) == bool(input_url):
        raise ValueError("exactly one of media_id and input_url is needed")
    params = {
        "MediaId": check_media_id(media_id, "media_id") if media_id else None,
        "InputURL": check_input_url(input_url, "input_url", is_alone=True) if input_url else None,
        "AuthTimeout": SIGNED_URL_SECONDS,
    }
    try:
        return client.call("GetMediaInfo", params, _read_one, stop=stop)
    except IMSAPIError as error:
        if error.code.lower().startswith("resourcenotfound") and error.request_id:
            return Response(None, error.request_id, error.answer_lost)
        raise


def find_media(
    client: IMSClient,
    values: Sequence[str],
    *,
    by: Literal["media_id", "input_url"] = "media_id",
    stop: threading.Event | None = None,
) -> Response[FoundMedia]:
    """Find out which media are there: up to 20 ids with one request, or URLs one by one.

    An id in capitals is asked for in small letters too, as the service has them: one that is shown there is not gone.

    A service that refuses a batch because of one id in it is asked again: for its halves, then for each id of what
    is small, by ``GetMediaInfo``, whose refusal of one that does not exist is known. So one id costs no other its
    answer.

    :raises IMSAPIError: when the service does not answer, or refuses for a reason that is not one id or URL.
    """
    shown, refused = dict[str, MediaInfo](), dict[str, IMSAPIError]()
    request_id, lost = "", False
    batches, alone = list[Sequence[str]](), list(values)
    if by == "media_id":
        spelled = list(dict.fromkeys([*values, *map(match_key, values)]))
        starts = range(0, len(spelled), MAX_MEDIA_PER_CALL)
        batches, alone = [spelled[at : at + MAX_MEDIA_PER_CALL] for at in starts], []
    while batches:
        batch = batches.pop()
        try:
            answer = batch_get_media_infos(client, batch, stop=stop)
        except IMSAPIError as error:
            if not error.is_about_target:
                raise
            middle = len(batch) // 2
            if len(batch) <= MAX_MEDIA_ONE_BY_ONE:
                alone += batch
            else:
                batches += [batch[middle:], batch[:middle]]
            continue
        request_id, lost = answer.request_id, lost or answer.answer_lost
        shown.update({match_key(medium.media_id): medium for medium in answer.value if not medium.is_gone})
    for value in alone:
        try:
            one = get_media_info(client, **{by: value}, stop=stop)
        except IMSAPIError as error:
            if not error.is_about_target:
                raise
            refused[match_key(value)] = error
            continue
        request_id, lost = one.request_id, lost or one.answer_lost
        if one.value and not one.value.is_gone:
            shown[match_key(value)] = one.value
    keys = {value: match_key(value) for value in values}
    found = FoundMedia(
        {value: shown[key] for value, key in keys.items() if key in shown},
        {value: refused[key] for value, key in keys.items() if key in refused and key not in shown},
    )
    return Response(found, request_id, lost)


def list_media_basic_infos(
    client: IMSClient,
    *,
    start_time: str | None = None,
    end_time: str | None = None,
    media_type: str | None = None,
    business_type: str | None = None,
    source: str | None = None,
    status: str | None = None,
    sort_by: str | None = None,
    include_file_basic_info: bool = False,
    max_results: int = MAX_PAGE,
    next_token: str | None = None,
    stop: threading.Event | None = None,
) -> Response[MediaPage]:
    """List one page by creation time.

    :param start_time: UTC, ``yyyy-MM-ddTHH:mm:ssZ``, exclusive; ``end_time`` is inclusive.
    :param sort_by: ``desc`` (the service's default) or ``asc``.
    :param max_results: 1 to 100.
    """
    return client.call(
        "ListMediaBasicInfos",
        {
            "StartTime": start_time,
            "EndTime": end_time,
            "MediaType": media_type,
            "BusinessType": business_type,
            "Source": source,
            "Status": status,
            "SortBy": sort_by,
            "IncludeFileBasicInfo": include_file_basic_info,
            "MaxResults": max_results,
            "NextToken": next_token,
            "AuthTimeout": SIGNED_URL_SECONDS,
        },
        lambda body: MediaPage(
            tuple(_media(item) for item in objects(body, "MediaInfos")),
            number(body.get("TotalCount")),
            _page_token(body.get("NextToken")),
        ),
        stop=stop,
    )


def list_all_media(client: IMSClient, **filters: Any) -> Iterator[MediaInfo]:
    """List page after page, with the filters of :func:`list_media_basic_infos`; each medium once.

    The documentation says that a listing shows the first 100 matches only, and offers page tokens as well. If the
    pages end before as many media were shown as the service counts (``TotalCount``), the listing goes on from the
    creation time of the last one. A service that tells no ``TotalCount`` is taken at its word.

    What is deleted or added meanwhile may be among them or not.

    :raises IMSAPIError: with code ``IncompleteListing`` when media are counted that can't be reached that way, so
        that a listing never ends short without a word; and when the service gives out a page token twice.
    """
    bound = "start_time" if str(filters.get("sort_by")).lower() == "asc" else "end_time"
    near = dict[str, datetime]()  # The media next to the last one, which may be shown once more behind it.
    while True:
        again = set(near)
        shown, new, last, is_sorted = 0, 0, None, True
        total: int | None = None
        for page in _pages(client, filters):
            total = page.total
            for medium in page.media:
                created = read_time(medium.created)
                if created and last and created != last:
                    is_sorted = is_sorted and (created > last) == (bound == "start_time")
                    near = {name: at for name, at in near.items() if abs(at - created) <= _SECOND}
                last = created
                shown += medium.media_id in again or medium.media_id not in near
                if medium.media_id not in near:
                    new += 1
                    yield medium
                again.discard(medium.media_id)
                if created:
                    near[medium.media_id] = created
        if total is None or shown >= total:
            return
        if not (new and last and is_sorted):
            raise IMSAPIError(
                f"the service counts {total:,} media (TotalCount) where it shows {shown:,}; list shorter times, by "
                "start_time and end_time",
                code="IncompleteListing",
                action="ListMediaBasicInfos",
            )
        filters[bound] = write_time(
            last if bound == "end_time" else last - _SECOND
        )  # start_time is exclusive


def _pages(client: IMSClient, filters: dict[str, Any]) -> Iterator[MediaPage]:
    token, seen = None, set()
    while True:
        page = list_media_basic_infos(client, **filters, next_token=token).value
        yield page
        token = page.next_token
        if not token:
            return
        if token in seen:
            raise IMSAPIError(
                "the service repeats a page token", code="BadAnswer", action="ListMediaBasicInfos"
            )
        seen.add(token)


def _listed(name: str, values: Iterable[str]) -> list[str]:
    if isinstance(values, str):
        raise ValueError(f"{name} is the text {show(values)}, not a list of texts")
    if not is_list(values):
        raise ValueError(f"{name} is {show(values)} ({type(values).__name__}), not a list of texts")
    return list(values)


def _joined(name: str, values: Sequence[str], check: Callable[[object, str], str]) -> str:
    """Write a list as the service reads it; each value is checked, as one with a comma would be read as two."""
    values = _listed(name, values)
    if not 0 < len(values) <= MAX_MEDIA_PER_CALL:
        raise ValueError(f"{name}: 1 to {MAX_MEDIA_PER_CALL} can be named in one request, not {len(values)}")
    return ",".join(check(value, name) for value in values)


def _checked_bool(delete_physical_files: bool) -> bool:
    if type(delete_physical_files) is not bool:  # the text "false" would delete the files
        raise ValueError(f"delete_physical_files is {show(delete_physical_files)}, not True or False")
    return delete_physical_files


def _page_token(value: Any) -> str | None:
    """Taking an unreadable token for the last page's would pass a part of the library off as all of it."""
    if not isinstance(value, str | None):
        raise ValueError("its NextToken is no text")
    return text(value)


def _read_deletion(body: dict[str, Any]) -> Deletion:
    """Return what was not deleted. What it doesn't name counts as deleted, so it must be of this operation."""
    if "MediaInfos" in body:  # a read that found nothing has an IgnoredList, too
        raise ValueError("it is of another operation, for it has MediaInfos")
    # Neither list is there when all were deleted; then nothing else may be. Beside them, a new field may.
    if not {"IgnoredList", "ForbiddenList"} & body.keys():
        check_nothing_else(body)
    return Deletion(texts(body, "IgnoredList"), texts(body, "ForbiddenList"))


def _read_batch(body: dict[str, Any]) -> tuple[MediaInfo, ...]:
    # Without either list nothing is said of any medium; to take that for "all gone" would be a guess.
    if "MediaInfos" not in body and "IgnoredList" not in body:
        raise ValueError("it has neither MediaInfos nor IgnoredList")
    return tuple(_media(item) for item in objects(body, "MediaInfos"))


def _read_one(body: dict[str, Any]) -> MediaInfo | None:
    value = body.get("MediaInfo")
    if value is None or value == {}:
        check_nothing_else(body)
        return None
    if not isinstance(value, dict):
        raise ValueError("its MediaInfo is no object")
    return _media(value)


def _media(item: dict[str, Any]) -> MediaInfo:
    basic = item.get("MediaBasicInfo") or {}
    if not isinstance(basic, dict):
        raise ValueError("a MediaBasicInfo is no object")
    media_id = text(item.get("MediaId")) or text(basic.get("MediaId"))
    if not media_id:
        raise ValueError("a medium has no MediaId")
    tags = basic.get("MediaTags")
    return MediaInfo(
        media_id=media_id,
        input_url=unsigned(basic.get("InputURL")),
        title=text(basic.get("Title")),
        media_type=text(basic.get("MediaType")),
        source=text(basic.get("Source")),
        business_type=text(basic.get("BusinessType")),
        status=text(basic.get("Status")),
        created=text(basic.get("CreateTime")),
        deleted=text(basic.get("DeletedTime")),
        tags=tuple(tag.strip() for tag in tags.split(",") if tag.strip()) if isinstance(tags, str) else None,
        size=_size(item),
    )


def _size(item: dict[str, Any]) -> int | None:
    files = item.get("FileInfoList")
    if not isinstance(files, list) or not files:
        return None
    basics = [file.get("FileBasicInfo") if isinstance(file, dict) else None for file in files]
    sizes = [number(basic.get("FileSize")) if isinstance(basic, dict) else None for basic in basics]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None
