from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from airflow_provider_ims.triggers.freezing import heap_frozen


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
    with heap_frozen():
        assert gc.get_freeze_count() > 0.9 * before
        assert len(gc.get_objects()) < 0.1 * before
    assert gc.get_freeze_count() == 0


def test_the_last_block_puts_everything_back() -> None:
    first, second = heap_frozen(), heap_frozen()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.get_freeze_count() > 0
    second.__exit__(None, None, None)
    assert gc.get_freeze_count() == 0


def test_an_error_in_the_block_puts_everything_back() -> None:
    with pytest.raises(ZeroDivisionError), heap_frozen():
        raise ZeroDivisionError
    assert gc.get_freeze_count() == 0


def test_garbage_is_collected_meanwhile_or_afterwards() -> None:
    old = Node()
    old_alive = weakref.ref(old)
    with heap_frozen():
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
    with heap_frozen():
        pass
    assert gc.get_freeze_count() >= 0.9 * theirs
