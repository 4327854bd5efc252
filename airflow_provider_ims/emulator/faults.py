"""Misbehaviour by rule: which kinds there are, and when a rule strikes.

A rule names a kind, the requests it looks at (one action or all) and how often it strikes among them: always,
every n-th time, or with a probability from a seed. Only requests that pass the gateway's checks are looked at,
but for ``wrong_clock`` and ``expired_token``, which change those checks.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from airflow_provider_ims.emulator.records import Entry


class FaultKind(NamedTuple):
    """A way to misbehave.

    :param text: what happens.
    :param options: its own options with their defaults; a default of ``None`` means that it must be given.
    :param choices: the values that an option may have.
    :param replaces: stands in place of an answer; at most one such rule strikes a request.
    """

    text: str
    options: Mapping[str, Any]
    choices: Mapping[str, tuple[Any, ...]]
    replaces: bool = False


_WHEN = ("before", "after")

FAULT_KINDS: Mapping[str, FaultKind] = {
    "reset": FaultKind(
        "resets the connection without an answer, before or after the work",
        {"when": "before"},
        {"when": _WHEN},
        replaces=True,
    ),
    "timeout": FaultKind(
        "never answers; closes the connection after `seconds`",
        {"when": "before", "seconds": 600.0},
        {"when": _WHEN},
        replaces=True,
    ),
    "error": FaultKind(
        "answers with a server error: its body is the service's JSON, a proxy's HTML page or none",
        {"when": "before", "status": 503, "body": "json"},
        {"when": _WHEN, "status": (500, 502, 503, 504), "body": ("json", "html", "none")},
        replaces=True,
    ),
    "html": FaultKind(
        "answers status 200 with a proxy's HTML page", {"when": "before"}, {"when": _WHEN}, replaces=True
    ),
    "wrong_shape": FaultKind(
        "answers status 200 with JSON that is an array, a text, an empty object, or has texts or objects for lists",
        {"when": "before", "shape": "array"},
        {"when": _WHEN, "shape": ("array", "text", "empty", "texts_for_lists", "objects_in_lists")},
        replaces=True,
    ),
    "truncated": FaultKind(
        "does the work, sends a `share` of the answer's body and closes the connection",
        {"share": 0.5},
        {},
        replaces=True,
    ),
    "overlong": FaultKind(
        "does the work and sends junk after the answer: beyond Content-Length, or `declared` as part of the body",
        {"declared": False},
        {},
        replaces=True,
    ),
    "throttle": FaultKind(
        "refuses as throttled: 400 Throttling.User, 403 RequestsTooFrequent or 429 Throttling; "
        "`retry_after` in ms goes into x-acs-retry-after, 0 leaves it out",
        {"status": 400, "retry_after": 0},
        {"status": (400, 403, 429)},
        replaces=True,
    ),
    "refuse": FaultKind(
        "refuses with any of the service's codes, e.g. OperationDenied where IMS is not activated",
        {"status": 403, "code": "OperationDenied", "message": "The operation is denied."},
        {},
        replaces=True,
    ),
    "limit": FaultKind(
        "a real limit: a token bucket of `rate` requests a second and `burst`, all keys together; "
        "what is over it is refused as by `throttle`, with the time to wait if `retry_after`",
        {"rate": None, "burst": 1, "status": 400, "retry_after": False},
        {"status": (400, 403, 429)},
        replaces=True,
    ),
    "delay": FaultKind(
        "waits `milliseconds`, and up to `jitter` more, before or after the work",
        {"when": "after", "milliseconds": None, "jitter": 0.0},
        {"when": _WHEN},
    ),
    "expired_token": FaultKind("takes the security token of a temporary key for expired", {}, {}),
    "wrong_clock": FaultKind(
        "its clock is off by `seconds`, in checks and in the Date header", {"seconds": None}, {}
    ),
    "echo": FaultKind(
        "writes `before` and `after` around the ids and URLs it echoes", {"before": "", "after": "\n"}, {}
    ),
    "absent_lists": FaultKind("leaves empty lists out of the answer", {}, {}),
    "null_lists": FaultKind("writes null for empty lists", {}, {}),
    "lagging_reads": FaultKind(
        "reads go on to show what this request deletes for `milliseconds`", {"milliseconds": None}, {}
    ),
    "undeletable": FaultKind(
        "one of the request's media can't be deleted from now on: always ignored, though shown by reads",
        {},
        {},
    ),
    "spurious_ignore": FaultKind(
        "ignores one of the request's media that is there; no medium is hit twice", {}, {}
    ),
    "otherwise": FaultKind(
        "takes another side in what the documentation leaves open",
        {
            "unknown_ids": "ignored",
            "malformed_ids": "unknown",
            "white_space": "trimmed",
            "duplicates": "echoed",
            "over_20": "refused",
            "file_by_default": False,
            "missing": "refused",
            "deleted_time": "created",
            "pages": "whole",
            "registered_again": "refused",
            "job_words": "Complete Error",
            "failed_output": "fails",
        },
        {
            "unknown_ids": ("ignored", "refused"),
            "malformed_ids": ("unknown", "refused"),
            "white_space": ("trimmed", "kept"),
            "duplicates": ("echoed", "silent"),
            "over_20": ("refused", "cut", "taken"),
            "missing": ("refused", "empty"),
            "deleted_time": ("created", "absent"),
            "pages": ("whole", "first_100"),
            "registered_again": ("refused", "same_id"),
            "job_words": ("Complete Error", "Success Failed", "Finished Fail"),
            "failed_output": ("fails", "passes"),
        },
    ),
}

_LARGEST = 10**9
"""Of an option that is a number, whatever its unit."""
_REPLACING = frozenset(name for name, kind in FAULT_KINDS.items() if kind.replaces)

SCHEDULE = ("kind", "action", "every", "probability", "seed", "skip", "times")
"""Fields that every rule may have beside its kind's options."""


