"""The operations, answered in the documented shapes.

Documentation of each: https://www.alibabacloud.com/help/en/ims/developer-reference/api-ice-2020-11-09-deletemediainfos
and its neighbours. Where it is silent, the emulator's README says what is done here.
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import urlencode

from airflow_provider_ims.emulator import parameters, times
from airflow_provider_ims.emulator.call import Answer, Call
from airflow_provider_ims.emulator.errors import Refusal, invalid, missing
from airflow_provider_ims.emulator.job_operations import JOB_OPERATIONS
from airflow_provider_ims.emulator.library import Filter, Medium

BATCH_LIMIT = 20
"""Most media in one DeleteMediaInfos."""

_PAGE_LIMIT = 100
_DEFAULT_PAGE = 10


def delete_media_infos(call: Call) -> Answer:
    """Delete up to 20 media, named by id or by URL."""
    targets = parameters.entries(call.params, "MediaIds")
    if targets:
        _refuse_malformed(call, targets)
        find: Callable[[str], list[Medium]] = partial(_registered, call)
        call.records.asked(targets)
    else:
        targets = parameters.entries(call.params, "InputURLs")
        find = call.library.registered_at
    if not targets:
        raise missing("MediaIds or InputURLs")
    by_default = bool(call.otherwise["file_by_default"])
    files = parameters.boolean(call.params, "DeletePhysicalFiles", default=by_default)
    call.entry.targets = targets
    call.entry.delete_physical_files = files
    targets = _of_one_batch(call, "MediaIds or InputURLs", targets)
    _refuse_unknown(call, targets, find)

    spared, shown_until = _faults_of_deletion(call, [medium for target in targets for medium in find(target)])
    ignored: list[str] = []
    forbidden: list[str] = []
    for target in targets:
        media = find(target)
        if target in call.entry.outcomes and call.otherwise["duplicates"] == "silent":
            continue
        if not media or any(medium.undeletable or medium is spared for medium in media):
            ignored.append(target)
            # Named twice in one request: the first time counts.
            call.entry.outcomes.setdefault(target, "ignored" if media else "missing")
        elif any(medium.protected for medium in media):
            forbidden.append(target)
            call.entry.outcomes[target] = "forbidden"
        else:
            for medium in media:
                call.library.delete(medium, shown_until=shown_until)
                call.records.deleted(medium, files=files, entry=call.entry)
                if files:
                    call.library.remove_file(medium)
            call.entry.outcomes[target] = "deleted"
    return {"IgnoredList": ignored, "ForbiddenList": forbidden}


def _of_one_batch(call: Call, name: str, targets: list[str]) -> list[str]:
    """Return the targets that one request may name; more are refused, unless a rule says otherwise."""
    if len(targets) <= BATCH_LIMIT or call.otherwise["over_20"] == "taken":
        return targets
    if call.otherwise["over_20"] == "cut":
        return targets[:BATCH_LIMIT]
    raise invalid(name, f"{len(targets)} media, at most {BATCH_LIMIT} are allowed.")


def _refuse_unknown(call: Call, targets: list[str], find: Callable[[str], list[Medium]]) -> None:
    if call.otherwise["unknown_ids"] == "refused":
        for target in targets:
            if not find(target):
                raise invalid("MediaIds", f"{target!r} is not found.")


def _refuse_malformed(call: Call, media_ids: list[str]) -> None:
    """Ids are documented as 32 hexadecimal digits; whether anything else is refused is not."""
    if call.otherwise["malformed_ids"] == "refused":
        for media_id in media_ids:
            if not re.fullmatch("[0-9A-Fa-f]{32}", media_id.strip()):
                raise invalid("MediaId", f"{media_id!r} is no id.")


def _registered(call: Call, media_id: str) -> list[Medium]:
    return call.library.registered(media_id) if _is_trimmed(call, media_id) else []


def _shown(call: Call, media_id: str) -> Medium | None:
    return call.library.shown(media_id.strip()) if _is_trimmed(call, media_id) else None


def _is_trimmed(call: Call, media_id: str) -> bool:
    return call.otherwise["white_space"] == "trimmed" or media_id == media_id.strip()


def _faults_of_deletion(call: Call, media: list[Medium]) -> tuple[Medium | None, float | None]:
    """Ask the fault rules; give the medium that is spared this once and until when reads show what goes."""
    deletable = [medium for medium in media if not (medium.protected or medium.undeletable)]
    if deletable and call.faults.take("undeletable", call.entry):
        deletable.pop(0).undeletable = True
    spared = next((medium for medium in deletable if medium.media_id not in call.faults.ignored_once), None)
    if spared is not None and call.faults.take("spurious_ignore", call.entry):
        call.faults.ignored_once.add(spared.media_id)
        deletable.remove(spared)
    else:
        spared = None
    lag = call.faults.take("lagging_reads", call.entry) if deletable else None
    return spared, None if lag is None else call.now + lag.number("milliseconds") / 1000


def delete_play_info(call: Call) -> Answer:
    """Delete streams of one medium, named by URL; all of them if none is named. The source is none of them."""
    media_id = call.params.get("MediaId", "")
    if not media_id.strip():
        raise missing("MediaId")
    media = call.library.registered(media_id)
    targets = parameters.entries(call.params, "FileURLs") or [
        url for medium in media for url in medium.streams
    ]
    call.entry.targets = targets
    call.entry.delete_physical_files = parameters.boolean(call.params, "DeletePhysicalFiles", default=False)
    if len(targets) > BATCH_LIMIT:
        raise invalid("FileURLs", f"{len(targets)} streams, at most {BATCH_LIMIT} are allowed.")
    answer: Answer = {"IgnoredList": [], "ForbiddenList": []}
    normal = call.library.normal_url
    for target in targets:
        medium = media[0] if media else None
        kept = () if medium is None else tuple(url for url in medium.streams if normal(url) != normal(target))
        if medium is not None and (medium.protected or normal(target) == normal(medium.url)):
            outcome = "forbidden"
            answer["ForbiddenList"].append(target)
        elif medium is None or medium.undeletable or len(kept) == len(medium.streams):
            outcome = "ignored" if medium is not None and medium.undeletable else "missing"
            answer["IgnoredList"].append(target)
        else:
            outcome = "deleted"
            medium.streams = kept
        # Named twice in one request: the first time counts.
        call.entry.outcomes.setdefault(target, outcome)
    return answer


def batch_get_media_infos(call: Call) -> Answer:
    """Read up to 20 media by id."""
    media_ids = parameters.entries(call.params, "MediaIds")
    if not media_ids:
        raise missing("MediaIds")
    call.entry.targets = media_ids
    media_ids = _of_one_batch(call, "MediaIds", media_ids)
    _refuse_malformed(call, media_ids)
    _refuse_unknown(call, media_ids, lambda media_id: [medium] if (medium := _shown(call, media_id)) else [])
    additions = parameters.entries(call.params, "AdditionType")
    for addition in additions:
        if addition not in ("FileInfo", "DynamicMetaData"):
            raise invalid("AdditionType", f"{addition!r} is neither FileInfo nor DynamicMetaData.")
    lifetime = parameters.auth_timeout(call.params)
    infos: list[Answer] = []
    ignored: list[str] = []
    for media_id in media_ids:
        medium = _shown(call, media_id)
        if medium is None:
            ignored.append(media_id)
            call.entry.outcomes[media_id] = "absent"
            continue
        info = _media_info(call, medium, lifetime, with_files="FileInfo" in additions)
        if "DynamicMetaData" in additions:
            info["MediaDynamicInfo"] = {"DynamicMetaData": {"Data": "{}"}}
        infos.append(info)
        call.entry.outcomes[media_id] = "shown"
    return {"MediaInfos": infos, "IgnoredList": ignored}


def get_media_info(call: Call) -> Answer:
    """Read one medium by id or by URL."""
    media_id = call.params.get("MediaId", "")
    url = call.params.get("InputURL", "")
    if not media_id and not url:
        raise missing("MediaId or InputURL")
    if call.params.get("OutputType", "oss") not in ("oss", "cdn"):
        raise invalid("OutputType", f"{call.params['OutputType']!r} is neither oss nor cdn.")
    lifetime = parameters.auth_timeout(call.params)
    target = media_id or url
    call.entry.targets = [target]
    _refuse_malformed(call, [media_id] if media_id else [])
    medium = (
        call.library.shown(media_id.strip()) if media_id else next(iter(call.library.shown_at(url)), None)
    )
    call.entry.outcomes[target] = "absent" if medium is None else "shown"
    if medium is None:
        if call.otherwise["missing"] == "empty":
            return {}
        raise Refusal(404, "ResourceNotFound", f"The specified media asset does not exist: {target}")
    return {"MediaInfo": _media_info(call, medium, lifetime, with_files=True)}


def list_media_basic_infos(call: Call) -> Answer:
    """List media by creation time, a page at a time."""
    size = parameters.whole_number(call.params, "MaxResults", default=_DEFAULT_PAGE, low=1, high=_PAGE_LIMIT)
    sort_by = call.params.get("SortBy") or "desc"
    if sort_by.lower() not in ("asc", "desc"):
        raise invalid("SortBy", f"{sort_by!r} is neither asc nor desc.")
    media_type = call.params.get("MediaType")
    wanted = Filter(
        after=parameters.point_in_time(call.params, "StartTime"),
        until=parameters.point_in_time(call.params, "EndTime"),
        media_type=media_type.lower() if media_type else None,
        business_type=call.params.get("BusinessType") or None,
        source=call.params.get("Source") or None,
        status=call.params.get("Status") or None,
        media_id=call.params.get("MediaId") or None,
    )
    with_files = parameters.boolean(call.params, "IncludeFileBasicInfo", default=False)
    lifetime = parameters.auth_timeout(call.params)
    token = call.params.get("NextToken")
    after = parameters.position(token) if token else None
    media, last = call.library.page(wanted, size, after=after, descending=sort_by.lower() == "desc")
    if call.otherwise["pages"] == "first_100":
        first, _ = call.library.page(wanted, _PAGE_LIMIT, descending=sort_by.lower() == "desc")
        media = [medium for medium in media if medium in first]
        last = last if media and media[-1] is not first[-1] else None
    answer: Answer = {
        "MediaInfos": [_media_info(call, medium, lifetime, with_files=with_files) for medium in media],
        "TotalCount": call.library.count(wanted),
        "MaxResults": size,
    }
    if last is not None:
        answer["NextToken"] = parameters.page_token(last)
    return answer


def register_media_info(call: Call) -> Answer:
    """Register a file; with ``Overwrite`` in place of what is registered for its URL."""
    url = call.params.get("InputURL", "").strip()
    if not url:
        raise missing("InputURL")
    scheme = url.partition("://")[0].lower()
    if "://" not in url or scheme not in ("http", "https", "oss", "vod"):
        raise invalid("InputURL", f"{url!r} is no http, https, oss or vod URL.")
    overwrite = parameters.boolean(call.params, "Overwrite", default=False)
    registered = call.library.registered_at(url)
    call.entry.targets = [url]
    if registered and not overwrite and call.otherwise["registered_again"] == "same_id":
        call.entry.outcomes[url] = registered[0].media_id
        return {"MediaId": registered[0].media_id}
    if registered and not overwrite:
        raise invalid("InputURL", f"{url} is already registered as {registered[0].media_id}.")
    for medium in registered:
        call.library.delete(medium)
        call.records.deleted(medium, files=False, entry=call.entry)
    medium = Medium(
        media_id=uuid.uuid4().hex,
        url=url,
        created=int(call.now),
        title=call.params.get("Title") or None,
        media_type=call.params.get("MediaType", "").lower() or "video",
        source="vod" if scheme == "vod" else "oss",
        business_type=call.params.get("BusinessType") or "general",
        tags=call.params.get("MediaTags", ""),
    )
    call.library.add(medium)
    call.entry.outcomes[url] = medium.media_id
    return {"MediaId": medium.media_id}


OPERATIONS: Mapping[str, Callable[[Call], Answer]] = {
    "BatchGetMediaInfos": batch_get_media_infos,
    "DeleteMediaInfos": delete_media_infos,
    "DeletePlayInfo": delete_play_info,
    "GetMediaInfo": get_media_info,
    "ListMediaBasicInfos": list_media_basic_infos,
    "RegisterMediaInfo": register_media_info,
    **JOB_OPERATIONS,
}


def _signed(call: Call, url: str, lifetime: int) -> str:
    """Give a URL that looks like the service's pre-signed ones, so that leaks of it can be seen."""
    expires = int(call.now) + lifetime
    seal = base64.b64encode(hashlib.blake2b(f"{url} {expires}".encode(), digest_size=20).digest()).decode()
    query = {
        "Expires": str(expires),
        "OSSAccessKeyId": "STS.EmulatedSignedUrlKey",
        "Signature": seal,
        "security-token": f"EmulatedSignedUrlToken{seal}",
    }
    return f"{url}?{urlencode(query)}"


