"""Stores the largest triggers that waiting makes with Airflow's own model, and prints how large each is as stored."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from airflow.models.trigger import Trigger
from airflow.utils.session import create_session

from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.triggers.ims import IMSMediaDeletedTrigger
from airflow_provider_ims.triggers.wait import MAX_CARRIED, MediaWait

VALUES: dict[str, tuple[Any, Callable[[int], str]]] = {
    "ids of 32": ("media_id", lambda number: f"{number:032x}"),
    "ids of 128": ("media_id", lambda number: f"{number:0128x}"),
    "URLs of four bytes a character": ("input_url", lambda number: f"oss://media-team/{'𠀀' * 500}/{number}"),
}


def largest(kind: Any, value: Callable[[int], str]) -> IMSMediaDeletedTrigger:
    """Return the trigger with as many values as it is given to carry."""
    for count in range(MAX_CARRIED, 0, -1):
        wait = MediaWait(IMSHook(), kind, map(value, range(count)))
        if trigger := wait.trigger(poll_interval=30.0, deadline=time.time()):
            return trigger
    raise AssertionError("it carries none")


def main() -> None:
    """Store each, and read it again."""
    sizes = {}
    for name, (kind, value) in VALUES.items():
        trigger = largest(kind, value)
        with create_session() as session:
            row = Trigger.from_object(trigger)
            session.add(row)
            session.flush()
            row_id = row.id
        with create_session() as session:
            stored = session.get(Trigger, row_id)
            assert stored.kwargs == trigger.serialize()[1], name
            sizes[name] = len(stored.encrypted_kwargs)
            session.delete(stored)
    print(json.dumps(sizes))


if __name__ == "__main__":
    main()