@dataclass(slots=True)
class Rule:
    """When one kind of misbehaviour strikes.

    :param action: the operation it looks at; None looks at all.
    :param every: strikes every n-th of the requests it looks at.
    :param probability: strikes with this probability, 0 to 1, decided by ``seed``.
    :param skip: the first requests it lets pass.
    :param times: strikes at most so often; None has no end.
    """

    kind: str
    options: dict[str, Any]
    action: str | None = None
    every: int | None = None
    probability: float | None = None
    seed: int = 0
    skip: int = 0
    times: int | None = None
    seen: int = 0
    fired: int = 0
    random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    @property
    def label(self) -> str:
        """The kind, with the moment it strikes if it has a choice: ``reset_before``."""
        return f"{self.kind}_{self.options['when']}" if "when" in self.options else self.kind

    def number(self, option: str) -> float:
        """Give an option that is a number."""
        return float(self.options[option])

    def due(self) -> bool:
        """Look at one more request, and tell whether to strike."""
        self.seen += 1
        if self.seen <= self.skip or (self.times is not None and self.fired >= self.times):
            return False
        if self.every is not None:
            return (self.seen - self.skip) % self.every == 0
        if self.probability is not None:
            return self.random.random() < self.probability
        return True

    def describe(self) -> dict[str, Any]:
        """Show the rule as JSON, with how often it looked and struck."""
        schedule = {name: getattr(self, name) for name in SCHEDULE if getattr(self, name) is not None}
        return {**schedule, **self.options, "seen": self.seen, "fired": self.fired}


@dataclass(slots=True)
class Limit(Rule):
    """A token bucket; due when it is empty."""

    _tokens: float = field(default=0.0, init=False)
    _filled: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        # Not super(): a dataclass with slots is a copy of the class that super() would look for.
        Rule.__post_init__(self)
        self._tokens = self.number("burst")
        self._filled = time.monotonic()

    def due(self) -> bool:
        """Take a token; tell whether there was none."""
        self.seen += 1
        now = time.monotonic()
        self._tokens = min(self.number("burst"), self._tokens + (now - self._filled) * self.number("rate"))
        self._filled = now
        if self._tokens < 1:
            return True
        self._tokens -= 1
        return False

    @property
    def wait(self) -> int:
        """Milliseconds until there is a token."""
        return max(1, round((1 - self._tokens) / self.number("rate") * 1000))


