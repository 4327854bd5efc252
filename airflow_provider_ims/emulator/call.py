"""One call that passed the gateway, and everything it may touch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_ims.emulator.faults import Faults
from airflow_provider_ims.emulator.jobs import Jobs
from airflow_provider_ims.emulator.library import Library
from airflow_provider_ims.emulator.records import Entry, Records


@dataclass(slots=True)
class Call:
    """One call that passed the gateway, and everything it may touch.

    :param now: the emulator's true clock, seconds since the epoch.
    :param job_seconds: how long a job takes.
    :param otherwise: which side is taken in what the documentation leaves open, as the fault kind lists it.
    """

    params: Mapping[str, str]
    entry: Entry
    library: Library
    jobs: Jobs
    records: Records
    faults: Faults
    now: float
    job_seconds: float
    otherwise: Mapping[str, Any]


Answer = dict[str, Any]
