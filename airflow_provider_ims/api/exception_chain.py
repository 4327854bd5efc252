"""What led to an error: HTTP libraries wrap what they get, as an argument, a reason, a cause or a context."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

E = TypeVar("E", bound=BaseException)


def find_cause(error: BaseException, kind: type[E]) -> E | None:
    """Find an error of a kind in ``error`` and all that led to it."""
    return next((one for one in causes(error) if isinstance(one, kind)), None)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Give ``error`` and all that led to it, each once."""
    seen: set[int] = set()
    todo: list[Any] = [error]
    while todo:
        one = todo.pop()
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            todo += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]


def last_words(error: BaseException) -> str:
    """Say what the innermost error says: mostly the operating system, in words that hold no URL."""
    *_, innermost = _inwards(error)
    said = innermost.strerror if isinstance(innermost, OSError) and innermost.strerror else str(innermost)
    return said.rsplit(": ", 1)[-1].rstrip(". ") or "no reason is given"


def _inwards(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        nested = (*reversed(one.args), one.__cause__, one.__context__)
        one = next((inner for inner in nested if isinstance(inner, BaseException)), None)
