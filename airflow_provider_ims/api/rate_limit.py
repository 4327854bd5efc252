"""How fast to ask: finds the service's request limit, which is not published, and stays just under it.

``RateControl`` is the control law; it knows no clock, no threads and no sleeping, so that it can be simulated
(``python -m tests.api.rate_limit_simulation``). ``RateLimiter`` lets the threads of one client wait by it. The
control law is that of TCP CUBIC (RFC 9438), as in botocore's adaptive retry mode, for requests per second instead
of segments in flight:

**Slow start.** One request; each good answer lets one more be in flight, which doubles them every answer time (RFC
5681, 3.1). A short run is over before anything else matters. The first throttle ends it and costs no more requests
than are in flight. From then on the *starts* of requests are kept ``1 / rate`` apart, beginning with what got through
in a second. A small burst that the service had saved up ends slow start far below the limit, so the rate goes on
growing exponentially until the next throttle.

**Congestion avoidance.** A throttle at a rate ``w_max`` lowers it to ``BETA_CUBIC * w_max``. After ``t`` seconds
it is ``C * (t - k)**3 + w_max``, where ``k`` is when it is back at ``w_max``: quickly towards the old limit,
hardly at all around it, then ever faster, should the limit have moved. A throttle below the last ``w_max`` means
that another task wants its share, and leaves it room (fast convergence, 4.7). Tasks that don't know of each other
come to equal shares: a rate is in balance where a share of about ``0.4 * rate**(-4/3)`` of its requests is
throttled, and all tasks at a limit meet the same share. RFC 9438 has C = 0.4 and 0.7 for round trips; these are
for seconds, a third as many throttles, and more of the limit used. There is no Reno-friendly region (4.3): its
growth follows the answer time, which has nothing to do with a service that counts by the second.

**Epochs.** A throttled answer to a request that was sent before the last decrease is no news: only a permit of the
current epoch counts, as TCP lowers its window once for a round trip (RFC 6582). After a decrease nothing starts for a
short pause, or ``retry_after``. While the first answers after it are throttled too, the service is closed (a counter
by the second is used up, or there is an outage) rather than the rate too high: the pause is doubled, as in RFC 6298,
5.5, and the rate kept. So an outage of any length costs one decrease.

**Overshoot.** While it searches, a rate can be far beyond the limit when the throttle comes. What got through in the
last second says where the limit is (Westwood, Mascolo et al. 2001): the rate falls to that, at most by half.

**What is not used does not grow.** ``t`` is counted in starts, and stands still while less than half of the rate is
asked for (RFC 7661; botocore has the same factor).

**Throttles and lost answers at any rate.** Lost answers change nothing. Throttles that don't come from the rate
are met at any, so the control law would give in to them; below ``MINIMUM_RATE`` it doesn't. (Among eight tasks,
one that takes throttles for accidental brings the others to do the same: every more clever rule that was tried
ended so.) A limit below that rate is kept to by pauses alone.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

C = 0.01
"""How steeply the rate grows, in requests per second per cubic second. Back to a limit of 10/s, 50/s or 200/s it
takes 6, 10 or 16 s; larger finds a new one sooner and costs several tasks more throttles."""
BETA_CUBIC = 0.8
"""What is left of the rate after a throttle."""
INITIAL_RATE = 5.0
"""Requests per second after slow start, if nothing better was seen."""
MINIMUM_RATE = 3.0
"""Requests per second below which only pauses slow down. Eight tasks at a limit of 50 a second need 6 each."""
SEARCH_SECONDS = 0.5
"""A search grows e-fold in this time. From 5/s to 50/s: 1.2 s, at a loss of 35 requests."""
SEARCH_BETA = 0.5
"""What is left at least of the rate when a search has overshot (RFC 5681: half of what was in flight)."""
SHORTEST_PAUSE, LONGEST_FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25, 5.0
"""Seconds. The first pause is one start long, within the first two; doubling ends at the third."""
OUTAGE_SECONDS = 1.5
"""A longer pause was no counter by the second, and says nothing about the next one."""
MEASURED_SECONDS, MEASURED_EVENTS = 1.0, 8
"""Throughput is that of the last second, or of the last eight if they took longer."""
LONGEST_NAP = 0.05
"""Seconds after which a waiting thread looks whether it shall stop."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to start one request.

    :param epoch: how many decreases and pauses there had been; tells whose answer is news.
    :param started: when it was given, in seconds of the limiter's clock.
    """

    epoch: int
    started: float


class CubicGrowth:
    """RFC 9438, 4.2: the rate over the time since a decrease.

    :param rate: requests per second after the decrease.
    :param w_max: what it was before, or less, to leave room to others.
    """

    def __init__(self, rate: float, w_max: float) -> None:
        self._w_max = max(w_max, rate)
        self._k = math.cbrt((self._w_max - rate) / C)
        self._t = 0.0

    def advance(self, seconds: float) -> float:
        """Return the rate after so many more seconds."""
        self._t += seconds
        return C * (self._t - self._k) ** 3 + self._w_max


class Throughput:
    """Events per second, of late."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def add(self, now: float) -> None:
        """Count one."""
        self._times.append(now)
        self._forget(now)

    def rate(self, now: float) -> float:
        """Return events per second, 0.0 before the first."""
        self._forget(now)
        return len(self._times) / max(now - self._times[0], MEASURED_SECONDS) if self._times else 0.0

    def _forget(self, now: float) -> None:
        while len(self._times) > MEASURED_EVENTS and self._times[0] < now - MEASURED_SECONDS:
            self._times.popleft()


