"""A batch of targets -> what became of each: deletes, reads back, and believes no answer that proves nothing.

A target is ``deleted`` when the service took it, ``forbidden`` when the service named it so. An *ignored* one is
read back before it is judged: ``IgnoredList`` says only that fetching it failed. What is ignored and gone was
``missing`` from the start, unless an answer about it was lost: then it was we who deleted it. What is ignored and
still shown is looked at again later, since reads may lag behind deletions.

Sources: https://www.alibabacloud.com/help/en/ims/developer-reference/api-ice-2020-11-09-deletemediainfos, and
https://help.aliyun.com/document_detail/441153.html for the echo of both lists.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from airflow_provider_ims.api import operations
from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.errors import (
    CallAbandoned,
    IMSAPIError,
    IMSError,
    IMSThrottlingError,
    IMSTransientError,
)
from airflow_provider_ims.api.identifiers import match_key
from airflow_provider_ims.api.operations import Deletion, MediaInfo
from airflow_provider_ims.api.responses import Response
from airflow_provider_ims.deletion.targets import Target, TargetKind

log = logging.getLogger(__name__)
T = TypeVar("T")


class Outcome(StrEnum):
    """What became of a target; each gets exactly one."""

    DELETED = "deleted"
    MISSING = "missing"
    FORBIDDEN = "forbidden"
    FAILED = "failed"
    UNKNOWN = "unknown"
    KEPT = "kept"


class TargetResult(NamedTuple):
    """The outcome of one target.

    ``inferred``: deleted, though the answer that said so was lost. ``reason``: why it was kept, failed or not read.
    ``url``: of the file that went with it, where that is looked for; ``file``: what became of it.
    """

    target: Target
    outcome: Outcome
    inferred: bool = False
    request_id: str | None = None
    reason: str | None = None
    url: str | None = None
    file: str | None = None


class BatchResult(NamedTuple):
    """What came of asking about some targets: results, and the targets that have none yet.

    ``recheck``: ignored, though still shown: to be asked about again.
    ``open``: left without a result, because of ``error`` or because the run was stopped.
    ``unconfirmed``: an answer about those two, and about those that could not be read, was lost.
    """

    results: list[TargetResult]
    recheck: tuple[Target, ...] = ()
    open: tuple[Target, ...] = ()
    unconfirmed: bool = False
    error: Exception | None = None

    def __add__(self, other: BatchResult) -> BatchResult:  # type: ignore[override]
        return BatchResult(
            self.results + other.results,
            self.recheck + other.recheck,
            self.open + other.open,
            self.unconfirmed or other.unconfirmed,
            self.error or other.error,
        )


# (columns of the plan, the medium as it is now) -> why it must be left alone, or None
WhyKept = Callable[[dict[str, Any], MediaInfo], str | None]


class BatchDeleter:
    """Deletes or only looks, and says what became of each target. Used by several threads at once.

    :param client: sends the requests and tries them again.
    :param kind: whether targets are media ids or URLs.
    :param delete_physical_files: delete the files too.
    :param stop: once set, no new request is sent.
    :param why_kept: for plans: tells why a medium, as it is now, must be left alone.
    :param find_urls: say where the file of each deleted medium was, reading it before where nothing else tells.
    """

    def __init__(
        self,
        client: IMSClient,
        *,
        kind: TargetKind,
        delete_physical_files: bool,
        stop: threading.Event,
        why_kept: WhyKept | None = None,
        find_urls: bool = False,
    ) -> None:
        self._client = client
        self._kind = kind
        self._delete_physical_files = delete_physical_files
        self._stop = stop
        self._why_kept = why_kept
        self._find_urls = find_urls
        # Of media that were given by id alone, until they are deleted: after it no read tells.
        self._urls: dict[int, str | None] = {}

    def preview(self, targets: Sequence[Target], unconfirmed: bool = False) -> BatchResult:
        """Only look: what would be deleted is called deleted."""
        with _BatchResultBuilder(targets, unconfirmed) as building:
            shown, request_id = self._read(building)
            for target in building.left:
                medium = shown.get(target)
                reason = self._reason_to_keep(target, medium)
                outcome = Outcome.KEPT if reason else Outcome.DELETED if medium else Outcome.MISSING
                building.add(TargetResult(target, outcome, False, request_id, reason))
        return building.result

    def delete(self, targets: Sequence[Target], unconfirmed: bool = False) -> BatchResult:
        """Delete, once those that a plan's policy spares by now are sorted out.

        :param unconfirmed: these may have been sent before, by a try whose answer nobody heard.
        """
        if self._why_kept or (self._find_urls and any(self._url(target) is None for target in targets)):
            came = self._read_and_delete(targets, unconfirmed)
        else:
            came = self._delete(targets, unconfirmed)
        if not self._find_urls:
            return came
        return came._replace(
            results=[
                result._replace(url=self._urls.pop(result.target.ordinal, None) or self._url(result.target))
                for result in came.results
            ]
        )

    def _read_and_delete(self, targets: Sequence[Target], unconfirmed: bool) -> BatchResult:
        with _BatchResultBuilder(targets, unconfirmed) as building:
            shown, request_id = self._read(building)
            for target in building.left:
                if target not in shown:
                    building.add(_gone(target, unconfirmed, request_id))
                elif reason := self._reason_to_keep(target, shown[target]):
                    building.add(TargetResult(target, Outcome.KEPT, False, request_id, reason))
                elif self._find_urls:
                    self._urls[target.ordinal] = shown[target].input_url
        if building.result.error or self._stop.is_set() or not building.left:
            return building.result
        return BatchResult(building.result.results) + self._delete(building.left, unconfirmed)

    def _url(self, target: Target) -> str | None:
        """Return where the file of a target lies, as far as the input tells."""
        if self._kind == "input_url":
            return target.value
        url = target.columns.get("input_url") if target.columns else None
        return url if isinstance(url, str) else None

    def look(
        self, targets: Sequence[Target], unconfirmed: bool, request_id: str | None = None
    ) -> BatchResult:
        """Read back: what is gone is judged, what is still shown is looked at again."""
        with _BatchResultBuilder(targets, unconfirmed) as building:
            try:
                shown, request_id = self._read(building, request_id)
            except IMSTransientError as error:
                if isinstance(error, IMSThrottlingError) or not self._others_are_answered(building.halfway):
                    raise
                for target in building.left:
                    building.add(_unread(target, error, request_id))
            else:
                for target in building.left:
                    if target not in shown:
                        building.add(_gone(target, unconfirmed, request_id))
                building.look_again()
        return building.result

    def _delete(self, targets: Sequence[Target], unconfirmed: bool) -> BatchResult:
        with _BatchResultBuilder(targets, unconfirmed) as building:
            try:
                answer = self._send(targets)
            except IMSTransientError as error:
                building.unconfirmed |= error.answer_lost
                if isinstance(error, IMSThrottlingError) or not self._others_are_answered(building.halfway):
                    raise
                # Never answered, while others are: find out by reading.
                return self.look(targets, building.unconfirmed)
            except IMSAPIError as error:
                if not error.is_about_target:
                    building.unconfirmed |= error.answer_lost
                    raise
                return self._isolate(targets, building.unconfirmed or error.answer_lost, error)
            except CallAbandoned as error:
                building.unconfirmed |= error.answer_lost
                raise
            return self._resolve_response(targets, answer, building.unconfirmed or answer.answer_lost)
        return building.result

    def _send(self, targets: Sequence[Target]) -> Response[Deletion]:
        values = [target.value for target in targets]
        return self._wait_out_throttling(
            lambda: operations.delete_media_infos(
                self._client,
                media_ids=values if self._kind == "media_id" else (),
                input_urls=values if self._kind == "input_url" else (),
                delete_physical_files=self._delete_physical_files,
                stop=self._stop,
            )
        )

    def _wait_out_throttling(self, call: Callable[[], Response[T]]) -> Response[T]:
        """Send a call again that is throttled, for as long as other requests get through: the limit is shared."""
        lost = False
        while True:
            try:
                answer = call()
                return answer._replace(answer_lost=lost or answer.answer_lost)
            except (IMSAPIError, CallAbandoned) as error:
                lost = error.answer_lost = lost or error.answer_lost
                patience = time.monotonic() - self._client.retry_seconds
                if not isinstance(error, IMSThrottlingError) or not self._others_are_answered(patience):
                    raise

    def _resolve_response(
        self, targets: Sequence[Target], answer: Response[Deletion], unconfirmed: bool
    ) -> BatchResult:
        by_key = {match_key(target.value): target for target in targets}
        forbidden = {match_key(value) for value in answer.value.forbidden}
        ignored = {match_key(value) for value in answer.value.ignored} - forbidden
        result = BatchResult(
            [
                TargetResult(target, Outcome.FORBIDDEN, False, answer.request_id)
                for key, target in by_key.items()
                if key in forbidden
            ]
        )
        taken = [target for key, target in by_key.items() if key not in ignored | forbidden]
        if strangers := (ignored | forbidden) - by_key.keys():
            # Somebody of this batch was refused under a name that was not sent: nobody is believed unread.
            log.warning(
                "The answer to request %s names %d targets that were not in it, so all of its batch are read back.",
                answer.request_id,
                len(strangers),
            )
            result += self.look(taken, True, answer.request_id)
        else:
            result.results.extend(
                TargetResult(target, Outcome.DELETED, False, answer.request_id) for target in taken
            )
        if to_read := [by_key[key] for key in by_key if key in ignored]:
            result += self.look(to_read, unconfirmed, answer.request_id)
        return result

    def _isolate(self, targets: Sequence[Target], unconfirmed: bool, error: IMSAPIError) -> BatchResult:
        """Find the one target that makes the service refuse the whole batch."""
        if len(targets) > 1:
            middle = len(targets) // 2
            first = self._delete(targets[:middle], unconfirmed)
            if first.error:
                return first + BatchResult([], open=tuple(targets[middle:]), unconfirmed=unconfirmed)
            return first + self._delete(targets[middle:], unconfirmed)
        result = self.look(targets, unconfirmed, error.request_id)
        refused = [
            TargetResult(target, Outcome.FAILED, False, error.request_id, str(error))
            for target in result.recheck
        ]
        return result._replace(results=result.results + refused, recheck=())

    def _read(
        self, building: _BatchResultBuilder, request_id: str | None = None
    ) -> tuple[dict[Target, MediaInfo], str | None]:
        """Return those that the service shows; those that it refuses to read are unknown."""
        targets = building.left
        values = [target.value for target in targets]
        answer = self._wait_out_throttling(
            lambda: operations.find_media(self._client, values, by=self._kind, stop=self._stop)
        )
        found = answer.value
        for target in targets:
            if refusal := found.refused.get(target.value):
                building.add(_unread(target, refusal, request_id or refusal.request_id))
        shown = {target: found.shown[target.value] for target in building.left if target.value in found.shown}
        return shown, request_id or answer.request_id or None

    def _reason_to_keep(self, target: Target, medium: MediaInfo | None) -> str | None:
        if not (self._why_kept and medium and target.columns):
            return None
        return self._why_kept(target.columns, medium)

    def _others_are_answered(self, since: float) -> bool:
        return self._client.last_answer_at > since


class _BatchResultBuilder:
    """Collects results; an error on the way leaves the rest open instead of losing what is known."""

    def __init__(self, targets: Sequence[Target], unconfirmed: bool) -> None:
        self.unconfirmed = unconfirmed
        self._started = time.monotonic()
        self.error: IMSError | None = None
        self._left = dict.fromkeys(targets)
        self._results: list[TargetResult] = []
        self._recheck: tuple[Target, ...] = ()

    @property
    def halfway(self) -> float:
        """The middle between the beginning and now: an answer before it does not show that the service is well."""
        return (self._started + time.monotonic()) / 2

    def add(self, result: TargetResult) -> None:
        self._results.append(result)
        del self._left[result.target]

    def look_again(self) -> None:
        self._recheck, self._left = tuple(self._left), {}

    @property
    def left(self) -> tuple[Target, ...]:
        return tuple(self._left)

    @property
    def result(self) -> BatchResult:
        return BatchResult(self._results, self._recheck, self.left, self.unconfirmed, self.error)

    def __enter__(self) -> _BatchResultBuilder:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, IMSAPIError | CallAbandoned):
            self.error = error
            return True
        return False


def _gone(target: Target, unconfirmed: bool, request_id: str | None) -> TargetResult:
    """Judge one that no read shows: ours if an answer about it was lost, else it was never there."""
    return TargetResult(target, Outcome.DELETED if unconfirmed else Outcome.MISSING, unconfirmed, request_id)


def _unread(target: Target, error: IMSAPIError, request_id: str | None) -> TargetResult:
    return TargetResult(target, Outcome.UNKNOWN, False, request_id, f"could not be read: {error}")
