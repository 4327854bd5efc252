from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from math import ceil, inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_ims.triggers.schedule import HEADROOM, MAX_SLACK, PollRequest, Schedule, Waiter
from airflow_provider_ims.triggers.status import MAX_AT_ONCE, SubjectKind


class Simulation:
    """Drives a schedule through seconds that only pass here; all that is asked for is pending until ``gone``.

    :param answer_seconds: how many seconds an answer takes.
    """

    def __init__(self, answer_seconds: int = 0) -> None:
        self.schedule = Schedule()
        self.now = 1000
        self.gone = False
        self.asks: list[tuple[int, PollRequest]] = []
        self._answer_seconds = answer_seconds
        self._waiting: list[tuple[int, PollRequest]] = []

    def wait(self, kind: SubjectKind, values: list[str], interval: int, deadline: float = inf) -> Waiter:
        waiter = Waiter(kind, set(values), interval, deadline)
        for value in values:
            self.schedule.add(waiter, value, self.now)
        return waiter

    def run(self, seconds: int) -> None:
        for now in range(self.now + 1, self.now + seconds + 1):
            self.now = now
            asks = [(self.now, request) for request in self.schedule.requests(self.now)]
            self.asks += asks
            self._waiting += asks
            while self._waiting and self._waiting[0][0] + self._answer_seconds <= self.now:
                asked, request = self._waiting.pop(0)
                for value in request.values:
                    self.schedule.answered(request.kind, value, asked, pending=not self.gone)

    def times(self) -> dict[tuple[SubjectKind, str], list[int]]:
        times = defaultdict(list)
        for at, request in self.asks:
            for value in request.values:
                times[request.kind, value].append(at)
        return times


def test_5000_tasks_cost_250_requests_a_round_and_they_are_spread() -> None:
    simulation = Simulation()
    for number in range(5000):
        simulation.wait("media_id", [f"id{number}"], 30)
    simulation.run(90)
    simulation.asks.clear()
    simulation.run(3 * 30)
    assert 3 * 250 <= len(simulation.asks) <= 3 * 260
    a_second = Counter(at for at, _ in simulation.asks)
    assert max(a_second.values()) <= ceil(HEADROOM * 250 / 30)


def test_what_is_left_of_many_requests_shares_few() -> None:
    simulation = Simulation()
    watches = [simulation.wait("media_id", [f"id{number}"], 10) for number in range(1000)]
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
        simulation.wait("media_id", [f"id{number}"], 15)
    simulation.run(40)
    deleted = simulation.now
    simulation.gone = True
    simulation.run(40)
    assert len(simulation.schedule) == 0
    assert simulation.asks[-1][0] - deleted <= 1.5 * 15


def test_a_slow_task_is_not_asked_for_as_often_as_a_quick_one() -> None:
    simulation = Simulation()
    simulation.wait("media_id", ["slow"], 30)
    simulation.wait("media_id", ["quick"], 2)
    simulation.run(60)
    times = simulation.times()
    assert 27 <= len(times["media_id", "quick"]) <= 30
    assert len(times["media_id", "slow"]) <= 2


def test_the_same_medium_for_two_tasks_is_one_question_at_the_quicker_ones_interval() -> None:
    simulation = Simulation()
    simulation.wait("media_id", ["same"], 20)
    quick = simulation.wait("media_id", ["same"], 5)
    simulation.run(20)
    assert all(ask.values == ("same",) for _, ask in simulation.asks)
    assert 3 <= len(simulation.asks) <= 4
    simulation.schedule.leave(quick, simulation.now)
    simulation.asks.clear()
    simulation.run(41)
    assert len(simulation.asks) <= 3


def test_the_last_look_is_at_the_deadline() -> None:
    simulation = Simulation()
    simulation.wait("media_id", ["one"], 60, deadline=simulation.now + 7)
    simulation.run(20)
    ((at, _),) = simulation.asks
    assert 7 <= at - 1000 <= 7 + MAX_SLACK


