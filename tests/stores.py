"""Where files can lie: this disk, S3 (moto's server, asked by s3fs as Airflow does it) and OSS (the local one).

``store`` runs a test on each of them, or on those that the variable ``STORES`` names: ``azure`` is Azure's Blob
Storage (Azurite, asked by adlfs), for ``make test-azure``, whose environment has what it needs.
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_ims.emulator.oss import LocalOSS

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

KINDS = os.environ.get("STORES", "local s3 oss").split()
# Public: the account that Azurite comes with, https://learn.microsoft.com/azure/storage/common/storage-use-azurite
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True)
class Store:
    """A folder or a bucket that is empty when a test begins.

    :param kind: one of ``KINDS``, or ``azure``.
    :param url: where the test writes; ``elsewhere`` has the same keys, in a bucket or a folder that is not there.
    :param buckets: gives the names of all buckets; of a disk none.
    :param content_type: gives what the store keeps as a file's type; None for a disk.
    :param unfinished: counts what was begun and neither completed nor dropped.
    """

    kind: str
    url: str
    elsewhere: str
    buckets: Callable[[], list[str]]
    content_type: Callable[[str], str | None]
    unfinished: Callable[[], int]

    @property
    def base(self) -> ObjectStoragePath:
        """The same as ``url``."""
        from airflow_provider_ims.files.storage import storage_path

        return storage_path(self.url)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of an S3 that has no buckets yet; Airflow's connection ``aws_store`` leads there."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    extra = {"endpoint_url": f"http://{host}:{port}", "region_name": "us-east-1"}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(
            "AIRFLOW_CONN_AWS_STORE",
            json.dumps({"conn_type": "aws", "login": "test-key", "password": "test-secret", "extra": extra}),
        )
        yield extra["endpoint_url"]
    server.stop()


@pytest.fixture(scope="session")
def azure_connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """How to connect to an Azurite without containers; Airflow's connection ``azure_store`` leads there."""
    server = Path(sys.prefix) / "node_modules" / ".bin" / "azurite-blob"
    options = ["--disableTelemetry", "--silent", "--skipApiVersionCheck", "--blobPort", "0"]
    folder = tmp_path_factory.mktemp("azurite")
    process = subprocess.Popen([server, *options, "--location", folder], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        port = next(
            found[1] for line in process.stdout if (found := re.search(r"listens on http://.*:(\d+)", line))
        )
        endpoint = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
        connection = (
            f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};"
            f"BlobEndpoint={endpoint};"
        )
        with pytest.MonkeyPatch.context() as environment:
            stored = {"conn_type": "wasb", "extra": {"connection_string": connection}}
            environment.setenv("AIRFLOW_CONN_AZURE_STORE", json.dumps(stored))
            yield connection
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="session")
def oss_server() -> Iterator[LocalOSS]:
    """A local OSS; Airflow's connection ``oss_store`` leads there, and tries again for two seconds."""
    with LocalOSS() as server, pytest.MonkeyPatch.context() as environment:
        extra = {"connect_timeout": 2, "read_timeout": 5, "retry_seconds": 2}
        environment.setenv("AIRFLOW_CONN_OSS_STORE", server.airflow_connection(extra=extra))
        yield server


@pytest.fixture
def local_oss(oss_server: LocalOSS) -> LocalOSS:
    """The same, without files, faults and further keys."""
    oss_server.reset()
    return oss_server


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A folder or bucket of its own for the test, in each kind of store."""
    name = f"b{uuid.uuid4().hex[:12]}"
    if request.param == "s3":
        return _s3(request.getfixturevalue("s3_endpoint"), name)
    if request.param == "oss":
        return _oss(request.getfixturevalue("local_oss"), name)
    if request.param == "azure":
        return _azure(request.getfixturevalue("azure_connection"), name)
    folder = tmp_path / "store"
    return Store(
        "local",
        str(folder),
        str(tmp_path / "elsewhere"),
        list,
        lambda key: None,
        lambda: sum(name.endswith(".part") for _, _, names in os.walk(folder) for name in names),
    )


def _s3(endpoint: str, bucket: str) -> Store:
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test-key",
        aws_secret_access_key="test-secret",
    )
    client.create_bucket(Bucket=bucket)
    return Store(
        "s3",
        f"s3://aws_store@{bucket}/base",
        f"s3://aws_store@{bucket}-slip/base",
        lambda: sorted(found["Name"] for found in client.list_buckets()["Buckets"]),
        lambda key: str(client.head_object(Bucket=bucket, Key=f"base/{key}")["ContentType"]),
        lambda: len(client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())),
    )


def _oss(server: LocalOSS, bucket: str) -> Store:
    server.make_bucket(bucket)
    return Store(
        "oss",
        f"oss://oss_store@{bucket}/base",
        f"oss://oss_store@{bucket}-slip/base",
        lambda: sorted(server.buckets),
        lambda key: server.buckets[bucket][f"base/{key}"].content_type,
        lambda: len(server.uploads),
    )


def _azure(connection: str, container: str) -> Store:
    from azure.storage.blob import BlobServiceClient

    client = BlobServiceClient.from_connection_string(connection)
    blobs = client.create_container(container)
    return Store(
        "azure",
        f"abfs://azure_store@{container}/base",
        f"abfs://azure_store@{container}-slip/base",
        lambda: sorted(found.name for found in client.list_containers()),
        lambda key: str(
            blobs.get_blob_client(f"base/{key}").get_blob_properties().content_settings.content_type
        ),
        # Of a file that is written in pieces and not completed there is a blob that only this listing shows.
        lambda: len(list(blobs.list_blobs(include=["uncommittedblobs"]))) - len(list(blobs.list_blobs())),
    )
