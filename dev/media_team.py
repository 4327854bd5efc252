"""The library of a media team, and a cleanup of it: what the demo and the system tests start from.

137 masters that were transcoded, five of which the bucket's owner protects; their renditions, posters and sound,
which must stay; and 12 raw uploads that go with their files, two of which were registered twice. Ages count from
now, and after the cleanup a tenth of what is left is older than 90 days.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

REGION = "cn-shanghai"
BUCKET = f"https://media-team.oss-{REGION}.aliyuncs.com"
PROGRAMMES = ("evening-news", "harbour-lights", "kitchen-stories", "ocean-watch", "second-half")


@dataclass(frozen=True)
class Cleanup:
    """A library, what a DAG run is asked to delete from it, and what must come of that.

    :ivar media: the library as the emulator's JSON lines have it.
    :ivar groups: the media ids of each kind of media.
    :ivar conf: for ``example_dags/ims_delete_media.py``.
    """

    media: list[dict[str, Any]]
    groups: dict[str, list[str]]
    conf: dict[str, list[str]]
    protected: frozenset[str]
    by_id: dict[str, int]
    by_url: dict[str, int]

    @property
    def leaving(self) -> set[str]:
        """The media that must be gone afterwards, and no others."""
        return {*self.groups["masters"], *self.groups["uploads"]} - self.protected

    @property
    def leaving_files(self) -> set[str]:
        """The URLs of the files that must be gone afterwards, and no others."""
        return {medium["url"] for medium in self.media if medium["media_id"] in self.groups["uploads"]}


def cleanup() -> Cleanup:
    """Make the same library and the same cleanup every time; only ages count from now."""
    rng = random.Random(2020_11_09)
    start = datetime.now(UTC) - timedelta(days=100)
    media: list[dict[str, Any]] = []

    def new_id() -> str:
        return f"{rng.getrandbits(128):032x}"

    def add(url: str, media_type: str, tags: str, size: int, **more: Any) -> str:
        created = start + timedelta(hours=len(media) * 6.7, minutes=rng.randrange(60))
        medium = {
            "media_id": new_id(),
            "url": f"{BUCKET}/{url}",
            "title": url.rsplit("/", 1)[1],
            "media_type": media_type,
            "tags": tags,
            "size": size,
            "created": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            **more,
        }
        media.append(medium)
        return str(medium["media_id"])

    masters, renditions, uploads = [], [], []
    for number in range(137):
        programme = PROGRAMMES[number % len(PROGRAMMES)]
        name = f"{programme}/{number:03}"
        masters.append(
            add(
                f"masters/{name}.mov",
                "video",
                "transcoded,source",
                rng.randrange(2, 40) * 10**9,
                protected=number % 30 == 7,
            )
        )
        renditions.append(add(f"web/{name}-1080p.mp4", "video", "rendition", rng.randrange(200, 900) * 10**6))
        if number % 3 == 0:
            renditions.append(add(f"web/{name}.jpg", "image", "poster", rng.randrange(80, 400) * 1000))
        if number % 7 == 0:
            renditions.append(add(f"web/{name}.m4a", "audio", "sound", rng.randrange(10, 60) * 10**6))
    for number in range(12):
        for _ in range(2 if number in (3, 8) else 1):
            uploads.append(add(f"uploads/take {number:02}.mxf", "video", "raw", rng.randrange(5, 60) * 10**9))

    unknown = [new_id() for _ in range(10)]
    media_ids = masters + unknown
    rng.shuffle(media_ids)
    urls = sorted({medium["url"] for medium in media if medium["media_id"] in uploads})
    protected = frozenset(medium["media_id"] for medium in media if medium.get("protected"))
    return Cleanup(
        media=media,
        groups={"masters": masters, "uploads": uploads, "renditions": renditions},
        conf={
            "media_ids": media_ids + media_ids[20:23],
            "input_urls": [*urls, f"{BUCKET}/uploads/take 99.mxf"],
        },
        protected=protected,
        by_id={"requested": 147, "duplicates": 3, "deleted": 132, "missing": 10, "forbidden": 5},
        by_url={"requested": 13, "duplicates": 0, "deleted": 12, "missing": 1, "forbidden": 0},
    )
