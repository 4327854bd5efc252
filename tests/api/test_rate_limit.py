from __future__ import annotations

import math
import statistics
import threading
import time

import pytest

from airflow_provider_ims.api.rate_limit import (
    INITIAL_RATE,
    MINIMUM_RATE,
    CubicGrowth,
    RateControl,
    RateLimiter,
    Throughput,
)
from tests.api.rate_limit_simulation import (
    SERVICES,
    Figures,
    Task,
    TokenBucket,
    alone,
    changing,
    run,
    run_with_a_kill,
    simulate,
    steady,
)

# A service that lets no two requests come closer than 1/limit refuses what the network shook by a millisecond.
# What is left of such a limit is far less, and next to nothing for several tasks: `bucket of 1` has its own tests.
USUAL_SERVICES = [name for name in SERVICES if name != "bucket of 1"]


SEEDS = range(1, 7)


def means(runs: list[Figures]) -> tuple[float, float]:
    """Used and throttled."""
    return statistics.mean(r.used for r in runs), statistics.mean(r.throttled for r in runs)


@pytest.mark.parametrize(
    ("service", "most_throttled"),
    # A counter by the second is met up to a second too late, and by all that is in flight.
    [("bucket of 0.1 s", 0.02), ("bucket of 1 s", 0.04), ("by the second", 0.05)],
)
@pytest.mark.parametrize("limit", [10, 50, 200, 1000])
def test_a_task_uses_the_limit_search_included(limit: int, service: str, most_throttled: float) -> None:
    runs = [alone(service, limit, seed=seed) for seed in SEEDS]
    used, throttled = means(runs)
    assert used >= 0.9
    assert throttled <= (0.025 if limit == 10 and service == "bucket of 0.1 s" else most_throttled)
    assert min(figures.used for figures in runs) >= 0.84


@pytest.mark.parametrize(
    ("limit", "least_used"),
    # Slow start takes 2 s of the 10 s; then the 32 in flight are what allows 107/s and no more.
    [(10, 0.9), (50, 0.84), (200, 0.85), (1000, 0.85)],
)
@pytest.mark.parametrize("service", ["bucket of 0.1 s", "bucket of 1 s", "by the second"])
def test_answers_of_300_ms(service: str, limit: int, least_used: float) -> None:
    used, throttled = means([alone(service, limit, answer_seconds=0.3, seed=seed) for seed in SEEDS])
    assert used >= least_used
    assert throttled <= 0.04


@pytest.mark.parametrize(("limit", "used"), [(50, 0.8), (10, 0.9)])
def test_a_bucket_of_two(limit: float, used: float) -> None:
    """Refuses what the network brings a few milliseconds too near to the one before: the limit can't be used up."""
    figures = run("bucket of 2", limit)
    assert figures.used >= used
    assert figures.throttled <= 0.03


def test_a_short_run_is_over_before_a_pace_is_found() -> None:
    """100 requests, 8 in flight, at 30 ms an answer: 13 answer times would be the least."""
    figures = run("bucket of 1 s", 500, requests=100, in_flight=8)
    assert figures.seconds <= 20 * 0.03
    assert figures.throttled == 0


@pytest.mark.parametrize("limit", [50, 10, 4])
@pytest.mark.parametrize("service", SERVICES)
def test_opening_costs_no_more_than_what_is_in_flight(service: str, limit: float) -> None:
    task = Task(RateControl(), 9999, 8)
    simulate(SERVICES[service](steady(limit), 1), [task], until=0.4)
    probes_until_it_opens_again = 3
    assert 1 <= len(task.throttled) <= 8 + probes_until_it_opens_again


@pytest.mark.parametrize("service", USUAL_SERVICES)
@pytest.mark.parametrize("limit", [50, 10])
def test_told_when_to_come_again(limit: float, service: str) -> None:
    figures = run(service, limit, requests=1600, heeded=lambda seconds: seconds)
    assert figures.used >= (0.8 if service == "bucket of 2" else 0.9)
    assert figures.throttled <= 0.04


@pytest.mark.parametrize(
    ("limit", "requests", "used", "throttled"),
    [(2, 200, 0.88, 0.4), (5, 400, 0.9, 0.09), (20, 800, 0.83, 0.05)],
)
@pytest.mark.parametrize("service", USUAL_SERVICES)
def test_limits_from_low_to_high(
    service: str, limit: float, requests: int, used: float, throttled: float
) -> None:
    figures = run(service, limit, requests=requests)
    assert figures.used >= used
    assert figures.throttled <= throttled


