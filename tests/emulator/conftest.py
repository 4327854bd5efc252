from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from alibabacloud_ice20201109.client import Client
from alibabacloud_tea_openapi.models import Config

from airflow_provider_ims.emulator.server import Emulator
from tests.emulator.raw_client import RawClient

SdkFactory = Callable[..., Client]


@pytest.fixture(scope="session")
def running_emulator() -> Iterator[Emulator]:
    with Emulator("--job-seconds", "0.4") as emulator:
        yield emulator


@pytest.fixture
def emulator(running_emulator: Emulator) -> Emulator:
    """A running emulator with an empty library and empty books."""
    running_emulator.reset()
    return running_emulator


@pytest.fixture
def sdk(emulator: Emulator) -> SdkFactory:
    """Makes clients of the official SDK, unmodified."""

    def make(
        key_id: str = emulator.access_key_id,
        secret: str = emulator.access_key_secret,
        security_token: str | None = None,
    ) -> Client:
        return Client(
            Config(
                access_key_id=key_id,
                access_key_secret=secret,
                security_token=security_token,
                endpoint=emulator.host,
                protocol="http",
            )
        )

    return make


@pytest.fixture
def raw(emulator: Emulator) -> RawClient:
    return RawClient(emulator)
