"""Every way to bring about a message that a user can meet: bad arguments, connections, files, services, networks.

Each provocation is what the message has to name (a field, a file, a host, a target), and a call that ends in an
error, a line of the log or the answer of a connection test. Only pauses are shortened; all else is real.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_ims.api import jobs, operations
from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.credentials import FetchedCredentials, StaticCredentials
from airflow_provider_ims.api.endpoints import parse_host
from airflow_provider_ims.api.errors import ERROR_RULES
from airflow_provider_ims.deletion import run as run_module
from airflow_provider_ims.deletion.policies import OutcomePolicies
from airflow_provider_ims.deletion.run import DeletionRun
from airflow_provider_ims.deletion.targets import read_targets
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.emulator.oss import LocalOSS
from airflow_provider_ims.files.oss import get_fs
from airflow_provider_ims.files.storage import storage_path
from airflow_provider_ims.hooks import diagnosis
from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.operators.ims import IMSDeleteMediaInfosOperator, IMSPlanMediaRetentionOperator
from airflow_provider_ims.retention.policy import make_policy
from airflow_provider_ims.sensors.ims import (
    IMSMediaConvertJobSensor,
    IMSMediaDeletedSensor,
    IMSTranscodeJobSensor,
)
from airflow_provider_ims.sharding import merge_results, split_manifest
from airflow_provider_ims.triggers.ims import IMSMediaDeletedTrigger
from tests.deletion.conftest import MemoryStore
from tests.hooks.credential_services import LocalService
from tests.operators.test_ims import Task
from tests.operators.test_retention import NOW, context

SECRET, TOKEN, SIGNATURE = "a-secret-nobody-may-see", "a-token-nobody-may-see", "SIGNEDbySOMEBODY"
SIGNED_URL = f"https://bucket.oss-cn-shanghai.aliyuncs.com/a.mp4?Expires=1&Signature={SIGNATURE}"
LONG_AGO = "2020-01-01T00:00:00Z"

Provocation = tuple[str, Callable[[], Any]]


@dataclass
class World:
    """A folder, an emulated IMS, services that lie, and the connections to all of them."""

    folder: Path
    emulator: Emulator
    monkeypatch: pytest.MonkeyPatch
    certificate: tuple[ssl.SSLContext, Path]
    services: list[Any] = field(default_factory=list)
    oss: LocalOSS = field(default_factory=lambda: LocalOSS("bucket"))
    oss_connections: int = 0

    def __post_init__(self) -> None:
        self.oss.start()

    def connect(self, **fields: Any) -> None:
        """Make the connection ``ims_default``; arguments replace fields, ``extra`` adds to the extras."""
        extra = fields.pop("extra", {})
        connection = {
            "conn_type": "alibaba_ims",
            "login": self.emulator.access_key_id,
            "password": self.emulator.access_key_secret,
            "host": self.emulator.endpoint,
            "extra": {"region": "cn-shanghai", "retry_seconds": 0} | extra
            if isinstance(extra, dict)
            else extra,
            **fields,
        }
        if extra is None:
            del connection["extra"]
        self.monkeypatch.setenv("AIRFLOW_CONN_IMS_DEFAULT", json.dumps(connection))

    def hook(self, **fields: Any) -> IMSHook:
        self.connect(**fields)
        return IMSHook()

    def settings(self, **fields: Any) -> Any:
        return self.hook(**fields).settings

    def test(self, **fields: Any) -> tuple[bool, str]:
        return self.hook(**fields).test_connection()

    def file(self, name: str, content: str | bytes) -> str:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def answering(self, status: int, body: Any, tls: ssl.SSLContext | None = None) -> str:
        """Start a service that gives one and the same answer; give its URL."""
        return self.serve(lambda *_: (status, body), tls)

    def serve(self, answer: Callable[..., Any], tls: ssl.SSLContext | None = None) -> str:
        self.services.append(LocalService(answer, tls))
        return str(self.services[-1].url)

    def silent(self) -> str:
        """Start a service that takes connections and never answers; give its URL."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=8)
        self.services.append(listener)
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    def full(self) -> str:
        """Start a service that can't take one connection more; give its URL."""
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        self.services.append(listener)
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            self.services.append(filler)
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    def client(self, url: str | None = None, **options: Any) -> IMSClient:
        """A client that tries once."""
        return IMSClient(
            parse_host(url or self.emulator.endpoint),
            StaticCredentials(self.emulator.access_key_id, self.emulator.access_key_secret),
            **{"retry_seconds": 0, "min_tries": 1, "read_timeout": 5, **options},
        )

    def ask(self, url: str | None = None, **options: Any) -> Any:
        return operations.list_media_basic_infos(self.client(url, **options))

    def with_fault(self, call: Callable[[], Any], *faults: dict[str, Any]) -> Callable[[], Any]:
        """Make a call during which the emulated service misbehaves."""

        def start() -> Any:
            for fault in faults:
                self.emulator.add_fault(**fault)
            try:
                return call()
            finally:
                self.emulator.drop_faults()

        return start

    def at_oss(self, extra: dict[str, Any] | None = None, **fields: Any) -> str:
        """Make a connection to the local OSS; give what a path begins with that names it."""
        self.oss_connections += 1  # Airflow keeps a file system for each
        conn_id = f"oss_{self.oss_connections}"
        connection = self.oss.airflow_connection(extra={"retry_seconds": 0} | (extra or {}), **fields)
        self.monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", connection)
        return f"oss://{conn_id}@"

    def close(self) -> None:
        self.oss.stop()
        for service in self.services:
            service.close()


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def delete(task: Task | None = None, store: Any = None, **arguments: Any) -> Any:
    operator = IMSDeleteMediaInfosOperator(task_id="it", **arguments)
    return operator.execute({"ti": task or Task(), "task_state_store": store})  # type: ignore[typeddict-unknown-key]


def plan(run: dict[str, Any] | None = None, **arguments: Any) -> Any:
    arguments = {"manifest": "unused.jsonl", "older_than": "P90D", "max_percent": None} | arguments
    operator = IMSPlanMediaRetentionOperator(task_id="plan", **arguments)
    return operator.execute(run or context())  # type: ignore[arg-type]


