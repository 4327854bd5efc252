"""One poller for all triggers of a connection: it asks for what they wait for, many of them in one request.

The event loop only keeps the books. Requests are made by a few threads with the same client, and at the same
pace, that operators use; the connection is read in one of these threads too.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from asgiref.sync import sync_to_async

from airflow_provider_ims.api.errors import (
    CallAbandoned,
    IMSAPIError,
    IMSAuthError,
    IMSPermissionError,
    IMSTransientError,
)
from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.triggers.freezing import HeapFreeze
from airflow_provider_ims.triggers.schedule import PollRequest, Schedule, Waiter
from airflow_provider_ims.triggers.status import SubjectKind, still_pending

if TYPE_CHECKING:
    from airflow_provider_ims.api.client import IMSClient

THREADS = 8
MIN_INTERVAL = 1.0
# How long after the deadline the answer of the last look may come.
LAST_LOOK_SECONDS = 20.0
WARN_EVERY_SECONDS = 60.0
# So many tasks are told of a refusal at once, and so long has the event loop, for what they and Airflow do then,
# until the next are.
TELL_AT_ONCE, TELL_PAUSE = 50, 0.02

log = logging.getLogger(__name__)


class WaitResult(NamedTuple):
    """How waiting ended. ``pending``: how many are still to be waited for at the deadline."""

    pending: int
    error: Exception | None = None


class Poller:
    """Asks on behalf of all triggers of one connection in one event loop.

    It runs while somebody waits: the first to come starts it, the last to leave stops it.

    :param ims_conn_id: the connection's id.
    :param region: overrides the connection's.
    """

    _running: ClassVar[dict[tuple[asyncio.AbstractEventLoop, str, str | None], Poller]] = {}

    def __init__(self, ims_conn_id: str, region: str | None) -> None:
        self._hook = IMSHook(ims_conn_id, region)
        self._loop = asyncio.get_running_loop()
        self._key = (self._loop, ims_conn_id, region)
        self._schedule = Schedule()
        self._ends: dict[Waiter, asyncio.Future[WaitResult]] = {}
        self._wake = asyncio.Event()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(THREADS, "ims-poller")
        self._asking: set[asyncio.Task[None]] = set()
        self._freeze = HeapFreeze()
        self._warned_at = -inf
        # In an empty context, or all that the poller logs would go to the log of the task that came first.
        self._task = self._loop.create_task(self._run(), name=repr(self), context=contextvars.Context())

    def __repr__(self) -> str:
        return f"<Poller {self._hook.ims_conn_id}>"

    @classmethod
    def of(cls, ims_conn_id: str, region: str | None) -> Poller:
        """Give the running event loop's poller of a connection."""
        key = (asyncio.get_running_loop(), ims_conn_id, region)
        if key not in cls._running:
            cls._running[key] = cls(ims_conn_id, region)
        return cls._running[key]

    async def wait(
        self, kind: SubjectKind, values: Collection[str], *, interval: float, deadline: float | None
    ) -> WaitResult:
        """Wait until none of ``values`` is pending, time is up, or the service refuses.

        :param interval: seconds between two looks at the same subject, 1 at least.
        :param deadline: seconds since the epoch. The last look is made then.
        """
        # A deadline that has passed leaves one look, as for a rescheduled sensor.
        seconds = inf if deadline is None else max(deadline - time.time(), 0.01)
        watch = Waiter(kind, set(values), max(interval, MIN_INTERVAL), self._loop.time() + seconds)
        if not watch.pending:
            return WaitResult(0)
        end: asyncio.Future[WaitResult] = self._loop.create_future()
        self._ends[watch] = end
        self._freeze.grown_to(len(self._ends))
        try:
            for number, value in enumerate(values, 1):
                self._schedule.add(value, watch, self._loop.time())
                if number % 1000 == 0:
                    await asyncio.sleep(0)
            self._wake.set()
            async with asyncio.timeout_at(None if deadline is None else watch.deadline + LAST_LOOK_SECONDS):
                return await end
        except TimeoutError:
            return WaitResult(len(watch.pending))
        finally:
            self._schedule.leave(watch, self._loop.time())
            del self._ends[watch]
            self._wake.set()

    async def _run(self) -> None:
        with self._freeze:
            await self._ask_while_somebody_waits()

    async def _ask_while_somebody_waits(self) -> None:
        client: IMSClient | None = None
        try:
            get_client = sync_to_async(lambda: self._hook.client, thread_sensitive=False, executor=self._pool)
            client = await get_client()
            while self._ends:
                await self._ask_next(client)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told
            await self._retire(error)
        finally:
            await self._retire()
            if self._asking:
                await asyncio.wait(self._asking)
            self._pool.shutdown(wait=False, cancel_futures=True)
            if client:
                client.close()

    async def _ask_next(self, client: IMSClient) -> None:
        """Start the next request, or wait until there may be one to make."""
        self._wake.clear()
        come_back: float | None = None
        if len(self._asking) < THREADS:
            step = self._schedule.next(self._loop.time())
            if isinstance(step, PollRequest):
                task = self._loop.create_task(self._ask(client, step), name=f"{self!r} asking")
                self._asking.add(task)
                task.add_done_callback(self._answered)
                return
            come_back = step if step < inf else None
        with suppress(TimeoutError):
            async with asyncio.timeout_at(come_back):
                await self._wake.wait()

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        self._wake.set()

    async def _ask(self, client: IMSClient, ask: PollRequest) -> None:
        asked_at = self._loop.time()
        call = self._pool.submit(still_pending, client, ask.kind, ask.values, self._stop)
        try:
            pending = await asyncio.wrap_future(call)
        except CallAbandoned:
            return
        except IMSTransientError as error:
            # The client has tried for long. The next round tries again, as long as somebody waits.
            self._warn(error)
            pending, asked_at = set(ask.values), -inf
        except Exception as error:  # noqa: BLE001 - told to those whom it concerns
            await self._refused(client, ask, error)
            return
        for value in ask.values:
            if value in pending:
                watches = self._schedule.again(ask.kind, value, self._loop.time())
                self._end(watch for watch in watches if watch.deadline <= asked_at)
            else:
                freed = self._schedule.drop(ask.kind, value, self._loop.time())
                for watch in freed:
                    watch.pending.discard(value)
                self._end(watch for watch in freed if not watch.pending)

    async def _refused(self, client: IMSClient, ask: PollRequest, error: Exception) -> None:
        """Tell those whom a refusal concerns."""
        if isinstance(error, IMSPermissionError):
            # Permissions are given for each operation, and each kind has its own.
            await self._tell([watch for watch in self._ends if watch.kind == ask.kind], error)
        elif isinstance(error, IMSAuthError) or not (isinstance(error, IMSAPIError) and error.http_status):
            await self._retire(error)
        elif len(ask.values) > 1:
            # One value may be at fault, and the others belong to other tasks.
            for value in ask.values:
                await self._ask(client, PollRequest(ask.kind, (value,)))
        else:
            self._end(self._schedule.drop(ask.kind, ask.values[0], self._loop.time()), error)

    async def _retire(self, error: Exception | None = None) -> None:
        """Send nothing more and tell all who still wait; whoever comes from now on starts another poller."""
        self._stop.set()
        if self._running.get(self._key) is self:
            del self._running[self._key]
        if error:
            await self._tell(list(self._ends), error)
        for end in self._ends.values():
            end.cancel()

    async def _tell(self, watches: list[Waiter], error: Exception) -> None:
        for start in range(0, len(watches), TELL_AT_ONCE):
            self._end(watches[start : start + TELL_AT_ONCE], error)
            await asyncio.sleep(TELL_PAUSE)

    def _end(self, watches: Iterable[Waiter], error: Exception | None = None) -> None:
        for watch in watches:
            end = self._ends.get(watch)
            if end and not end.done():
                end.set_result(WaitResult(len(watch.pending), error))

    def _warn(self, error: IMSTransientError) -> None:
        if self._loop.time() - self._warned_at >= WARN_EVERY_SECONDS:
            self._warned_at = self._loop.time()
            log.warning(
                "Connection %r: %d tasks wait for an answer, and asking goes on after: %s.",
                self._hook.ims_conn_id,
                len(self._ends),
                error,
            )
