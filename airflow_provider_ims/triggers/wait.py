"""The worker's half of waiting, for sensors and operators: look, then sleep or hand over to a trigger."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_ims.api.errors import IMSTransientError
from airflow_provider_ims.deletion.threads import run_interruptible
from airflow_provider_ims.triggers.events import WaitTimedOut
from airflow_provider_ims.triggers.ims import IMSMediaDeletedTrigger
from airflow_provider_ims.triggers.log_interval import LogInterval
from airflow_provider_ims.triggers.status import MAX_AT_ONCE, SubjectKind, describe_gone, still_pending

if TYPE_CHECKING:
    from airflow_provider_ims.api.client import IMSClient
    from airflow_provider_ims.compat import BaseOperator
    from airflow_provider_ims.deletion.targets import TargetKind
    from airflow_provider_ims.hooks.ims import IMSHook

# Trigger arguments are stored in a text column: 64 KiB on MySQL, where they lie encrypted and a third longer.
MAX_CARRIED = 500
MAX_CARRIED_BYTES = 40_000
# A trigger holds all that it waits for in memory, beside others: 57 MiB for so many, its reading included.
MAX_READ = 200_000
# Airflow's own time-out of a deferral is there for when no triggerer runs; the trigger's comes first.
TRIGGERER_GRACE = timedelta(minutes=2)
# Requests in flight at most; how many there are follows from the pace and the answers' delay.
LOOKING_THREADS = 32

T = TypeVar("T")

log = logging.getLogger(__name__)


def interruptible(work: Callable[[threading.Event], T]) -> T:
    """Do ``work`` in another thread and return what it returns.

    A time-out may strike this thread at any moment, also where it would be lost: so it only waits.

    :param work: is given an event that is set when it shall end soon.
    """
    stop = threading.Event()
    results: list[T] = []
    run_interruptible(lambda: results.append(work(stop)), name="ims-look", cancel=stop.set)
    return results[0]


def look(
    hook: IMSHook,
    kind: SubjectKind,
    values: Sequence[str],
    on_answer: Callable[[int, int], None] = lambda asked, left: None,
) -> list[str]:
    """Ask once which of ``values`` must be waited for any longer, in their order.

    Requests go side by side once the first was answered, so that a refusal is one. A key that was rotated meanwhile
    is taken up.

    :param on_answer: is told, in another thread, after how many values how many are left.
    :raises IMSAPIError: what the service says instead; one refusal ends the look.
    """

    def ask_all(client: IMSClient, stop: threading.Event) -> list[str]:
        def ask(piece: Sequence[str]) -> list[str]:
            pending = still_pending(client, kind, piece, stop)
            return [value for value in piece if value in pending]

        left: list[str] = []
        asked = 0
        # Not all at once: a million ids are 50,000 requests.
        answers: deque[Future[list[str]]] = deque()

        def take(count: int) -> None:
            nonlocal asked
            for _ in range(count):
                left.extend(answers.popleft().result())
                asked = min(asked + MAX_AT_ONCE[kind], len(values))
                on_answer(asked, len(left))

        pool = ThreadPoolExecutor(LOOKING_THREADS, "ims-look")
        try:
            for piece in _pieces(values, MAX_AT_ONCE[kind]):
                answers.append(pool.submit(ask, piece))
                # Twice as many, so that one slow answer does not leave threads idle.
                take(1 if not asked or len(answers) > 2 * LOOKING_THREADS else 0)
            take(len(answers))
            return left
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)

    return hook.ask(lambda client: interruptible(partial(ask_all, client)))


class MediaWait:
    """Looks whether media are gone, and asks again only for those that were not.

    :param hook: to ask with.
    :param kind: ``media_id`` or ``input_url``: what ``values`` are.
    :param values: the media that are waited for.
    :param path: a manifest or report that names the same media, for a trigger to read if they are too many.
    :param digest: of the targets that ``path`` names, for the trigger to know if the file was changed.
    :param log_interval: of the task, for looks that take long.
    :ivar pending: what the last look left; before it, everything.
    """

    def __init__(
        self,
        hook: IMSHook,
        kind: TargetKind,
        values: Iterable[str],
        path: str | None = None,
        digest: str | None = None,
        log_interval: LogInterval | None = None,
    ) -> None:
        self.log_interval = log_interval or LogInterval()
        self.pending = list(values)
        self._total = len(self.pending)
        self._hook = hook
        self._kind = kind
        self._path = path
        self._digest = digest

    def is_over(self) -> bool:
        """Look once; a look that takes minutes logs how far it is."""
        began, count = time.monotonic(), len(self.pending)

        def log_progress(asked: int, left: int) -> None:
            if self.log_interval.is_over(since=began):
                log.info(describe_gone(self._total - count + asked - left, self._total))

        self.pending = look(self._hook, self._kind, self.pending, log_progress)
        return not self.pending

    def describe(self) -> str:
        """Return a sentence for the log: how many are gone."""
        return describe_gone(self._total - len(self.pending), self._total)

    def trigger(self, *, poll_interval: float, deadline: float) -> IMSMediaDeletedTrigger | None:
        """Make a trigger for what the last look left; None when it can't carry so much."""
        args: dict[str, Any] = {self._kind + "s": self.pending}
        if len(self.pending) > MAX_CARRIED or len(json.dumps(self.pending)) > MAX_CARRIED_BYTES:
            if self._path is None or len(self.pending) > MAX_READ:
                log.info("%d media are too many for a trigger; they are waited for here.", len(self.pending))
                return None
            args = {"manifest": self._path, "digest": self._digest}
        return IMSMediaDeletedTrigger(
            **args,
            ims_conn_id=self._hook.ims_conn_id,
            region=self._hook.region,
            poll_interval=poll_interval,
            deadline=deadline,
        )


def wait_until_gone(
    task: BaseOperator,
    wait: MediaWait,
    *,
    poll_interval: float,
    deadline: float,
    deferrable: bool,
    method_name: str = "execute_complete",
    kwargs: dict[str, Any] | None = None,
) -> None:
    """Wait here, or let ``task`` be called again by a trigger; return when all are gone.

    Throttling and network trouble are ridden out once the first look went through.

    :param poll_interval: seconds between looks.
    :param deadline: seconds since the epoch.
    :param method_name: what is called with ``event`` (see :func:`events.raise_unless_over`) after a deferral.
    :param kwargs: more arguments for it; small, they are stored.
    :raises WaitTimedOut: when the deadline has passed and some are still there.
    """
    over = wait.is_over()
    while not over:
        if wait.log_interval.is_over():
            log.info(wait.describe())
        if time.time() >= deadline:
            raise WaitTimedOut(len(wait.pending))
        if deferrable and (trigger := wait.trigger(poll_interval=poll_interval, deadline=deadline)):
            task.defer(
                trigger=trigger, method_name=method_name, kwargs=kwargs, timeout=deferral_timeout(deadline)
            )
        time.sleep(max(0.0, min(poll_interval, deadline - time.time())))
        try:
            over = wait.is_over()
        except IMSTransientError as error:
            log.warning("This look failed, the next is in %g s: %s.", poll_interval, error)


def deferral_timeout(deadline: float) -> timedelta:
    """Return how long Airflow lets a deferral last at most."""
    return max(timedelta(), timedelta(seconds=deadline - time.time())) + TRIGGERER_GRACE


def _pieces(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for at in range(0, len(values), size):
        yield values[at : at + size]
