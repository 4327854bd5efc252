"""AccessKeys: who may call, with which secret, for how long and what for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from airflow_provider_ims.emulator import times

_LONGEST_LIFE = 10**9
"""Seconds."""
_FIELDS = {"key_id", "secret", "security_token", "expires", "expires_in", "actions", "status"}


@dataclass(slots=True)
class Key:
    """One AccessKey.

    :param actions: what it may do, as in a RAM policy: ``ice:DeleteMediaInfos``, ``ice:Get*``, ``*``.
    :param security_token: makes it a temporary (STS) key; requests must carry the token.
    :param expires: seconds since the epoch; from then on the token is refused.
    """

    key_id: str
    secret: str
    actions: tuple[str, ...] = ("*",)
    security_token: str | None = None
    expires: float | None = None
    active: bool = True

    def may(self, action: str) -> bool:
        """Tell whether this key has the permission for an operation."""
        return any(fnmatchcase(f"ice:{action}", pattern) for pattern in self.actions)

    def describe(self) -> dict[str, Any]:
        """Show the key without its secret and its token."""
        return {
            "key_id": self.key_id,
            "actions": list(self.actions),
            "temporary": self.security_token is not None,
            "expires": None if self.expires is None else times.to_text(self.expires),
            "status": "active" if self.active else "inactive",
        }


DEFAULT_KEY = Key("emulator", "emulator-secret")


def read_key(fields: Mapping[str, Any]) -> Key:
    """Make a key of its JSON form.

    :raises ValueError: names the field that is missing, unknown or makes no sense.
    """
    if not isinstance(fields, Mapping):
        raise ValueError(f"a key must be a JSON object, not {fields!r}")
    if unknown := set(fields) - _FIELDS:
        raise ValueError(f"unknown field {min(unknown)!r} in a key; known are {', '.join(sorted(_FIELDS))}")
    for name in ("key_id", "secret"):
        if not isinstance(fields.get(name), str) or not fields[name]:
            raise ValueError(f"a key needs {name!r}, a text")
    if not isinstance(fields.get("security_token"), str | None):
        raise ValueError(f"'security_token' of a key must be a text, not {fields['security_token']!r}")
    actions = fields.get("actions", ["*"])
    if not isinstance(actions, list) or not all(isinstance(action, str) for action in actions):
        raise ValueError(f"'actions' of a key must be a list of texts, not {actions!r}")
    status = fields.get("status", "active")
    if status not in ("active", "inactive"):
        raise ValueError(f"'status' of a key must be active or inactive, not {status!r}")
    expires: float | None = None
    if "expires_in" in fields:
        life = fields["expires_in"]
        if isinstance(life, bool) or not isinstance(life, int | float) or abs(life) > _LONGEST_LIFE:
            raise ValueError(f"'expires_in' of a key must be seconds, {_LONGEST_LIFE} at most, not {life!r}")
        expires = time.time() + life
    elif "expires" in fields:
        expires = times.from_text(str(fields["expires"]))
    if expires is not None and not fields.get("security_token"):
        raise ValueError("only a key with a 'security_token' can expire")
    return Key(
        key_id=fields["key_id"],
        secret=fields["secret"],
        actions=tuple(action if ":" in action or action == "*" else f"ice:{action}" for action in actions),
        security_token=fields.get("security_token"),
        expires=expires,
        active=status == "active",
    )
