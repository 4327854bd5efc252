"""Deletions: what goes by DeleteMediaInfos and DeletePlayInfo, what is echoed, and how reads lag behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow_provider_ims.api import operations
from airflow_provider_ims.api.errors import TARGET_CODES, IMSError, IMSTransientError
from airflow_provider_ims.api.identifiers import match_key
from airflow_provider_ims.deletion.run import LOOK_AGAIN_SECONDS
from tests.live.media import NotTold, OwnMedium
from tests.live.question import Answer, Reply, Run, in_words, question, until, until_each
from tests.live.questions.listings import moved
from tests.live.questions.reads import echoed, shape


def delete(run: Run, **params: Any) -> Reply:
    """Delete; the file stays unless it is said otherwise."""
    return run.ask("DeleteMediaInfos", **{"DeletePhysicalFiles": False, **params})


def is_gone(run: Run, own: OwnMedium, seconds: float = 10) -> bool:
    """Whether a medium is gone, or is so within some seconds."""

    def gone() -> bool:
        found = operations.get_media_info(run.client, media_id=own.media_id).value
        return found is None or found.is_gone

    return until(gone, seconds) is not None


def what_became(run: Run, own: OwnMedium, reply: Reply) -> str:
    """Return what a deletion did to one medium."""
    if reply.code:
        return f"{reply.describe()}; {'gone' if is_gone(run, own, 1) else 'still there'}"
    keys = {name: map(match_key, echoed(reply.body, f"{name}List")) for name in ("Ignored", "Forbidden")}
    for name, found in keys.items():
        if match_key(own.media_id) in found:
            return f"in {name}List"
    return "deleted" if is_gone(run, own) else "taken, but still shown"


@question(
    "What becomes of the file when DeletePhysicalFiles is left out?",
    belief="It stays; the code always sends the parameter all the same.",
    where="api/operations.py, delete_media_infos; hook.call() leaves it to its caller",
    if_not="Only hook.call('DeleteMediaInfos') without the parameter deletes files.",
)
def default_of_delete_physical_files(run: Run) -> Answer:
    (own,) = run.media.take()
    run.ask("DeleteMediaInfos", MediaIds=own.media_id)
    if not is_gone(run, own):
        raise NotTold("the medium was not deleted")
    gone = until(lambda: not run.media.path(own.name).exists(), 5)
    return Answer("it stays" if gone is None else "it is deleted too", gone is None)


@question(
    "Does DeletePhysicalFiles do what it says?",
    belief="true deletes the file within seconds, false leaves it.",
    where="operators/ims.py, delete_physical_files",
    if_not="Files stay that should go, and cost money, or go that should stay.",
)
def delete_physical_files(run: Run) -> Answer:
    value = {}
    for wanted in (True, False):
        (own,) = run.media.take()
        reply = delete(run, MediaIds=own.media_id, DeletePhysicalFiles=wanted)
        if (became := what_became(run, own, reply)) != "deleted":
            value[str(wanted).lower()] = f"the medium is {became}"
            continue
        gone = until(lambda own=own: not run.media.path(own.name).exists(), 20 if wanted else 3)  # type: ignore[misc]
        value[str(wanted).lower()] = "the file stays" if gone is None else "the file goes"
    return Answer(value, value == {"true": "the file goes", "false": "the file stays"})


@question(
    "What becomes of a deletion that names an unknown id?",
    belief="It is echoed in IgnoredList and the others are deleted. If the whole is refused instead, by a code that "
    "may be about one target, the code finds that target by halves.",
    where="api/errors.py, TARGET_CODES",
    if_not="One unknown id ends a run.",
)
def unknown_id_in_a_deletion(run: Run) -> Answer:
    return _with(run, run.guard.make_up())


@question(
    "What becomes of a deletion that names what can't be an id?",
    belief="The same as of an unknown id.",
    where="api/errors.py, TARGET_CODES",
    if_not="A slip in one id ends a run.",
)
def malformed_id_in_a_deletion(run: Run) -> Answer:
    return _with(run, run.guard.make_up("no.id"))


def _with(run: Run, unknown: str) -> Answer:
    (own,) = run.media.take()
    reply = delete(run, MediaIds=f"{own.media_id},{unknown}")
    became = what_became(run, own, reply)
    if reply.code:
        known = reply.code.casefold().startswith(TARGET_CODES)
        return Answer(reply.describe(), known and "still there" in became, f"The other medium: {became}.")
    is_echoed = unknown in map(str.strip, echoed(reply.body, "IgnoredList"))
    return Answer(
        "in IgnoredList" if is_echoed else "left out",
        is_echoed and became == "deleted",
        f"The other medium: {became}.",
    )


@question(
    "How is a list with nothing in it written?",
    belief="Absent, null or []; all are read alike.",
    where="api/fields.py, texts",
    if_not="A deletion that was done is taken for a broken answer and sent again.",
)
def empty_lists(run: Run) -> Answer:
    (own,) = run.media.take()
    body = delete(run, MediaIds=own.media_id).body
    value = {name: shape(body, name) for name in ("IgnoredList", "ForbiddenList")}
    return Answer(value, set(value.values()) <= {"absent", "null", "[]"})


@question(
    "Are ids echoed as they were sent, and in which order?",
    belief="Each is, but for white space around it and the case of its letters; the order does not matter.",
    where="api/identifiers.py, match_key",
    if_not="The run names targets that were not in its batch, and reads the whole batch back.",
)
def echo_of_ids(run: Run) -> Answer:
    # A medium that was there a moment ago is ignored whichever way unknown ids are treated.
    media = run.media.take(4)
    ids = [own.media_id for own in media]
    delete(run, MediaIds=",".join(ids))
    if not all(is_gone(run, own) for own in media):
        raise NotTold("they are not gone")
    sent = [ids[2], ids[0], ids[3], ids[1]]
    reply = delete(run, MediaIds=",".join(sent))
    if reply.code:
        return Answer(
            {"repeated": reply.describe()}, None, "Deleted media are refused, so nothing is echoed."
        )
    came = echoed(reply.body, "IgnoredList")
    stripped = list(map(str.strip, came))
    around = {text.replace(text.strip(), "id") for text in came}
    value = {
        "repeated": "in IgnoredList" if came else "left out",
        "order": "as sent" if stripped == sent else "sorted" if stripped == sorted(sent) else "another",
        "written": sorted(map(repr, around)),
    }
    return Answer(value, {match_key(text) for text in came} == set(sent))


@question(
    "Is white space around an id part of it?",
    belief="Nothing is known; the code sends none.",
    where="api/identifiers.py, check_media_id",
    if_not="Only hook.call() could meet it.",
)
def white_space_around_an_id(run: Run) -> Answer:
    (own,) = run.media.take()
    return Answer(what_became(run, own, delete(run, MediaIds=f" {own.media_id}")), None)


@question(
    "What becomes of an id that is named twice in one deletion?",
    belief="It is deleted; the code sends none twice.",
    where="deletion/targets.py",
    if_not="Only hook.call() could meet it.",
)
def duplicate_ids(run: Run) -> Answer:
    (own,) = run.media.take()
    reply = delete(run, MediaIds=f"{own.media_id},{own.media_id}")
    times = len(echoed(reply.body, "IgnoredList"))
    gone = is_gone(run, own)
    value = (
        reply.describe() if reply.code else f"{'deleted' if gone else 'not deleted'}, echoed {times} times"
    )
    return Answer(value, gone)


@question(
    "Is an id in capital letters the same?",
    belief="Nothing is known; the code compares ids whatever their case.",
    where="api/identifiers.py, match_key; duplicates and `protect` compare by it",
    if_not="Two media whose ids differ in case alone count as one; harmless unless there are such.",
)
def capital_letters_in_an_id(run: Run) -> Answer:
    own = next((one for one in run.media.some(20) if one.media_id != one.media_id.upper()), None)
    if own is None:
        raise NotTold("no id has a letter")
    reply = run.ask("BatchGetMediaInfos", MediaIds=own.media_id.upper())
    shown = [item.get("MediaId") for item in reply.body.get("MediaInfos") or ()]
    return Answer(reply.describe() if reply.code else "found" if shown else "not found", None)


@question(
    "What becomes of a deletion of more than 20 media?",
    belief="Nothing is known but that 20 are the most; the code never sends more.",
    where="api/identifiers.py, MAX_MEDIA_PER_CALL",
    if_not="Nothing depends on it.",
)
def too_many_in_a_deletion(run: Run) -> Answer:
    media = run.media.take(21)
    reply = delete(run, MediaIds=",".join(own.media_id for own in media))
    if reply.code:
        return Answer(reply.describe(), None)
    is_gone(run, media[0])
    gone = sum(is_gone(run, own, 1) for own in media)
    return Answer(f"{gone} of 21 deleted", None)


@question(
    "What becomes of MediaIds and InputURLs in one request?",
    belief="InputURLs are not looked at, as documented; the code refuses to send both.",
    where="api/operations.py, delete_media_infos",
    if_not="Nothing depends on it.",
)
def both_kinds_of_targets(run: Run) -> Answer:
    by_id, by_url = run.media.take(2)
    reply = delete(run, MediaIds=by_id.media_id, InputURLs=by_url.url)
    if reply.code:
        return Answer(reply.describe(), None)
    gone = is_gone(run, by_id), is_gone(run, by_url, 2)
    names = {(True, False): "only the id's is deleted", (True, True): "both are deleted"}
    return Answer(names.get(gone, f"deleted: by id {gone[0]}, by URL {gone[1]}"), gone == (True, False))


@question(
    "By which spellings of its URL is a medium deleted?",
    belief="At least by the one that it was registered under.",
    where="deletion by input_urls",
    if_not="A deletion by URL calls media missing that are there.",
)
def deletion_by_url(run: Run) -> Answer:
    spell: dict[str, Callable[[OwnMedium], str]] = {
        "as registered (https)": lambda own: own.url,
        "oss": lambda own: run.media.url(own.name, "oss"),
    }
    value = {}
    for name, spelled in spell.items():
        (own,) = run.media.take()
        reply = delete(run, InputURLs=spelled(own))
        ignored = bool(echoed(reply.body, "IgnoredList"))
        value[name] = reply.describe() if reply.code else "ignored" if ignored else "deleted"
        if value[name] == "deleted" and not is_gone(run, own):
            value[name] = "taken, but still shown"
    return Answer(value, value["as registered (https)"] == "deleted")


@question(
    "For how long do reads go on to show what was deleted, and as what?",
    belief=f"For {sum(LOOK_AGAIN_SECONDS)} seconds at most, or with a proof of the deletion.",
    where="deletion/run.py, LOOK_AGAIN_SECONDS",
    if_not="A target that was ignored because an earlier try took it is called failed.",
)
def lag_after_deletion(run: Run) -> Answer:
    (own,) = run.media.take()
    witness = run.media.some()[0]
    shown = operations.get_media_info(run.client, media_id=own.media_id).value
    if shown is None or shown.created is None:
        raise NotTold("the medium is not shown")
    created = shown.created
    longest = sum(LOOK_AGAIN_SECONDS)
    meanwhile: set[str] = set()

    def by_batch() -> bool:
        # With one that is there: a read of nothing but unknown ids may be refused.
        reply = run.ask("BatchGetMediaInfos", MediaIds=f"{witness.media_id},{own.media_id}")
        for item in reply.body.get("MediaInfos") or ():
            basic = item.get("MediaBasicInfo") or {}
            if item.get("MediaId") == own.media_id:
                late = str(basic.get("DeletedTime") or "") > created
                meanwhile.add(
                    f"Status {basic.get('Status')} and {'a later' if late else 'no later'} DeletedTime"
                )
                return False
        return True

    def by_get() -> bool:
        found = operations.get_media_info(run.client, media_id=own.media_id).value
        return found is None or found.is_gone

    def by_list() -> bool:
        window = {"start_time": moved(created, -1), "end_time": created}
        return own.media_id not in {
            medium.media_id for medium in operations.list_all_media(run.client, **window)
        }

    delete(run, MediaIds=own.media_id)
    lags = until_each(
        {"BatchGetMediaInfos": by_batch, "GetMediaInfo": by_get, "ListMediaBasicInfos": by_list}, longest
    )
    seen = f"Meanwhile shown with {', '.join(sorted(meanwhile))}." if meanwhile else ""
    in_time = lags["BatchGetMediaInfos"] is not None and lags["GetMediaInfo"] is not None
    return Answer(in_words(lags, longest), in_time, seen)


@question(
    "Can a medium be deleted right after it was registered?",
    belief="It can.",
    where="nothing",
    if_not="Who deletes right after registering has to wait.",
)
def deletion_of_a_new_medium(run: Run) -> Answer:
    own = run.media.make("fresh.mp4")
    shown = operations.get_media_info(run.client, media_id=own.media_id).value
    became = what_became(run, own, delete(run, MediaIds=own.media_id))
    return Answer(became, became == "deleted", f"Its Status was {shown.status if shown else 'not shown'}.")


@question(
    "What does DeletePlayInfo say to a stream that does not exist?",
    belief="The URL is in IgnoredList.",
    where="api/operations.py, delete_play_info",
    if_not="hook.delete_play_info() raises instead.",
)
def unknown_stream(run: Run) -> Answer:
    own = run.media.some()[0]
    url = run.media.url("no-stream.mp4")
    reply = run.ask("DeletePlayInfo", MediaId=own.media_id, FileURLs=url, DeletePhysicalFiles=False)
    if reply.code:
        return Answer(reply.describe(), False)
    is_echoed = match_key(url) in map(match_key, echoed(reply.body, "IgnoredList"))
    return Answer("in IgnoredList" if is_echoed else "left out", is_echoed)


@question(
    "What does DeletePlayInfo do to the file of the source itself?",
    belief="It never deletes it, as documented.",
    where="api/operations.py, delete_play_info",
    if_not="The source's file is lost by a call that promises to leave it.",
)
def source_as_a_stream(run: Run) -> Answer:
    (own,) = run.media.take()
    reply = run.ask("DeletePlayInfo", MediaId=own.media_id, FileURLs=own.url, DeletePhysicalFiles=True)
    if reply.code:
        said = reply.describe()
    else:
        lists = [name for name in ("IgnoredList", "ForbiddenList") if echoed(reply.body, name)]
        said = f"in {lists[0]}" if lists else "taken"
    return Answer(said, run.media.path(own.name).exists() and not is_gone(run, own, 1))


@question(
    "Does a whole deletion by the provider come out right?",
    belief="Each target gets its true outcome: 25 deleted in two requests, one unknown id missing.",
    where="hooks/ims.py, delete_media",
    if_not="The outcomes that users are told are wrong.",
)
def a_whole_deletion(run: Run) -> Answer:
    media = run.media.take(25)
    try:
        result = run.media.hook.delete_media([*(own.media_id for own in media), run.guard.make_up()])
    except IMSTransientError:
        raise
    except IMSError as error:
        return Answer(f"it ends in {type(error).__name__}", False, str(error))
    value = {
        name: result[name] for name in ("requested", "deleted", "missing", "forbidden", "failed", "unknown")
    }
    right = {"requested": 26, "deleted": 25, "missing": 1, "forbidden": 0, "failed": 0, "unknown": 0}
    return Answer(value, value == right and all(is_gone(run, own, 2) for own in media))
