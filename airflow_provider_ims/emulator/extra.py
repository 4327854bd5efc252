"""The packages of the extra ``emulator``: whether they are there, and what to do if not."""

from __future__ import annotations

from importlib.util import find_spec

_MODULES = ("starlette", "uvicorn", "httptools")


def require_extra() -> None:
    """Make sure that the emulator can run here. Imports none of what it looks for.

    :raises ModuleNotFoundError: says what is missing and how to install it.
    """
    absent = [module for module in _MODULES if find_spec(module) is None]
    if absent:
        raise ModuleNotFoundError(
            f"the emulated IMS needs {', '.join(absent)}: pip install 'airflow-provider-ims[emulator]'",
            name=absent[0],
        )