def gone(**arguments: Any) -> IMSMediaDeletedSensor:
    return IMSMediaDeletedSensor(**{"task_id": "gone", "poke_interval": 0.1, "timeout": 1, **arguments})


def all_of_them(world: World) -> Iterator[Provocation]:
    """Give all provocations; each starts with the emulated library empty and the connection as it should be."""
    for some in (
        arguments_of_deletion,
        arguments_of_planning,
        arguments_of_the_hook,
        connections,
        manifests,
        plans,
        shards,
        credentials,
        refusals,
        answers,
        networks,
        listings,
        runs,
        resumed_runs,
        reports,
        object_stores,
        files_that_stay,
        waiting,
        connection_tests,
    ):
        yield from some(world)


def arguments_of_deletion(world: World) -> Iterator[Provocation]:
    yield "media_ids and input_urls", lambda: delete(media_ids=["a"], input_urls=["oss://b/a"])
    yield "media_ids", lambda: delete(media_ids=["a b"])
    yield "input_urls", lambda: delete(media_ids=["oss://bucket/a"])
    yield "media_ids", lambda: delete(media_ids=7)
    yield "media_ids[1]", lambda: delete(media_ids=["a", None])
    yield "media_ids", lambda: delete(media_ids="[a, b")
    yield "media_ids", lambda: delete(media_ids="(1)")
    yield "media_ids[0]", lambda: delete(media_ids=[["a", "b"]])
    yield "media_ids[0]", lambda: delete(media_ids="['a' 'b']")
    yield "media_ids[0]", lambda: delete(media_ids="[['a']]")
    yield "media_ids", lambda: delete(media_ids="a,None,b")
    yield "input_urls", lambda: delete(input_urls=["oss://bucket"])
    yield "input_urls", lambda: delete(input_urls=["oss://b/1 oss://b/2"])
    yield "~/ids.txt", lambda: delete(manifest="~/ids.txt")
    yield "report", lambda: delete(media_ids=["a"], report="None")
    yield "region", lambda: delete(media_ids=["a"], region="")
    yield "manifest_digest", lambda: delete(media_ids=["a"], manifest_digest="None")
    yield "a", lambda: delete(media_ids=["a", "b"], protect=["a"])
    yield "protect", lambda: delete(media_ids=["a"], protect=["oss://b/1"])
    yield "protect", lambda: world.hook().delete_media(["a"], protect=[])
    yield "input_urls", lambda: delete(input_urls=["ftp://bucket/a"])
    yield "input_urls", lambda: delete(input_urls=["oss://bucket/a,b"])
    yield "input_urls", lambda: delete(input_urls=[SIGNED_URL])
    yield "input_urls", lambda: delete(input_urls=["oss://bucket/a\x07"])
    yield "on_missing", lambda: delete(media_ids=["a"], on_missing="never")
    yield "max_media", lambda: delete(media_ids=["a"], max_media="many")
    yield "max_concurrency", lambda: delete(media_ids=["a"], max_concurrency=100)
    yield "poll_interval", lambda: delete(media_ids=["a"], poll_interval=0)
    yield "delete_physical_files", lambda: delete(media_ids=["a"], delete_physical_files="yes")
    yield "durable", lambda: delete(media_ids=["a"], durable="no")
    yield "max_media=1", lambda: delete(media_ids=["a", "b"], max_media=1)


def arguments_of_planning(world: World) -> Iterator[Provocation]:
    yield "older_than", lambda: plan(older_than=None)
    yield "older_than", lambda: make_policy(as_of=NOW)
    yield "older_than", lambda: plan(older_than="90 days")
    yield "older_than", lambda: plan(older_than="P9000Y")
    yield "older_than", lambda: plan(older_than="P0D")
    yield "created_before", lambda: plan(older_than=None, created_before="yesterday")
    yield "created_before", lambda: plan(older_than=None, created_before="2026-01-01T00:00:00")
    yield "status", lambda: plan(status=None)
    yield "keep_latest", lambda: plan(keep_latest=0)
    yield "require_tags", lambda: plan(require_tags="[a, b")
    yield "exclude_tags", lambda: plan(exclude_tags=[])
    yield "exclude_tags", lambda: plan(exclude_tags="keep;hold")
    yield "exclude_tags", lambda: plan(exclude_tags="'keep'")
    yield "exclude_tags", lambda: make_policy(as_of=NOW, older_than="P1D", exclude_tags="None")
    yield "title_pattern", lambda: plan(title_pattern="")
    yield "title_pattern", lambda: make_policy(as_of=NOW, older_than="P1D", title_pattern=" ")
    yield "manifest", lambda: plan(manifest="None")
    yield "max_percent", lambda: plan(max_percent=120)
    yield "max_media", lambda: plan(max_media=-1)
    yield "the run is for", lambda: plan(context(run_after=NOW + timedelta(days=1)))

    def too_much() -> None:
        world.emulator.generate(5, days=1, until="2020-01-02T00:00:00Z")
        plan(manifest=str(world.folder / "refused.jsonl"), max_media=2)

    yield "refused.jsonl", too_much

    def in_place_of(make: Callable[[Path], object]) -> Callable[[], Any]:
        """Plan to where something else lies."""

        def start() -> Any:
            place = world.folder / "taken"
            make(place)
            try:
                return plan(manifest=str(place))
            finally:
                place.unlink()

        return start

    yield "taken", in_place_of(lambda place: place.symlink_to(world.folder / "elsewhere"))
    (world.folder / "a-file").write_text("")
    yield "a-file", lambda: plan(manifest=str(world.folder / "a-file" / "plan.jsonl"))


