"""A media team's library to look at and to try policies on: the same 308 media each time, aged from today.

Unlike what :func:`~airflow_provider_ims.emulator.seeding.generate` makes up, its titles, tags, types and dates mean
something, so that a person can tell whether a policy selected what it should.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from airflow_provider_ims.emulator.library import Medium
from airflow_provider_ims.emulator.seeding import Seed

_DAY = 24 * 60 * 60
_GB = 1_000_000_000
_SERIES = ("Harbour Lights", "The Long Shift", "Salt Road", "North by Rail")
_PEOPLE = ("Mara Lindqvist", "Tomás Herrera", "Aiko Tanabe", "Jonas Weber", "Priya Raman", "Lucía Ortega")
_CITIES = ("Lisbon", "Osaka", "Hamburg", "Chengdu", "Montréal", "Kraków")


class _Group(NamedTuple):
    """Media of one purpose.

    :param title: of each; ``{series}``, ``{person}``, ``{city}`` and ``{n}`` are filled in.
    :param size: how many there are.
    :param tags: comma-separated, as the service shows them.
    :param newest: age of the newest in days; ``spread`` more for the oldest.
    :param gigabytes: size of the largest.
    :param fields: further ones of :class:`Medium`.
    """

    folder: str
    title: str
    size: int
    tags: str
    newest: int
    spread: int
    gigabytes: float
    ending: str = "mp4"
    fields: dict[str, Any] = {}  # noqa: RUF012 - never changed


_AUDIO = {"media_type": "audio"}
_COVER = {"media_type": "image", "business_type": "cover"}
_OPENING = {"business_type": "opening", "protected": True}
_GROUPS = (
    _Group("masters", "{series}, episode {n} (master)", 48, "master,keep", 20, 700, 38, "mov"),
    _Group("raw", "{series}, take {n}, camera B", 96, "raw", 5, 600, 12, "mov"),
    _Group("renditions", "{series}, episode {n}, 720p", 48, "transcoded", 19, 699, 1.9),
    _Group("interviews", "Interview: {person}, part {n}", 24, "interview", 45, 500, 4.2),
    _Group("social", "Teaser {n}: {series}, vertical", 36, "social,transcoded", 1, 240, 0.08),
    _Group("podcast", "On location in {city}, episode {n}", 18, "podcast", 10, 400, 0.12, "mp3", _AUDIO),
    _Group("posters", "{series}, poster {n}", 18, "artwork", 90, 600, 0.01, "jpg", _COVER),
    _Group("openings", "{series}, opening titles", 4, "keep", 400, 300, 0.4, "mov", _OPENING),
    _Group("legal", "{person}: exhibit {n}", 6, "legal-hold", 300, 400, 2.5, "mp4", {"protected": True}),
    _Group("failed", "{series}, upload {n}", 8, "raw", 30, 200, 0.6, "mov", {"status": "TranscodeFail"}),
    _Group("uploads", "{city} b-roll {n}", 2, "", 0, 0, 3.1, "mov", {"status": "Uploading"}),
)


def sample(*, region: str, now: float | None = None) -> Iterator[Seed]:
    """Give the media; ids and URLs are the same each time.

    :param now: what ages count from, seconds since the epoch.
    """
    moment = time.time() if now is None else now
    for group in _GROUPS:
        for index in range(group.size):
            url = (
                f"https://media-team.oss-{region}.aliyuncs.com/{group.folder}/{index + 1:03d}.{group.ending}"
            )
            share = index / max(1, group.size - 1)
            # Noise that is the same each time, so that neither sizes nor hours look counted out.
            noise = hashlib.blake2b(url.encode(), digest_size=16)
            part = noise.digest()[0] / 255
            age = (group.newest + (1 - share) * group.spread) * _DAY + part * _DAY / 2
            yield (
                Medium(
                    media_id=noise.hexdigest(),
                    url=url,
                    created=int(moment - age),
                    title=group.title.format(
                        series=_SERIES[index % len(_SERIES)],
                        person=_PEOPLE[index % len(_PEOPLE)],
                        city=_CITIES[index % len(_CITIES)],
                        n=index // len(_SERIES) + 1,
                    ),
                    tags=group.tags,
                    size=int(group.gigabytes * _GB * (0.3 + 0.7 * part)),
                    **group.fields,
                ),
                True,
            )
