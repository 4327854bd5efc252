"""A question to the service: what the code believes, what was seen, and whether they agree."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NamedTuple

from airflow_provider_ims.api.errors import IMSAPIError, IMSTransientError
from tests.live.guard import ForeignTargetError, Guard, GuardedClient
from tests.live.media import Media, NotTold


class Reply(NamedTuple):
    """What the service answered, a refusal included: then ``code`` says why, and ``body`` is empty."""

    body: dict[str, Any]
    code: str = ""
    status: int = 200

    def describe(self) -> str:
        """Return ``taken``, or the refusal's code and status."""
        return f"refused: {self.code} ({self.status})" if self.code else "taken"


@dataclass
class Run:
    """What a question may use.

    :param max_rate: requests per second up to which a throttle is looked for; 0 does not look.
    :param jobs: whether jobs may be started.
    :param template: of the convert job.
    :param workflow_id: of the account's own workflow to start; "" starts none.
    :param poll_seconds: between two looks at a job.
    :param job_seconds: how long a job is waited for.
    """

    media: Media
    max_rate: float
    jobs: bool
    template: str
    workflow_id: str
    poll_seconds: float = 2.0
    job_seconds: float = 300.0
    request_ids: list[str] = field(default_factory=list)

    @property
    def client(self) -> GuardedClient:
        """The guarded client."""
        return self.media.hook.client

    @property
    def guard(self) -> Guard:
        """What may be touched."""
        return self.media.hook.guard

    def ask(self, action: str, **params: Any) -> Reply:
        """Send one request and return what the service says to it.

        :raises NotTold: when an answer was lost, so that a second try may have met what the first one did.
        """
        try:
            response = self.client.call(action, params, dict)
        except IMSTransientError:
            raise
        except IMSAPIError as error:
            self.request_ids.append(error.request_id or "")
            return Reply({}, error.code, error.http_status or 0)
        self.request_ids.append(response.request_id)
        if response.answer_lost:
            raise NotTold(f"an answer to {action} was lost, so what came next proves nothing")
        return Reply(response.value)


class Answer(NamedTuple):
    """What was seen.

    :param value: for programs; JSON.
    :param holds: whether the belief does; None if it could not be told.
    :param seen: in words, where the value alone does not say it.
    """

    value: Any
    holds: bool | None
    seen: str = ""


@dataclass(frozen=True)
class Question:
    """One thing that the documentation leaves open.

    :param text: the question.
    :param belief: what the code takes for granted; the answer says whether it holds.
    :param where: the code that does.
    :param if_not: what goes wrong there if it does not hold.
    """

    name: str
    text: str
    belief: str
    where: str
    if_not: str
    ask: Callable[[Run], Answer]

    @property
    def subject(self) -> str:
        """What its module is about."""
        return self.ask.__module__.rpartition(".")[2].capitalize()


@dataclass(frozen=True)
class Answered:
    """A question with its answer."""

    question: Question
    answer: Answer
    request_ids: tuple[str, ...]
    seconds: float

    @property
    def verdict(self) -> str:
        """Return ``holds``, ``does not hold``, ``noted`` where nothing was believed, or ``not told``."""
        if self.answer.value is None:
            return "not told"
        return {True: "holds", False: "does not hold", None: "noted"}[self.answer.holds]


def question(
    text: str, *, belief: str, where: str, if_not: str
) -> Callable[[Callable[[Run], Answer]], Question]:
    """Make a question of a function."""

    def make(ask: Callable[[Run], Answer]) -> Question:
        return Question(ask.__name__, text, belief, where, if_not, ask)

    return make


def questions_of(*modules: ModuleType) -> list[Question]:
    """Return the questions of some modules in the order in which they stand there."""
    return [one for module in modules for one in vars(module).values() if isinstance(one, Question)]


def ask(run: Run, one: Question) -> Answered:
    """Ask; a question that can't be told, or whose way is barred, has an answer that says so."""
    run.request_ids.clear()
    began = time.monotonic()
    try:
        answer = one.ask(run)
    except NotTold as error:
        answer = Answer(None, None, f"Not told: {error}.")
    except ForeignTargetError:
        raise  # a fault of this program: it asks nothing more
    except Exception as error:  # noqa: BLE001 - an answer of another shape than anybody thought of ends no run
        answer = Answer(None, None, f"Not told: {type(error).__name__}: {error}")
    return Answered(one, answer, tuple(filter(None, run.request_ids)), time.monotonic() - began)


def until_each(conditions: Mapping[str, Callable[[], bool]], seconds: float) -> dict[str, float | None]:
    """Return for each condition what :func:`until` does, all counted from now."""
    began = time.monotonic()
    met: dict[str, float | None] = {}

    def all_are_met() -> bool:
        for name, condition in conditions.items():
            if name not in met and condition():
                met[name] = round(time.monotonic() - began, 2)
        return len(met) == len(conditions)

    until(all_are_met, seconds)
    return {name: met.get(name) for name in conditions}


def in_words(lags: Mapping[str, float | None], longest: float) -> dict[str, str]:
    """Return lags as texts."""
    return {name: f"over {longest} s" if lag is None else f"{lag} s" for name, lag in lags.items()}


def until(condition: Callable[[], bool], seconds: float, pause: float = 0.1) -> float | None:
    """Return after how many seconds a condition was met; None if it was not in time."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            return None
        time.sleep(pause)
    return round(time.monotonic() - began, 2)
