"""Keys that expire again and again under one run, for IMS and for the store of its report alike."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest

from airflow_provider_ims.emulator import EmulatedOSS, Emulator
from airflow_provider_ims.files.storage import storage_path
from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.pytest_plugin import MakeConnection
from tests.hooks.credential_services import Issuer, LocalService, credentials_uri

LIFETIME = 6.0
"""Seconds after which a key is refused, whatever was said when it was fetched."""


@pytest.fixture
def issuer(ims_emulator: Emulator) -> Issuer:
    return Issuer(ims_emulator, lifetime=LIFETIME)


@pytest.fixture
def keys(issuer: Issuer) -> Iterator[LocalService]:
    service = LocalService(credentials_uri(issuer))
    yield service
    service.close()


def test_keys_that_rotate_under_a_run_lose_no_line_of_its_report(
    ims_emulator: Emulator,
    ims_oss: EmulatedOSS,
    make_ims_connection: MakeConnection,
    issuer: Issuer,
    keys: LocalService,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    ims_oss.make_bucket("rotating")
    media = ims_emulator.generate(1500)
    make_ims_connection(
        "ims_rotating",
        login=None,
        password=None,
        extra={
            "credential_type": "credentials_uri",
            "credentials_uri": keys.url,
            "oss_endpoint": ims_oss.endpoint,
            "max_requests_per_second": 4.5,  # some 17 s
        },
    )
    result = IMSHook("ims_rotating").delete_media(
        media, report_base=storage_path("oss://rotating/reports", ims_conn_id="ims_rotating")
    )
    assert (result["deleted"], result["seconds"] > 2 * LIFETIME) == (1500, True)
    names = ims_oss.names("rotating")
    assert names == ["reports/attempt=1/part-00001.jsonl"]
    lines = [json.loads(line) for line in ims_oss.get("rotating", names[0]).splitlines()]
    assert Counter(line["media_id"] for line in lines) == Counter(media)
    # IMS and OSS each notice for themselves, and none fetches for each request.
    assert 3 <= len(issuer.issued) <= 2 * (result["seconds"] / LIFETIME + 2)
