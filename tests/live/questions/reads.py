"""Reads: what BatchGetMediaInfos and GetMediaInfo show of media that are there, and of those that are not."""

from __future__ import annotations

from typing import Any

from airflow_provider_ims.api import operations
from airflow_provider_ims.api.errors import IMSAPIError
from airflow_provider_ims.api.operations import LIVING_STATUSES
from tests.live.question import Answer, Reply, Run, in_words, question, until_each


def shape(body: dict[str, Any], name: str) -> str:
    """Return how a list with nothing in it is written: ``absent``, ``null``, ``[]``, or as it came."""
    return "absent" if name not in body else "null" if body[name] is None else repr(body[name])


def echoed(body: dict[str, Any], name: str) -> list[str]:
    """Return the texts of a list that may be absent or null."""
    return [text for text in body.get(name) or () if isinstance(text, str)]


def _where(reply: Reply, media_id: str) -> str:
    if reply.code:
        return reply.describe()
    return "in IgnoredList" if media_id in map(str.strip, echoed(reply.body, "IgnoredList")) else "left out"


@question(
    "What becomes of a read that names, among others, a medium that does not exist?",
    belief="The others are shown, and it is not; being in IgnoredList or just left out are read alike.",
    where="api/operations.py, find_media",
    if_not="Each batch with an id that is gone costs about ten reads more: the code halves it and asks GetMediaInfo.",
)
def unknown_id_in_a_read(run: Run) -> Answer:
    own, unknown = run.media.some()[0].media_id, run.guard.make_up()
    reply = run.ask("BatchGetMediaInfos", MediaIds=f"{own},{unknown}")
    if reply.code:
        return Answer(reply.describe(), False)
    shown = {item.get("MediaId") for item in reply.body.get("MediaInfos") or ()}
    return Answer(_where(reply, unknown), own in shown and unknown not in shown)


@question(
    "What becomes of a read that names, among others, what can't be an id?",
    belief="It is treated like an unknown id.",
    where="api/identifiers.py lets more through than 32 hexadecimal digits",
    if_not="A target with a slip in its id ends as unknown, with the refusal as its reason; the others of its batch "
    "cost some reads more.",
)
def malformed_id_in_a_read(run: Run) -> Answer:
    own, malformed = run.media.some()[0].media_id, run.guard.make_up("no.id")
    reply = run.ask("BatchGetMediaInfos", MediaIds=f"{own},{malformed}")
    return Answer(_where(reply, malformed), not reply.code)


@question(
    "How many media does one read take?",
    belief="20 are shown in full. More are never asked for.",
    where="api/identifiers.py, MAX_MEDIA_PER_CALL",
    if_not="Media that are there count as gone.",
)
def most_media_of_a_read(run: Run) -> Answer:
    value: dict[str, Any] = {}
    for number in (20, 21, 50):
        reply = run.ask(
            "BatchGetMediaInfos", MediaIds=",".join(own.media_id for own in run.media.some(number))
        )
        value[str(number)] = reply.describe() if reply.code else len(reply.body.get("MediaInfos") or ())
    return Answer(value, value["20"] == 20)


@question(
    "How does GetMediaInfo say that there is no such medium?",
    belief="By ResourceNotFound, or by an answer without a MediaInfo; both are read alike.",
    where="api/operations.py, get_media_info",
    if_not="A deletion by URL can't tell what is missing: its ignored URLs end the run with the refusal.",
)
def missing_medium(run: Run) -> Answer:
    unknown, url = run.guard.make_up(), run.media.url("never-written.mp4")
    value = {}
    for name, params in (("by_id", {"MediaId": unknown}), ("by_url", {"InputURL": url})):
        reply = run.ask("GetMediaInfo", **params)
        value[name] = reply.describe() if reply.code else f"MediaInfo is {shape(reply.body, 'MediaInfo')}"
    try:
        found = [
            operations.get_media_info(run.client, media_id=unknown).value,
            operations.get_media_info(run.client, input_url=url).value,
        ]
    except IMSAPIError as error:
        return Answer(value, False, f"The code raises {error.code}.")
    return Answer(value, found == [None, None])


@question(
    "Does a medium that is there show a DeletedTime?",
    belief="It may; alone it proves nothing, and no living medium is taken for gone.",
    where="api/operations.py, MediaInfo.is_gone",
    if_not="Media that are there count as gone.",
)
def deleted_time_of_the_living(run: Run) -> Answer:
    ids = [own.media_id for own in run.media.some(20)]
    shown: set[str] = set()
    for item in run.ask("BatchGetMediaInfos", MediaIds=",".join(ids)).body.get("MediaInfos") or ():
        basic = item.get("MediaBasicInfo") or {}
        deleted = basic.get("DeletedTime")
        same = deleted == basic.get("CreateTime")
        shown.add("absent" if not deleted else "equal to CreateTime" if same else f"another: {deleted}")
    media = operations.batch_get_media_infos(run.client, ids).value
    return Answer(sorted(shown), len(media) == 20 and not any(medium.is_gone for medium in media))


