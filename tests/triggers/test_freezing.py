from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from airflow_provider_ims.triggers.freezing import HeapFreeze


class Node:
    """Refers to itself: only a collection finds it."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def nothing_frozen() -> Iterator[None]:
    assert gc.get_freeze_count() == 0
    yield
    gc.unfreeze()


def test_collections_leave_out_what_was_there() -> None:
    before = len(gc.get_objects())
    with HeapFreeze():
        assert gc.get_freeze_count() > 0.9 * before
        assert len(gc.get_objects()) < 0.1 * before
    assert gc.get_freeze_count() == 0


def test_the_last_block_puts_everything_back() -> None:
    first, second = HeapFreeze(), HeapFreeze()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.get_freeze_count() > 0
    second.__exit__(None, None, None)
    assert gc.get_freeze_count() == 0


def test_an_error_in_the_block_puts_everything_back() -> None:
    with pytest.raises(ZeroDivisionError), HeapFreeze():
        raise ZeroDivisionError
    assert gc.get_freeze_count() == 0


def test_garbage_is_collected_meanwhile_or_afterwards() -> None:
    old = Node()
    old_alive = weakref.ref(old)
    with HeapFreeze():
        new = Node()
        new_alive = weakref.ref(new)
        del old, new
        gc.collect()
        assert new_alive() is None
        assert old_alive() is not None
    gc.collect()
    assert old_alive() is None


def test_what_others_froze_stays_frozen() -> None:
    gc.freeze()
    theirs = gc.get_freeze_count()
    with HeapFreeze():
        pass
    assert gc.get_freeze_count() >= 0.9 * theirs


def test_more_is_set_aside_only_when_more_wait_than_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    freezes = []
    with HeapFreeze() as frozen:
        monkeypatch.setattr(gc, "freeze", lambda: freezes.append(waiting))
        for waiting in [*range(10_000), *range(10_000)]:
            frozen.grown_to(waiting)
    assert 10 <= len(freezes) <= 25
    assert freezes == sorted(freezes)


def test_at_most_a_fifth_of_many_is_looked_at() -> None:
    nodes = []
    with HeapFreeze() as frozen:
        for waiting in range(1, 20_000):
            nodes.append(Node())
            frozen.grown_to(waiting)
        looked_at = sum(isinstance(each, Node) for each in gc.get_objects())
    assert len(nodes) - looked_at >= 0.79 * len(nodes)


def test_nothing_is_set_aside_outside_of_a_block() -> None:
    frozen = HeapFreeze()
    frozen.grown_to(10_000)
    with frozen:
        pass
    frozen.grown_to(10_000)
    assert gc.get_freeze_count() == 0