@pytest.mark.parametrize("service", ["bucket of 0.1 s", "bucket of 1 s", "by the second"])
def test_500_a_second(service: str) -> None:
    figures = run(service, 500, requests=8000, in_flight=16)
    assert figures.used >= 0.85
    assert figures.throttled <= 0.03


@pytest.mark.parametrize(
    ("limit", "answer_seconds", "in_flight"),
    [(50, 0.01, 8), (50, 0.2, 16), (10, 0.5, 8), (10, 0.5, 16), (4, 2.0, 16), (100, 0.5, 8), (500, 2.0, 16)],
)
@pytest.mark.parametrize("service", USUAL_SERVICES)
def test_slow_and_quick_answers(service: str, limit: float, answer_seconds: float, in_flight: int) -> None:
    """Where answers take too long for the requests in flight, what they allow is used instead."""
    figures = run(
        service,
        limit,
        answer_seconds=answer_seconds,
        in_flight=in_flight,
        requests=400 if limit < 50 else 800,
    )
    assert figures.used >= (0.7 if service == "bucket of 2" else 0.8)
    assert figures.throttled <= 0.08


@pytest.mark.parametrize("service", USUAL_SERVICES)
def test_a_limit_that_halves(service: str) -> None:
    how = {"requests": 9999, "until": 50.0}
    after = run(service, changing(50, 25, at=20), since=20.0, **how)
    assert after.used >= 0.86
    assert after.throttled <= 0.04


@pytest.mark.parametrize("service", USUAL_SERVICES)
def test_a_limit_that_doubles(service: str) -> None:
    """Found again within half a minute: probing is seldom on purpose."""
    how = {"requests": 9999, "until": 80.0}
    after = run(service, changing(50, 100, at=20), since=50.0, **how)
    assert after.used >= 0.85
    assert after.throttled <= 0.03


@pytest.mark.parametrize("service", USUAL_SERVICES)
def test_a_limit_that_falls_to_nothing_and_comes_back(service: str) -> None:
    def limit(now: float) -> float:
        return 0.0 if 20 <= now < 80 else 50.0

    after = run(service, limit, requests=9999, since=85.0, until=110.0)
    assert after.used >= 0.75


@pytest.mark.parametrize("service", USUAL_SERVICES)
def test_a_hundredth_of_the_limit_for_a_minute(service: str) -> None:
    def limit(now: float) -> float:
        return 0.5 if 20 <= now < 80 else 50.0

    assert run(service, limit, requests=9999, since=110.0, until=140.0).used >= 0.8


def test_lost_answers_say_nothing_about_the_limit() -> None:
    assert run("bucket of 0.1 s", 50, lost_share=0.2).used >= 0.8


@pytest.mark.parametrize("limit", [10, 50, 200])
def test_throttles_and_lost_answers_at_any_rate(limit: float) -> None:
    how = {"requests": 9999, "until": 120.0, "lost_share": 0.2, "throttled_share": 0.2}
    for seed in SEEDS:
        figures = run("bucket of 0.1 s", limit, seed=seed, **how)
        assert figures.used * limit >= 0.6 * MINIMUM_RATE
        assert figures.throttled <= 0.3


class TestSeveralTasks:
    @pytest.mark.parametrize("service", ["bucket of 0.1 s", "bucket of 1 s", "by the second"])
    def test_four_share_a_limit_evenly_over_64_000_ids(self, service: str) -> None:
        runs = [run(service, 50, tasks=4, requests=3200, seed=seed) for seed in SEEDS]
        assert statistics.mean(figures.fairness for figures in runs) >= 0.95
        assert min(figures.fairness for figures in runs) >= 0.9
        assert min(figures.used for figures in runs) >= 0.95
        assert max(figures.throttled for figures in runs) <= 0.03

    @pytest.mark.parametrize(
        ("service", "throttled"),
        [("bucket of 0.1 s", 0.06), ("bucket of 1 s", 0.06), ("by the second", 0.07)],
    )
    def test_eight_share_a_limit(self, service: str, throttled: float) -> None:
        runs = [run(service, 50, tasks=8, requests=625, seed=seed) for seed in SEEDS]
        assert min(figures.used for figures in runs) >= 0.9
        assert means(runs)[1] <= throttled

    @pytest.mark.parametrize(
        ("service", "throttled"), [("bucket of 0.1 s", 0.05), ("bucket of 1 s", 0.05), ("by the second", 0.1)]
    )
    def test_what_others_leave_is_taken_over(self, service: str, throttled: float) -> None:
        """Half of eight are killed and start anew, and in the end one after the other is done.

        A counter by the second throttles all that twelve slow starts have in flight when it is used up.
        """
        runs = [run_with_a_kill(service, seed=seed) for seed in SEEDS]
        assert min(figures.used for figures in runs) >= 0.8
        assert means(runs)[1] <= throttled

    @pytest.mark.parametrize("service", USUAL_SERVICES)
    def test_a_newcomer_gets_its_share(self, service: str) -> None:
        figures = run(service, 50, tasks=2, apart=20.0, requests=9999, since=50.0, until=110.0)
        assert figures.used >= 0.85
        assert min(figures.shares) >= (0.4 if service == "bucket of 2" else 0.55)