@question(
    "Which Status do media show that are there?",
    belief="One of those that are documented.",
    where="api/operations.py, LIVING_STATUSES",
    if_not="A medium with another status and a late DeletedTime counts as gone.",
)
def status_of_the_living(run: Run) -> Answer:
    media = operations.batch_get_media_infos(run.client, [own.media_id for own in run.media.some(20)]).value
    statuses = sorted({medium.status or "none" for medium in media})
    return Answer(statuses, all(status.casefold() in LIVING_STATUSES for status in statuses))


@question(
    "How are the fields of a medium written?",
    belief="MediaTags as one text with commas; sizes as text or as numbers; InputURL as it was registered.",
    where="api/operations.py, _media and _size",
    if_not="exclude_tags can't be applied: every medium is kept as undecided.",
)
def fields_of_a_medium(run: Run) -> Answer:
    own = run.media.some()[0]
    (item,) = run.ask("BatchGetMediaInfos", MediaIds=own.media_id, AdditionType="FileInfo").body["MediaInfos"]
    basic = item.get("MediaBasicInfo") or {}
    files = [file.get("FileBasicInfo") or {} for file in item.get("FileInfoList") or ()]
    medium = operations.batch_get_media_infos(run.client, [own.media_id]).value[0]
    value = {
        "MediaTags": type(basic.get("MediaTags")).__name__,
        "FileSize": sorted({type(file.get("FileSize")).__name__ for file in files}),
        "InputURL": "as registered" if basic.get("InputURL") == own.url else "written otherwise",
        "FileUrl": "signed" if any("?" in str(file.get("FileUrl")) for file in files) else "plain",
    }
    return Answer(value, medium.tags == (run.media.mark,) and medium.input_url == own.url)


@question(
    "By which spellings of its URL is a medium found?",
    belief="At least by the one that it was registered under, letter for letter.",
    where="deletion by input_urls; api/identifiers.py, match_key and stored_object",
    if_not="A deletion by URL calls media missing that are there.",
)
def spellings_of_a_url(run: Run) -> Answer:
    own = run.media.some()[0]
    spellings = {
        "as registered (https)": own.url,
        "http": run.media.url(own.name, "http"),
        "oss": run.media.url(own.name, "oss"),
        "OSS": run.media.url(own.name, "oss").replace("oss://", "OSS://", 1),
        "with an empty ?": f"{own.url}?",
    }
    special = run.media.make("blank and ü+.mp4")
    decoded = special.url.rpartition("/")[0] + "/blank and ü+.mp4"
    spellings |= {"percent-encoded, as registered": special.url, "the same, decoded": decoded}
    value = {
        name: "not found" if operations.get_media_info(run.client, input_url=url).value is None else "found"
        for name, url in spellings.items()
    }
    exact = ("as registered (https)", "percent-encoded, as registered")
    return Answer(value, all(value[name] == "found" for name in exact))


@question(
    "Is a URL with a comma found by GetMediaInfo?",
    belief="It is, for it takes one URL; in a deletion the comma would end the URL, so the code refuses it there.",
    where="api/identifiers.py, check_input_url",
    if_not="Such a medium can be deleted by its id only, and its id has to be found by listing.",
)
def comma_in_a_url(run: Run) -> Answer:
    own = run.media.make("a,b.mp4", url=run.media.url("a,b.mp4").replace("%2C", ","))
    found = operations.get_media_info(run.client, input_url=own.url).value
    return Answer("found" if found else "not found", bool(found and found.media_id == own.media_id))


@question(
    "How soon is a new medium shown?",
    belief="At once, within a second.",
    where="nothing; who deletes right after registering should know",
    if_not="A deletion right after a registration may call the medium missing.",
)
def lag_after_registration(run: Run) -> Answer:
    own = run.media.make("new.mp4")
    witness = run.media.some()[0].media_id
    lags = until_each(
        {
            "BatchGetMediaInfos": lambda: own.media_id in _shown(run, [witness, own.media_id]),
            "GetMediaInfo": lambda: (
                operations.get_media_info(run.client, input_url=own.url).value is not None
            ),
            "ListMediaBasicInfos": lambda: own.media_id in _newest(run),
        },
        30,
    )
    reads = (lags["BatchGetMediaInfos"], lags["GetMediaInfo"])
    return Answer(in_words(lags, 30), all(lag is not None and lag <= 1 for lag in reads))


def _shown(run: Run, media_ids: list[str]) -> set[str]:
    return {medium.media_id for medium in operations.batch_get_media_infos(run.client, media_ids).value}


def _newest(run: Run) -> set[str]:
    return {medium.media_id for medium in operations.list_media_basic_infos(run.client).value.media}


@question(
    "What does registering a URL do that is registered already?",
    belief="Nothing is known; the provider registers nothing.",
    where="nothing",
    if_not="Nothing depends on it.",
)
def registered_again(run: Run) -> Answer:
    own = run.media.some()[0]
    reply = run.ask("RegisterMediaInfo", InputURL=own.url)
    if reply.code:
        return Answer(reply.describe(), None)
    media_id = str(reply.body.get("MediaId"))
    run.media.adopt(media_id, own.url)
    return Answer("the same id" if media_id == own.media_id else "another id", None)