def arguments_of_the_hook(world: World) -> Iterator[Provocation]:
    yield "media_ids and input_urls", lambda: world.hook().delete_media_infos()
    yield "media_id and input_url", lambda: world.hook().get_media_info()
    yield "media_ids", lambda: world.hook().batch_get_media_infos(["a"] * 21)
    yield "file_urls", lambda: world.hook().delete_play_info("a", file_urls=[])
    yield "media_id", lambda: world.hook().delete_play_info("", file_urls=["oss://b/1"])
    yield "oss://b/1,2", lambda: world.hook().delete_play_info("a", file_urls=["oss://b/1,2"])
    yield "media_ids", lambda: world.hook().delete_media_infos(media_ids="a")  # type: ignore[arg-type]
    yield "region", lambda: IMSHook(region="").settings
    yield "path", lambda: read_targets(manifest=" . ")
    yield "parameter Filter", lambda: world.hook().call("ListMediaBasicInfos", Filter=["a"])


def connections(world: World) -> Iterator[Provocation]:
    def extra(**fields: Any) -> Callable[[], Any]:
        return lambda: world.settings(extra=fields)

    yield "ims_default", lambda: world.settings(extra="{")
    yield "region", lambda: world.settings(host="", extra={"region": ""})
    yield "region", lambda: world.settings(host="", extra={"region": "cn_shanghai"})
    yield "network", lambda: world.settings(host="", extra={"network": "private"})
    yield "host", lambda: world.settings(host="http://a b")
    yield "host", lambda: world.settings(host=f"key:{SECRET}@ice.cn-shanghai.aliyuncs.com")
    yield "port", lambda: world.settings(host="127.0.0.1:80", port=81)
    yield "ice.cn-beijing.aliyuncs.com", lambda: world.settings(host="ice.cn-beijing.aliyuncs.com")
    yield "password", lambda: world.settings(password="")
    yield "login", lambda: world.settings(login="", password=SECRET)
    yield "password", lambda: world.settings(password=f"{SECRET}\n")
    yield "credential_type", extra(credential_type="magic")
    yield "role_arn", extra(credential_type="ram_role_arn")
    yield "ALIBABA_CLOUD_ROLE_ARN", extra(credential_type="oidc_role_arn")
    yield "policy", extra(credential_type="ram_role_arn", role_arn="r", policy="{")
    yield "role_session_name", extra(credential_type="ram_role_arn", role_arn="r", role_session_name="a b")
    yield (
        "role_session_expiration",
        extra(credential_type="ram_role_arn", role_arn="r", role_session_expiration=60),
    )
    yield "sts_endpoint", extra(credential_type="ram_role_arn", role_arn="r", sts_endpoint="http://sts")
    yield "region", extra(region=["cn-shanghai"])
    yield "proxy", extra(proxy=f"user:{SECRET}@proxy")
    yield "read_timeout", extra(read_timeout="soon")
    yield "max_requests_per_second", extra(max_requests_per_second=-1)
    yield "verify", extra(verify="/nowhere/ca.pem")
    yield "regoin", extra(regoin="cn-shanghai")
    yield "colour", extra(colour="red")
    yield "cn-shangai", extra(region="cn-shangai")
    yield "verify", extra(verify="false")
    yield "security_token", extra(security_token=TOKEN, credential_type="access_key")

    def bundle_of_the_environment() -> None:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
            world.hook(host="https://127.0.0.1:1").client  # noqa: B018 - it is made when it is asked for

    yield "/nowhere/ca.pem", bundle_of_the_environment


def manifests(world: World) -> Iterator[Provocation]:
    def manifest(name: str, content: str | bytes) -> Callable[[], Any]:
        return lambda: delete(manifest=world.file(name, content))

    header = json.dumps({"plan": 1})
    yield "nowhere.txt", lambda: delete(manifest=str(world.folder / "nowhere.txt"))
    yield str(world.folder), lambda: delete(manifest=str(world.folder))
    yield "cut.jsonl, line 2", manifest("cut.jsonl", f'{header}\n{{"media_id": "a')
    yield "mixed.jsonl, line 2", manifest("mixed.jsonl", f"{header}\nan-id")
    yield "report.jsonl", manifest("report.jsonl", '{"media_id": "a", "outcome": "deleted"}')
    yield "headless.jsonl", manifest("headless.jsonl", '{"media_id": "a"}')
    yield "idless.jsonl, line 2", manifest("idless.jsonl", f'{header}\n{{"id": "a"}}')
    yield "dateless.jsonl, line 2", manifest("dateless.jsonl", f'{header}\n{{"media_id": "a", "created": 5}}')
    yield "latin.txt, line 1", manifest("latin.txt", b"\xff\xfe")
    yield "long.txt, line 1", manifest("long.txt", b"a" * (2**21))
    yield "words.txt, line 2", manifest("words.txt", "an-id\ntwo words")
    yield "approved", lambda: delete(manifest=world.file("ids.txt", "an-id"), manifest_digest="0" * 64)

    def bad_report() -> None:
        folder = world.folder / "a-report"
        folder.mkdir()
        (folder / "part-00001.jsonl").write_text('nonsense\n{"media_id": "a", "outcome": "deleted"}\n')
        gone(manifest=str(folder)).execute({"ti": Task()})  # type: ignore[typeddict-item]

    yield "part-00001.jsonl, line 1", bad_report


def plans(world: World) -> Iterator[Provocation]:
    def changed(name: str, **fields: Any) -> Callable[[], Any]:
        """Delete from a plan whose first line was changed."""

        def start() -> Any:
            world.emulator.generate(5, days=1, until="2020-01-02T00:00:00Z")
            path = world.folder / f"{name}.jsonl"
            plan(manifest=str(path))
            first, *rows = path.read_text().splitlines(keepends=True)
            header = json.loads(first)
            header["policy"] |= fields.get("policy") or {}
            header |= {key: value for key, value in fields.items() if key != "policy" or not value}
            path.write_text(json.dumps(header) + "\n" + "".join(rows))
            return delete(manifest=str(path))

        return start

    yield "format 7", changed("newer", plan=7)
    yield "not to be deleted", changed("marked", refused="3 media are selected, more than max_media=2")
    yield "us-west-1", changed("abroad", region="us-west-1")
    yield "names 9 media", changed("shortened", selected=9)
    yield "policy", changed("without", policy={})
    yield "created_before", changed("undated", policy={"created_before": "soon"})


