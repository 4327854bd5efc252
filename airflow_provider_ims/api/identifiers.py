"""What can name a medium, and when two spellings name the same one.

Values travel joined by commas, so a value with a comma would name another medium than was meant: whatever is sent
is checked here first. Whatever comes back is matched here with what was sent.

Sources: https://www.alibabacloud.com/help/en/ims/developer-reference/api-ice-2020-11-09-deletemediainfos for ids of
32 hexadecimal digits and the separator; https://help.aliyun.com/document_detail/441153.html for the echo.
"""

from __future__ import annotations

import re
import reprlib
import unicodedata
from collections.abc import Iterable, Mapping
from urllib.parse import unquote

MAX_MEDIA_PER_CALL = 20
"""Ids or URLs that one request can name: documented for DeleteMediaInfos. For BatchGetMediaInfos nothing is
published, so the same is used."""

# More than the documented 32 hexadecimal digits, but nothing that separates, quotes or encloses.
_MEDIA_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_URL_SCHEMES = ("http", "https", "oss")
# How templates, JSON, JavaScript and data frames spell a value that is not there.
_MISSING_VALUES = frozenset({"none", "null", "nil", "nan", "nat", "n/a", "<na>", "undefined"})
_HEXADECIMAL = re.compile(r"[0-9A-Fa-f-]+")

# https://www.alibabacloud.com/help/en/oss/regions-and-endpoints; the last form is that of dual stack.
_OSS_HOST = re.compile(
    r"(?P<bucket>[a-z0-9-]+)\."
    r"(?:(?:s3\.|vpc100-)?oss(?:-(?P<region>[a-z0-9-]+?)(?:-internal)?)?|(?P<dual>[a-z0-9-]+)\.oss)\.aliyuncs\.com"
)
_DEFAULT_PORT = re.compile(r"\.?(?::(?:80|443))?$")

MAX_SHOWN = 120


def check_media_id(value: object, source: str = "media_ids") -> str:
    """Return the id without surrounding blanks.

    :param source: names the argument, or the file and line, in the message.
    :raises ValueError: when it can't be an id: 1 to 128 letters, digits, ``_``, ``-`` and ``.``.
    """
    text = value.strip() if isinstance(value, str) else ""
    if _MEDIA_ID.fullmatch(text) and not is_no_name(text):
        return text
    if "://" in text:
        raise ValueError(f"{source}: {show(text)} is a URL; give URLs as input_urls")
    raise ValueError(f"{source}: {show(value)} is not a media id")


def check_input_url(value: object, source: str = "input_urls", *, is_alone: bool = False) -> str:
    """Return the URL without surrounding blanks.

    :param is_alone: it is not sent with others, so that a comma does not make it two.
    :raises ValueError: for a scheme other than http, https and oss; a URL without an object or with a second
        ``://``; a comma, which separates URLs in a request; a query, which no registered URL has, and which may be
        a signature; a control character.
    """
    text = value.strip() if isinstance(value, str) else ""
    url, _, query = text.partition("?")
    scheme, found, rest = url.partition("://")
    if not found or scheme.lower() not in _URL_SCHEMES:
        raise ValueError(f"{source}: {show(value)} is not an http://, https:// or oss:// URL")
    if "," in text and not is_alone:
        raise ValueError(
            f"{source}: {show(url)} has a comma, which IMS takes for the end of a URL; delete this medium by its id"
        )
    if "://" in rest:
        raise ValueError(f"{source}: {show(url)} is more than one URL; separate them by commas or line ends")
    host, _, key = rest.partition("/")
    if not host.strip() or not key.strip("/ "):
        raise ValueError(f"{source}: {show(url)} names no object, only a place")
    if query:
        raise ValueError(
            f"{source}: {show(url)} has a query after it; give the URL as it is registered, without a signature"
        )
    if has_control_character(url):
        raise ValueError(f"{source}: {show(url)} has a control character")
    return text


def match_key(value: str) -> str:
    """Return the form in which all spellings of an id, or of a URL, are the same; two are equal if their keys are.

    The service echoes with stray white space. An id is a number in hexadecimal digits, whatever their case, and one
    with other letters is taken as it is; a URL's scheme has no case either, and the documentation's samples carry an
    empty query.
    """
    text = value.strip()
    scheme, found, rest = text.partition("://")
    if found:
        return f"{scheme.lower()}://{rest.removesuffix('?')}"
    return text.lower() if _HEXADECIMAL.fullmatch(text) else text


def stored_object(url: str) -> tuple[str, str] | None:
    """Return where a file lies, as ``oss://{bucket}`` or ``{scheme}://{host}``, and its key; None for no file's URL.

    :param url: as it is registered in IMS, whichever way it spells an object in OSS. A query, which may be a
        signature, is left out.
    """
    scheme, _, rest = url.partition("?")[0].partition("://")
    host, _, key = rest.partition("/")
    scheme, host = scheme.lower(), _plain_host(host)
    if scheme not in _URL_SCHEMES or not host or not key:
        return None
    if scheme != "oss":
        key = unquote(key)
    in_oss = _OSS_HOST.fullmatch(host)
    if scheme == "oss" or in_oss:
        return f"oss://{in_oss['bucket'] if in_oss else host}", key
    return f"{scheme}://{host}", key


def oss_region(url: str) -> str | None:
    """Return the region that a URL of an object in OSS tells, None if it tells none (``oss://`` does not)."""
    in_oss = _OSS_HOST.fullmatch(_plain_host(url.partition("://")[2].partition("/")[0]))
    return in_oss["region"] or in_oss["dual"] if in_oss else None


def _plain_host(host: str) -> str:
    return _DEFAULT_PORT.sub("", host.lower())


def is_list(value: object) -> bool:
    """Whether going through a value gives names: a text gives letters, a mapping and a table give their keys."""
    if isinstance(value, str | bytes | bytearray | Mapping) or not isinstance(value, Iterable):
        return False
    # numpy's arrays and the columns of data frames have one dimension.
    dimensions = getattr(value, "ndim", 0 if hasattr(value, "keys") else 1)
    return bool(dimensions == 1)


def is_missing(text: str) -> bool:
    """Return whether a text stands for a value that is not there, such as ``None``, ``nan`` or nothing to be seen."""
    return not is_visible(text) or text.strip().casefold() in _MISSING_VALUES


def is_no_name(text: str) -> bool:
    """Return whether a text is what became of a value that is not there, or of a condition in a template."""
    return is_missing(text) or text.strip().casefold() in ("true", "false")


def has_control_character(text: str) -> bool:
    """Return whether a text has one, or a line end, or half of a character; other blanks than ``" "`` are none."""
    return any(unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") for one in text)


def is_visible(text: str) -> bool:
    """Return whether a text has more than blanks, control characters and others that no screen shows."""
    return any(one.isprintable() and not one.isspace() for one in text)


def show(value: object) -> str:
    """Return a value quoted for a message: cut where it is long, and without a query, which may be a signature."""
    shown = repr(value[: MAX_SHOWN + 1].partition("?")[0]) if isinstance(value, str) else reprlib.repr(value)
    shown = shown.partition("?")[0]
    return shown if len(shown) <= MAX_SHOWN else f"{shown[: MAX_SHOWN - 3]}..."
