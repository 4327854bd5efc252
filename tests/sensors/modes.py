"""A sensor run to its end in each mode, as Airflow does it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred, timezone
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_ims.emulator import Emulator

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # Airflow 2
    from airflow.exceptions import AirflowRescheduleException

Sensor = Any


class TaskInstance:
    """As much of a task instance as a sensor sees; when it was first rescheduled is Airflow's to know."""

    dag_id, task_id, run_id, map_index, max_tries = "dag", "task", "run", -1, 0
    first_poke: ClassVar[Any] = None

    if AIRFLOW_V_3_0_PLUS:

        def get_first_reschedule_date(self, context: Any) -> Any:
            return self.first_poke


def finish(sensor: Sensor) -> Any:
    """Run a sensor to its end as Airflow does: called again after it is rescheduled or its trigger fired."""
    context: Any = {"ti": TaskInstance()}
    try:
        while True:
            try:
                return sensor.execute(context)
            except AirflowRescheduleException as later:
                TaskInstance.first_poke = TaskInstance.first_poke or timezone.utcnow()
                time.sleep(max(0, (later.reschedule_date - timezone.utcnow()).total_seconds()))
                sensor = again(sensor)
    except TaskDeferred as deferred:
        return resume(sensor, deferred, context)


def resume(sensor: Sensor, deferred: TaskDeferred, context: Any) -> Any:
    """Run the trigger, made from its arguments as a triggerer makes it, and go on with its event."""
    path, kwargs = json.loads(json.dumps(deferred.trigger.serialize()))
    module, _, name = path.rpartition(".")
    trigger: Any = getattr(import_module(module), name)(**kwargs)
    assert trigger.serialize() == (path, kwargs)
    assert "secret" not in json.dumps(kwargs)

    event = asyncio.run(first_event(trigger))
    next_kwargs = {**json.loads(json.dumps(deferred.kwargs)), "event": event}
    try:
        return again(sensor).resume_execution(deferred.method_name, next_kwargs, context)
    except TaskDeferred as once_more:
        return resume(sensor, once_more, context)


async def first_event(trigger: Any) -> Any:
    return [event.payload async for event in trigger.run()].pop()


def again(sensor: Sensor) -> Sensor:
    """Make the sensor anew, as another worker process would."""
    args = dict(sensor._BaseOperator__init_kwargs)
    return type(sensor)(**args)


def deferral(sensor: Sensor) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        sensor.execute({"ti": TaskInstance()})
    return caught.value


def later(emulator: Emulator, seconds: float, function: Callable[[], Any]) -> None:
    """Do something so many seconds after the next request, however long that takes on a busy machine."""
    before = emulator.stats()["requests"]

    def wait() -> None:
        while emulator.stats()["requests"] == before:
            time.sleep(0.05)
        time.sleep(seconds)
        function()

    threading.Thread(target=wait, daemon=True).start()


MODES: list[dict[str, Any]] = [{"mode": "poke"}, {"mode": "reschedule"}, {"deferrable": True}]
in_every_mode = pytest.mark.parametrize("mode", MODES, ids=["poke", "reschedule", "deferrable"])
