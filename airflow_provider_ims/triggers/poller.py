"""One poller for all triggers of a connection: it asks for what they wait for, many of them in one request.

Once a second it takes what is due from its :class:`Schedule`: up to 20 media to a request, and no more requests than
it needs to be round in time. The event loop only does that; requests are made by a few threads, with the same client
and at the same pace that operators use, and the connection is read in one of these threads too.

Who waits for very many media, those of a report, is not part of these rounds: all of them are asked for side by side,
as fast as the pace allows, and what is left again after the interval.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from math import ceil, inf
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from asgiref.sync import sync_to_async

from airflow_provider_ims.api.errors import (
    CallAbandoned,
    IMSAPIError,
    IMSAuthError,
    IMSPermissionError,
    IMSTransientError,
)
from airflow_provider_ims.connection import connection_fields
from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.triggers.schedule import PollRequest, Schedule, Waiter, WaitResult
from airflow_provider_ims.triggers.status import MAX_AT_ONCE, SubjectKind, describe_pending, still_pending

if TYPE_CHECKING:
    from airflow_provider_ims.api.client import IMSClient

T = TypeVar("T")

THREADS = 8
# A task that waits for more than this has looks of its own, of so many requests at a time, those of all such tasks of
# a connection together.
MANY, MANY_THREADS = 500, 24
# The part of a second that its requests are spread over.
SPREAD = 0.8
# How long after the deadline the answer of the last look may come, in seconds.
LAST_LOOK_SECONDS = 20.0
# How often the connection is read again, how often a waiting task logs where it is, and how often an outage is
# warned of, in seconds.
RELOAD_SECONDS = LOG_SECONDS = WARN_SECONDS = 60.0
# Batch size and pause, in seconds, when an error is broadcast to waiting triggers, so that the event loop stays
# responsive.
BROADCAST_SIZE, BROADCAST_PAUSE = 50, 0.02

log = logging.getLogger(__name__)


class _Connection(NamedTuple):
    """A client, and the connection's fields that it was made of."""

    client: IMSClient
    fields: tuple[Any, ...]


