"""How fast to ask: finds the service's request limit, which is not published, and stays just under it.

``RateControl`` is the law alone; it knows no clock, no threads and no sleeping, so that it can be simulated.
``Pacer`` lets the threads of one client wait by it.

**Opening.** One request; each good answer lets two more be in flight, which triples them every answer time: TCP's
slow start (RFC 5681, 3.1). A short run is over before anything else matters. The first throttle ends it, and costs
no more requests than the caller has in flight. From then on one rate is controlled, in requests per second: the
distance between the *starts* of requests, so that a service that counts by the second and one that counts with a
small bucket look alike.

**Searching.** From ``START_RATE``, or more if the opening got far, the rate grows e-fold in ``SEARCH_SECONDS`` as
long as it is used; more slowly beyond what the opening got through in a second, and after a throttle, which takes
a big step back. Between two moments at which the limit was exhausted, what got through is at most our part of the
limit, and less if the service does not save up what was left; the rate at the throttle is at least that, and more
if it does. Once the two are near each other, or there were ``SEARCH_SIGNALS``, the search is over, and the rate
goes between them. (A pause beyond ``OUTAGE_SECONDS`` is an outage, or a long ``retry_after``, and says nothing
about the limit.)

**Backing off.** A throttled answer to a request that was sent since the last decrease is a signal: the rate is
lowered, nothing starts for a short pause (at least ``retry_after``), and throttled answers to requests that were
sent before count as the same signal. While the first answers after a pause are throttled too, the service is
closed, not the rate too high (a counter that starts anew each second is used up, or the limit has fallen to
nothing): only the pause is doubled. Requests then start a pause apart, so one of them opens the way again at the
old pace.

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

**Leaving.** What was climbed since the last signal after ``rate / climb(rate)`` seconds is a step, so that is when
the next signal is due. The longer it is overdue, the more the limit has moved, and the quicker the rate grows: flat
about the old limit and convex beyond it, like that of TCP CUBIC (RFC 9438), but exponential, since nothing is known
of how far the limit has moved.

**Unused rates don't grow.** What the task does not use proves nothing about the service (RFC 7661): the rate
grows only while more than half of it was used of late, and time, for growing, is counted in used starts.
"""

from __future__ import annotations

