"""How fast to ask: finds the service's request limit, which is not published, and stays just under it.

``RateControl`` is the law alone; it knows no clock, no threads and no sleeping, so that it can be simulated.
``Pacer`` lets the threads of one client wait by it.

**Opening.** One request; each good answer lets two more be in flight, which triples them every answer time: TCP's
slow start (RFC 5681, 3.1). A short run is over before anything else matters. The first throttle ends it, and costs
no more requests than the caller has in flight. From then on one rate is controlled, in requests per second: the
distance between the *starts* of requests, so that a service that counts by the second and one that counts with a
small bucket look alike.

**Searching.** From ``START_RATE``, or more if the opening got far, the rate grows e-fold in ``SEARCH_SECONDS`` as
long as it is used, more slowly beyond what the opening got through in a second, and after each throttle, which
takes a big step back.

**Backing off.** A throttled answer to a request that was sent since the last decrease is a signal: the rate is
lowered, nothing starts for a short pause (at least ``retry_after``), and throttled answers to requests that were
sent before count as the same signal. While the first answers after a pause are throttled too, the service is
closed, not the rate too high (a counter that starts anew each second is used up, or the limit has fallen to
nothing): only the pause is doubled. Requests then start a pause apart, so one of them opens the way again at the
old pace.

**Measuring.** Between two moments at which the limit was exhausted, what got through *is* our part of the limit.
So when a pause is over, and at least ``MEASURED_SECONDS`` and ``MEASURED_ANSWERS`` lie between it and the last
one, the search is over, and the rate goes down to what was measured, however far it had overshot. (Not after a
pause beyond ``OUTAGE_SECONDS``: an outage, or a long ``retry_after``, says nothing about the limit.)

**Sharing.** From then on the rate climbs by ``climb(rate) * step`` each second and falls by ``rate * step`` with
each signal: additive increase, multiplicative decrease (Chiu and Jain, 1989), by which tasks that don't know of
each other come to equal shares. Climb and fall balance where a share ``climb(rate) / rate**2`` of the requests is
throttled, whatever the step; all tasks at a limit meet the same share of throttles, so they end at the same rate.
How steeply that share falls with the rate decides how even they become, and how high it is what that costs (the
family is Bansal and Balakrishnan's, "Binomial Congestion Control Algorithms", 2001). A task learns of the others
by its throttles only: after n of them its part is still uncertain by about 1 / (2 * sqrt(n)).

**Steps.** A task alone is throttled at the same rate each time, and small steps keep it close to its limit. Among
others it is throttled at any rate, and big steps bring it sooner to its share. So the step follows how far, in
steps, the rates at which it was throttled lie from each other.

**Leaving.** Well above the last known limit without being throttled, the limit has moved: search again.

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
"""Requests per second at which a search begins."""
FLOOR_RATE = 0.1
"""Requests per second that are always allowed, so that a lost limit is found again."""
SEARCH_SECONDS = 0.5
"""The first search grows e-fold in this time. From 5/s to 50/s: 1.2 s, at a loss of 35 requests."""
SEARCH_AGAIN_SECONDS = 1.5
"""The same once it has been throttled, beyond what the opening got through, and for a limit that has moved."""
SEARCH_BACK_OFF = 0.6
"""A search overshoots, the more so if the service saves up for bursts."""
SEARCH_SIGNALS, LONGEST_SEARCH_SIGNALS = 2, 4
"""A search ends with a measurement after the first number of signals, without one after the second."""
ALIKE = 0.15
"""Two signals of a search within this share of each other: probably alone."""
CLIMB, CLIMB_FROM, CLIMB_TO = 1.3, 4.0, 12.5
"""Requests per second gained each second for a step of the whole rate, by all with a rate between the other two."""
CLIMB_BELOW, CLIMB_ABOVE = 1.2, 0.8
"""Below and above, it goes with these powers of the rate. Nearer to 0, shares are more even; nearer to 2, low rates
are throttled less, and high limits are found sooner."""
SMALLEST_STEP, LARGEST_STEP = 0.06, 0.25
"""As a share of the rate."""
REGULAR, IRREGULAR, MOST_IRREGULAR = 0.35, 0.65, 1.5
"""How far from each other rates at a throttle lie, in steps: up to the first, the smallest step is taken; from the
second on, the largest. (If throttles came at random, the mean would be 0.7.)"""
IRREGULARITY_MEMORY = 0.3
"""Weight of the last signal in the running mean of it."""
SEEMS_ALONE, SEEMS_AMONG_OTHERS = 0.3, 1.0
"""What that mean begins with."""
MOVED = 1.4
"""In multiples of the last known limit: climbing beyond it, the limit has moved."""
PAUSE_STARTS, SHORTEST_PAUSE, FIRST_PAUSE, LONGEST_PAUSE = 1.2, 0.02, 0.25, 5.0
"""A pause takes so many starts, and seconds within these bounds at first; that of a closed service grows."""
OUTAGE_SECONDS = 1.5
"""A longer pause says nothing about the limit. Counters run by the second."""
MEASURED_SECONDS, MEASURED_ANSWERS = 1.0, 8
TOWARDS_SIGNAL = 0.1
"""Share of the way from what a search measured to the rate at its last signal: the limit lies between."""
OPENING_GROWTH = 2
"""How many more each good answer lets be in flight."""
SHAKE = 0.05
"""Among others, distances vary by this share, lest two tasks in step always meet in the same order and one of
them gets every throttle (Floyd and Jacobson, "On Traffic Phase Effects in Packet-Switched Gateways", 1992)."""
LONGEST_NAP = 0.05
"""Seconds after which a waiting thread looks whether it shall stop."""
USED_SECONDS = 1.0
"""Use of the rate is averaged over this time, or over four starts if they take longer."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to start one request.

    :param signal: how many signals had been seen when it was given; tells whose throttle is news.
    """

    signal: int


def climb(rate: float) -> float:
    """Requests per second that a task gains each second for a step of its whole rate."""
    below, above = min(rate / CLIMB_FROM, 1.0), max(rate / CLIMB_TO, 1.0)
    return float(CLIMB * below**CLIMB_BELOW * above**CLIMB_ABOVE)


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
        """Requests per second aimed at, once the opening is over."""
        # Requests that may be in flight while opening, None after it.
        self._window: int | None = 1
        self._opened_at: float | None = None
        self._in_flight = 0
        self._last_start = -math.inf
        self._used = 1.0
        # The rate at the last signal; and, until there is one, what the opening got through in a second.
        self._limit: float | None = None
        self._opening_rate = math.inf
        self._signals = 0
        self._search_signals = 0
        self._alike = False
        self._irregularity = SEEMS_AMONG_OTHERS
        self._climbed_seconds = 0.0
        # A pause above 0 means: throttled, and not known to be open again.
        self._pause = 0.0
        self._pause_that_sufficed = 0.0
        self._paused_at = 0.0
        self._held_until = -math.inf
        self._searching = True
        # The end of the last pause, and the requests taken since.
        self._measured_from: float | None = None
        self._taken = 0

    def next_start(self) -> float:
        """The earliest time at which the next request may start; each answer may change it."""
        if self._window is None:
            distance = max(self._shake / self.rate, 1 / self._ceiling, self._pause)
        elif self._in_flight < self._window:
            distance = 1 / self._ceiling
        else:
            return math.inf
        return max(self._last_start + distance, self._held_until)

    def start(self, now: float) -> Permit:
        """Note that a request starts now."""
        if self._window is None:
            gap, slot = now - self._last_start, max(1 / self.rate, self._pause)
            weight = 1 - math.exp(-gap / max(USED_SECONDS, 4 * slot))
            self._used += weight * (min(1.0, slot / gap) - self._used) if gap > 0 else 0.0
        elif self._opened_at is None:
            self._opened_at = now
        self._in_flight += 1
        self._last_start = now
        among_others = not self._searching and self._step > 1.2 * SMALLEST_STEP
        self._shake = self._random.uniform(1 - SHAKE, 1 + SHAKE) if among_others else 1.0
        return Permit(self._signals)

    def answer(
        self, permit: Permit, now: float, *, throttled: bool, retry_after: float | None = None
    ) -> None:
        """Learn from an answer.

        :param retry_after: seconds for which the service asks not to be called.
        """
        self._in_flight -= 1
        news = permit.signal == self._signals
        if throttled:
            if news:
                self._signals += 1
                if self._pause:
                    self._pause = min(2 * self._pause, LONGEST_PAUSE)
                else:
                    self._back_off(now)
                self._held_until = max(self._held_until, now + self._pause)
            self._held_until = max(self._held_until, now + (retry_after or 0.0))
            return
        self._taken += 1
        if news and self._pause:
            self._reopen(now)
        elif news and self._window is not None:
            self._window += OPENING_GROWTH
        elif news and self._used > 0.5:
            self._grow()

    def no_answer(self) -> None:
        """Note that one will never come. The service has most likely taken the request."""
        self._in_flight -= 1
        self._taken += 1

    @property
    def _step(self) -> float:
        irregular = (self._irregularity - REGULAR) / (IRREGULAR - REGULAR)
        return SMALLEST_STEP + (LARGEST_STEP - SMALLEST_STEP) * min(max(irregular, 0.0), 1.0)

    def _back_off(self, now: float) -> None:
        if self._window is not None:
            self._end_opening(now)
        elif self._searching:
            self._step_back_in_search()
        else:
            assert self._limit is not None
            irregularity = min(abs(self.rate / self._limit - 1) / self._step, MOST_IRREGULAR)
            self._irregularity += IRREGULARITY_MEMORY * (irregularity - self._irregularity)
            self._limit = self.rate
            self._set_rate(self.rate * (1 - self._step))
        self._climbed_seconds = 0.0
        self._paused_at = now
        first = min(max(PAUSE_STARTS / self.rate, SHORTEST_PAUSE), FIRST_PAUSE)
        # Half of what was needed last time: a counter by the second is closed for long, but not always.
        self._pause = max(first, self._pause_that_sufficed / 2)

    def _end_opening(self, now: float) -> None:
        assert self._opened_at is not None
        self._window = None
        rate = self._taken / max(now - self._opened_at, 1.0)
        if rate > START_RATE:
            # In between: several tasks that open at the same time don't get the same of a burst.
            self._set_rate(math.sqrt(START_RATE * rate))
        if rate > 2 * START_RATE:  # fewer may have been saved up for a burst
            self._opening_rate = rate

    def _step_back_in_search(self) -> None:
        self._search_signals += 1
        self._alike = self._limit is not None and abs(self.rate / self._limit - 1) < ALIKE
        self._limit = self.rate
        if self._search_signals < LONGEST_SEARCH_SIGNALS:
            self._set_rate(self.rate * SEARCH_BACK_OFF)
        else:
            self._end_search(SEEMS_AMONG_OTHERS)
            self._set_rate(self.rate * (1 - self._step))

    def _end_search(self, irregularity: float) -> None:
        self._searching = False
        self._irregularity = irregularity

    def _reopen(self, now: float) -> None:
        self._pause_that_sufficed = self._pause if self._pause <= OUTAGE_SECONDS else 0.0
        self._pause = 0.0
        if self._limit is None:
            return  # Only the opening was throttled: what it used up is no measure of anything.
        closed = now - self._paused_at
        if self._measured_from is not None and closed <= OUTAGE_SECONDS:
            # What a pause saves up is used after it, if the service saves up: half of it is a fair guess.
            seconds = now - self._measured_from - closed / 2
            if seconds < MEASURED_SECONDS or self._taken < MEASURED_ANSWERS:
                return
            self._take_measure(self._taken / seconds)
        self._measured_from, self._taken = now, 0

    def _take_measure(self, rate: float) -> None:
        assert self._limit is not None
        if self._searching:
            if not self._alike and self._search_signals < SEARCH_SIGNALS:
                return
            self._end_search(SEEMS_ALONE if self._alike else SEEMS_AMONG_OTHERS)
            # Where nothing is saved up, the limit is the rate at the signal, and the search's mean was below it.
            self._limit = min(rate, self._limit) + TOWARDS_SIGNAL * max(self._limit - rate, 0.0)
        elif rate < self.rate:
            self._limit = rate
        else:
            return
        self._set_rate(self._limit * (1 - self._step / 2))

    def _grow(self) -> None:
        if self._searching:
            quick = self._limit is None and self.rate <= self._opening_rate
            self._set_rate(self.rate + 1 / (SEARCH_SECONDS if quick else SEARCH_AGAIN_SECONDS))
            return
        assert self._limit is not None
        if self.rate > MOVED * self._limit:
            # What got through at the low rates of before is no measure of the limit.
            self._searching, self._measured_from, self._search_signals = True, None, 0
            return
        self._climbed_seconds += 1 / self.rate
        gain = climb(self.rate)
        # The way back to the limit takes rate / gain seconds; beyond it, every further second counts more.
        way = self._climbed_seconds * gain / self.rate
        self._set_rate(self.rate + gain * self._step * max(1.0, way) ** 2 / self.rate)

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
        self._changed = threading.Condition()

    @property
    def rate(self) -> float:
        """Requests per second aimed at."""
        return self._control.rate

    def acquire(self, stop: threading.Event | None = None) -> Permit | None:
        """Wait until the next request may start.

        :param stop: ends the wait, within ``LONGEST_NAP``, when it is set.
        :return: hand it to :meth:`release` with the answer; None when ``stop`` was set.
        """
        with self._changed:
            while not (stop and stop.is_set()):
                now = self._clock()
                wait = self._control.next_start() - now
                if wait <= 0:
                    return self._control.start(now)
                # An answer to another thread's request may bring the start nearer.
                self._changed.wait(min(wait, LONGEST_NAP))
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
        with self._changed:
            if answered:
                self._control.answer(permit, self._clock(), throttled=throttled, retry_after=retry_after)
            else:
                self._control.no_answer()
            self._changed.notify_all()
