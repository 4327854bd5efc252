"""The base of all sensors."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from airflow_provider_ims.api.errors import IMSTransientError
from airflow_provider_ims.base import IMSTask
from airflow_provider_ims.compat import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)
from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.triggers.events import WaitTimedOut, raise_unless_over
from airflow_provider_ims.triggers.log_interval import LogInterval

if TYPE_CHECKING:
    from airflow_provider_ims.compat import Context


class IMSBaseSensor(IMSTask, BaseSensorOperator):
    """What all sensors have in common: one way to look, whether the task sleeps, is rescheduled or deferred.

    A deferrable sensor looks in the worker first and defers out of ``poke``, so that Airflow's own handling of
    ``soft_fail``, ``never_fail`` and ``silent_fail`` applies to every mode alike.

    :param ims_conn_id: the connection. (templated)
    :param region: overrides the connection's. (templated)
    :param deferrable: wait in the triggerer, without a worker. Default: ``[operators] default_deferrable``.
    """

    def __init__(
        self,
        *,
        ims_conn_id: str | None = IMSHook.default_conn_name,
        region: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ims_conn_id = ims_conn_id
        self.region = region
        self.deferrable = deferrable
        self._started: float | None = None
        self._went_through = False
        self._log_interval = LogInterval()

    @abstractmethod
    def _look(self) -> dict[str, Any] | None:
        """Return the result, or None if it is not over."""

    @abstractmethod
    def _describe(self) -> str:
        """Return a sentence that says what the last look left."""

    @abstractmethod
    def _defer(self, started: float, deadline: float) -> None:
        """Hand over to a trigger; return only if that can't be done, and the task must wait itself."""

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Look once.

        Throttling and network trouble are tried again for the connection's ``retry_seconds``, and once a look
        went through, until the sensor's own time-out. A refusal fails the task at once.
        """
        self.check_given()
        if type(self.deferrable) is not bool:
            raise ValueError(f"deferrable is {self.deferrable!r}, not True or False")
        first_poke = _first_reschedule(self, context) if self.reschedule else None
        self._started = self._started or first_poke or time.time()
        try:
            result = self._look()
        except IMSTransientError as error:
            if not (first_poke or self._went_through):
                raise
            self.log.warning("This look failed and will be repeated: %s.", error)
            return False
        self._went_through = True
        if result is not None:
            return PokeReturnValue(is_done=True, xcom_value=self._timed(result, context, self._started))
        if self._log_interval.is_over():
            self.log.info(self._describe())
        if self.deferrable:
            self._defer(self._started, self._started + self.timeout)
        return False

    def _timed(self, result: dict[str, Any], context: Context, started: float | None) -> dict[str, Any]:
        """Return a result with the ``seconds`` since the first look.

        :param started: seconds since the epoch. ``dag.test()`` of Airflow up to 3.3.2 drops what a deferral is to
            hand over, but runs the same object again; else it is the start of the task.
        """
        began = started or self._started or context["ti"].start_date.timestamp()
        return {**result, "seconds": round(time.time() - began, 1)}

    def _check(self, event: dict[str, Any] | None) -> None:
        """Return if the trigger says that it is over.

        :raises AirflowSensorTimeout: if time is up.
        :raises IMSAPIError: what the trigger met.
        """
        try:
            raise_unless_over(event)
        except WaitTimedOut as error:
            raise AirflowSensorTimeout(
                f"not over after {self.timeout:g} s: {self._describe_pending(error)}"
            ) from None

    def _describe_pending(self, error: WaitTimedOut) -> str:
        """Return what was still pending when time was up."""
        return str(error)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a deferral; ``never_fail`` covers every error, as it does without one."""
        try:
            self.check_given()
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSkipException:
            raise
        except Exception as error:
            if self.never_fail:
                raise AirflowSkipException(f"skipped, since never_fail is set: {error}") from error
            raise


def _first_reschedule(sensor: BaseSensorOperator, context: Context) -> float | None:
    """When a rescheduled sensor first looked, in seconds since the epoch; None at its first look."""
    ti: Any = context["ti"]
    if hasattr(ti, "get_first_reschedule_date"):
        first = ti.get_first_reschedule_date(context)
    else:
        # As BaseSensorOperator.execute() in airflow/sensors/base.py of Airflow 2.11 does; no public name tells it.
        from airflow.sensors.base import _orig_start_date  # type: ignore[import-not-found]

        first = _orig_start_date(
            dag_id=ti.dag_id,
            task_id=ti.task_id,
            run_id=ti.run_id,
            map_index=ti.map_index,
            try_number=(ti.max_tries or 0) - (sensor.retries or 0) + 1,
        )
    return first.timestamp() if first else None
