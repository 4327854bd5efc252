"""Making this provider slower on purpose, to see that ``make bench-check`` notices."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

VARIABLE = "IMS_BENCHMARK_SABOTAGE"
KINDS = {
    "sleep": "each call sleeps a millisecond",
    "list": "the client holds on to every request that it sent",
}


def sabotage() -> None:
    """Spoil this process as the environment says."""
    kind = os.environ.get(VARIABLE)
    if not kind:
        return
    from airflow_provider_ims.api.client import IMSClient

    real: Callable[..., Any] = IMSClient._exchange
    held: list[tuple[str, str]] = []

    def sleep(client: IMSClient, action: str, query: str) -> Any:
        time.sleep(0.001)
        return real(client, action, query)

    def hold(client: IMSClient, action: str, query: str) -> Any:
        held.append((action, query))
        return real(client, action, query)

    setattr(IMSClient, "_exchange", {"sleep": sleep, "list": hold}[kind])  # noqa: B010 - mypy forbids the other