def credentials(world: World) -> Iterator[Provocation]:
    def by_uri(body: Any, status: int = 200) -> Callable[[], Any]:
        def start() -> Any:
            url = world.answering(status, body)
            return FetchedCredentials("credentials_uri", credentials_uri=url).current()

        return start

    key = {"AccessKeyId": "a", "AccessKeySecret": SECRET, "SecurityToken": TOKEN}
    yield "default places", lambda: FetchedCredentials("default").current()
    yield "credentials_uri", by_uri(b"nonsense")
    yield "credentials_uri", by_uri([1])
    yield "HTTP 404", by_uri({"Code": "NotFound", "Message": SECRET}, 404)
    yield "incomplete", by_uri({"Code": "Success", "AccessKeySecret": SECRET})
    yield (
        "127.0.0.1",
        lambda: FetchedCredentials("credentials_uri", credentials_uri=f"http://{closed_port()}").current(),
    )

    def role(**fields: Any) -> Any:
        key_pair = {"access_key_id": "a", "access_key_secret": SECRET}
        return FetchedCredentials("ram_role_arn", **key_pair, role_arn="r", **fields).current()

    def untrusted() -> Any:
        return role(sts_endpoint=world.answering(200, {}, world.certificate[0]).removeprefix("https://"))

    yield "127.0.0.1", untrusted
    yield (
        "sts.nowhere.invalid",
        lambda: role(sts_endpoint="sts.nowhere.invalid", proxy=f"http://user:{SECRET}@{closed_port()}"),
    )
    yield (
        "/nowhere/token",
        lambda: FetchedCredentials(
            "oidc_role_arn", role_arn="r", oidc_provider_arn="p", oidc_token_file_path="/nowhere/token"
        ).current(),
    )
    yield "ram_role_arn", lambda: role(role_session_expiration=1)

    def not_refreshed() -> None:
        soon = (datetime.now(UTC) + timedelta(minutes=10)).strftime("%Y-%m-%dT%H:%M:%SZ")
        answers = iter([(200, {"Code": "Success", **key, "Expiration": soon})])
        url = world.serve(lambda *_: next(answers, (500, b"")))
        source = FetchedCredentials("credentials_uri", credentials_uri=url)
        source.current()
        time.sleep(1.1)  # it is not asked more often than once a second
        source.current()

    yield "credentials_uri", not_refreshed

    def unusable() -> Any:
        soon = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        url = world.answering(
            200, {"Code": "Success", **key, "SecurityToken": f"{TOKEN}\n", "Expiration": soon}
        )
        return world.hook(
            login="", password="", extra={"credential_type": "credentials_uri", "credentials_uri": url}
        ).batch_get_media_infos(["a"])

    yield "key", unusable


def refusals(world: World) -> Iterator[Provocation]:
    """What the service says: each code that is known, a code that nobody knows, an error without any."""
    said = f"Refused, server string to sign is: token={TOKEN}"
    for rule in ERROR_RULES:
        body = {
            "RequestId": "R-1",
            "Code": rule.prefix,
            "Message": said if "ignature" in rule.prefix else "Refused.",
        }
        yield f"({rule.prefix}, ", lambda body=body: world.ask(world.answering(400, body))
    throttled = {"RequestId": "R-1", "Code": "Rejected.Throttling", "Message": "Refused."}
    yield "Rejected.Throttling", lambda: world.ask(world.answering(403, throttled))
    for status in (400, 401, 403, 408, 418, 429, 500):
        body = {"RequestId": "R-1", "Code": "SomethingNew", "Message": "Refused."}
        yield f"HTTP {status}", lambda body=body, status=status: world.ask(world.answering(status, body))
    yield "HTTP 502", lambda: world.ask(world.answering(502, b"<html>bad gateway</html>"))
    yield "HTTP 302", lambda: world.ask(world.answering(302, b"http://127.0.0.1:1/"))
    yield "InvalidAccessKeyId.NotFound", lambda: world.hook(login="LTAInobody").batch_get_media_infos(["a"])
    yield "SignatureDoesNotMatch", lambda: world.hook(password=SECRET).batch_get_media_infos(["a"])

    def less() -> Any:
        world.emulator.add_key("LTAIless", SECRET, actions=["ice:Get*"])
        return world.hook(login="LTAIless", password=SECRET).batch_get_media_infos(["a"])

    yield "ice:BatchGetMediaInfos", less
    ask = lambda: world.hook().batch_get_media_infos(["a"])  # noqa: E731
    yield "127.0.0.1", world.with_fault(ask, {"kind": "wrong_clock", "seconds": 3600})
    yield "127.0.0.1", world.with_fault(ask, {"kind": "wrong_clock", "seconds": -3600})
    yield "more than a day", world.with_fault(ask, {"kind": "wrong_clock", "seconds": 90_000})


def answers(world: World) -> Iterator[Provocation]:
    """Answers with status 200 and thereabouts that can't be believed."""

    def lying(call: Callable[[IMSClient], Any], body: Any, status: int = 200) -> Callable[[], Any]:
        def start() -> Any:
            given = body if isinstance(body, bytes) else {"RequestId": "R-1", **body}
            return call(world.client(world.answering(status, given)))

        return start

    def delete_one(client: IMSClient) -> Any:
        return operations.delete_media_infos(client, media_ids=["a"], delete_physical_files=False)

    def read_one(client: IMSClient) -> Any:
        return operations.get_media_info(client, media_id="a")

    def read_batch(client: IMSClient) -> Any:
        return operations.batch_get_media_infos(client, ["a"])

    def read_list(client: IMSClient) -> Any:
        return operations.list_media_basic_infos(client)

    def read_job(client: IMSClient) -> Any:
        return jobs.read_job(client, "media convert job", "a")

    yield "status 201", lying(read_list, {}, 201)
    yield "JSON", lying(read_list, b"<html>")
    yield "RequestId", lying(read_list, {"RequestId": None})
    yield "longer than any", lying(read_list, b" " * (65 << 20))
    yield "IgnoredList", lying(delete_one, {"IgnoredList": "a,b"})
    yield "another operation", lying(delete_one, {"MediaInfos": [], "TotalCount": 7})
    yield "MediaInfos", lying(read_batch, {"MediaInfos": ["a"]})
    yield "MediaInfos nor IgnoredList", lying(read_batch, {})
    yield "NextToken", lying(read_list, {"NextToken": 7})
    yield "MediaInfo", lying(read_one, {"MediaInfo": "a"})
    yield "MediaBasicInfo", lying(read_one, {"MediaInfo": {"MediaBasicInfo": "a"}})
    yield "MediaId", lying(read_one, {"MediaInfo": {"MediaBasicInfo": {"Title": "a"}}})
    yield "Job is no object", lying(read_job, {"Job": "a"})
    yield "another than was asked for", lying(read_job, {"Job": {"JobId": "b"}})
    yield "it shows no media convert job a", lying(read_job, {})
    yield "another operation, for it has WorkflowTask", lying(read_job, {"WorkflowTask": {"TaskId": "a"}})
    yield "another operation, for it has MediaInfos", lying(read_one, {"MediaInfos": [{"MediaId": "a"}]})
    yield "page token", lying(lambda client: list(operations.list_all_media(client)), {"NextToken": "t"})


