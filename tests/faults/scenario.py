"""What one generated run looks like; all of it follows from its seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

REGION = "cn-shanghai"

# Where a simulated kill strikes, each with the largest number of passes before it does.
CRASH_POINTS = {
    "request": 12,  # before a request is sent
    "answer": 12,  # an answer came, and nobody has looked at it
    "settle": 8,
    "write": 8,  # before the lines of a batch
    "torn": 2,  # in the middle of a file of the journal
    "written": 8,
    "file": 2,  # before a file of the journal
    "filed": 2,
    "part": 1,  # before the report's parts
    "parted": 1,
    "keep": 5,  # before the checkpoint is saved
    "kept": 5,
}


@dataclass(frozen=True)
class Medium:
    """One in the library. ``named``: the run is told to delete it."""

    media_id: str
    url: str
    named: bool
    protected: bool = False
    undeletable: bool = False

    def seed(self) -> dict[str, Any]:
        return {
            "media_id": self.media_id,
            "url": self.url,
            "protected": self.protected,
            "undeletable": self.undeletable,
        }


@dataclass(frozen=True)
class Interruption:
    """How a try is cut: ``crash`` at a point, ``stop`` or ``timeout`` (an exception out of nowhere) after a
    while, ``outage`` (503), ``drought`` (throttled only) or ``refusal`` from some request on."""

    kind: str
    point: str = ""
    count: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Scenario:
    """One run with all its tries."""

    seed: int
    kind: str
    library: tuple[Medium, ...]
    given: tuple[str, ...]
    rules: tuple[dict[str, Any], ...]
    interruptions: tuple[Interruption, ...]
    batch_size: int
    concurrency: int
    report: str | None
    report_vanishes: bool
    durable: bool
    delete_physical_files: bool
    preview: bool
    read_timeout: float
    token: bool

    @property
    def targets(self) -> tuple[str, ...]:
        """Each named one once."""
        return tuple(dict.fromkeys(self.given))

    def given_to(self, attempt: int) -> list[str]:
        """What a try is given, in an order of its own, as a ``set`` has in each process."""
        return random.Random(f"{self.seed} {attempt}").sample(self.given, len(self.given))


def make_scenario(seed: int) -> Scenario:
    """Make the scenario of a seed."""
    dice = random.Random(seed)
    kind = "media_id" if dice.random() < 0.75 else "input_url"
    count = dice.choice((1, 3, 10, 25, 40, 60)) if dice.random() < 0.95 else dice.randrange(100, 300)
    protected, missing = dice.choice((0, 0.1, 0.5)), dice.choice((0, 0.1, 0.5, 1))
    undeletable = dice.choice((0, 0, 0, 0, 0, 0.1))
    report = dice.choice((None, "local", "local", "memory"))
    rules, interruptions = _rules(dice), _interruptions(dice, report)
    kinds = {rule["kind"] for rule in rules}
    # Several media of one URL; each of them could be spared once, and the URL for good.
    twice = 0 if "spurious_ignore" in kinds else dice.choice((0, 0, 0.2))

    library, names = [], []
    for number in range(count):
        media_id = f"{dice.getrandbits(128):032x}"
        url = f"https://bucket.oss-{REGION}.aliyuncs.com/{dice.choice(('a', '视频', 'x%20y', 'c+d'))}/{number}.mp4"
        names.append(media_id if kind == "media_id" else url)
        if dice.random() < missing:
            continue
        dealt = dice.random()
        medium = Medium(
            media_id,
            url,
            True,
            protected=dealt < protected,
            undeletable=protected <= dealt < protected + undeletable,
        )
        library.append(medium)
        if dice.random() < twice:
            other = Medium(f"{dice.getrandbits(128):032x}", url, kind == "input_url")
            library.append(other)
    for number in range(dice.choice((0, 5, 20))):
        url = f"https://bucket.oss-{REGION}.aliyuncs.com/a/{number}.mp4.bak"
        library.append(Medium(f"{dice.getrandbits(128):032x}", url, False))

    given = list(names)
    for name in names:
        if dice.random() < dice.choice((0, 0, 0.1)):
            given.insert(dice.randrange(len(given) + 1), dice.choice(("{}", " {}", "{}\t")).format(name))
    given = [name for name in dict.fromkeys(given)] if dice.random() < 0.5 else given

    return Scenario(
        seed=seed,
        kind=kind,
        library=tuple(library),
        given=tuple(given),
        rules=tuple(rules),
        interruptions=tuple(interruptions),
        batch_size=dice.choice((1, 2, 3, 5, 10, 20)),
        concurrency=dice.choice((1, 2, 3, 4, 8, 16)),
        report=report,
        report_vanishes=bool(report) and bool(interruptions) and dice.random() < 0.25,
        durable=dice.random() < 0.85,
        delete_physical_files=dice.random() < 0.5,
        preview=dice.random() < 0.04,
        read_timeout=1.0 if "timeout" in kinds else 20.0,
        token="expired_token" in kinds,
    )


def _rules(dice: random.Random) -> list[dict[str, Any]]:
    when = dice.choice(("before", "after"))
    catalogue: list[dict[str, Any]] = [
        {"kind": "reset", "when": when},
        {"kind": "error", "when": when, "status": dice.choice((500, 502, 503, 504)),
         "body": dice.choice(("json", "html", "none"))},
        {"kind": "html", "when": when},
        {
            "kind": "wrong_shape",
            "when": when,
            "shape": dice.choice(("array", "text", "empty", "texts_for_lists", "objects_in_lists")),
        },
        {"kind": "truncated", "share": dice.choice((0.0, 0.3, 0.9))},
        {"kind": "overlong", "declared": dice.random() < 0.5},
        {"kind": "throttle", "status": dice.choice((400, 403, 429)), "retry_after": dice.choice((0, 0, 5))},
        {"kind": "lagging_reads", "milliseconds": dice.choice((5, 40))},
        {"kind": "spurious_ignore"},
        {"kind": "undeletable"},
        {"kind": "echo", "before": dice.choice(("", " ")), "after": dice.choice(("\n", "  "))},
        {"kind": "absent_lists"},
        {"kind": "null_lists"},
        {"kind": "delay", "when": when, "milliseconds": dice.choice((1, 5)), "jitter": 10},
    ]  # fmt: skip
    rules = []
    for rule in dice.sample(catalogue, dice.choice((0, 1, 1, 2, 2, 3, 4, 6))):
        if rule["kind"] == "undeletable":
            schedule: dict[str, Any] = {"probability": 0.1, "times": 2}
        elif dice.random() < 0.3 and not any(
            "every" in other for other in rules
        ):  # two could leave nothing between
            schedule = {"every": dice.choice((2, 3, 5)), "skip": dice.choice((0, 0, 3))}
        else:
            schedule = {"probability": dice.choice((0.05, 0.2, 0.35))}
        action = dice.choice((None, None, None, "DeleteMediaInfos"))
        if rule.get("shape", "").endswith(
            "lists"
        ):  # of a single read's answer it would make one that shows nothing
            action = "DeleteMediaInfos"
        if rule["kind"] == "overlong":  # junk behind a refusal's code makes it one that nobody knows
            action = "DeleteMediaInfos"
        rules.append(
            rule | schedule | {"seed": dice.getrandbits(30)} | ({"action": action} if action else {})
        )
    # Those that cost time or can't strike twice in a row without being final.
    if dice.random() < 0.02:
        rules.append({"kind": "timeout", "when": when, "seconds": 5, "probability": 0.1, "times": 1})
    if dice.random() < 0.05:
        rules.append(
            {"kind": "limit", "rate": 150, "burst": 5, "status": 403, "retry_after": dice.random() < 0.5}
        )
    if dice.random() < 0.05:
        rules.append({"kind": "expired_token", "skip": dice.randrange(6), "times": 1})
    if dice.random() < 0.05:
        rules.append({"kind": "wrong_clock", "seconds": dice.choice((-7200, 1000, 86400))})
    return rules


def _interruptions(dice: random.Random, report: str | None) -> list[Interruption]:
    interruptions = []
    for _ in range(dice.choice((0, 0, 0, 1, 1, 2, 3, 5))):
        kind = dice.choice(
            ("crash", "crash", "crash", "crash", "stop", "timeout", "outage", "drought", "refusal")
        )
        point = dice.choice(
            [p for p in CRASH_POINTS if report or p in ("request", "answer", "settle", "keep", "kept")]
        )
        count = dice.randrange(CRASH_POINTS[point]) if kind == "crash" else dice.randrange(12)
        interruptions.append(
            Interruption(kind, point if kind == "crash" else "", count, dice.random() * 0.03)
        )
    return interruptions
