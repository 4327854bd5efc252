"""How fast to ask: finds the service's request limit, which is not published, and stays just under it.

``RateControl`` is the law alone; it knows no clock, no threads and no sleeping, so that it can be simulated.
``Pacer`` lets the threads of one client wait by it.

**What is controlled.** One rate, in requests per second: the distance between the *starts* of requests. Bursts
are never sent, so a service that counts by the second and one that counts with a small bucket look alike.

**Searching.** From 5/s, every good answer adds 1/``SEARCH_SECONDS`` to the rate, which makes it grow e-fold in
that time as long as it is used: TCP's slow start, clocked by answers (RFC 5681, 3.1). Throttled, it takes a big
step back and searches on, slower, until the limit has been measured.

**Backing off.** A throttled answer to a request that was sent since the last decrease is a signal: the rate is
multiplied by ``BACK_OFF``, nothing starts for a short pause (at least ``retry_after``), and throttled answers to
requests that were sent before count as the same signal. While the first answers after a pause are throttled too,
the service is closed, not the rate too high (a counter that starts anew each second is used up, or the limit has
fallen to nothing): only the pause is doubled. Requests then start a pause apart, so one of them opens the way
again at the old pace.

**Measuring.** Between two moments at which the limit was exhausted, what got through *is* our part of the limit.
So when a pause is over, and at least ``MEASURED_SECONDS`` and ``MEASURED_ANSWERS`` lie between it and the last
one, the rate goes down to what was measured, however far it had overshot. (A longer pause counts as
``OUTAGE_SECONDS``: an outage, or a long ``retry_after``, says nothing about the limit.)

**Climbing.** While throttles come at different rates, others use the limit too or it is moving. Then the rate
grows by about the same number of requests per second each second for every task, whatever it has: additive
increase with multiplicative decrease, which is what lets tasks that don't know of each other settle at equal
shares (Chiu and Jain, 1989; RFC 5681). Above
``CLIMB_RATE`` the number goes with the root of the rate, lest a task alone at a high limit takes minutes; below
it with the rate, lest low limits are probed with every few requests, at the price of slower sharing there.

**Staying.** When throttles came at the same rate ``STABLE_SIGNALS`` times running, that rate is the limit. The
rate approaches it, stays just under it and probes beyond it along CUBIC's curve (RFC 9438, 4.2, applied to a rate
instead of a window): ``limit + (limit - start) * (t / T - 1)**3``.

**Leaving.** Well above the last known limit without being throttled, the limit has moved: search again, slower.

**Unused rates don't grow.** What the task does not use proves nothing about the service (RFC 7661): the rate
grows only while more than half of it was used of late, and time, for growing, is counted in used starts.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

START_RATE = 5.0
"""Requests per second in the beginning."""
FLOOR_RATE = 0.1
"""Requests per second that are always allowed, so that a lost limit is found again."""
SEARCH_SECONDS = 0.5
"""The first search grows e-fold in this time. From 5/s to 50/s: 1.2 s, at a loss of 35 requests."""
SEARCH_AGAIN_SECONDS = 1.5
"""The same once it has been throttled, and for a limit that has moved."""
SEARCH_BACK_OFF = 0.6
"""Until the limit has been measured: a search overshoots, the more so if the service saves up for bursts."""
BACK_OFF = 0.85
"""CUBIC takes 0.7; nearer to 1, a task alone loses less of the limit."""
CLIMB = 1.0
"""Requests per second gained each second by a task at ``CLIMB_RATE``."""
CLIMB_RATE = 12.5
"""Requests per second; below it the climb goes with the rate, above it with its root."""
SAME_LIMIT = 0.06
"""Throttled at rates that differ by less than this share: the same limit."""
STABLE_SIGNALS = 2
STAY_SECONDS, STAY_REQUESTS, LONGEST_STAY_SECONDS = 6.0, 25.0, 15.0
"""The way back to the known limit takes so many requests, but no less and no more than this time."""
STAY_PERIODS = 1.8
"""In multiples of that way: after this the limit has moved."""
MOVED = 1.3
"""In multiples of the last known limit: climbing beyond it, the limit has moved."""
PAUSE_COST = 10.0
"""A way back takes at least this many times the pause that the throttle cost."""
SHORTEST_PAUSE, FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25, 5.0
"""Seconds: bounds of the first pause (two starts, in between), and of the pause of a closed service."""
OUTAGE_SECONDS = 1.0
"""What a pause lasts beyond this says nothing about the limit. Counters run by the second."""
MEASURED_SECONDS, MEASURED_ANSWERS = 1.0, 8
SHAKE = 0.2
"""While climbing, distances vary by this share, lest two tasks in step always meet in the same order and one of
them gets every throttle (Floyd and Jacobson, "On Traffic Phase Effects in Packet-Switched Gateways", 1992)."""
LONGEST_NAP = 0.05
"""Seconds after which a waiting thread looks again."""
USED_SECONDS = 1.0
"""Use of the rate is averaged over this time, or over four starts if they take longer."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to start one request.

    :param signal: how many signals had been seen when it was given; tells whose throttle is news.
    """

    signal: int


class RateControl:
    """The control law. Every method is told the time in seconds, from any fixed origin.

    :param max_requests_per_second: a ceiling that the rate never passes, > 0; none by default.
    :param seed: of the variation in distances.
    """

    def __init__(self, *, max_requests_per_second: float | None = None, seed: int | None = None) -> None:
        if max_requests_per_second is not None and not max_requests_per_second > 0:
            raise ValueError(f"max_requests_per_second must be above 0, not {max_requests_per_second!r}")
        self._ceiling = max_requests_per_second or math.inf
        self._floor = min(FLOOR_RATE, self._ceiling)
        self._random = random.Random(seed)
        self._shake = 1.0
        self.rate = min(START_RATE, self._ceiling)
        """Requests per second aimed at."""
        self._limit: float | None = None
        self._rise_from = 0.0
        self._rise_seconds = 0.0
        self._stable_signals = 0
        self._signals = 0
        self._last_start = -math.inf
        self._held_until = -math.inf
        self._used = 1.0
        # A pause above 0 means: throttled, and not known to be open again.
        self._pause = 0.0
        self._pause_that_sufficed = 0.0
        self._pause_cost = 0.0
        self._paused_at = 0.0
        # Since the pause before: answers, and the seconds of closure that say nothing about the limit.
        self._measured_from: float | None = None
        self._measured_answers = 0
        self._measured = False
        self._outage_seconds = 0.0

    def next_start(self) -> float:
        """The earliest time at which the next request may start; each answer may change it."""
        distance = max(self._shake / self.rate, 1 / self._ceiling, self._pause)
        return max(self._last_start + distance, self._held_until)

    def start(self, now: float) -> Permit:
        """Note that a request starts now."""
        gap = now - self._last_start
        if 0 < gap < math.inf:
            slot = max(1 / self.rate, self._pause)
            weight = 1 - math.exp(-gap / max(USED_SECONDS, 4 * slot))
            self._used += weight * (min(1.0, slot / gap) - self._used)
        self._last_start = now
        climbing = self._limit is not None and self._stable_signals < STABLE_SIGNALS
        self._shake = self._random.uniform(1 - SHAKE, 1 + SHAKE) if climbing else 1.0
        return Permit(self._signals)

    def answer(
        self, permit: Permit, now: float, *, throttled: bool, retry_after: float | None = None
    ) -> None:
        """Learn from an answer.

        :param retry_after: seconds for which the service asks not to be called.
        """
        if throttled:
            if permit.signal == self._signals:
                self._signals += 1
                if self._pause:
                    self._pause = min(2 * self._pause, LONGEST_PAUSE)
                else:
                    self._back_off(now)
                self._held_until = max(self._held_until, now + self._pause)
            self._held_until = max(self._held_until, now + (retry_after or 0.0))
            return
        self._measured_answers += 1
        if permit.signal == self._signals:
            if self._pause:
                self._reopen(now)
            elif self._used > 0.5:
                self._grow()

    def _back_off(self, now: float) -> None:
        if self._limit is not None:
            same = abs(self.rate / self._limit - 1) < SAME_LIMIT
            self._stable_signals = self._stable_signals + 1 if same else 0
        share = BACK_OFF if self._measured else SEARCH_BACK_OFF
        self._rise_to(self.rate, start=self.rate * share)
        self._paused_at = now
        first = min(max(2 / self.rate, SHORTEST_PAUSE), FIRST_PAUSE)
        # Half of what was needed last time: a counter by the second is closed for long, but not always.
        self._pause = max(first, self._pause_that_sufficed / 2)

    def _reopen(self, now: float) -> None:
        self._pause_that_sufficed = self._pause if self._pause <= OUTAGE_SECONDS else 0.0
        self._pause = 0.0
        self._pause_cost = min(self._held_until - self._paused_at, OUTAGE_SECONDS)
        self._outage_seconds += max(0.0, now - self._paused_at - OUTAGE_SECONDS)
        if self._measured_from is not None:
            seconds = now - self._measured_from - self._outage_seconds
            if seconds < MEASURED_SECONDS or self._measured_answers < MEASURED_ANSWERS:
                return
            measured = self._measured_answers / seconds
            if measured < self.rate or not self._measured:
                self._rise_to(measured / BACK_OFF, start=measured)
            self._measured = True
        self._measured_from, self._measured_answers, self._outage_seconds = now, 0, 0.0

    def _rise_to(self, limit: float, *, start: float) -> None:
        self._limit, self._rise_seconds = limit, 0.0
        self._set_rate(start)
        self._rise_from = self.rate

    def _grow(self) -> None:
        if self._limit is None:
            self._set_rate(self.rate + 1 / SEARCH_SECONDS)
            return
        lost = max(0.0, self._limit - self._rise_from)
        dearest = PAUSE_COST * self._pause_cost
        self._rise_seconds += 1 / self.rate
        if self._stable_signals >= STABLE_SIGNALS:
            way = min(max(STAY_SECONDS, STAY_REQUESTS / self._limit), LONGEST_STAY_SECONDS)
            passed = self._rise_seconds / max(way, dearest)
            if passed < STAY_PERIODS:
                self._set_rate(max(self.rate, self._limit + lost * (passed - 1) ** 3))
                return
        elif self._measured and self.rate < MOVED * self._limit:
            size = self._rise_from / CLIMB_RATE
            climb = CLIMB * (size if size < 1 else math.sqrt(size))
            if dearest and lost:
                climb = min(climb, lost / dearest)
            self._set_rate(self.rate + climb / self.rate)
            return
        # Searching: what got through at the low rates of before is no measure of the limit.
        if self._measured:
            self._measured, self._measured_from = False, None
        self._set_rate(self.rate + 1 / SEARCH_AGAIN_SECONDS)

    def _set_rate(self, rate: float) -> None:
        self.rate = min(max(rate, self._floor), self._ceiling)


class Pacer:
    """Lets the threads of one client start their requests no faster than the service takes them.

    :param max_requests_per_second: a ceiling that is never passed, > 0; none by default.
    :param clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        max_requests_per_second: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._control = RateControl(max_requests_per_second=max_requests_per_second)
        self._clock = clock
        self._lock = threading.Lock()

    @property
    def rate(self) -> float:
        """Requests per second aimed at."""
        return self._control.rate

    def acquire(self, stop: threading.Event | None = None) -> Permit | None:
        """Wait until the next request may start.

        :param stop: ends the wait at once when it is set.
        :return: hand it to :meth:`release` with the answer; None when ``stop`` was set.
        """
        stop = stop or threading.Event()
        while not stop.is_set():
            with self._lock:
                now = self._clock()
                wait = self._control.next_start() - now
                if wait <= 0:
                    return self._control.start(now)
            # Not in one go: an answer to another thread's request may bring the start nearer.
            stop.wait(min(wait, LONGEST_NAP))
        return None

    def release(
        self,
        permit: Permit,
        *,
        throttled: bool = False,
        answered: bool = True,
        retry_after: float | None = None,
    ) -> None:
        """Learn what became of the request.

        :param throttled: the service refused it because there were too many.
        :param answered: False if no answer came (reset, time-out), which says nothing about the limit.
        :param retry_after: seconds for which the service asks not to be called (``x-acs-retry-after`` / 1000).
        """
        if not answered:
            return
        with self._lock:
            self._control.answer(permit, self._clock(), throttled=throttled, retry_after=retry_after)