def read_rule(fields: Mapping[str, Any], actions: Iterable[str]) -> Rule:
    """Make a rule of its JSON form.

    :param actions: the operations there are.
    :raises ValueError: names the field that is missing, unknown or makes no sense.
    """
    if not isinstance(fields, Mapping) or fields.get("kind") not in list(FAULT_KINDS):
        raise ValueError(f"a fault rule needs a 'kind' of {', '.join(FAULT_KINDS)}; got {fields!r}")
    name: str = fields["kind"]
    kind = FAULT_KINDS[name]
    known = {*SCHEDULE, *kind.options}
    if unknown := set(fields) - known:
        raise ValueError(f"unknown field {min(unknown)!r} for {name}; known are {', '.join(sorted(known))}")
    options = {option: _option(name, option, fields) for option in kind.options}
    action = fields.get("action")
    if action is not None and action not in list(actions):
        raise ValueError(f"'action' must be one of {', '.join(actions)}, not {action!r}")
    if "every" in fields and "probability" in fields:
        raise ValueError("give 'every' or 'probability', not both")
    if name == "limit" and not {"every", "probability", "skip", "times"}.isdisjoint(fields):
        raise ValueError("a limit strikes by its 'rate' and 'burst' alone")
    schedule = {
        "every": _schedule(fields, "every", int, 1),
        "probability": _schedule(fields, "probability", float, 0, 1),
        "seed": _schedule(fields, "seed", int) or 0,
        "skip": _schedule(fields, "skip", int, 0) or 0,
        "times": _schedule(fields, "times", int, 0),
    }
    made = Limit if name == "limit" else Rule
    return made(kind=name, options=options, action=action, **schedule)


def _option(kind: str, option: str, fields: Mapping[str, Any]) -> Any:
    default = FAULT_KINDS[kind].options[option]
    value = fields.get(option, default)
    choices = FAULT_KINDS[kind].choices.get(option)
    if choices is not None:
        if value not in choices:
            raise ValueError(f"{option!r} of {kind} must be one of {choices}, not {value!r}")
    elif isinstance(default, bool | str):
        if not isinstance(value, type(default)):
            raise ValueError(f"{option!r} of {kind} must be a {type(default).__name__}, not {value!r}")
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{kind} needs {option!r}, a number; got {value!r}")
    elif (
        (value < 0 and kind != "wrong_clock")
        or (option == "rate" and value <= 0)
        or (option == "burst" and value < 1)
    ):
        raise ValueError(f"{option!r} of {kind} is too small: {value!r}")
    elif abs(value) > _LARGEST:
        raise ValueError(f"{option!r} of {kind} must be {_LARGEST} at most, not {value!r}")
    return value


def _schedule(
    fields: Mapping[str, Any], name: str, number: type, low: float | None = None, high: float | None = None
) -> Any:
    value = fields.get(name)
    if value is None:
        return None
    right = isinstance(value, int) or (number is float and isinstance(value, float))
    if not right or isinstance(value, bool):
        raise ValueError(f"{name!r} must be a {'whole ' if number is int else ''}number, not {value!r}")
    if (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(f"{name!r} is out of range: {value!r}")
    return value


@dataclass(slots=True)
class Faults:
    """The rules in force, and how often each kind struck; counts survive the rules."""

    rules: list[Rule] = field(default_factory=list)
    fired: Counter[str] = field(default_factory=Counter)
    ignored_once: set[str] = field(default_factory=set)

    def take(self, kind: str, entry: Entry) -> Rule | None:
        """Give the rule of a kind that strikes this request, if one does."""
        return self._first((kind,), entry) if self.rules else None

    def take_replacing(self, entry: Entry) -> Rule | None:
        """Give the rule that decides about this request's answer, if one does."""
        return self._first(_REPLACING, entry) if self.rules else None

    def _first(self, kinds: Container[str], entry: Entry) -> Rule | None:
        striking: Rule | None = None
        for rule in self.rules:
            # Every rule looks at every request, so that what one does never shifts the other's count.
            if rule.kind in kinds and rule.action in (None, entry.action) and rule.due() and striking is None:
                striking = rule
        if striking is not None:
            striking.fired += 1
            self.fired[striking.label] += 1
            entry.faults.append(striking.label)
        return striking