class Poller:
    """Asks on behalf of all triggers of one connection in one event loop.

    It runs while somebody waits: the first to come starts it, the last to leave stops it.

    :param ims_conn_id: the connection's id.
    :param region: overrides the connection's.
    """

    # A process that was forked has event loops of its own, and so pollers of its own.
    _running: ClassVar[dict[tuple[asyncio.AbstractEventLoop, str, str | None], Poller]] = {}

    def __init__(self, ims_conn_id: str, region: str | None) -> None:
        self._ims_conn_id, self._region = ims_conn_id, region
        self._loop = asyncio.get_running_loop()
        self._schedule = Schedule()
        self._waiters: set[Waiter] = set()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(THREADS, "ims-poller")
        self._pool_for_many = ThreadPoolExecutor(MANY_THREADS, "ims-poller")
        self._turns_for_many = asyncio.Semaphore(MANY_THREADS)
        self._connected = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connection: _Connection | None = None
        self._reading = asyncio.Lock()
        self._read_at = self._warned_at = -inf
        # In an empty context, or all that the poller logs would go to the log of the task that came first.
        self._task = self._start(self._run(), context=contextvars.Context())

    def __repr__(self) -> str:
        return f"<Poller {self._ims_conn_id}>"

    @classmethod
    def for_connection(cls, ims_conn_id: str, region: str | None) -> Poller:
        """Return the running event loop's poller of a connection."""
        key = (asyncio.get_running_loop(), ims_conn_id, region)
        if key not in cls._running:
            cls._running[key] = cls(ims_conn_id, region)
        return cls._running[key]

    async def wait(
        self,
        kind: SubjectKind,
        values: Collection[str],
        *,
        interval: float,
        deadline: float | None,
        log_pending: Callable[[str], None] | None = None,
    ) -> WaitResult:
        """Wait until none of ``values`` is pending, time is up, or the service refuses.

        :param interval: seconds between two looks at the same subject; whole seconds, 1 at least.
        :param deadline: seconds since the epoch. The last look is made then.
        :param log_pending: called at most once a minute, in the caller's context, with what is still pending.
        """
        # A deadline that has passed leaves one look, as for a rescheduled sensor.
        until = inf if deadline is None else self._loop.time() + max(deadline - time.time(), 0.01)
        waiter = Waiter(
            kind,
            pending=set(values),
            interval=max(ceil(interval), 1),
            deadline=inf if until == inf else ceil(until),
            result=self._loop.create_future(),
            log_pending=log_pending and _in_this_context(log_pending),
            total=len(set(values)),
        )
        if not waiter.pending:
            return WaitResult(0)
        self._waiters.add(waiter)
        looks = self._start(self._look_at_many(waiter)) if waiter.total > MANY else None
        try:
            for value in () if looks else values:
                self._schedule.add(waiter, value, self._second())
            assert waiter.result is not None
            async with asyncio.timeout_at(None if until == inf else until + LAST_LOOK_SECONDS):
                return await waiter.result
        except TimeoutError:
            return WaitResult(len(waiter.pending))
        finally:
            if looks:
                looks.cancel()
            else:
                self._schedule.leave(waiter, self._second())
            self._waiters.discard(waiter)
            if not self._waiters:
                self._retire()
                self._task.cancel()

    def _second(self) -> int:
        return int(self._loop.time())

    def _start(self, work: Any, **options: Any) -> asyncio.Task[None]:
        return self._loop.create_task(work, name=repr(self), **options)

    async def _run(self) -> None:
        try:
            self._connection = await self._in_thread(lambda: _connect(self._ims_conn_id, self._region))
            self._read_at = self._loop.time()
            self._connected.set()
            while self._waiters:
                now = self._second()
                await self._make_requests(now)
                if self._loop.time() - self._read_at >= RELOAD_SECONDS:
                    self._read_at = self._loop.time()
                    self._start_soon(self._reload())
                await asyncio.sleep(now + 1 - self._loop.time())
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told
            self._retire()
            await self._broadcast(self._waiters, error)
        finally:
            self._retire()
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool_for_many.shutdown(wait=False, cancel_futures=True)
            if self._tasks:
                await asyncio.wait(self._tasks)
            if self._connection:
                self._connection.client.close()

    async def _make_requests(self, now: int) -> None:
        """Start what is due in this second, spread over it, so that a refusal comes before the next request."""
        requests = self._schedule.requests(now)
        begun = self._loop.time()
        for number, request in enumerate(requests, 1):
            async with self._reading:
                if self._stop.is_set():
                    return
                self._start_soon(self._ask(request, now))
            # By the clock: a loop that is late each time would need more than the second for many requests.
            await asyncio.sleep(begun + SPREAD * number / len(requests) - self._loop.time())

    async def _look_at_many(self, waiter: Waiter) -> None:
        """Look at all that a task waits for, then after each interval at what is left, last at the deadline."""
        await self._connected.wait()
        size = MAX_AT_ONCE[waiter.kind]
        while waiter.pending:
            began = self._loop.time()
            pending = tuple(waiter.pending)
            pieces = (pending[start : start + size] for start in range(0, len(pending), size))
            requests = (PollRequest(waiter.kind, piece, waiter) for piece in pieces)
            # The first answer is waited for, so that a refusal is one.
            await self._make_each(islice(requests, 1), int(began))
            await asyncio.gather(*(self._make_each(requests, int(began)) for _ in range(MANY_THREADS)))
            if self._loop.time() >= waiter.deadline:
                waiter.end()
                return
            await asyncio.sleep(min(began + waiter.interval, waiter.deadline) - self._loop.time())

    async def _make_each(self, requests: Iterator[PollRequest], asked: int) -> None:
        """Make one request after the other, in turns with what others make for tasks that wait for many."""
        for request in requests:
            async with self._turns_for_many:
                async with self._reading:
                    if self._stop.is_set():
                        return
                    ask = self._start_soon(self._ask(request, asked))
                # Whoever cancels this does not cancel what is asked.
                await asyncio.wait([ask])

    def _start_soon(self, work: Any) -> asyncio.Task[None]:
        task = self._start(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await sync_to_async(work, thread_sensitive=False, executor=self._pool)()

    async def _ask(self, request: PollRequest, asked: int) -> None:
        connection = self._connection
        assert connection is not None
        pending: Collection[str]
        pool = self._pool_for_many if request.waiter else self._pool
        trouble: IMSTransientError | None = None
        try:
            pending = await asyncio.wrap_future(
                pool.submit(still_pending, connection.client, request.kind, request.values, self._stop)
            )
            looked_at = float(asked)
        except CallAbandoned:
            return
        except IMSTransientError as error:
            # The client has tried for long. The next round tries again, as long as somebody waits.
            self._warn(
                "%d tasks wait for an answer, and asking goes on after: %s.", len(self._waiters), error
            )
            pending, looked_at, trouble = request.values, -inf, error
        except Exception as error:  # noqa: BLE001 - told to those whom it concerns
            if _concerns_connection(error) and await self._has_changed(connection):
                await self._ask(request, asked)
            else:
                await self._refused(request, asked, error)
            return
        concerned: set[Waiter] = set()
        for value in request.values:
            is_pending = value in pending
            waiters = self._answered(request, value, asked, pending=is_pending)
            concerned |= waiters
            if not is_pending:
                for waiter in waiters:
                    waiter.pending.discard(value)
        for waiter in concerned:
            at_the_end = (
                not request.waiter
                and waiter.deadline <= looked_at
                and self._schedule.is_looked_at(waiter, asked)
            )
            if at_the_end or not waiter.pending:
                waiter.end()
            else:
                self._log_pending(waiter, trouble)

    def _answered(self, request: PollRequest, value: str, asked: int, *, pending: bool) -> set[Waiter]:
        """Note an answer; return who waits for it."""
        if request.waiter:
            return {request.waiter}
        return self._schedule.answered(request.kind, value, asked, pending=pending)

    async def _refused(self, request: PollRequest, asked: int, error: Exception) -> None:
        """Tell those whom a refusal concerns."""
        if isinstance(error, IMSPermissionError):
            # Permissions are given for each operation, and each kind has its own.
            await self._broadcast([one for one in self._waiters if one.kind == request.kind], error)
        elif _concerns_connection(error):
            self._retire()
            await self._broadcast(self._waiters, error)
        elif len(request.values) > 1:
            # One value may be at fault, and the others belong to other tasks.
            for value in request.values:
                await self._ask(request._replace(values=(value,)), asked)
        else:
            for waiter in self._answered(request, request.values[0], asked, pending=False):
                waiter.end(error)

    async def _has_changed(self, connection: _Connection) -> bool:
        """Whether there is another connection than ``connection`` to ask with: a key may have been rotated."""
        if self._connection is connection:
            await self._reload()
        return self._connection is not connection

    async def _reload(self) -> None:
        """Read the connection again, and go on with what it says now; with what it said, if it can't be read."""
        async with self._reading:
            former = self._connection
            try:
                changed = await self._in_thread(lambda: _connect(self._ims_conn_id, self._region, former))
            except Exception as error:  # noqa: BLE001 - of a secrets backend, or a field that makes no sense
                self._warn("it can't be read again (%s), and is used as it was.", type(error).__name__)
                return
            if former and changed is not former:
                log.info("Connection %r has changed, and is used as it is now.", self._ims_conn_id)
                self._connection = changed
                former.client.close()

    def _retire(self) -> None:
        """Send nothing more; whoever comes from now on starts another poller."""
        self._stop.set()
        key = (self._loop, self._ims_conn_id, self._region)
        if self._running.get(key) is self:
            del self._running[key]

    async def _broadcast(self, waiters: Iterable[Waiter], error: Exception) -> None:
        everyone = list(waiters)
        for start in range(0, len(everyone), BROADCAST_SIZE):
            for waiter in everyone[start : start + BROADCAST_SIZE]:
                waiter.end(error)
            await asyncio.sleep(BROADCAST_PAUSE)

    def _log_pending(self, waiter: Waiter, trouble: IMSTransientError | None) -> None:
        if waiter.log_pending and self._loop.time() - waiter.logged >= LOG_SECONDS:
            waiter.logged = self._loop.time()
            failed = f"This look failed, and asking goes on: {trouble}. Before it: " if trouble else ""
            waiter.log_pending(failed + describe_pending(waiter.kind, waiter.pending, waiter.total))

    def _warn(self, message: str, *args: object) -> None:
        if self._loop.time() - self._warned_at >= WARN_SECONDS:
            self._warned_at = self._loop.time()
            log.warning(f"Connection %r: {message}", self._ims_conn_id, *args)


def _connect(ims_conn_id: str, region: str | None, former: _Connection | None = None) -> _Connection:
    """Read a connection; return ``former`` if it is as it was."""
    hook = IMSHook(ims_conn_id, region)
    fields = connection_fields(hook.get_connection(ims_conn_id))
    return former if former and former.fields == fields else _Connection(hook.client, fields)


def _concerns_connection(error: Exception) -> bool:
    """Whether an error is about the connection, and not about what was asked for."""
    if isinstance(error, IMSAPIError):
        return isinstance(error, IMSAuthError | IMSPermissionError) or not error.http_status
    return not isinstance(error, ValueError)  # of a value that can't be asked for


def _in_this_context(function: Callable[[str], None]) -> Callable[[str], None]:
    """Return ``function`` for use outside of the context that tells a task's log from another's."""
    context = contextvars.copy_context()
    return lambda message: context.run(function, message)