def networks(world: World) -> Iterator[Provocation]:
    yield "127.0.0.1", lambda: world.ask(world.answering(200, {}, world.certificate[0]))
    yield "127.0.0.1", lambda: world.ask(world.answering(200, {}).replace("http:", "https:"))
    yield "ice.nowhere.invalid", lambda: world.ask("http://ice.nowhere.invalid")
    yield (
        "ice.nowhere.invalid",
        lambda: world.ask("http://ice.nowhere.invalid", proxy=f"http://user:{SECRET}@{closed_port()}"),
    )
    yield "ice.nowhere.invalid", lambda: world.ask("http://ice.nowhere.invalid", proxy="gopher://127.0.0.1:1")
    for status in (403, 407, 502):
        yield (
            f"HTTP {status}",
            lambda status=status: world.ask(
                "https://ice.nowhere.invalid", proxy=world.answering(status, b"")
            ),
        )
    yield "127.0.0.1", lambda: world.ask(f"http://{closed_port()}")
    yield "127.0.0.1", lambda: world.ask(world.full(), connect_timeout=0.05)
    yield "127.0.0.1", lambda: world.ask(world.silent(), read_timeout=0.2)
    for fault in ({"kind": "truncated"}, {"kind": "reset"}):
        yield "127.0.0.1", world.with_fault(world.ask, fault)


def listings(world: World) -> Iterator[Provocation]:
    """A service that shows a part of the library only."""

    def plan_of(answer: Callable[[dict[str, str]], tuple[int, Any]]) -> Callable[[], Any]:
        from urllib.parse import parse_qsl, urlsplit

        def start() -> Any:
            url = world.serve(lambda _, target, __: answer(dict(parse_qsl(urlsplit(target).query))))
            world.connect(host=url)
            return plan(manifest=str(world.folder / "never.jsonl"))

        return start

    def medium(number: int) -> dict[str, Any]:
        basic = {"CreateTime": LONG_AGO, "MediaTags": "", "MediaType": "video", "Status": "Normal"}
        return {"MediaId": f"{number:032x}", "MediaBasicInfo": basic}

    def untold(_: dict[str, str]) -> tuple[int, Any]:
        return 200, {"RequestId": "R-1", "MediaInfos": []}

    def elsewhere(query: dict[str, str]) -> tuple[int, Any]:
        young = medium(1)
        young["MediaBasicInfo"]["CreateTime"] = "2099-01-01T00:00:00Z"
        return 200, {"RequestId": "R-1", "MediaInfos": [young], "TotalCount": 1}

    def in_one_second(query: dict[str, str]) -> tuple[int, Any]:
        if "NextToken" in query:
            return 400, {"RequestId": "R-1", "Code": "InvalidParameter", "Message": "NextToken is not valid."}
        if not query["StartTime"] < LONG_AGO <= query["EndTime"]:
            return 200, {"RequestId": "R-1", "MediaInfos": [], "TotalCount": 0}
        media = [medium(number) for number in range(100)]
        return 200, {"RequestId": "R-1", "MediaInfos": media, "TotalCount": 150, "NextToken": "t"}

    def counted_but_not_shown(query: dict[str, str]) -> tuple[int, Any]:
        total = 7 if query["MaxResults"] == "1" else 0
        return 200, {"RequestId": "R-1", "MediaInfos": [], "TotalCount": total}

    yield "TotalCount", plan_of(untold)
    yield "counts 7", plan_of(counted_but_not_shown)
    yield f"{1:032x}", plan_of(elsewhere)
    yield LONG_AGO, plan_of(in_one_second)

    def ended(*_: Any) -> tuple[int, Any]:
        media = [medium(number) for number in range(100)]
        return 200, {"RequestId": "R-1", "MediaInfos": media, "TotalCount": 150}

    yield "counts 150", lambda: list(world.hook(host=world.serve(ended)).list_media_basic_infos())


