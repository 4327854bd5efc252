"""How fast to ask."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

C = 0.01
BETA_CUBIC = 0.8
INITIAL_RATE = 5.0
MINIMUM_RATE = 0.1
SLOW_START_SECONDS = 0.5
RESTART_SECONDS = 2.0
SHORTEST_PAUSE, FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25, 5.0
SHARE_ANSWERS = 32
LEAST_BASE_SHARE, LARGEST_BASE_SHARE = 0.125, 0.5
USED_SECONDS = 1.0
PF = 0.5
GM = 1.0
STARTS = 1.0
LOWEST = 0.5
OPEN = 1
MEASURED_SECONDS, MEASURED_ANSWERS=1.0, 8
LONGEST_NAP = 0.05
FAST_CONVERGENCE = True


@dataclass(frozen=True, slots=True)
class Permit:
    epoch: int
    started: float


class CubicGrowth:
    def __init__(self, w_max: float, rate: float) -> None:
        self.w_max = max(w_max, rate)
        self.k = math.cbrt((self.w_max - rate) / C)
        self.t = 0.0

    def advance(self, seconds: float) -> float:
        self.t += seconds
        return C * (self.t - self.k) ** 3 + self.w_max


class AnswerTime:
    def __init__(self) -> None:
        self.smoothed: float | None = None
        self.variation = 0.0

    def add(self, seconds: float) -> None:
        if self.smoothed is None:
            self.smoothed, self.variation = seconds, seconds / 2
        else:
            self.variation += (abs(self.smoothed - seconds) - self.variation) / 4
            self.smoothed += (seconds - self.smoothed) / 8

    @property
    def longest(self) -> float:
        return (self.smoothed or 0.0) + 4 * self.variation


class ThrottleShare:
    def __init__(self) -> None:
        self.base = 0.0
        self.share = 0.0
        self.answers = 0

    def add(self, throttled: bool) -> None:
        self.answers = min(self.answers + 1, SHARE_ANSWERS)
        self.share += (throttled - self.share) / self.answers

    def learn(self) -> bool:
        if self.base or self.answers < SHARE_ANSWERS:
            return False
        if not LEAST_BASE_SHARE <= self.share <= LARGEST_BASE_SHARE:
            return False
        self.base = self.share
        return True

    @property
    def exceeds_base(self) -> bool:
        deviation = math.sqrt(self.base * (1 - self.base) / (2 * SHARE_ANSWERS - 1))
        return self.share > self.base + 2 * deviation

    def decrease(self) -> None:
        if self.base:
            self.base *= BETA_CUBIC
            self.share = self.base
            if self.base < LEAST_BASE_SHARE:
                self.base = self.share = 0.0
                self.answers = 0


class Throughput:
    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def add(self, now: float) -> None:
        self._times.append(now)
        while len(self._times) > MEASURED_ANSWERS and self._times[0] < now - MEASURED_SECONDS:
            self._times.popleft()

    def rate(self, now: float) -> float:
        while len(self._times) > MEASURED_ANSWERS and self._times[0] < now - MEASURED_SECONDS:
            self._times.popleft()
        return len(self._times) / max(now - self._times[0], MEASURED_SECONDS) if self._times else 0.0


class RateControl:
    def __init__(self, *, max_requests_per_second: float | None = None) -> None:
        if max_requests_per_second is not None and not max_requests_per_second > 0:
            raise ValueError(f"max_requests_per_second must be above 0, not {max_requests_per_second!r}")
        self._ceiling = max_requests_per_second or math.inf
        self.rate = min(INITIAL_RATE, self._ceiling)
        self._epoch = 0
        self._slow_start_window: int | None = 1
        self._opened_at = 0.0
        self._taken = 0
        self._in_flight = 0
        self._last_start = -math.inf
        self._used = 1.0
        self._growth: CubicGrowth | None = None
        self._search_seconds = SLOW_START_SECONDS
        self._w_max = 0.0
        self._share = ThrottleShare()
        self._answer_time = AnswerTime()
        self._throughput = Throughput()
        self._pause = 0.0
        self._last_pause = 0.0
        self._held_until = -math.inf

    @property
    def _distance(self) -> float:
        return max(1 / self.rate, self._pause)

    @property
    def window(self) -> int:
        if self._slow_start_window is not None:
            return self._slow_start_window
        return math.ceil(self._answer_time.longest / self._distance) + 1

    def next_start(self) -> float:
        if self._slow_start_window is None:
            distance = self._distance
        elif self._in_flight < self._slow_start_window:
            distance = 1 / self._ceiling
        else:
            return math.inf
        return max(self._last_start + distance, self._held_until)

    def start(self, now: float) -> Permit:
        if self._slow_start_window is None:
            gap = now - self._last_start
            weight = 1 - math.exp(-gap / max(USED_SECONDS, 4 * self._distance))
            self._used += weight * (min(1.0, self._distance / gap) - self._used) if gap > 0 else 0.0
        elif self._last_start == -math.inf:
            self._opened_at = now
        self._in_flight += 1
        self._last_start = now
        return Permit(self._epoch, now)

    def answer(
        self, permit: Permit, now: float, *, throttled: bool, retry_after: float | None = None
    ) -> None:
        self._in_flight -= 1
        is_current = permit.epoch == self._epoch
        if is_current and not self._pause:
            self._share.add(throttled)
            if self._share.learn():
                self._growth, self._search_seconds = None, RESTART_SECONDS
        if throttled:
            if is_current and self._share.exceeds_base:
                self._epoch += 1
                if self._pause:
                    self._pause = min(2 * self._pause, LONGEST_PAUSE)
                else:
                    self._decrease(now)
                self._held_until = max(self._held_until, now + self._pause)
            self._held_until = max(self._held_until, now + (retry_after or 0.0))
            return
        self._answer_time.add(now - permit.started)
        self._taken += 1
        self._throughput.add(now)
        if is_current and self._pause:
            self._last_pause = self._pause if self._pause < 1.5 else 0
            self._pause = 0.0
        elif is_current and self._slow_start_window is not None:
            self._slow_start_window += OPEN
        elif is_current and self._used > 0.5:
            self._increase()

    def no_answer(self) -> None:
        self._in_flight -= 1

    def _increase(self) -> None:
        if self._growth is None:
            self._set_rate(self.rate + 1 / self._search_seconds)
        else:
            self._set_rate(self._growth.advance(1 / self.rate))

    def _decrease(self, now: float) -> None:
        if self._slow_start_window is not None:
            self._slow_start_window = None
            delivered = self._taken / max(now - self._opened_at, 1.0)
            self._set_rate(max(delivered**GM * self.rate**(1-GM), self.rate))
        else:
            self._share.decrease()
            rate = self.rate
            w_max = rate
            if FAST_CONVERGENCE and rate < self._w_max:
                w_max = rate * (1 + BETA_CUBIC) / 2
            self._w_max = rate
            delivered = self._throughput.rate(now)
            self._set_rate(min(rate * BETA_CUBIC, max(delivered, rate * LOWEST)))
            self._growth = CubicGrowth(w_max, self.rate)
        self._pause = max(min(max(STARTS / self.rate, SHORTEST_PAUSE), FIRST_PAUSE), self._last_pause * PF)

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
