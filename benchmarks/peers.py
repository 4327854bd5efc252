"""The ways to delete twenty media with one request: this provider's hook, and what one would use instead."""

from __future__ import annotations

import http.client
import json
import os
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

Delete = Callable[[list[str]], Any]
"""Deletes up to 20 media."""

KEY_ID, SECRET = "emulator", "emulator-secret"


def hook(host: str) -> Delete:
    """Go through this provider's ``IMSHook.delete_media_infos``, with pacing, retries and typed errors."""
    from airflow_provider_ims.hooks.ims import IMSHook

    fields = {"conn_type": "alibaba_ims", "login": KEY_ID, "password": SECRET, "host": f"http://{host}"}
    os.environ["AIRFLOW_CONN_IMS_DEFAULT"] = json.dumps(fields)
    ours = IMSHook()
    return lambda media_ids: ours.delete_media_infos(media_ids=media_ids)


def sdk(host: str) -> Delete:
    """The official SDK, as its own examples use it."""
    from alibabacloud_ice20201109.client import Client
    from alibabacloud_ice20201109.models import DeleteMediaInfosRequest
    from alibabacloud_tea_openapi.models import Config

    client = Client(Config(access_key_id=KEY_ID, access_key_secret=SECRET, endpoint=host, protocol="http"))
    return lambda media_ids: client.delete_media_infos(
        DeleteMediaInfosRequest(media_ids=",".join(media_ids), delete_physical_files=False)
    )


def sdk_pages(host: str) -> Iterator[list[Any]]:
    """Follow the official SDK's pages of a whole library, 100 media each."""
    from alibabacloud_ice20201109.client import Client
    from alibabacloud_ice20201109.models import ListMediaBasicInfosRequest
    from alibabacloud_tea_openapi.models import Config

    client = Client(Config(access_key_id=KEY_ID, access_key_secret=SECRET, endpoint=host, protocol="http"))
    token: str | None = None
    while True:
        request = ListMediaBasicInfosRequest(max_results=100, next_token=token, include_file_basic_info=True)
        body = client.list_media_basic_infos(request).body
        yield body.media_infos
        if not (token := body.next_token):
            return


def sdk_with_tenacity(host: str) -> Delete:
    """The same, tried again with growing random pauses when the service throttles: up to 20 s, for 5 minutes."""
    from darabonba.exceptions import DaraException
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

    delete = sdk(host)
    retrying = Retrying(
        retry=retry_if_exception(
            lambda error: isinstance(error, DaraException) and "Throttling" in str(error.code)
        ),
        wait=wait_random_exponential(multiplier=0.25, max=20),
        stop=stop_after_delay(300),
    )
    return lambda media_ids: retrying.copy()(delete, media_ids)


def _signed(host: str, media_ids: list[str]) -> tuple[str, dict[str, str]]:
    from airflow_provider_ims.api import signing
    from airflow_provider_ims.api.client import API_VERSION

    query = signing.canonical_query({"DeletePhysicalFiles": "false", "MediaIds": ",".join(media_ids)})
    headers = signing.signed_headers(
        method="POST",
        host=host,
        action="DeleteMediaInfos",
        version=API_VERSION,
        query=query,
        access_key_id=KEY_ID,
        access_key_secret=SECRET,
        security_token=None,
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        nonce=secrets.token_hex(16),
    )
    return query, headers


def plain_requests(host: str) -> Delete:
    """``requests.Session.post``, signed by hand; no retries, no pacing, no judgement of the answer."""
    import requests

    session = requests.Session()

    def delete(media_ids: list[str]) -> Any:
        query, headers = _signed(host, media_ids)
        answer = session.post(f"http://{host}/?{query}", headers=headers, timeout=30)
        answer.raise_for_status()
        return answer.json()

    return delete


def http_client(host: str) -> Delete:
    """The floor: the standard library's client on one kept connection, and a signature."""
    wire = http.client.HTTPConnection(host, timeout=30)

    def delete(media_ids: list[str]) -> Any:
        query, headers = _signed(host, media_ids)
        wire.request("POST", f"/?{query}", headers=headers)
        answer = wire.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status} {body[:300]!r}")
        return json.loads(body)

    return delete


CONTENDERS: dict[str, Callable[[str], Delete]] = {
    "hook": hook,
    "SDK": sdk,
    "requests": plain_requests,
    "http.client": http_client,
}
