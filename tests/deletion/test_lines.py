"""The lines of a report, as a reader of JSON sees them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_ims.deletion.checkpoint import RunConfig
from airflow_provider_ims.deletion.lines import Lines
from airflow_provider_ims.deletion.resolve import Outcome, TargetResult
from airflow_provider_ims.deletion.targets import Target, read_targets

OWN = ("outcome", "inferred", "request_id", "at", "file", "reason", "preview")


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names)), names
    return dict(pairs)


def read(line: bytes) -> dict[str, Any]:
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    found: dict[str, Any] = json.loads(line, object_pairs_hook=unique)
    return found


def line_of(result: TargetResult, *, preview: bool = False) -> dict[str, Any]:
    config = RunConfig(**{**dict.fromkeys(RunConfig._fields, None), "preview": preview})  # type: ignore[arg-type]
    [(_, line)] = Lines(read_targets(media_ids=["a"]), config).about([result], 0)
    return read(line)


@given(
    columns=st.none()
    | st.dictionaries(st.sampled_from(OWN) | st.text(max_size=5), st.text(max_size=8) | st.integers()),
    reason=st.none() | st.text(min_size=1, max_size=20),
    file=st.sampled_from([None, "gone", "left"]),
    preview=st.booleans(),
)
def test_what_a_plan_says_stays_but_for_what_the_report_says_itself(
    columns: dict[str, Any] | None, reason: str | None, file: str | None, preview: bool
) -> None:
    target = Target(0, "a", None if columns is None else {**columns, "media_id": "a"})
    result = TargetResult(target, Outcome.FAILED, False, "R-1", reason, file=file)
    line = line_of(result, preview=preview)
    said = {"outcome": "failed", "inferred": False, "request_id": "R-1", "at": "1970-01-01T00:00:00Z"}
    said |= {name: value for name, value in (("reason", reason), ("file", file)) if value}
    said |= {"preview": True} if preview else {}
    planned = {
        "planned_because" if name == "reason" else name: value for name, value in (columns or {}).items()
    }
    assert line == planned | {"media_id": "a"} | said


@pytest.mark.parametrize("reason", ["", None])
def test_nothing_is_no_reason(reason: str | None) -> None:
    result = TargetResult(Target(0, "a"), Outcome.FAILED, reason=reason)
    assert "reason" not in line_of(result)