class TestServiceWithoutAnyBurst:
    @pytest.mark.parametrize("seed", range(1, 9))
    def test_alone_at_10(self, seed: int) -> None:
        """What is not used at once is lost, so that what got through is less than the limit."""
        figures = run("bucket of 1", 10, seed=seed, requests=9999, until=60.0)
        assert figures.used >= 0.85
        assert figures.throttled <= 0.03

    def test_alone(self) -> None:
        figures = run("bucket of 1", 50)
        assert figures.used >= 0.65
        assert figures.throttled <= 0.03

    def test_four_tasks_go_on(self) -> None:
        """Four that know nothing of each other hit a gap that is too short even at a tenth of the limit."""
        assert run("bucket of 1", 50, tasks=4, requests=100).used >= 0.1


def test_a_ceiling_is_never_passed() -> None:
    task = Task(RateControl(max_requests_per_second=7), 100, 8)
    simulate(TokenBucket(steady(500), 500), [task])
    assert min(b - a for a, b in zip(task.starts, task.starts[1:], strict=False)) >= 1 / 7 - 1e-9
    assert task.starts[-1] == pytest.approx(99 / 7, rel=0.2)


def test_a_rate_that_is_not_used_does_not_grow() -> None:
    control = RateControl()
    for second in range(1000):
        control.answer(control.start(float(second)), second + 0.03, throttled=False)
    assert control.rate < 15


def test_slow_answers_do_not_let_the_rate_grow_without_bound() -> None:
    task = Task(RateControl(), 2000, 8)
    simulate(TokenBucket(steady(10_000), 10_000), [task], answer_seconds=1.0)
    assert task.control.rate < 10 * 8 / 1.0


class TestEpochs:
    def throttle(self, control: RateControl, now: float, retry_after: float | None = None) -> None:
        control.answer(control.start(now), now, throttled=True, retry_after=retry_after)

    def searching(self) -> RateControl:
        """One whose slow start is over, at ``INITIAL_RATE``."""
        control = RateControl()
        self.throttle(control, 0.0)
        control.answer(control.start(0.5), 0.5, throttled=False)
        assert control.rate == INITIAL_RATE
        return control

    def test_slow_start_doubles_what_is_in_flight(self) -> None:
        control = RateControl()
        in_flight = [control.start(0.0)]
        assert control.next_start() == math.inf
        for allowed in (2, 4, 8, 16):
            for permit in in_flight:
                control.answer(permit, 1.0, throttled=False)
            assert control.window == allowed
            in_flight = []
            while control.next_start() <= 1.0:
                in_flight.append(control.start(1.0))
            assert len(in_flight) == allowed

    def test_a_request_without_an_answer_makes_room_for_another(self) -> None:
        control = RateControl()
        control.start(0.0)
        control.forget()
        assert control.next_start() <= 0.0

    def test_answers_to_requests_sent_before_a_decrease_are_no_news(self) -> None:
        control = self.searching()
        permits = [control.start(1 + 0.2 * number) for number in range(5)]
        control.answer(permits[0], 2.0, throttled=True)
        rate, next_start = control.rate, control.next_start()
        for permit in permits[1:]:
            control.answer(permit, 2.1, throttled=True)
        assert rate < INITIAL_RATE
        assert (control.rate, control.next_start()) == (rate, next_start)

    def test_their_retry_after_is_honoured_all_the_same(self) -> None:
        control = RateControl()
        permits = [control.start(0.0), control.start(0.2)]
        control.answer(permits[0], 1.0, throttled=True)
        control.answer(permits[1], 1.0, throttled=True, retry_after=30.0)
        assert control.next_start() == 31.0

    def test_a_closed_service_is_asked_ever_less_often_but_the_pace_is_kept(self) -> None:
        control = RateControl()
        self.throttle(control, 0.0)
        rate, asked = control.rate, 0
        while control.next_start() < 600:
            self.throttle(control, control.next_start())
            asked += 1
        assert asked < 150
        assert control.rate == rate
        assert control.next_start() - 600 < 10

    def test_a_rate_never_falls_below_the_floor(self) -> None:
        control = RateControl()
        now = 0.0
        for _ in range(200):
            now = max(now, control.next_start())
            control.answer(control.start(now), now, throttled=False)
            self.throttle(control, control.next_start())
        assert control.rate >= MINIMUM_RATE
        assert control.next_start() - now < 60


