from __future__ import annotations

import heapq
from collections import defaultdict
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_ims.triggers.schedule import (
    MAX_GAP,
    MAX_SLACK,
    SLACK,
    SPREAD,
    PollRequest,
    Schedule,
    Waiter,
)
from airflow_provider_ims.triggers.status import MAX_AT_ONCE, SubjectKind

ANSWER_SECONDS = 0.03


class Simulation:
    """Drives a schedule through time that only passes here; all that is asked for is pending until ``gone``."""

    def __init__(self) -> None:
        self.schedule = Schedule()
        self.now = 1000.0
        self.gone = False
        self.asks: list[tuple[float, PollRequest]] = []
        self._answers: list[tuple[float, int, PollRequest]] = []

    def watch(self, kind: SubjectKind, values: list[str], interval: float, deadline: float = inf) -> Waiter:
        watch = Waiter(kind, set(values), interval, deadline)
        for value in values:
            self.schedule.add(value, watch, self.now)
        return watch

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            step = self.schedule.next(self.now)
            if isinstance(step, PollRequest):
                self.asks.append((self.now, step))
                heapq.heappush(self._answers, (self.now + ANSWER_SECONDS, len(self.asks), step))
                continue
            answer_at = self._answers[0][0] if self._answers else inf
            following = min(step, answer_at)
            if following > end:
                break
            self.now = max(self.now, following)
            if answer_at <= self.now:
                _, _, ask = heapq.heappop(self._answers)
                for value in ask.values:
                    (self.schedule.drop if self.gone else self.schedule.again)(ask.kind, value, self.now)
        self.now = end

    def times(self) -> dict[tuple[SubjectKind, str], list[float]]:
        times = defaultdict(list)
        for at, ask in self.asks:
            for value in ask.values:
                times[ask.kind, value].append(at)
        return times


def test_5000_tasks_cost_250_requests_a_round_and_they_are_spread() -> None:
    simulation = Simulation()
    for number in range(5000):
        simulation.watch("media_id", [f"id{number}"], 30)
    simulation.run(90)
    simulation.asks.clear()
    simulation.run(3 * (30 + ANSWER_SECONDS))
    assert 3 * 250 <= len(simulation.asks) <= 3 * 260
    by_second = defaultdict(int)
    for at, _ in simulation.asks:
        by_second[int(at)] += 1
    assert max(by_second.values()) <= 1.2 * 250 / 30 / SPREAD


def test_what_is_left_of_many_requests_shares_few() -> None:
    simulation = Simulation()
    watches = [simulation.watch("media_id", [f"id{number}"], 10) for number in range(1000)]
    simulation.run(20)
    for number, watch in enumerate(watches):
        if number % 10:
            simulation.schedule.leave(watch, simulation.now)
    simulation.run(60)
    simulation.asks.clear()
    simulation.run(20)
    assert len(simulation.asks) <= 2 * 7


def test_those_that_are_left_are_not_late_because_others_are_gone() -> None:
    simulation = Simulation()
    for number in range(5000):
        simulation.watch("media_id", [f"id{number}"], 15)
    simulation.run(40)
    deleted = simulation.now
    simulation.gone = True
    simulation.run(40)
    assert len(simulation.schedule) == 0
    assert simulation.asks[-1][0] - deleted <= 1.5 * 15


def test_a_slow_task_is_not_asked_for_as_often_as_a_quick_one() -> None:
    simulation = Simulation()
    simulation.watch("media_id", ["slow"], 30)
    simulation.watch("media_id", ["quick"], 2)
    simulation.run(60.5)
    times = simulation.times()
    assert 27 <= len(times["media_id", "quick"]) <= 30
    assert len(times["media_id", "slow"]) <= 2


def test_the_same_medium_for_two_tasks_is_one_question_at_the_quicker_ones_interval() -> None:
    simulation = Simulation()
    simulation.watch("media_id", ["same"], 20)
    quick = simulation.watch("media_id", ["same"], 5)
    simulation.run(20)
    assert all(ask.values == ("same",) for _, ask in simulation.asks)
    assert 3 <= len(simulation.asks) <= 4
    simulation.schedule.leave(quick, simulation.now)
    simulation.asks.clear()
    simulation.run(41)
    assert len(simulation.asks) <= 3


def test_the_last_look_is_at_the_deadline() -> None:
    simulation = Simulation()
    simulation.watch("media_id", ["one"], 60, deadline=simulation.now + 7)
    simulation.run(20)
    ((at, _),) = simulation.asks
    assert 7 <= at - 1000 <= 7 + MAX_SLACK


def test_an_answer_for_what_nobody_waits_for_any_more_is_ignored() -> None:
    schedule = Schedule()
    watch = Waiter("media_id", {"one"}, 1)
    schedule.add("one", watch, 0)
    assert schedule.next(2) == PollRequest("media_id", ("one",))
    schedule.leave(watch, 2)
    assert schedule.again("media_id", "one", 2) == set()
    assert schedule.drop("media_id", "one", 2) == set()
    assert len(schedule) == 0
    assert schedule.next(100) == inf


@pytest.mark.parametrize("kind", ["input_url", "parent_job_id"])
def test_what_has_no_batch_read_is_asked_for_one_by_one(kind: SubjectKind) -> None:
    simulation = Simulation()
    for number in range(10):
        simulation.watch(kind, [str(number)], 5)
    simulation.run(11)
    assert {len(ask.values) for _, ask in simulation.asks} == {1}
    assert 10 <= len(simulation.asks) <= 20


def test_a_kind_that_is_always_due_starves_no_other() -> None:
    simulation = Simulation()
    simulation.watch("input_url", ["url"], 1)
    simulation.watch("media_id", ["medium"], 1)
    simulation.watch("parent_job_id", ["job"], 2.5)
    simulation.run(70)
    times = simulation.times()
    assert len(times["parent_job_id", "job"]) >= 70 / 2.5 / 2
    assert min(len(times["input_url", "url"]), len(times["media_id", "medium"])) >= 70 / 2


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(MAX_AT_ONCE)),
            st.sets(st.integers(0, 60), min_size=1, max_size=40),
            st.sampled_from([1.0, 2.5, 10.0, 30.0]),
            st.floats(0, 20),
            st.floats(0, 40),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_never_too_early_never_forgotten_and_nothing_left(
    tasks: list[tuple[SubjectKind, set[int], float, float, float]],
) -> None:
    simulation = Simulation()
    watches: list[Waiter] = []
    quickest: dict[tuple[SubjectKind, str], float] = defaultdict(lambda: inf)
    for kind, numbers, interval, pause, _ in tasks:
        simulation.run(pause / 10)
        values = [str(number) for number in numbers]
        watches.append(simulation.watch(kind, values, interval))
        for value in values:
            quickest[kind, value] = min(quickest[kind, value], interval)
    joined = simulation.now
    simulation.run(70)
    for key, times in simulation.times().items():
        for earlier, later in pairwise(times):
            assert later - earlier >= quickest[key] - 1e-6
    for key, interval in quickest.items():
        times = [at for at in simulation.times()[key] if at >= joined]
        slack = min(SLACK * 30, MAX_SLACK) + interval + MAX_GAP * 3
        assert times, f"{key} was never asked for"
        assert times[0] - joined <= interval + slack
        assert simulation.now - times[-1] <= interval + slack
    assert all(len(ask.values) <= MAX_AT_ONCE[ask.kind] for _, ask in simulation.asks)
    for watch in watches:
        simulation.schedule.leave(watch, simulation.now)
    assert len(simulation.schedule) == 0