def runs(world: World) -> Iterator[Provocation]:
    """Runs that end otherwise than they should, and what they log on the way."""
    ids = [f"{number:032x}" for number in range(30)]
    yield "127.0.0.1", lambda: delete(media_ids=[])
    yield ids[0], lambda: delete(media_ids=ids[:3])
    yield ids[0], lambda: delete(media_ids=ids[:3], on_missing="fail")
    yield "cn-shanghai", lambda: delete(media_ids=ids)

    def forbidden() -> Any:
        library = world.emulator.generate(8)
        world.emulator.protect(library)
        return delete(media_ids=library, report=str(world.folder / "reports"))

    def failed() -> Any:
        library = world.emulator.generate(3)
        world.emulator.protect(library, undeletable=True)
        return delete(media_ids=library)

    def unreadable(media: int = 800) -> None:
        # Others are answered all the time, which tells a broken read from a service that is down.
        library = world.emulator.generate(media)
        world.emulator.add_fault("error", status=500, action="BatchGetMediaInfos")
        world.emulator.add_fault("delay", milliseconds=100, action="DeleteMediaInfos")
        client = world.client(retry_seconds=1.0, min_tries=2)
        targets = read_targets(media_ids=ids[:3] + library)
        DeletionRun(client, targets, max_concurrency=2, policies=OutcomePolicies()).execute()

    def hopeless() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run_module, "MAX_OPEN", 3)
            unreadable(media=4000)  # so that some are left when the reads are given up, on any machine

    def strangers() -> Any:
        library = world.emulator.generate(3)
        world.emulator.protect(library[:1])
        world.emulator.add_fault("echo", action="DeleteMediaInfos", before="x")
        return delete(media_ids=library, on_forbidden="ignore")

    def stopped() -> Any:
        library = world.emulator.generate(100)
        world.emulator.add_fault("delay", action="DeleteMediaInfos", milliseconds=300)
        operator = IMSDeleteMediaInfosOperator(task_id="it", media_ids=library, max_concurrency=1)
        threading.Timer(0.4, operator.on_kill).start()
        return operator.execute({"ti": Task()})  # type: ignore[typeddict-item]

    yield "forbidden", forbidden
    yield "failed", failed
    yield "unknown", unreadable
    yield "Too many", hopeless
    yield "request", strangers
    yield "targets", stopped
    refused = {"kind": "refuse", "action": "DeleteMediaInfos", "code": "OperationDenied", "skip": 1}
    yield "OperationDenied", world.with_fault(lambda: delete(media_ids=world.emulator.generate(100)), refused)


def resumed_runs(world: World) -> Iterator[Provocation]:
    def kept(change: Callable[[dict[str, Any]], Any]) -> Callable[[], Any]:
        """Cut a run, change what it kept, and start the next try."""

        def start() -> Any:
            library = world.emulator.generate(100)
            store = cut(library)
            (key,) = store
            store.set(key, change(store.get(key)))
            return delete(media_ids=library, store=store)

        return start

    def cut(library: list[str], **arguments: Any) -> MemoryStore:
        store = MemoryStore()
        skip = len(library) // 20 - 2
        world.emulator.add_fault("refuse", action="DeleteMediaInfos", code="OperationDenied", skip=skip)
        with pytest.raises(Exception, match="OperationDenied"):
            delete(media_ids=library, store=store, max_concurrency=1, **arguments)
        world.emulator.drop_faults()
        return store

    yield "damaged", kept(lambda state: {**state, "version": 0})
    yield "damaged", kept(lambda state: {**state, "requests": -1})
    yield "input", kept(lambda state: {**state, "input": 7})
    yield "damaged", kept(lambda state: {"version": state["version"], "input": state["input"]})
    yield "input, region, host, report", kept(lambda state: {**state, "input": "another"})

    def lines_lost() -> Any:
        library = world.emulator.generate(400)
        report = str(world.folder / "lost")
        store = cut(library, report=report)
        shutil.rmtree(report)
        return delete(media_ids=library, store=store, report=report)

    yield f"{world.folder}/lost", lines_lost

    class Forgetful(MemoryStore):
        def delete(self, key: str) -> None:
            raise ConnectionError

    yield "ConnectionError", lambda: delete(media_ids=world.emulator.generate(1), store=Forgetful())

    def too_many_to_name() -> Any:
        library = world.emulator.generate(200)
        world.emulator.protect(library)
        store = cut(library, on_forbidden="ignore")
        return delete(media_ids=library, store=store, on_forbidden="ignore", wait_for_completion=True)

    yield "report", too_many_to_name


def shards(world: World) -> Iterator[Provocation]:
    def split(number: Any = 2, **options: Any) -> list[dict[str, Any]]:
        manifest = options.pop("manifest", world.file("to-split.txt", "an-id\nanother"))
        return split_manifest(manifest, str(world.folder / "shards"), number, **options)

    yield "shards", lambda: split("two")
    yield "no manifest", lambda: split(manifest="")
    yield "approved", lambda: split(manifest_digest="0" * 64)
    yield "not split", lambda: merge_results(None, None)
    yield "2 of 2 shards", lambda: merge_results(split(), [])


def reports(world: World) -> Iterator[Provocation]:
    def under_a_file() -> Any:
        file = world.file("a-file", "")
        return delete(media_ids=["a"], report=f"{file}/reports")

    def file_for_a_folder() -> Any:
        (world.folder / "blocked").mkdir()
        (world.folder / "blocked" / "attempt=1").write_text("")
        return world.hook().delete_media(["a"], report_base=storage_path(str(world.folder / "blocked")))

    yield "a-file/reports", under_a_file
    for about, report in (
        ("nobody", "s3://nobody@bucket/reports"),
        ("gs://bucket/reports", "gs://bucket/reports"),
        ("foo://bucket/reports", "foo://bucket/reports"),
    ):
        yield about, lambda report=report: delete(media_ids=["a"], report=report)
    yield "blocked", file_for_a_folder


