"""Is the file gone, too? Looks in OSS for the files of media that were deleted with them.

What the service does when its role lacks rights on a bucket is not documented: the registration may be gone and the
file stay, which nobody finds again and everybody pays for. A listing of OSS shows a deletion at once; but whether IMS
deletes a file before it answers is not documented either, so one that is there is looked for again.

Source: https://www.alibabacloud.com/help/en/ims/developer-reference/api-ice-2020-11-09-deletemediainfos
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Protocol

from airflow_provider_ims.api.identifiers import oss_region, stored_object
from airflow_provider_ims.deletion.resolve import Outcome, TargetResult

MAX_REASON = 200


class FileState(StrEnum):
    """What OSS says of the file of a medium that was deleted with it."""

    GONE = "gone"
    LEFT = "left"
    UNKNOWN = "unknown"


class Bucket(Protocol):
    """What is needed of a file system: :class:`airflow_provider_ims.files.oss.OSSFileSystem` has it."""

    def existing(self, bucket: str, keys: Iterable[str]) -> set[str]:
        """Return which of some keys are there.

        :raises OSError: if that can't be found out.
        """


class FileVerifier:
    """Finds out what became of files. Used by several threads at once.

    :param store: OSS, by the keys of the connection.
    :param region: of the connection, None when it is not known.
    """

    def __init__(self, store: Bucket, region: str | None) -> None:
        self._store = store
        self._region = region

    def look(self, results: Sequence[TargetResult]) -> list[TargetResult]:
        """Return deleted targets with what became of their files, each bucket asked once."""
        found: dict[int, TargetResult] = {}
        buckets: dict[str, dict[int, str]] = defaultdict(dict)
        for place, result in enumerate(results):
            stored = stored_object(result.url) if result.url else None
            region = oss_region(result.url) if result.url else None
            if not result.url:
                found[place] = _unknown(result, "the address of its file is not known")
            elif stored is None or not stored[0].startswith("oss://"):
                found[place] = _unknown(result, "its file does not lie in OSS")
            elif region and self._region and region != self._region:
                found[place] = _unknown(
                    result, f"its file lies in {region}, the connection is to {self._region}"
                )
            else:
                buckets[stored[0].removeprefix("oss://")][place] = stored[1]
        for bucket, keys in buckets.items():
            try:
                there = self._store.existing(bucket, keys.values())
            except (OSError, ValueError) as error:
                found |= {place: _unknown(results[place], str(error)) for place in keys}
                continue
            for place, key in keys.items():
                state = FileState.LEFT if key in there else FileState.GONE
                found[place] = results[place]._replace(file=state.value)
        return [found[place] for place in range(len(results))]


def has_file_to_look_for(result: TargetResult) -> bool:
    """Whether it was deleted, so that its file had to go."""
    return result.outcome is Outcome.DELETED and result.file is None


def _unknown(result: TargetResult, reason: str) -> TargetResult:
    return result._replace(file=FileState.UNKNOWN.value, reason=reason[:MAX_REASON])
