"""Holds what a run says against the emulator's own books, promise by promise."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_ims.deletion.lines import LINE_LOST
from airflow_provider_ims.deletion.resolve import Outcome
from airflow_provider_ims.deletion.targets import match_key
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.files.storage import storage_path
from tests.faults.scenario import Medium, Scenario

MAX_RESULT_BYTES = 64 * 1024


@dataclass
class Tries:
    """What the runner knows of the tries; ``begun`` by the machine's clock."""

    begun: list[float] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    kills: int = 0
    lost: int = 0
    """Answers that the client calls lost, of all tries."""


@dataclass
class Findings:
    """What is wrong, and what is right only because nobody can know better."""

    wrong: list[str] = field(default_factory=list)
    missing_called_deleted: int = 0
    never_sent_called_deleted: int = 0
    asked_again: int = 0


@dataclass
class _Fate:
    """What the service did with one target."""

    media: list[Medium] = field(default_factory=list)
    deletions: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)


def check(scenario: Scenario, emulator: Emulator, tries: Tries, result: dict[str, Any]) -> Findings:
    """Check every promise.

    :param result: what the last try returned.
    """
    books = _Books(scenario, emulator)
    findings = Findings()
    wrong = findings.wrong
    wrong += books.broken_rules()
    lines = _read_report(result["report"]) if result["report"] else None
    if (lines is not None) != bool(scenario.report):
        wrong.append(f"report is {result['report']!r}")

    # The result adds up.
    counts = {outcome.value: result[outcome.value] for outcome in Outcome}
    targets = scenario.targets
    if sum(counts.values()) != result["requested"] or result["requested"] != len(books.fates):
        wrong.append(f"{counts} don't add up to {result['requested']}; {len(books.fates)} were named")
    if result["duplicates"] != len(scenario.given) - len(books.fates):
        wrong.append(f"duplicates: {result['duplicates']}")
    if len(json.dumps(result)) >= MAX_RESULT_BYTES:
        wrong.append(f"the result is {len(json.dumps(result))} bytes long")
    told: dict[str, list[dict[str, Any]]] = defaultdict(list)
    if lines is not None:
        for line in lines:
            told[match_key(line[scenario.kind])].append(line)
        lost = [line for line in lines if line.get("reason") == LINE_LOST]
        if lost and not scenario.report_vanishes:
            wrong.append(f"{len(lost)} lines were lost, but no folder was")
        if sum(bool(line["inferred"]) for line in lines) != result["inferred"] and not lost:
            wrong.append(f"inferred: {result['inferred']} in the result, else in the report")
        told_of = Counter(line["outcome"] for line in lines)
        told_of_not = told_of.pop(None, 0)
        if told_of_not and not lost:
            wrong.append(f"{told_of_not} lines tell no outcome")
        if told_of - Counter(counts) or told_of.total() + told_of_not != sum(counts.values()):
            wrong.append(
                f"{counts} in the result, {Counter(line['outcome'] for line in lines)} in the report"
            )
    else:
        for outcome, values in result["samples"].items():
            for value in values:
                told[match_key(value)].append({"outcome": outcome})
    if strangers := told.keys() - books.fates.keys():
        wrong.append(f"told of, but never named: {sorted(strangers)[:3]}")

    # Every target has one outcome, and it is true.
    complete = lines is not None or len(targets) <= 100
    for key, fate in books.fates.items():
        verdicts = told.get(key, [])
        if len(verdicts) != 1 and (complete or verdicts):
            wrong.append(f"{key} has {len(verdicts)} outcomes: {verdicts}")
        for verdict in verdicts:
            if (
                verdict.get("reason") == LINE_LOST
            ):  # its request id went with it; its outcome is true, or not told
                if verdict["outcome"] is None:
                    continue
                verdict["inferred"] = None
            if sin := _judge(scenario, tries, books, fate, verdict, findings):
                wrong.append(f"{key}: {verdict}, but {sin}; asked {_story(fate)}")

    # Nobody is asked about again whose deletion was heard of.
    if scenario.durable:
        findings.asked_again = sum(books.asked_again_after_answer())
    # At a kill: what was being answered, and as much again that was done without being saved.
    unkept = 2 * scenario.concurrency * scenario.batch_size
    if findings.asked_again > tries.kills * unkept and not tries.lost:
        wrong.append(f"{findings.asked_again} were asked about again after {tries.kills} kills")
    if findings.never_sent_called_deleted > tries.kills * 3 * scenario.concurrency * scenario.batch_size:
        wrong.append(f"{findings.never_sent_called_deleted} were never sent, and are called deleted")
    if len(tries.ends) == 1 and not tries.lost:
        requests = emulator.stats()["requests"]
        if result["requests"] != requests:
            wrong.append(f"{result['requests']} requests by our count, {requests} by the emulator's")
    return findings