def object_stores(world: World) -> Iterator[Provocation]:
    """What OSS, its keys and the way to it can refuse."""
    oss = world.oss

    def report(base: Callable[[], str], bucket: str = "bucket") -> Callable[[], Any]:
        return lambda: delete(media_ids=["a"], report=f"{base()}{bucket}/reports")

    def by_key(**fields: Any) -> Callable[[], str]:
        """Connect with a key of its own."""

        def start() -> str:
            oss.add_key("another", "its-secret", **fields)
            extra = {"security_token": TOKEN} if "security_token" in fields else {}
            return world.at_oss(extra, login="another", password="its-secret")

        return start

    def failing(kind: str, operation: str = "PutObject", **fields: Any) -> Callable[[], str]:
        def start() -> str:
            oss.drop_faults()
            oss.add_fault(kind, operation=operation, **fields)
            return world.at_oss()

        return start

    def healed(call: Callable[[], Any]) -> Callable[[], Any]:
        def start() -> Any:
            try:
                return call()
            finally:
                oss.drop_faults()

        return start

    yield "bucket nowhere", report(world.at_oss, "nowhere")
    yield "nowhere/ids.txt", lambda: delete(manifest=f"{world.at_oss()}nowhere/ids.txt")
    yield "oss:PutObject on bucket/*", report(by_key(actions=["oss:Get*", "oss:List*"]))
    yield "oss:ListObjects on bucket", report(by_key(actions=["oss:Put*"]))
    yield "the AccessKey Secret is wrong", report(lambda: world.at_oss(password=SECRET))
    yield "the AccessKey ID is not known", report(lambda: world.at_oss(login="nobody"))
    yield "has expired", report(by_key(security_token=TOKEN, expires_in=-1))
    yield "region", report(lambda: world.at_oss({"region": "cn-beijing"}))
    yield "extra 'region'", report(lambda: world.at_oss({"region": ""}, host="http://127.0.0.1:1"))
    yield "127.0.0.1", report(lambda: world.at_oss({"oss_endpoint": f"http://{closed_port()}"}))
    yield "127.0.0.1", report(lambda: world.at_oss({"oss_endpoint": world.silent(), "read_timeout": 0.2}))
    yield "3 tries", healed(report(failing("error")))
    yield "127.0.0.1", healed(report(failing("reset_after")))
    yield "Odd", healed(report(failing("error", status=403, code="Odd")))
    yield "OSS can't do it", healed(report(failing("error", status=400, code="Odd")))

    def elsewhere() -> str:
        oss.make_bucket_elsewhere("bucket-of-beijing", "oss-cn-beijing.aliyuncs.com")
        return world.at_oss()

    yield "oss-cn-beijing.aliyuncs.com", report(elsewhere, "bucket-of-beijing")

    def keyless() -> str:
        uri = f"http://{closed_port()}"
        return world.at_oss(
            {"credential_type": "credentials_uri", "credentials_uri": uri}, login=None, password=None
        )

    yield "gives no keys for OSS", report(keyless)
    yield "'..'", report(world.at_oss, "bucket/..")
    yield "nobody", lambda: get_fs("nobody").exists("bucket/key")

    def without_the_library() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("importlib.util.find_spec", lambda name: None)
            report(world.at_oss)()

    yield "airflow-provider-ims[oss]", without_the_library

    def lost_on_the_way() -> Any:
        library = world.emulator.generate(100)
        return delete(media_ids=library, report=f"{failing('error', skip=1)()}bucket/reports")

    yield "oss", healed(lost_on_the_way)

    def refused_besides() -> Any:
        refused = {"kind": "refuse", "action": "DeleteMediaInfos", "code": "OperationDenied", "skip": 1}
        return world.with_fault(lost_on_the_way, refused)()

    yield "Besides", healed(refused_besides)

    def left_lying() -> Any:
        base = by_key(actions=["oss:Get*", "oss:Put*", "oss:ListObjects"])()
        return delete(media_ids=world.emulator.generate(1), report=f"{base}bucket/reports")

    yield "_journal", left_lying

    def unread() -> Any:
        base = failing("error", "GetObject")()
        oss.put("bucket", "ids.txt", b"a")
        return delete(manifest=f"{base}bucket/ids.txt")

    yield "bucket/ids.txt", healed(unread)


def files_that_stay(world: World) -> Iterator[Provocation]:
    """Media that are gone while their files are not, or nobody knows."""

    def verified(**arguments: Any) -> Any:
        oss = world.emulator.oss
        world.connect(extra={"oss_endpoint": oss.endpoint})
        oss.make_bucket("media-team")
        oss.leave_files("media-team")
        library = world.emulator.seed(
            {"url": f"https://media-team.oss-cn-shanghai.aliyuncs.com/{number}.mp4"} for number in range(3)
        )
        return delete(media_ids=library, delete_physical_files=True, verify_files=True, **arguments)

    yield "3 of 3 files left", verified
    yield "3 of 3 files left", lambda: verified(on_files_left="fail")
    yield "on_files_left", lambda: verified(on_files_left="never")
    yield "verify_files looks", lambda: delete(media_ids=["a"], verify_files=True)
    yield "on_files_left", lambda: delete(media_ids=["a"], on_files_left="fail")

    def without_region() -> Any:
        world.connect(extra={"region": ""})
        return delete(media_ids=["a"], delete_physical_files=True, verify_files=True)

    yield "verify_files", without_region

    def unrecorded() -> Any:
        folder = world.folder / "unrecorded"
        folder.mkdir()
        (folder / "part-00001.jsonl").write_text('{"media_id": "a", "outcome": null}\n')
        return gone(manifest=str(folder)).execute({"ti": Task()})  # type: ignore[typeddict-item]

    yield "unrecorded", unrecorded

    def unwritten() -> Any:
        folder = world.folder / "unwritten"
        (folder / "_journal").mkdir(parents=True)
        return gone(manifest=str(folder)).execute({"ti": Task()})  # type: ignore[typeddict-item]

    yield f"{world.folder}/unwritten", unwritten

    def above() -> Any:
        folder = world.folder / "above"
        (folder / "attempt=1").mkdir(parents=True)
        return gone(manifest=str(folder)).execute({"ti": Task()})  # type: ignore[typeddict-item]

    yield f"{world.folder}/above", above

    def shortened() -> Any:
        base = storage_path(str(world.folder / "shortened"))
        run = world.hook().deletion_run(read_targets(media_ids=world.emulator.generate(2)), report_base=base)
        Path(run.execute()["report"], "part-00001.jsonl").write_text("")
        return run.gone()

    yield f"{world.folder}/shortened", shortened


