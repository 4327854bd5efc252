"""Services on loopback for the hook's connections, and hooks of connections in every spelling."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.pytest_plugin import MakeConnection
from tests.hooks.credential_services import Issuer, LocalService, self_signed


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the machine's proxies nor its keys take part."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("ALIBABA_CLOUD_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A TLS server's context for 127.0.0.1, and the certificate that it signed itself."""
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def issuer(ims_emulator: Emulator) -> Issuer:
    return Issuer(ims_emulator)


@pytest.fixture
def serve() -> Iterator[Callable[..., LocalService]]:
    """Starts services, and ends them with the test."""
    services: list[LocalService] = []

    def serve(answer: Callable[..., Any], tls: ssl.SSLContext | None = None) -> LocalService:
        services.append(LocalService(answer, tls))
        return services[-1]

    yield serve
    for service in services:
        service.close()


@pytest.fixture
def hook(make_ims_connection: MakeConnection) -> Callable[..., IMSHook]:
    """Makes hooks of connections to the emulator; arguments replace fields, and ``extra`` adds to the extras."""

    def hook(*, region: str | None = None, extra: Any = None, **fields: Any) -> IMSHook:
        conn_id = make_ims_connection("ims_here", extra={"region": None, **(extra or {})}, **fields)
        return IMSHook(conn_id, region=region)

    return hook
