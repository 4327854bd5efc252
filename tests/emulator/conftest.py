from __future__ import annotations

from collections.abc import Callable

import pytest
from alibabacloud_ice20201109.client import Client
from alibabacloud_tea_openapi.models import Config

from airflow_provider_ims.emulator import Emulator
from tests.emulator.raw_client import RawClient

SdkFactory = Callable[..., Client]


@pytest.fixture
def sdk(ims_emulator: Emulator) -> SdkFactory:
    """Makes clients of the official SDK, unmodified."""

    def make(
        key_id: str = ims_emulator.access_key_id,
        secret: str = ims_emulator.access_key_secret,
        security_token: str | None = None,
    ) -> Client:
        return Client(
            Config(
                access_key_id=key_id,
                access_key_secret=secret,
                security_token=security_token,
                endpoint=ims_emulator.host,
                protocol="http",
            )
        )

    return make


@pytest.fixture
def raw(ims_emulator: Emulator) -> RawClient:
    return RawClient(ims_emulator)
