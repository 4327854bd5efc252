"""Names of Airflow that moved between 2.11 and the newest 3, each taken from where this Airflow has it.

Not from ``airflow.providers.common.compat.sdk``, which offers the same: Airflow 2.11.0, 3.0 and the first releases of
3.1 came out with versions of that provider which have no such module, and installing must change none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow import __version__ as _airflow_version

if TYPE_CHECKING:
    from airflow.plugins_manager import AirflowPlugin as AirflowPlugin
    from airflow.sdk import BaseHook as BaseHook
    from airflow.sdk import BaseOperator as BaseOperator
    from airflow.sdk import BaseOperatorLink as BaseOperatorLink
    from airflow.sdk import BaseSensorOperator as BaseSensorOperator
    from airflow.sdk import Connection as Connection
    from airflow.sdk import Context as Context
    from airflow.sdk import ObjectStoragePath as ObjectStoragePath
    from airflow.sdk import PokeReturnValue as PokeReturnValue
    from airflow.sdk.configuration import conf as conf
    from airflow.sdk.exceptions import AirflowFailException as AirflowFailException
    from airflow.sdk.exceptions import AirflowNotFoundException as AirflowNotFoundException
    from airflow.sdk.exceptions import AirflowSensorTimeout as AirflowSensorTimeout
    from airflow.sdk.exceptions import AirflowSkipException as AirflowSkipException
    from airflow.sdk.log import mask_secret as mask_secret
    from airflow.sdk.types import TaskInstanceKey as TaskInstanceKey

AIRFLOW_V_3_1_PLUS = tuple(map(int, _airflow_version.split(".")[:2])) >= (3, 1)
"""Whether this Airflow shows pages of a plugin to its own users."""

_EXCEPTIONS = ("airflow.sdk.exceptions", "airflow.exceptions")  # the latter up to 3.1
_MODULES = {
    "AirflowFailException": _EXCEPTIONS,
    "AirflowNotFoundException": _EXCEPTIONS,
    "AirflowPlugin": ("airflow.plugins_manager",),
    "AirflowSensorTimeout": _EXCEPTIONS,
    "AirflowSkipException": _EXCEPTIONS,
    "BaseHook": ("airflow.sdk", "airflow.hooks.base"),  # the latter up to 3.0
    "BaseOperator": ("airflow.sdk", "airflow.models.baseoperator"),
    "BaseOperatorLink": ("airflow.sdk", "airflow.models.baseoperatorlink"),
    "BaseSensorOperator": ("airflow.sdk", "airflow.sensors.base"),
    "Connection": ("airflow.sdk", "airflow.models.connection"),
    "Context": ("airflow.sdk", "airflow.utils.context"),
    "ObjectStoragePath": ("airflow.sdk", "airflow.io.path"),
    "PokeReturnValue": ("airflow.sdk", "airflow.sensors.base"),
    "TaskInstanceKey": ("airflow.sdk.types", "airflow.models.taskinstancekey"),  # the latter up to 3.1
    "conf": ("airflow.sdk.configuration", "airflow.configuration"),  # the latter up to 3.1
    "mask_secret": (
        "airflow.sdk.log",
        "airflow.sdk.execution_time.secrets_masker",  # 3.0.0 to 3.0.4
        "airflow.utils.log.secrets_masker",
    ),
}
"""Where each name lies: today's module first, the last one of Airflow 2 unless it says otherwise."""


def __getattr__(name: str) -> Any:
    """Import a name when it is asked for, as some load much that a DAG file never needs."""
    for module in _MODULES.get(name, ()):
        try:
            return getattr(import_module(module), name)
        except (ModuleNotFoundError, AttributeError):
            continue
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