def test_an_answer_for_what_nobody_waits_for_any_more_is_ignored() -> None:
    schedule = Schedule()
    waiter = Waiter("media_id", {"one"}, 1)
    schedule.add(waiter, "one", 0)
    assert schedule.requests(2) == [PollRequest("media_id", ("one",))]
    schedule.leave(waiter, 2)
    assert schedule.answered("media_id", "one", 2, pending=True) == set()
    assert schedule.requests(100) == []
    assert len(schedule) == 0


def test_what_is_never_answered_is_forgotten_when_nobody_waits_for_it() -> None:
    schedule = Schedule()
    waiter = Waiter("media_id", {"one"}, 1)
    schedule.add(waiter, "one", 0)
    schedule.requests(2)
    schedule.leave(waiter, 2)
    schedule.requests(4)
    assert schedule.answered("media_id", "one", 2, pending=True) == set()
    schedule.add(waiter, "one", 10)
    assert schedule.requests(11) == [PollRequest("media_id", ("one",))]


@pytest.mark.parametrize("kind", sorted(set(MAX_AT_ONCE) - {"media_id"}))
def test_what_has_no_batch_read_is_asked_for_one_by_one(kind: SubjectKind) -> None:
    simulation = Simulation()
    for number in range(10):
        simulation.wait(kind, [str(number)], 5)
    simulation.run(11)
    assert {len(ask.values) for _, ask in simulation.asks} == {1}
    assert 10 <= len(simulation.asks) <= 20


def test_1000_jobs_cost_a_request_each_and_round_and_they_are_spread() -> None:
    simulation = Simulation()
    for number in range(1000):
        simulation.wait("media convert job", [f"id{number}"], 30)
    simulation.run(90)
    simulation.asks.clear()
    simulation.run(3 * 30)
    assert 0.95 * 3000 <= len(simulation.asks) <= 3000
    assert max(Counter(at for at, _ in simulation.asks).values()) <= ceil(HEADROOM * 1000 / 30)


def test_a_kind_that_is_always_due_starves_no_other() -> None:
    simulation = Simulation()
    simulation.wait("media_id", [str(number) for number in range(2000)], 1)
    for kind in set(MAX_AT_ONCE) - {"media_id"}:
        simulation.wait(kind, ["one"], 3)
    simulation.run(60)
    times = simulation.times()
    assert {len(times[kind, "one"]) for kind in set(MAX_AT_ONCE) - {"media_id"}} == {60 // 3}


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(MAX_AT_ONCE)),
            st.sets(st.integers(0, 60), min_size=1, max_size=40),
            st.sampled_from([1, 3, 10, 30]),
            st.integers(0, 4),
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(0, 2),
)
def test_never_too_early_never_forgotten_and_nothing_left(
    tasks: list[tuple[SubjectKind, set[int], int, int]], answer_seconds: int
) -> None:
    simulation = Simulation(answer_seconds)
    waiters: list[Waiter] = []
    quickest: dict[tuple[SubjectKind, str], float] = defaultdict(lambda: inf)
    for kind, numbers, interval, pause in tasks:
        simulation.run(pause)
        values = [str(number) for number in numbers]
        waiters.append(simulation.wait(kind, values, interval))
        for value in values:
            quickest[kind, value] = min(quickest[kind, value], interval)
    joined = simulation.now
    simulation.run(100)
    for key, times in simulation.times().items():
        for earlier, later in pairwise(times):
            assert later - earlier >= quickest[key]
    for key, interval in quickest.items():
        times = [at for at in simulation.times()[key] if at >= joined]
        # The round may have to be spread first, and a request may wait for more.
        at_most = 2 * interval + MAX_SLACK + answer_seconds
        assert times, f"{key} was never asked for"
        assert times[0] - joined <= at_most
        assert simulation.now - times[-1] <= at_most
    assert all(len(ask.values) <= MAX_AT_ONCE[ask.kind] for _, ask in simulation.asks)
    for waiter in waiters:
        simulation.schedule.leave(waiter, simulation.now)
    assert len(simulation.schedule) == 0
    simulation.asks.clear()
    simulation.run(40)
    assert simulation.asks == []
