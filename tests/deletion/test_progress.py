"""The log lines of a long run, on a clock that does not take long."""

from __future__ import annotations

import itertools

import pytest

from airflow_provider_ims.api.client import RequestStats
from airflow_provider_ims.deletion.policies import duration_in_words
from airflow_provider_ims.deletion.progress import Progress


def test_progress_lines_get_rarer_and_tell_the_rate_of_late(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    monkeypatch.setattr("airflow_provider_ims.deletion.progress.time.monotonic", lambda: now)
    caplog.set_level("INFO")
    # Resumed at 400,000; an outage of 100 s; then 100 a second.
    progress = Progress(total=1_000_000, judged=400_000)
    lines = []
    while now < 5600:
        now += 1.0
        judged = 400_000 + 100 * max(0, int(now) - 100)
        if not progress.seconds_left:
            progress.log(judged, "all deleted", RequestStats(requests=10, throttled=3))
            lines.append(now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(lines)]
    assert gaps[:18] == [5.0] * 18
    assert max(gaps) == 60.0
    assert len(lines) < 160
    assert (
        "400,000 of 1,000,000 done (40 %), 0 a second, unknown time left: all deleted" in caplog.messages[0]
    )
    # Half an hour later nothing of the outage is left in the rate.
    late = next(message for message, at in zip(caplog.messages, lines, strict=True) if at > 1900)
    assert ", 100 a second, 1:" in late
    assert late.endswith("[3 throttled of 10 requests]")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (0.4, "0.4 s"), (9.9, "9.9 s"), (9.96, "0:10"), (125, "2:05"), (3725, "1:02:05")],
)
def test_a_time_is_said_as_exactly_as_it_matters(seconds: float, words: str) -> None:
    assert duration_in_words(seconds) == words


@pytest.mark.parametrize(("lost", "words"), [(1, "1 answer lost"), (2, "2 answers lost")])
def test_lost_answers_are_counted_in_words(lost: int, words: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    Progress(total=100, judged=0).log(50, "50 deleted", RequestStats(requests=10, lost=lost))
    assert caplog.messages[0].endswith(f"[{words} of 10 requests]")
