"""A batch of targets -> what became of each, by asking the service and never believing less than it takes.

A target is ``deleted`` when the service took it, ``forbidden`` when the service named it so. An *ignored* one is
read back before it is judged: ``IgnoredList`` says only that fetching it failed. What is ignored and gone was
``missing`` from the start, unless an answer about it was lost: then it was we who deleted it. What is ignored and
still shown is set aside, since reads may lag behind deletions.

Sources: https://www.alibabacloud.com/help/en/ims/developer-reference/api-ice-2020-11-09-deletemediainfos, and
https://help.aliyun.com/document_detail/441153.html for the echo of both lists.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
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

# Refusals that may be about one target of a batch. Whether one bad id fails a whole call is not documented.
TARGET_CODES = ("invalidparameter", "invalidmedia", "invalidinputurl", "resourcenotfound", "medianot")


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

    ``inferred``: deleted, though the answer that said so was lost. ``reason``: why it was kept or not judged.
    """

    target: Target
    outcome: Outcome
    inferred: bool = False
    request_id: str | None = None
    reason: str | None = None


class BatchResult(NamedTuple):
    """What came of asking about some targets: verdicts, and those that have none yet.

    ``aside``: ignored, though still shown: to be asked about again.
    ``unjudged``: left open, because of ``error`` or because the run was stopped.
    ``in_doubt``: an answer about those two was lost.
    """

    verdicts: list[TargetResult]
    aside: tuple[Target, ...] = ()
    unjudged: tuple[Target, ...] = ()
    in_doubt: bool = False
    error: IMSError | None = None

    def __add__(self, other: BatchResult) -> BatchResult:  # type: ignore[override]
        return BatchResult(
            self.verdicts + other.verdicts,
            self.aside + other.aside,
            self.unjudged + other.unjudged,
            self.in_doubt or other.in_doubt,
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
    """

    def __init__(
        self,
        client: IMSClient,
        *,
        kind: TargetKind,
        delete_physical_files: bool,
        stop: threading.Event,
        why_kept: WhyKept | None = None,
    ) -> None:
        self._client = client
        self._kind = kind
        self._delete_physical_files = delete_physical_files
        self._stop = stop
        self._why_kept = why_kept

    def preview(self, targets: Sequence[Target], in_doubt: bool = False) -> BatchResult:
        """Only look: what would be deleted is called deleted."""
        with _BatchResultBuilder(targets, in_doubt) as inquiry:
            shown, request_id = self._read(targets)
            for target in targets:
                medium = shown.get(target)
                reason = self._reason_to_keep(target, medium)
                outcome = Outcome.KEPT if reason else Outcome.DELETED if medium else Outcome.MISSING
                inquiry.judge(TargetResult(target, outcome, False, request_id, reason))
        return inquiry.ruling

    def delete(self, targets: Sequence[Target], in_doubt: bool = False) -> BatchResult:
        """Delete, once those that a plan's policy spares by now are sorted out.

        :param in_doubt: these may have been sent before, by a try whose answer nobody heard.
        """
        if not self._why_kept:
            return self._delete(targets, in_doubt)
        with _BatchResultBuilder(targets, in_doubt) as inquiry:
            shown, request_id = self._read(targets)
            for target in targets:
                if target not in shown:
                    inquiry.judge(_gone(target, in_doubt, request_id))
                elif reason := self._reason_to_keep(target, shown[target]):
                    inquiry.judge(TargetResult(target, Outcome.KEPT, False, request_id, reason))
        if inquiry.ruling.error or self._stop.is_set() or not inquiry.left:
            return inquiry.ruling
        return BatchResult(inquiry.ruling.verdicts) + self._delete(inquiry.left, in_doubt)

    def look(self, targets: Sequence[Target], in_doubt: bool, request_id: str | None = None) -> BatchResult:
        """Read back: what is gone is judged, what is still shown is set aside."""
        with _BatchResultBuilder(targets, in_doubt) as inquiry:
            try:
                shown, read_id = self._read(targets)
            except IMSTransientError as error:
                if isinstance(error, IMSThrottlingError) or not self._others_are_answered(inquiry.halfway):
                    raise
                for target in targets:
                    inquiry.judge(
                        TargetResult(
                            target, Outcome.UNKNOWN, False, request_id, f"could not be read: {error}"
                        )
                    )
            else:
                for target in targets:
                    if target not in shown:
                        inquiry.judge(_gone(target, in_doubt, request_id or read_id))
                inquiry.set_aside()
        return inquiry.ruling

    def _delete(self, targets: Sequence[Target], in_doubt: bool) -> BatchResult:
        with _BatchResultBuilder(targets, in_doubt) as inquiry:
            try:
                answer = self._send(targets)
            except IMSTransientError as error:
                inquiry.in_doubt |= error.answer_lost
                if isinstance(error, IMSThrottlingError) or not self._others_are_answered(inquiry.halfway):
                    raise
                # Never answered, while others are: find out by reading.
                return self.look(targets, inquiry.in_doubt)
            except IMSAPIError as error:
                if not error.code.lower().startswith(TARGET_CODES):
                    inquiry.in_doubt |= error.answer_lost
                    raise
                return self._isolate(targets, inquiry.in_doubt or error.answer_lost, error)
            except CallAbandoned as error:
                inquiry.in_doubt |= error.answer_lost
                raise
            return self._judge_answer(targets, answer, inquiry.in_doubt or answer.answer_lost)
        return inquiry.ruling

    def _send(self, targets: Sequence[Target]) -> Response[Deletion]:
        values = [target.value for target in targets]
        return self._patiently(
            lambda: operations.delete_media_infos(
                self._client,
                media_ids=values if self._kind == "media_id" else (),
                input_urls=values if self._kind == "input_url" else (),
                delete_physical_files=self._delete_physical_files,
                stop=self._stop,
            )
        )

    def _patiently(self, call: Callable[[], Response[T]]) -> Response[T]:
        """Go on being throttled for as long as other requests get through: the limit is shared."""
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

    def _judge_answer(
        self, targets: Sequence[Target], answer: Response[Deletion], in_doubt: bool
    ) -> BatchResult:
        by_key = {match_key(target.value): target for target in targets}
        forbidden = {match_key(value) for value in answer.value.forbidden}
        ignored = {match_key(value) for value in answer.value.ignored} - forbidden
        ruling = BatchResult(
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
            ruling += self.look(taken, True, answer.request_id)
        else:
            ruling.verdicts.extend(
                TargetResult(target, Outcome.DELETED, False, answer.request_id) for target in taken
            )
        if to_read := [by_key[key] for key in by_key if key in ignored]:
            ruling += self.look(to_read, in_doubt, answer.request_id)
        return ruling

    def _isolate(self, targets: Sequence[Target], in_doubt: bool, error: IMSAPIError) -> BatchResult:
        """Find the one target that makes the service refuse the whole batch."""
        if len(targets) > 1:
            middle = len(targets) // 2
            first = self._delete(targets[:middle], in_doubt)
            if first.error:
                return first + BatchResult([], unjudged=tuple(targets[middle:]), in_doubt=in_doubt)
            return first + self._delete(targets[middle:], in_doubt)
        ruling = self.look(targets, in_doubt, error.request_id)
        refused = [
            TargetResult(target, Outcome.FAILED, False, error.request_id, str(error))
            for target in ruling.aside
        ]
        return ruling._replace(verdicts=ruling.verdicts + refused, aside=())

    def _read(self, targets: Sequence[Target]) -> tuple[dict[Target, MediaInfo], str | None]:
        """Find those that the service still shows."""
        if self._kind == "media_id":
            media_ids = [target.value for target in targets]
            answer = self._patiently(
                lambda: operations.batch_get_media_infos(self._client, media_ids, stop=self._stop)
            )
            media = {match_key(medium.media_id): medium for medium in answer.value if not medium.is_gone}
            by_key = ((target, media.get(match_key(target.value))) for target in targets)
            return {target: medium for target, medium in by_key if medium}, answer.request_id
        shown: dict[Target, MediaInfo] = {}
        request_id = None
        for target in targets:
            found = self._patiently(
                partial(operations.get_media_info, self._client, input_url=target.value, stop=self._stop)
            )
            request_id = found.request_id
            if found.value and not found.value.is_gone:
                shown[target] = found.value
        return shown, request_id

    def _reason_to_keep(self, target: Target, medium: MediaInfo | None) -> str | None:
        if not (self._why_kept and medium and target.columns):
            return None
        return self._why_kept(target.columns, medium)

    def _others_are_answered(self, since: float) -> bool:
        return self._client.last_answer_at > since


class _BatchResultBuilder:
    """Collects verdicts; an error on the way leaves the rest unjudged instead of losing what is known."""

    def __init__(self, targets: Sequence[Target], in_doubt: bool) -> None:
        self.in_doubt = in_doubt
        self._started = time.monotonic()
        self.error: IMSError | None = None
        self._left = dict.fromkeys(targets)
        self._verdicts: list[TargetResult] = []
        self._aside: tuple[Target, ...] = ()

    @property
    def halfway(self) -> float:
        """The middle between the beginning and now: an answer before it does not show that the service is well."""
        return (self._started + time.monotonic()) / 2

    def judge(self, verdict: TargetResult) -> None:
        self._verdicts.append(verdict)
        del self._left[verdict.target]

    def set_aside(self) -> None:
        self._aside, self._left = tuple(self._left), {}

    @property
    def left(self) -> tuple[Target, ...]:
        return tuple(self._left)

    @property
    def ruling(self) -> BatchResult:
        return BatchResult(self._verdicts, self._aside, self.left, self.in_doubt, self.error)

    def __enter__(self) -> _BatchResultBuilder:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, IMSAPIError | CallAbandoned):
            self.error = error
            return True
        return False


def _gone(target: Target, in_doubt: bool, request_id: str | None) -> TargetResult:
    """Judge one that no read shows: ours if an answer about it was lost, else it was never there."""
    return TargetResult(target, Outcome.DELETED if in_doubt else Outcome.MISSING, in_doubt, request_id)