import math
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
SEARCH_ON_SECONDS = 1.0
"""The same beyond what the opening got through."""
SEARCH_AGAIN_SECONDS = 2.0
"""The same once the search has been throttled."""
SEARCH_BACK_OFF = 0.6
"""A search overshoots, the more so if the service saves up for bursts. Known to this share, the limit is found."""
SEARCH_SIGNALS = 2
"""It is over in any case after so many. More are of no use among others, where each is one of theirs as well."""
CLIMB, CLIMB_FROM, CLIMB_TO = 1.3, 5.0, 12.5
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
SEEMS = 0.45
"""What that mean begins with: alone or not."""
OVERDUE = 0.5
"""How quickly a rate grows while a signal is overdue: by 1.6 at twice the time, by 7 at three times."""
PAUSE_STARTS, SHORTEST_PAUSE, FIRST_PAUSE, LONGEST_PAUSE = 1.2, 0.02, 0.25, 5.0
"""A pause takes so many starts, and seconds within these bounds at first; that of a closed service grows."""
OUTAGE_SECONDS = 1.5
"""A longer pause says nothing about the limit. Counters run by the second."""
MEASURED_SECONDS, MEASURED_ANSWERS = 1.0, 8
TOWARDS_SIGNAL = 0.5
"""Where to go on after a search: share of the way from what got through to the rate at the signal."""
OPENING_GROWTH = 2
"""How many more each good answer lets be in flight."""
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
    """

    def __init__(self, *, max_requests_per_second: float | None = None) -> None:
        if max_requests_per_second is not None and not max_requests_per_second > 0:
            raise ValueError(f"max_requests_per_second must be above 0, not {max_requests_per_second!r}")
        self._ceiling = max_requests_per_second or math.inf
        self._floor = min(FLOOR_RATE, self._ceiling)
        self.rate = min(START_RATE, self._ceiling)
        """Requests per second aimed at, once the opening is over."""
        # Requests that may be in flight while opening, None after it.
        self._window: int | None = 1
        self._opened_at: float | None = None
        self._in_flight = 0
        self._last_start = -math.inf
        self._used = 1.0
        self._signals = 0
        # What the opening got through in a second, if that is worth believing.
        self._opening_rate = math.inf
        self._searching = True
        self._search_signals = 0
        # The end of the pause from which on is measured, and the requests taken since.
        self._measured_from = 0.0
        self._taken = 0
        # The limit as far as it is known; the rate from which it is climbed to, and for how many times the way there.
        self._limit = math.inf
        self._low, self._way = self.rate, 0.0
        self._throttled_at: float | None = None
        self._irregularity = SEEMS
        # A pause above 0 means: throttled, and not known to be open again.
        self._pause = 0.0
        self._pause_that_sufficed = 0.0
        self._paused_at = 0.0
        self._held_until = -math.inf

    def next_start(self) -> float:
        """The earliest time at which the next request may start; each answer may change it."""
        if self._window is None:
            distance = max(1 / self.rate, self._pause)
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
            self._search_signals += 1
            self._limit = self.rate
            self._set_rate(self.rate * SEARCH_BACK_OFF)
        else:
            if self._throttled_at:
                irregularity = min(abs(self.rate / self._throttled_at - 1) / self._step, MOST_IRREGULAR)
                self._irregularity += IRREGULARITY_MEMORY * (irregularity - self._irregularity)
            self._throttled_at = self.rate
            self._climb_from(self.rate * (1 - self._step), self.rate)
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

    def _reopen(self, now: float) -> None:
        closed = now - self._paused_at
        self._pause_that_sufficed = self._pause if self._pause <= OUTAGE_SECONDS else 0.0
        self._pause = 0.0
        if self._searching:
            self._look_whether_found(now, closed)

    def _look_whether_found(self, now: float, closed: float) -> None:
        """End the search if the limit is known well enough."""
        through = 0.0
        # What a pause saves up is used after it, if the service saves up: half of it is a fair guess.
        seconds = now - self._measured_from - closed / 2
        if not self._search_signals or closed > OUTAGE_SECONDS:
            self._measured_from, self._taken = now, 0
        elif seconds >= MEASURED_SECONDS and self._taken >= MEASURED_ANSWERS:
            through = min(self._taken / seconds, self._limit)
            self._measured_from, self._taken = now, 0
        if through > SEARCH_BACK_OFF * self._limit or self._search_signals >= SEARCH_SIGNALS:
            self._searching = False
            if through:
                between = through + TOWARDS_SIGNAL * (self._limit - through)
                self._climb_from(between, between)
            else:
                self._climb_from(self._limit * (1 - LARGEST_STEP), self._limit)

    def _climb_from(self, rate: float, limit: float) -> None:
        self._set_rate(rate)
        self._limit = limit
        self._low, self._way = self.rate, 0.0

    def _grow(self) -> None:
        if self._searching:
            if self._search_signals:
                seconds = SEARCH_AGAIN_SECONDS
            else:
                seconds = SEARCH_SECONDS if self.rate <= self._opening_rate else SEARCH_ON_SECONDS
            self._set_rate(self.rate + 1 / seconds)
            return
        self._way += climb(self._limit) / self._limit / self.rate
        climbed = self._low + self._limit * self._step * self._way
        overdue = max(self._way - 1, 0.0)
        self._set_rate(climbed * math.exp(OVERDUE * overdue**2))

    def _set_rate(self, rate: float) -> None:
        self.rate = min(max(rate, self._floor), self._ceiling)


class RateLimiter:
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