def waiting(world: World) -> Iterator[Provocation]:
    lag = {"kind": "lagging_reads", "milliseconds": 60_000}
    late = {"status": "timed_out", "pending": 3}

    def slow_reads(**arguments: Any) -> Any:
        return delete(
            media_ids=world.emulator.generate(2), wait_for_completion=True, poll_interval=0.1, **arguments
        )

    yield (
        "2 were still pending",
        world.with_fault(lambda: slow_reads(execution_timeout=timedelta(seconds=1)), lag),
    )

    def resumed_late() -> Any:
        operator = IMSDeleteMediaInfosOperator(task_id="it", media_ids=["a"])
        return operator.execute_complete({"ti": Task()}, late, {"deleted": 3})  # type: ignore[typeddict-item]

    yield "3 were still pending", resumed_late
    yield "1 s", lambda: gone(media_ids=["a"]).execute_complete({}, late, started=0, media=3)  # type: ignore[typeddict-item]
    yield "media", lambda: gone(media_ids=[]).execute({"ti": Task()})  # type: ignore[typeddict-item]

    def skipped() -> Any:
        sensor = gone(media_ids=["a"], never_fail=True)
        arguments = {
            "event": {"status": "error", "error": {"type": "KeyError", "message": "x"}},
            "started": 0,
            "media": 1,
        }
        return sensor.resume_execution("execute_complete", arguments, {})  # type: ignore[typeddict-item]

    yield "KeyError", skipped

    throttle = {"kind": "throttle", "action": "BatchGetMediaInfos"}

    def looks_again(look: Callable[[], Any]) -> None:
        """Look once, then be throttled."""
        look()
        world.emulator.add_fault(**throttle)
        try:
            look()
        finally:
            world.emulator.drop_faults()

    def in_the_worker() -> None:
        sensor = gone(media_ids=world.emulator.generate(1))
        looks_again(lambda: sensor.poke({"ti": Task()}))  # type: ignore[typeddict-item]

    yield "Throttling", in_the_worker
    wait_long = lambda: slow_reads(execution_timeout=timedelta(seconds=1))  # noqa: E731
    yield "0.1 s", world.with_fault(wait_long, lag, {**throttle, "skip": 1, "times": 2})

    async def event_of(trigger: IMSMediaDeletedTrigger) -> Any:
        return [event.payload async for event in trigger.run()]

    def in_the_triggerer() -> None:
        trigger = IMSMediaDeletedTrigger(
            world.emulator.generate(1), poll_interval=0.1, deadline=time.time() + 2, ims_conn_id="ims_default"
        )
        asyncio.run(event_of(trigger))

    yield "ims_default", world.with_fault(in_the_triggerer, {**throttle, "skip": 1, "times": 3})

    def changed_manifest() -> Any:
        from airflow_provider_ims.triggers.events import raise_unless_over

        trigger = IMSMediaDeletedTrigger(manifest=world.file("now.txt", "a"), digest="0" * 64)
        (event,) = asyncio.run(event_of(trigger))
        raise_unless_over(json.loads(json.dumps(event)))

    yield "now.txt", changed_manifest

    def wait_for(job_id: str, **arguments: Any) -> Any:
        sensor = IMSMediaConvertJobSensor(
            task_id="done", job_id=job_id, poke_interval=0.1, timeout=1, **arguments
        )
        return sensor.execute({"ti": Task()})  # type: ignore[typeddict-item]

    def converted(**fields: Any) -> Any:
        return wait_for(world.emulator.add_job(kind="convert", **fields)["JobId"])

    yield "job_id", lambda: wait_for("")
    yield "job_id", lambda: wait_for(f"https://example.com/job?Signature={SIGNATURE}")
    yield "accept_skipped", lambda: wait_for("a", accept_skipped="no")
    yield "output-1 is Failed", lambda: converted(statuses=["Success", "Failed"])
    yield "output-0 is Skipped", lambda: converted(statuses=["Skipped"], state="Complete")

    def ended_operation() -> Any:
        sensor = IMSTranscodeJobSensor(task_id="done", parent_job_id="a", poke_interval=0.1, timeout=1)
        return sensor.execute({"ti": Task()})  # type: ignore[typeddict-item]

    ended = {"action": "GetTranscodeJob", "status": 404, "code": "InvalidAction.NotFound"}
    yield "IMSMediaConvertJobSensor", world.with_fault(ended_operation, {"kind": "refuse", **ended})


def connection_tests(world: World) -> Iterator[Provocation]:
    """Each sentence of the form's Test button."""
    codes = [code for code in (*diagnosis._SENTENCES, *diagnosis._SAME_AS) if not code.startswith(OURS)]
    for code in codes:
        body = {"RequestId": "R-1", "Code": code, "Message": "Refused."}
        yield f"({code}, request id R-1)", lambda body=body: world.test(host=world.answering(403, body))
    yield "127.0.0.1", lambda: world.test(host=world.answering(200, b"<html>"))
    yield "127.0.0.1", lambda: world.test(host=world.answering(200, {}, world.certificate[0]))
    yield "127.0.0.1", lambda: world.test(host=f"http://{closed_port()}")
    yield "127.0.0.1", lambda: world.test(host=world.silent(), extra={"read_timeout": 0.2})
    yield "credential type", lambda: world.test(login="", password="")
    yield (
        "oidc_role_arn",
        lambda: world.test(
            extra={
                "credential_type": "oidc_role_arn",
                "role_arn": "r",
                "oidc_provider_arn": "p",
                "oidc_token_file_path": "/nowhere/token",
            }
        ),
    )
    yield "region", lambda: world.test(host="", extra={"region": "cn shanghai"})
    yield "ims_nowhere", lambda: IMSHook("ims_nowhere").test_connection()
    yield "regoin", lambda: world.test(password=SECRET, extra={"regoin": "cn-shanghai"})

    def fetched() -> Any:
        soon = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        key = {"AccessKeyId": "a", "AccessKeySecret": SECRET, "SecurityToken": TOKEN, "Expiration": soon}
        url = world.answering(200, {"Code": "Success", **key})
        extra = {"credential_type": "credentials_uri", "credentials_uri": url}
        return world.test(login="", password="", extra=extra)

    yield "credentials_uri", fetched
    yield "cn-shanghai", world.test


# Codes that no service sends: the client's own, and names of sentences.
OURS = (
    "OtherProduct",
    "BadAnswer",
    "UntrustedCertificate",
    "NoTLS",
    "ProxyRefused",
    "NoConnection",
    "NoAnswer",
    "Fetched",
    "NoCredentials",
    "Nowhere",
    "HTTP",
    "UnusableAddress",
)