def _media_info(call: Call, medium: Medium, lifetime: int, *, with_files: bool) -> Answer:
    created = times.to_text(medium.created)
    url = call.library.normal_url(medium.url)
    folder, _, name = url.rpartition("/")
    info: Answer = {
        "MediaId": medium.media_id,
        "MediaBasicInfo": {
            "MediaId": medium.media_id,
            "InputURL": medium.url,
            "Title": medium.title if medium.title is not None else name,
            "Description": "",
            "Category": "",
            "CoverURL": _signed(call, f"{folder}/covers/{medium.media_id}.jpg", lifetime),
            "MediaType": medium.media_type,
            "BusinessType": medium.business_type,
            "Source": medium.source,
            "Biz": "ICE",
            "UploadSource": "general",
            "Status": medium.status,
            "TranscodeStatus": "Init",
            "CreateTime": created,
            "ModifiedTime": created,
            # So does the service's own sample, of a medium that is there: no proof of a deletion.
            "DeletedTime": created,
            "MediaTags": medium.tags,
            "UserData": "",
        },
    }
    if call.otherwise["deleted_time"] == "absent":
        del info["MediaBasicInfo"]["DeletedTime"]
    if with_files:
        files = [(url, "source_file", medium.size)] if call.library.has_file(medium) else []
        for stream in medium.streams:
            # A guess at how much smaller a rendition is.
            files.append((call.library.normal_url(stream), "transcode_file", medium.size // 4))
        info["FileInfoList"] = [
            {
                "FileBasicInfo": {
                    "FileName": file_url.rpartition("/")[2],
                    "FileStatus": "Normal",
                    "FileType": file_type,
                    "FileSize": str(size),
                    "FileUrl": _signed(call, file_url, lifetime),
                    "Region": call.library.region,
                    "FormatName": file_url.rpartition("/")[2].rpartition(".")[2],
                    "Duration": "60.000" if medium.media_type != "image" else "",
                    "Bitrate": "1912.131",
                    "Width": "1280",
                    "Height": "720",
                    "CreateTime": created,
                    "ModifiedTime": created,
                }
            }
            for file_url, file_type, size in files
        ]
    return info
