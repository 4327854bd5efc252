"""Where the media of a library come from: JSON lines, or a generator that makes the same media of the same seed."""

from __future__ import annotations

import gc
import random
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from airflow_provider_ims.emulator import bounded_json, times
from airflow_provider_ims.emulator.library import Library, Medium

_DAY = 24 * 60 * 60
_MOST = 10_000_000
_OLDEST = 36_500
"""Days."""
_TEXTS = ("url", "title", "media_type", "source", "business_type", "status")
_SWITCHES = ("protected", "undeletable")
_FIELDS = {"media_id", "created", "tags", "size", "streams", "file", *_TEXTS, *_SWITCHES}

Seed = tuple[Medium, bool]
"""A medium, and whether its file is in its bucket."""

_FOLDERS = ("uploads", "masters", "trailers", "interviews", "b-roll", "social")
# A hundred of each, so that every entry is a percent.
_TYPES_AND_ENDINGS = [("video", ".mp4")] * 85 + [("image", ".jpg")] * 9 + [("audio", ".mp3")] * 6
_TAGS = ["transcoded"] * 60 + ["source"] * 25 + [""] * 10 + ["keep"] * 3 + ["legal-hold,source"] * 2
_STATUSES = ["Normal"] * 96 + ["TranscodeFail"] * 2 + ["Uploading"] + ["Blocked"]


def read_medium(fields: Mapping[str, Any]) -> Seed:
    """Make a medium of its JSON form.

    :raises ValueError: names the field that is missing, unknown or makes no sense.
    """
    if not isinstance(fields, Mapping):
        raise ValueError(f"a medium must be a JSON object, not {fields!r}")
    if unknown := set(fields) - _FIELDS:
        raise ValueError(
            f"unknown field {min(unknown)!r} in a medium; known are {', '.join(sorted(_FIELDS))}"
        )
    if not fields.get("url"):
        raise ValueError("a medium needs a 'url'")
    for name in _TEXTS:
        if not isinstance(fields.get(name, ""), str):
            raise ValueError(f"{name!r} of a medium must be a text, not {fields[name]!r}")
    for name in (*_SWITCHES, "file"):
        if not isinstance(fields.get(name, False), bool):
            raise ValueError(f"{name!r} of a medium must be true or false, not {fields[name]!r}")
    media_id = fields.get("media_id") or uuid.uuid4().hex
    if not isinstance(media_id, str) or len(media_id) != 32 or not media_id.isalnum():
        raise ValueError(f"'media_id' of a medium must have 32 letters and digits, not {media_id!r}")
    tags = fields.get("tags", "")
    if not isinstance(tags, str) and not (
        isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)
    ):
        raise ValueError(f"'tags' of a medium must be a text or a list of texts, not {tags!r}")
    size = fields.get("size", 0)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"'size' of a medium must be a number of bytes, not {size!r}")
    streams = fields.get("streams", [])
    if not isinstance(streams, list) or not all(isinstance(url, str) and url for url in streams):
        raise ValueError(f"'streams' of a medium must be a list of URLs, not {streams!r}")
    medium = Medium(
        media_id=media_id,
        streams=tuple(streams),
        created=times.from_text(str(fields["created"])) if "created" in fields else int(time.time()),
        tags=",".join(tags) if isinstance(tags, list) else tags,
        size=size,
        **{name: fields[name] for name in (*_TEXTS, *_SWITCHES) if name in fields},
    )
    return medium, fields.get("file", True)


def read_lines(text: str) -> Iterator[Seed]:
    """Read media from JSON lines; empty lines are skipped.

    :raises ValueError: names the line that can't be read.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                yield read_medium(bounded_json.loads(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None


def read_file(path: Path) -> Iterator[Seed]:
    """Read media from a JSON-lines file.

    :raises ValueError: names the file and the line that can't be read.
    """
    try:
        yield from read_lines(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from None


def generate(
    *,
    count: int,
    region: str,
    seed: int = 0,
    days: int = 730,
    protected: float = 0.0,
    twice: float = 0.0,
    until: float | None = None,
) -> Iterator[Seed]:
    """Make up a media team's library, oldest first. Ids and URLs depend on ``seed`` and ``count`` only.

    :param count: how many, 10,000,000 at most.
    :param days: how far back creation times go, 36,500 at most.
    :param protected: share of media that the service may not delete, 0 to 1.
    :param twice: share of media that register the file of the one before them again, 0 to 1.
    :param until: the latest creation time, seconds since the epoch; now by default.
    :raises ValueError: names the argument that makes no sense.
    """
    for name, number, most in (("count", count, _MOST), ("seed", seed, 2**63), ("days", days, _OLDEST)):
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= most:
            raise ValueError(f"{name!r} must be a whole number from 0 to {most}, not {number!r}")
    for name, share in (("protected", protected), ("twice", twice)):
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ValueError(f"{name!r} must be a share from 0 to 1, not {share!r}")
    rng = random.Random(seed)
    newest = int(time.time() if until is None else until)
    bucket = f"https://media-team.oss-{region}.aliyuncs.com"
    url = ""
    for index in range(count):
        media_type, ending = _TYPES_AND_ENDINGS[int(rng.random() * 100)]
        if not (url and rng.random() < twice):
            url = f"{bucket}/{_FOLDERS[index % len(_FOLDERS)]}/{seed}-{index:07d}{ending}"
        identity = rng.getrandbits(128)
        # Somewhere in its part of the time: were they evenly apart, one would be 90 days old to the second, and the
        # moment would decide whether a policy finds it.
        place = count - 1 - index + (identity % 997 + 1) / 998
        medium = Medium(
            media_id=f"{identity:032x}",
            url=url,
            created=newest - int(place * days * _DAY / count),
            media_type=media_type,
            status=_STATUSES[int(rng.random() * 100)],
            tags=_TAGS[int(rng.random() * 100)],
            size=int(rng.random() * 4_000_000_000),
            protected=rng.random() < protected,
        )
        yield medium, True


def fill(library: Library, media: Iterable[Seed]) -> list[Medium]:
    """Register media."""
    # Looking for reference cycles among a million new media takes seconds, and there are none.
    gc.disable()
    try:
        added = []
        for medium, has_file in media:
            library.add(medium)
            if not has_file:
                library.remove_file(medium)
            added.append(medium)
        return added
    finally:
        gc.enable()