class _Books:
    def __init__(self, scenario: Scenario, emulator: Emulator) -> None:
        self.scenario = scenario
        self.stats = emulator.stats()
        self.deletions = emulator.deleted()
        self.asked = emulator.requests("DeleteMediaInfos")
        switches = {medium["media_id"]: medium for medium in emulator.library()}
        self.fates = {match_key(value): _Fate() for value in scenario.targets}
        key = (lambda item: item["media_id"]) if scenario.kind == "media_id" else (lambda item: item["url"])
        for medium in scenario.library:
            named = self.fates.get(medium.media_id if scenario.kind == "media_id" else medium.url)
            if named:
                now = switches.get(medium.media_id, {})
                named.media.append(
                    Medium(
                        medium.media_id,
                        medium.url,
                        True,
                        medium.protected,
                        medium.undeletable or now.get("undeletable", False),
                    )
                )
        self.outside = [deletion for deletion in self.deletions if key(deletion) not in self.fates]
        for deletion in self.deletions:
            if key(deletion) in self.fates:
                self.fates[key(deletion)].deletions.append(deletion)
        # What was cut before the work has no targets in the books: it may have been about any.
        self.cut_early = [entry for entry in self.asked if not entry["targets"] and not entry["answered"]]
        for entry in self.asked:
            for value in entry["targets"]:
                self.fates[match_key(value)].asked.append(entry)

    def broken_rules(self) -> Iterator[str]:
        if self.outside:
            yield f"deleted, but never named: {self.outside[:3]}"
        if any(deletion["files"] != self.scenario.delete_physical_files for deletion in self.deletions):
            yield "delete_physical_files was not sent as it was given"
        if self.scenario.preview and self.asked:
            yield "a preview asked for deletions"
        if self.stats["largest_batch"] > min(self.scenario.batch_size, 20):
            yield f"{self.stats['largest_batch']} in one request"
        if self.stats["peak_in_flight"] > self.scenario.concurrency and not self.scenario.interruptions:
            yield f"{self.stats['peak_in_flight']} requests in flight"
        if "SignatureNonceUsed" in self.stats["by_code"]:
            yield "a nonce was sent twice"

    def asked_again_after_answer(self) -> Iterator[bool]:
        for fate in self.fates.values():
            heard_at = min(
                (
                    entry["number"]
                    for entry in fate.asked
                    if entry["answered"]
                    and "deleted" in entry["outcomes"].values()
                    and _outcome(entry, fate) == "deleted"
                ),
                default=None,
            )
            if heard_at is not None:
                yield any(entry["number"] > heard_at for entry in fate.asked)


def _outcome(entry: dict[str, Any], fate: _Fate) -> str | None:
    """What the service did in one request with this target."""
    mine = {match_key(entry_target): outcome for entry_target, outcome in entry["outcomes"].items()}
    keys = {medium.media_id for medium in fate.media} | {match_key(medium.url) for medium in fate.media}
    return next((outcome for target, outcome in mine.items() if target in keys), None)


def _judge(
    scenario: Scenario,
    tries: Tries,
    books: _Books,
    fate: _Fate,
    verdict: dict[str, Any],
    findings: Findings,
) -> str | None:
    """Say why a verdict can't be true, or None."""
    outcome, inferred = verdict["outcome"], verdict.get("inferred")
    if scenario.preview:
        truth = "deleted" if fate.media else "missing"
        return None if outcome == truth else f"a preview had to say {truth}"
    since = 0.0 if scenario.durable else tries.begun[-1]
    asked = [entry for entry in (*fate.asked, *books.cut_early) if entry["at"] >= since]
    lost = tries.lost > 0 and (_leaves_junk(scenario) or not all(entry["answered"] for entry in asked))
    killed = tries.kills > 0 and scenario.durable
    if fate.deletions:
        if fate.deletions[-1]["at"] < since:
            truths = {"missing", "deleted"} if lost else {"missing"}
            return None if outcome in truths else "it was gone before this try, which knew nothing of it"
        if outcome != "deleted":
            return "it was deleted"
        if inferred is False and verdict["request_id"] not in {d["request_id"] for d in fate.deletions}:
            return f"it was another request that deleted it: {fate.deletions}"
        if inferred and not (lost or killed):
            return "no answer about it was lost"
        return None
    if not fate.media:
        if outcome == "missing":
            return None
        if outcome == "deleted" and (inferred is not False) and (lost or killed):
            findings.missing_called_deleted += 1
            if not lost and not any(entry["at"] < tries.begun[-1] for entry in fate.asked):
                findings.never_sent_called_deleted += 1
            return None
        return "it was never there"
    if any(medium.undeletable for medium in fate.media):
        return None if outcome == "failed" else "it can't be deleted"
    if any(medium.protected for medium in fate.media):
        return None if outcome == "forbidden" else "it is protected"
    return "it is there, and nothing keeps it from being deleted"


def _leaves_junk(scenario: Scenario) -> bool:
    """Whether junk on a connection can make the client lose the next answer on it, unseen by the emulator."""
    return any(rule["kind"] == "overlong" for rule in scenario.rules)


def _story(fate: _Fate) -> list[tuple[Any, ...]]:
    return [
        (
            entry["number"],
            _outcome(entry, fate),
            "answered" if entry["answered"] else "lost",
            *entry["faults"],
        )
        for entry in fate.asked
    ]


def _read_report(folder: str) -> list[dict[str, Any]]:
    """Read a report without our own reader; nothing but whole parts may be there."""
    lines = []
    for path in sorted(storage_path(folder).iterdir(), key=lambda path: path.name):
        if not re.fullmatch(r"part-\d{5}\.jsonl", path.name):
            raise AssertionError(f"{path} is left")
        lines += [json.loads(line) for line in path.read_bytes().splitlines()]
    return lines