class AnswerTime:
    """RFC 6298, 2: how long an answer takes, smoothed, and how long at most but for accidents."""

    def __init__(self) -> None:
        self._smoothed = 0.0
        self._variation = 0.0

    def add(self, seconds: float) -> None:
        """Take one more answer into account."""
        if not self._smoothed:
            self._smoothed, self._variation = seconds, seconds / 2
        else:
            self._variation += (abs(self._smoothed - seconds) - self._variation) / 4
            self._smoothed += (seconds - self._smoothed) / 8

    @property
    def longest(self) -> float:
        """Seconds after which most answers are there, 0.0 before the first."""
        return self._smoothed + 4 * self._variation


class Pause:
    """The time in which nothing starts after a throttle; doubled while the service stays closed."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """Above 0: throttled, and not known to be open again."""
        self._sufficed = 0.0

    def begin(self, rate: float) -> None:
        """Take one start, or half of what sufficed last: a counter by the second may be closed for long."""
        first = min(max(1 / rate, SHORTEST_PAUSE), LONGEST_FIRST_PAUSE)
        self.seconds = max(first, self._sufficed / 2)

    def double(self) -> None:
        """Wait longer: the service is still closed."""
        self.seconds = min(2 * self.seconds, LONGEST_PAUSE)

    def end(self) -> None:
        """Go on: a good answer came."""
        self._sufficed = self.seconds if self.seconds <= OUTAGE_SECONDS else 0.0
        self.seconds = 0.0


class RateControl:
    """The control law. Every method is told the time in seconds, from any fixed origin.

    :param max_requests_per_second: a ceiling that the rate never passes, > 0; none by default.
    """

    def __init__(self, *, max_requests_per_second: float | None = None) -> None:
        if max_requests_per_second is not None and not max_requests_per_second > 0:
            raise ValueError(f"max_requests_per_second must be above 0, not {max_requests_per_second!r}")
        self._ceiling = max_requests_per_second or math.inf
        self.rate = min(INITIAL_RATE, self._ceiling)
        """Requests per second aimed at, once slow start is over."""
        # Requests that may be in flight in slow start, None after it.
        self._slow_start_window: int | None = 1
        # None while the limit is searched for.
        self._growth: CubicGrowth | None = None
        self._w_max = 0.0
        self._epoch = 0
        self._in_flight = 0
        self._last_start = -math.inf
        self._held_until = -math.inf
        self._pause = Pause()
        self._started, self._admitted = Throughput(), Throughput()
        self._answer_time = AnswerTime()

    @property
    def window(self) -> int:
        """Requests that make sense in flight now, the next to start included; at least 1."""
        if self._slow_start_window is not None:
            return self._slow_start_window
        return math.ceil(self._answer_time.longest / self._distance) + 1

    def next_start(self) -> float:
        """Return the earliest time at which the next request may start; each answer may change it."""
        if self._slow_start_window is None:
            distance = self._distance
        elif self._in_flight < self._slow_start_window:
            distance = 1 / self._ceiling
        else:
            return math.inf
        return max(self._last_start + distance, self._held_until)

    def start(self, now: float) -> Permit:
        """Note that a request starts now."""
        self._in_flight += 1
        self._last_start = now
        self._started.add(now)
        return Permit(self._epoch, now)

    def answer(
        self, permit: Permit, now: float, *, throttled: bool, retry_after: float | None = None
    ) -> None:
        """Learn from an answer.

        :param retry_after: seconds for which the service asks not to be called.
        """
        self._in_flight -= 1
        is_current = permit.epoch == self._epoch
        if throttled:
            if is_current:
                self._back_off(now)
                self._held_until = max(self._held_until, now + self._pause.seconds)
            self._held_until = max(self._held_until, now + (retry_after or 0.0))
            return
        self._admitted.add(now)
        self._answer_time.add(now - permit.started)
        if not is_current:
            return
        if self._pause.seconds:
            self._pause.end()
        elif self._slow_start_window is not None:
            self._slow_start_window += 1
        elif self.rate <= 2 * self._started.rate(now):
            self._grow()

    def forget(self) -> None:
        """Note that a request is over whose outcome says nothing about the limit."""
        self._in_flight -= 1

    @property
    def _distance(self) -> float:
        """Seconds between starts."""
        return max(1 / self.rate, self._pause.seconds)

    def _back_off(self, now: float) -> None:
        self._epoch += 1
        if self._pause.seconds:
            self._pause.double()
            return
        admitted = self._admitted.rate(now)
        if self._slow_start_window is not None:
            self._slow_start_window = None
            self._set_rate(max(admitted, self.rate))
        else:
            self._decrease(admitted)
        self._pause.begin(self.rate)

    def _decrease(self, admitted: float) -> None:
        at = self.rate
        if self._growth is None:
            self._set_rate(min(at * BETA_CUBIC, max(admitted, at * SEARCH_BETA)))
        else:
            self._set_rate(at * BETA_CUBIC)
        self._growth = CubicGrowth(self.rate, at if at >= self._w_max else at * (1 + BETA_CUBIC) / 2)
        self._w_max = at

    def _grow(self) -> None:
        if self._growth is None:
            self._set_rate(self.rate + 1 / SEARCH_SECONDS)
        else:
            self._set_rate(self._growth.advance(1 / self.rate))

    def _set_rate(self, rate: float) -> None:
        self.rate = min(max(rate, MINIMUM_RATE), self._ceiling)


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
        self._max_requests_per_second = max_requests_per_second
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Forget everything, the lock and who holds it too: for a forked child, which inherits both."""
        self._control = RateControl(max_requests_per_second=self._max_requests_per_second)
        self._changed = threading.Condition()

    @property
    def rate(self) -> float:
        """Requests per second aimed at."""
        return self._control.rate

    @property
    def window(self) -> int:
        """How many requests make sense in flight now, the next to start included; at least 1.

        In slow start what may be in flight, later the rate times the answer time (Little's law) and one that waits
        for its turn. Whoever keeps no more under way than this has none in line that a kill would set free.
        It has no upper bound of its own and changes with each answer; read it before each request.
        """
        with self._changed:
            return self._control.window

    def acquire(self, stop: threading.Event | None = None) -> Permit | None:
        """Wait until the next request may start.

        :param stop: ends the wait, within ``LONGEST_NAP``, when it is set; nothing starts after that.
        :return: hand it to :meth:`release` with the answer; None when ``stop`` was set.
        """
        with self._changed:
            while not (stop and stop.is_set()):
                now = self._clock()
                wait = self._control.next_start() - now
                if wait <= 0:
                    return self._control.start(now)
                self._changed.wait(min(wait, LONGEST_NAP))
        return None

    def release(
        self,
        permit: Permit,
        *,
        throttled: bool | None = False,
        retry_after: float | None = None,
    ) -> None:
        """Learn what became of the request.

        :param throttled: the service refused it because there were too many; None if that can't be told, for no
            answer came (reset, time-out) or it was refused for another reason, which says nothing about the limit.
        :param retry_after: seconds for which the service asks not to be called (``x-acs-retry-after`` / 1000).
        """
        with self._changed:
            before = self._control.next_start()
            if throttled is None:
                self._control.forget()
            else:
                self._control.answer(permit, self._clock(), throttled=throttled, retry_after=retry_after)
            # Who waits less looks by itself; waking every thread for every answer would cost more than it brings.
            if self._control.next_start() < before - LONGEST_NAP:
                self._changed.notify_all()