def test_growth_is_back_after_k_and_flat_around_w_max() -> None:
    growth = CubicGrowth(40.0, 50.0)
    k = 10.0  # (10 / 0.01) ** (1 / 3)
    assert growth.advance(0.0) == pytest.approx(40)
    assert growth.advance(k / 2) == pytest.approx(48.75)
    assert growth.advance(k / 2) == pytest.approx(50)
    assert growth.advance(k) == pytest.approx(60)


def test_throughput_is_that_of_the_last_second() -> None:
    throughput = Throughput()
    assert throughput.rate(0.0) == 0
    for number in range(101):
        throughput.add(number / 50)
    assert throughput.rate(2.0) == pytest.approx(51)
    assert throughput.rate(6.0) == pytest.approx(8 / 4.14)


@pytest.mark.parametrize("limit", [10, 50, 200])
@pytest.mark.parametrize("answer_seconds", [0.03, 0.3])
def test_window_is_rate_times_answer_time(limit: float, answer_seconds: float) -> None:
    task = Task(RateControl(), 9999, 256)
    simulate(TokenBucket(steady(limit), limit / 10), [task], answer_seconds=answer_seconds, until=60.0)
    needed = task.control.rate * answer_seconds
    assert needed <= task.control.window <= 2.2 * needed + 2


@pytest.mark.parametrize("ceiling", [0, -1, math.nan])
def test_a_ceiling_must_be_above_zero(ceiling: float) -> None:
    with pytest.raises(ValueError, match="max_requests_per_second"):
        RateLimiter(max_requests_per_second=ceiling)


class TestRateLimiter:
    """In real time, with real threads."""

    def test_many_threads_start_apart(self) -> None:
        limiter = RateLimiter(max_requests_per_second=50)
        starts: list[float] = []
        stop = threading.Event()

        def work() -> None:
            while permit := limiter.acquire(stop):
                starts.append(time.monotonic())
                limiter.release(permit)

        threads = [threading.Thread(target=work) for _ in range(16)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        time.sleep(2)
        stop.set()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)
        assert len(starts) <= (starts[-1] - began) * 50 + 2
        assert len(starts) >= 30
        assert limiter.rate <= 50

    def test_stop_ends_a_long_wait_at_once(self) -> None:
        limiter = RateLimiter()
        first = limiter.acquire()
        assert first
        limiter.release(first, throttled=True, retry_after=60.0)
        stop = threading.Event()
        threading.Timer(0.2, stop.set).start()
        began = time.monotonic()
        assert limiter.acquire(stop) is None
        assert time.monotonic() - began < 30

    def test_nothing_starts_once_stop_is_set(self) -> None:
        stop = threading.Event()
        stop.set()
        assert RateLimiter().acquire(stop) is None

    def test_reset_forgets_a_lock_that_is_held(self) -> None:
        limiter = RateLimiter(max_requests_per_second=7)
        assert limiter.acquire()
        with limiter._changed:
            limiter.reset()
            assert limiter.window == 1
            assert limiter.acquire()
        assert limiter.rate <= 7

    def test_a_pause_holds_every_thread(self) -> None:
        limiter = RateLimiter()
        first = limiter.acquire()
        assert first
        limiter.release(first, throttled=True, retry_after=0.5)
        began = time.monotonic()
        threads = [threading.Thread(target=limiter.acquire) for _ in range(2)]
        for thread in threads:
            thread.start()
        threads[0].join(5)
        threads[1].join(5)
        assert time.monotonic() - began >= 0.5

    def test_no_answer_changes_nothing(self) -> None:
        limiter = RateLimiter()
        permit = limiter.acquire()
        assert permit
        limiter.release(permit, throttled=None)
        assert limiter.rate == INITIAL_RATE
