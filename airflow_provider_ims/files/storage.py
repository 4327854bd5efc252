"""Files wherever the user's Airflow can write them: a local folder, or any object storage that it knows.

Says where and how, not what: plans, reports and shards are the business of their own modules.
"""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any, cast

from airflow_provider_ims.arguments import is_nothing

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

_to_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make an encoder for each line


def storage_path(path: str | ObjectStoragePath) -> ObjectStoragePath:
    """Make a path of the user's text; any store that the user's Airflow knows.

    :raises ValueError: for a text that names nothing, and for ``~``, which a worker would take for a folder's name.
    """
    text = str(path).strip()
    if is_nothing(path) or text == ".":  # "." is what a path of nothing becomes
        raise ValueError(f"{str(path)!r} is given as a path, which names none")
    if text.startswith("~"):
        raise ValueError(
            f"{text!r} is given as a path, but the home of a worker is not yours; write it without ~"
        )
    # Imported late: it loads much that a DAG file never needs.
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    found = path if isinstance(path, ObjectStoragePath) else ObjectStoragePath(str(path))
    _ = found.fs  # Airflow 2 would say only later that it knows no such store.
    return found


def is_local(path: ObjectStoragePath) -> bool:
    """Whether it lies in a file system: with folders to make, files to append to, and names to swap."""
    return path.protocol in ("", "file", "local")  # "" is that of a plain path


def open_new(path: ObjectStoragePath) -> IO[bytes]:
    """Open a file for writing; its folder is made where there are such things as folders."""
    if is_local(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return cast("IO[bytes]", path.open("wb"))  # type: ignore[no-untyped-call]


def to_line(value: Any) -> bytes:
    """Spell a value as a line of JSON."""
    # Half a surrogate pair, which JSON can carry and UTF-8 can't, becomes the JSON escape that it came as.
    return (_to_json(value) + "\n").encode("utf-8", "backslashreplace")
