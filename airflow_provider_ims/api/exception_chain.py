"""What led to an error: HTTP libraries wrap what they get, as an argument, a reason, a cause or a context."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

E = TypeVar("E", bound=BaseException)


def find_cause(error: BaseException, kind: type[E] | tuple[type[E], ...]) -> E | None:
    """Return the first error of a kind among ``error`` and all that led to it."""
    return next((one for one in causes(error) if isinstance(one, kind)), None)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error`` and all that led to it, each once."""
    seen: set[int] = set()
    todo: list[Any] = [error]
    while todo:
        one = todo.pop()
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            todo += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
