"""The local OSS, driven by both official SDKs as they come."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import alibabacloud_oss_v2 as v2
import oss2
import pytest
from alibabacloud_ice20201109 import models as ice_models
from alibabacloud_ice20201109.client import Client as IceClient
from alibabacloud_oss_v2 import credentials, models
from alibabacloud_tea_openapi.models import Config

from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.credentials import StaticCredentials
from airflow_provider_ims.api.endpoints import parse_host
from airflow_provider_ims.api.operations import delete_media_infos
from airflow_provider_ims.emulator import ControlError, Emulator
from airflow_provider_ims.emulator.oss import LocalOSS
from airflow_provider_ims.emulator.oss.files import crc64

ODD_KEYS = ["a b", "ä/ö=1", "plus+", "per%cent%20", "q?x=1&y", "h#sh", "til~de*()'!", "日本", '<&>"', "tab\t"]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalOSS]:
    with LocalOSS("media") as oss:
        yield oss


@pytest.fixture
def oss(server: LocalOSS) -> LocalOSS:
    server.reset()
    return server


def v2_client(oss: LocalOSS, secret: str | None = None, **options: Any) -> v2.Client:
    provider = credentials.StaticCredentialsProvider(oss.access_key_id, secret or oss.access_key_secret)
    config = v2.Config(
        region=oss.region,
        endpoint=oss.endpoint,
        credentials_provider=provider,
        retry_max_attempts=1,
        **options,
    )
    return v2.Client(config)


class V2:
    def __init__(self, oss: LocalOSS, signature: str, secret: str | None = None) -> None:
        self.client = v2_client(oss, secret, signature_version=signature)

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(models.PutObjectRequest("media", key, body=content))

    def get(self, key: str, first: int | None = None, last: int | None = None) -> bytes:
        request = models.GetObjectRequest("media", key)
        if first is not None:
            request.range_header = f"bytes={first}-{last}"
        return self.client.get_object(request).body.read()

    def size(self, key: str) -> int:
        return self.client.head_object(models.HeadObjectRequest("media", key)).content_length

    def delete(self, key: str) -> None:
        self.client.delete_object(models.DeleteObjectRequest("media", key))

    def delete_all(self, keys: list[str]) -> list[str]:
        objects = [models.DeleteObject(key=key) for key in keys]
        request = models.DeleteMultipleObjectsRequest("media", objects=objects)
        return [gone.key for gone in self.client.delete_multiple_objects(request).deleted_objects or ()]

    def copy(self, source: str, key: str) -> None:
        self.client.copy_object(
            models.CopyObjectRequest("media", key, source_bucket="media", source_key=source)
        )

    def names(self, prefix: str = "", delimiter: str = "") -> list[str]:
        pages = self.client.list_objects_v2_paginator().iter_page(
            models.ListObjectsV2Request("media", prefix=prefix, delimiter=delimiter)
        )
        names: list[str] = []
        for page in pages:
            names += [found.key for found in page.contents or ()]
            names += [folder.prefix for folder in page.common_prefixes or ()]
        return sorted(names)

    def multipart(self, key: str, parts: list[bytes]) -> None:
        begun = self.client.initiate_multipart_upload(models.InitiateMultipartUploadRequest("media", key))
        done = []
        for number, part in enumerate(parts, start=1):
            request = models.UploadPartRequest(
                "media", key, part_number=number, upload_id=begun.upload_id, body=part
            )
            done.append(models.UploadPart(part_number=number, etag=self.client.upload_part(request).etag))
        self.client.complete_multipart_upload(
            models.CompleteMultipartUploadRequest(
                "media",
                key,
                upload_id=begun.upload_id,
                complete_multipart_upload=models.CompleteMultipartUpload(parts=done),
            )
        )


class Oss2:
    def __init__(self, oss: LocalOSS, signature: str, secret: str | None = None) -> None:
        auth = {"v4": oss2.AuthV4, "v1": oss2.Auth}[signature](
            oss.access_key_id, secret or oss.access_key_secret
        )
        self.bucket = oss2.Bucket(auth, oss.endpoint, "media", region=oss.region)

    def put(self, key: str, content: bytes) -> None:
        self.bucket.put_object(key, content)

    def get(self, key: str, first: int | None = None, last: int | None = None) -> bytes:
        return self.bucket.get_object(key, byte_range=(first, last) if first is not None else None).read()

    def size(self, key: str) -> int:
        return self.bucket.head_object(key).content_length

    def delete(self, key: str) -> None:
        self.bucket.delete_object(key)

    def delete_all(self, keys: list[str]) -> list[str]:
        return list(self.bucket.batch_delete_objects(keys).deleted_keys)

    def copy(self, source: str, key: str) -> None:
        self.bucket.copy_object("media", source, key)

    def names(self, prefix: str = "", delimiter: str = "") -> list[str]:
        return sorted(found.key for found in oss2.ObjectIteratorV2(self.bucket, prefix, delimiter))

    def multipart(self, key: str, parts: list[bytes]) -> None:
        upload_id = self.bucket.init_multipart_upload(key).upload_id
        done = [
            oss2.models.PartInfo(number, self.bucket.upload_part(key, upload_id, number, part).etag)
            for number, part in enumerate(parts, start=1)
        ]
        self.bucket.complete_multipart_upload(key, upload_id, done)


@pytest.fixture(
    params=[(V2, "v4"), (V2, "v1"), (Oss2, "v4"), (Oss2, "v1")], ids=lambda p: f"{p[0].__name__}-{p[1]}"
)
def make_sdk(request: pytest.FixtureRequest, oss: LocalOSS) -> Callable[..., Any]:
    kind, signature = request.param
    return lambda secret=None: kind(oss, signature, secret)


@pytest.fixture
def sdk(make_sdk: Callable[..., Any]) -> Any:
    return make_sdk()


def test_files_with_odd_names_come_back_as_they_were_put(sdk):
    for key in ODD_KEYS:
        sdk.put(key, key.encode())
    assert sdk.names() == sorted(ODD_KEYS)
    for key in ODD_KEYS:
        assert sdk.get(key) == key.encode()
        assert sdk.size(key) == len(key.encode())
        sdk.copy(key, "copy")
        assert sdk.get("copy") == key.encode()
        sdk.delete(key)
    assert sdk.names() == ["copy"]


def test_many_are_deleted_at_once_whether_they_are_there_or_not(sdk):
    for key in (*ODD_KEYS, "stays"):
        sdk.put(key, b"")
    assert sorted(sdk.delete_all([*ODD_KEYS, "nobody"])) == sorted([*ODD_KEYS, "nobody"])
    assert sdk.names() == ["stays"]


def test_ranges(sdk):
    sdk.put("file", bytes(range(200)))
    assert sdk.get("file", 10, 19) == bytes(range(10, 20))


def test_a_range_beyond_the_end_gives_all_unless_asked_otherwise(oss):
    client = v2_client(oss)
    oss.put("media", "file", b"0123456789")
    request = models.GetObjectRequest("media", "file", range_header="bytes=8-12")
    assert client.get_object(request).body.read() == b"0123456789"
    request.range_behavior = "standard"
    assert client.get_object(request).body.read() == b"89"


def test_a_listing_of_more_than_a_thousand_names_in_folders(sdk, oss):
    for number in range(2500):
        oss.put("media", f"folder/{number:04}", b"")
    for number in range(1200):
        oss.put("media", f"many/{number:04}/x", b"")
    assert len(sdk.names("folder/")) == 2500
    assert len(sdk.names("many/", "/")) == 1200
    assert sdk.names("", "/") == ["folder/", "many/"]


def test_parts_are_joined(sdk, oss):
    parts = [b"a" * 200_000, b"b" * 110_000, b"c"]
    sdk.multipart("large", parts)
    assert oss.get("media", "large") == b"".join(parts)
    assert not oss.uploads


def test_a_wrong_secret_is_refused(make_sdk):
    refusals = (v2.exceptions.OperationError, oss2.exceptions.ServerError)
    with pytest.raises(refusals) as caught:
        make_sdk("wrong").put("file", b"")
    assert "SignatureDoesNotMatch" in str(caught.value)


def test_what_is_not_there_is_not_there_in_a_head_request_too(oss):
    for bucket, code in (("media", "NoSuchKey"), ("nothing", "NoSuchBucket")):
        with pytest.raises(v2.exceptions.OperationError) as caught:
            v2_client(oss).head_object(models.HeadObjectRequest(bucket, "file"))
        assert caught.value.unwrap().code == code


def test_an_error_a_delay_and_a_lost_answer(oss):
    client = v2_client(oss)
    put = models.PutObjectRequest("media", "file", body=b"x")
    oss.add_fault("error", operation="PutObject", status=503, times=1)
    with pytest.raises(v2.exceptions.OperationError, match="ServiceUnavailable"):
        client.put_object(put)
    assert oss.names("media") == []
    for kind, names in (("reset", []), ("reset_after", ["file"])):
        oss.add_fault(kind, times=1)
        with pytest.raises(v2.exceptions.OperationError, match="request error"):
            client.put_object(put)
        time.sleep(0.05)
        assert oss.names("media") == names
    oss.add_fault("delay", seconds=0.3, times=1)
    began = time.monotonic()
    client.put_object(put)
    assert time.monotonic() - began >= 0.3
    oss.add_fault("late_listing", seconds=60)
    client.put_object(models.PutObjectRequest("media", "late", body=b"x"))
    listed = client.list_objects_v2(models.ListObjectsV2Request("media"))
    assert [found.key for found in listed.contents] == ["file"]


def test_rights_tokens_and_regions(oss):
    def put(key_id="k", token=None, region=oss.region):
        config = v2.Config(
            region=region,
            endpoint=oss.endpoint,
            retry_max_attempts=1,
            credentials_provider=credentials.StaticCredentialsProvider(key_id, "s", token),
        )
        v2.Client(config).put_object(models.PutObjectRequest("media", "file", body=b"x"))

    def code(**arguments):
        try:
            put(**arguments)
        except v2.exceptions.OperationError as error:
            return error.unwrap().code
        return None

    oss.add_key("k", "s", actions=["oss:Get*"])
    assert code() == "AccessDenied"
    oss.add_key("k", "s", security_token="t", expires_in=60)
    assert code(token="t") is None
    assert code() == "InvalidSecurityToken"
    oss.add_key("k", "s", security_token="t", expires_in=-1)
    assert code(token="t") == "SecurityTokenExpired"
    assert code(key_id="nobody") == "InvalidAccessKeyId"
    assert code(region="cn-beijing") == "InvalidArgument"


def test_the_host_may_name_the_bucket(oss):
    import requests

    # Through itself as a proxy, so that the name needs no resolver.
    session = requests.Session()
    session.trust_env = False
    session.proxies = {"http": oss.endpoint}
    client = v2.Client(
        v2.Config(
            region=oss.region,
            endpoint=f"http://oss-{oss.region}.aliyuncs.com",
            credentials_provider=credentials.StaticCredentialsProvider(
                oss.access_key_id, oss.access_key_secret
            ),
            http_client=v2.transport.RequestsHttpClient(session=SessionWithProxy(session)),
        )
    )
    client.put_object(models.PutObjectRequest("media", "folder/a b", body=b"x"))
    assert oss.get("media", "folder/a b") == b"x"


def SessionWithProxy(session):
    def request(*args, proxies=None, **options):
        return session.request(*args, proxies=session.proxies, **options)

    return SimpleNamespace(request=request)


@pytest.mark.parametrize("content", [b"", b"123456789", bytes(1000)])
def test_the_checksum_is_that_of_the_sdk(content, monkeypatch):
    expected = v2.crc.Crc64(0)
    expected.write(content)
    assert crc64(content) == expected.sum64()
    monkeypatch.setitem(__import__("sys").modules, "crcmod", None)
    assert crc64(content) == expected.sum64()


def test_media_of_the_emulator_have_their_files_there_until_the_service_deletes_them():
    with Emulator("--oss-port", "0") as emulator:
        urls = [f"https://media.oss-cn-shanghai.aliyuncs.com/a%20b/{number}.mp4" for number in range(3)]
        urls.append("oss://left/4.mp4")
        ids = emulator.seed([{"url": url} for url in urls])
        assert emulator.oss.names("media") == ["a b/0.mp4", "a b/1.mp4", "a b/2.mp4"]
        assert emulator.oss.get("media", "a b/0.mp4") == ids[0]
        emulator.oss.leave_files("left")
        client = IMSClient(
            parse_host(emulator.endpoint),
            StaticCredentials(emulator.access_key_id, emulator.access_key_secret),
        )
        delete_media_infos(client, media_ids=[ids[0], ids[3]], delete_physical_files=True)
        delete_media_infos(client, media_ids=[ids[1]], delete_physical_files=False)
        assert emulator.oss.names("media") == ["a b/1.mp4", "a b/2.mp4"]
        assert emulator.oss.names("left") == ["4.mp4"]
        with pytest.raises(ControlError, match="no such call 'reset'"):
            emulator.ask("POST", "/oss/reset", {})
        emulator.reset()
        assert emulator.oss.names("media") == []


def test_jobs_write_their_outputs_there_and_nothing_else():
    with Emulator("--oss-port", "0", "--job-seconds", "0") as emulator:
        ice = IceClient(
            Config(
                access_key_id=emulator.access_key_id,
                access_key_secret=emulator.access_key_secret,
                endpoint=emulator.host,
                protocol="http",
            )
        )
        emulator.oss.put("media", "web/registered.mp4", "as it was")
        ice.register_media_info(
            ice_models.RegisterMediaInfoRequest(input_url="oss://media/web/registered.mp4")
        )
        base = {"Type": "OSS", "Media": "oss://media/web"}
        config = {
            "Inputs": [{"InputFile": {"Type": "OSS", "Media": "oss://media/web/registered.mp4"}}],
            "OutputGroups": [
                {
                    "GroupConfig": {"Type": "File", "OutputFileBase": base},
                    "Outputs": [{"Name": name, "OutputFileName": f"{name} 1.mp4"} for name in ("hd", "sd")],
                }
            ],
        }
        submit = ice_models.SubmitMediaConvertJobRequest(config=json.dumps(config))
        job_id = ice.submit_media_convert_job(submit).body.job.job_id
        # A job that ended badly leaves the file of the output that went well.
        emulator.add_job(
            kind="convert",
            outputs=["oss://media/good.mp4", "oss://media/bad.mp4"],
            statuses=["Success", "Failed"],
        )
        read = ice_models.GetMediaConvertJobRequest(job_id=job_id)
        (group,) = ice.get_media_convert_job(read).body.job.output_group_details
        written = [output.result.out_file_meta.file_basic_info for output in group.outputs]
        auth = oss2.AuthV4(emulator.access_key_id, emulator.access_key_secret)
        bucket = oss2.Bucket(auth, emulator.oss.endpoint, "media", region="cn-shanghai")
        sizes = {key: str(bucket.head_object(key).content_length) for key in emulator.oss.names("media")}
        assert sizes.pop("good.mp4") == written[0].file_size
        assert sizes.pop("web/registered.mp4") == str(len("as it was"))
        assert sizes == {"web/" + one.file_name: one.file_size for one in written}
        # What somebody puts over a finished output stays: it is written once.
        emulator.oss.put("media", "web/hd 1.mp4", "")
        assert ice.get_media_convert_job(read).body.job.state == "Complete"
        assert emulator.oss.get("media", "web/hd 1.mp4") == ""
        # A job can write over its own source.
        emulator.add_job(kind="convert", outputs=["oss://media/web/registered.mp4"])
        assert emulator.oss.get("media", "web/registered.mp4") != "as it was"
