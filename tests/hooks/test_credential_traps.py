"""What the credentials library does by itself, and a run must not: each a test."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_ims.api import credential_library as library
from airflow_provider_ims.api.credentials import FetchedCredentials
from airflow_provider_ims.api.errors import IMSAuthError, IMSTransientError
from tests.hooks.credential_services import (
    OIDC_PROVIDER_ARN,
    ROLE_ARN,
    USER,
    Issuer,
    credentials_uri,
    sts,
    wait_until,
)

SECRET = "secret-that-nobody-may-see"


def from_uri(service) -> FetchedCredentials:
    return FetchedCredentials("credentials_uri", credentials_uri=service.url)


def schedulers() -> int:
    return sum("APScheduler" in thread.name for thread in threading.enumerate())


def everything_in(error: BaseException) -> str:
    """All texts that hang on an error: its chain, attributes and the variables of its frames."""
    texts, todo, seen = [], [error], set()
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        texts += [repr(one), str(one), repr(one.args), repr(one.__dict__)]
        todo += [one.__cause__, one.__context__]
        trace = one.__traceback__
        while trace:
            if "airflow_provider_ims" in trace.tb_frame.f_code.co_filename:
                texts.append(repr({k: v for k, v in trace.tb_frame.f_locals.items() if k != "self"}))
            trace = trace.tb_next
    return "\n".join(texts)


@pytest.mark.parametrize("kind", ["access_key", "sts", "ram_role_arn"])
@pytest.mark.parametrize("half", ["login", "password"])
def test_an_empty_half_is_not_filled_in_from_the_environment(hook, monkeypatch, kind, half):
    monkeypatch.setattr(library.environment, "environment_access_key_id", "LTAIenvironment")
    monkeypatch.setattr(library.environment, "environment_access_key_secret", SECRET)
    extra = {"credential_type": kind, "role_arn": ROLE_ARN, "security_token": "token"}
    with pytest.raises(ValueError, match=f"{half} .* is empty"):
        _ = hook(**{half: ""}, extra=extra).settings


def test_the_role_of_the_environment_is_not_assumed_by_chance(hook, monkeypatch):
    monkeypatch.setenv("ALIBABA_CLOUD_ROLE_ARN", ROLE_ARN)
    with pytest.raises(ValueError, match="'role_arn' is empty"):
        _ = hook(extra={"credential_type": "ram_role_arn"}).settings


def test_the_environment_counts_as_it_is_and_not_as_it_was_at_import(
    hook, monkeypatch, serve, issuer, tmp_path
):
    assert library.environment.environment_oidc_token_file is None  # imported by now
    (tmp_path / "token").write_text("wrong")
    monkeypatch.setenv("ALIBABA_CLOUD_ROLE_ARN", ROLE_ARN)
    monkeypatch.setenv("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", OIDC_PROVIDER_ARN)
    monkeypatch.setenv("ALIBABA_CLOUD_OIDC_TOKEN_FILE", str(tmp_path / "token"))
    assert hook(login=None, password=None, extra={"credential_type": "oidc_role_arn"}).settings
    monkeypatch.delenv("ALIBABA_CLOUD_OIDC_TOKEN_FILE")
    with pytest.raises(ValueError, match=r"oidc_token_file_path.*ALIBABA_CLOUD_OIDC_TOKEN_FILE"):
        _ = hook(login=None, password=None, extra={"credential_type": "oidc_role_arn"}).settings


def test_an_event_loop_goes_on_while_threads_wait_for_cold_credentials(serve, issuer):
    answer = credentials_uri(issuer)
    is_asked, loop_goes_on = threading.Event(), threading.Event()

    def when_the_loop_went_on(*request):
        is_asked.set()
        assert loop_goes_on.wait(60)
        return answer(*request)

    source = from_uri(serve(when_the_loop_went_on))

    async def tick() -> None:
        while not is_asked.is_set():
            await asyncio.sleep(0.01)
        for _ in range(10):
            await asyncio.sleep(0.01)
        loop_goes_on.set()

    async def ask() -> list:
        ticking = asyncio.create_task(tick())
        found = await asyncio.gather(*(asyncio.to_thread(source.current) for _ in range(3)))
        await ticking
        return found

    found = asyncio.run(ask())
    assert len(set(found)) == 1
    assert len(issuer.issued) == 1


def test_no_thread_is_left_behind(monkeypatch):
    monkeypatch.setattr(library.environment, "environment_ecs_metadata_disabled", "false")
    before = schedulers()
    for _ in range(5):
        library.make_client("default", {})
        library.make_client("ecs_ram_role", {})
    assert schedulers() == before


def test_the_default_chain_is_the_librarys_but_for_its_thread(monkeypatch):
    for name, value in {
        "enable_oidc_credential": True,
        "environment_role_arn": ROLE_ARN,
        "environment_oidc_provider_arn": OIDC_PROVIDER_ARN,
        "environment_oidc_token_file": "/token",
        "environment_credentials_uri": "http://127.0.0.1/",
    }.items():
        monkeypatch.setattr(library.environment, name, value)
    for disabled in ("true", "false"):
        monkeypatch.setattr(library.environment, "environment_ecs_metadata_disabled", disabled)
        with monkeypatch.context() as patched:
            from alibabacloud_credentials.provider import ecs_ram_role

            class NoScheduler(ecs_ram_role.BackgroundScheduler):
                def start(self, *_):  # the library's chain starts one, which nobody could end
                    pass

                def shutdown(self, *_, **__):
                    pass

            patched.setattr(ecs_ram_role, "BackgroundScheduler", NoScheduler)
            theirs = library.providers.DefaultCredentialsProvider()
        members = vars(theirs)["_DefaultCredentialsProvider__providers_chain"]
        assert [type(one) for one in library.DefaultChain().members] == [type(one) for one in members]


def test_no_proxy_counts(serve, issuer, monkeypatch):
    proxy = serve(lambda *_: (502, b"the proxy was asked"))
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    service = serve(credentials_uri(issuer))
    assert from_uri(service).current().access_key_id == "STS.temporary0"
    assert not proxy.asked
    monkeypatch.setenv("NO_PROXY", "elsewhere.example")
    with pytest.raises(IMSTransientError, match="HTTP 502"):
        from_uri(service).current()
    assert len(proxy.asked) == 1


def test_no_redirect_is_followed(serve, issuer, certificate, monkeypatch):
    tls, pem = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    elsewhere = serve(sts(issuer), tls)
    service = serve(lambda *_: (302, f"{elsewhere.url}/?stolen".encode()), tls)
    source = FetchedCredentials(
        "ram_role_arn",
        access_key_id=USER[0],
        access_key_secret=USER[1],
        role_arn=ROLE_ARN,
        sts_endpoint=service.host,
    )
    with pytest.raises(IMSAuthError, match="HTTP 302"):
        source.current()
    assert not elsewhere.asked


def test_a_refresh_that_fails_ends_nothing_as_long_as_the_token_is_good(serve, ims_emulator, caplog):
    issuer = Issuer(ims_emulator, told=5)
    answer = credentials_uri(issuer)
    broken = []
    source = from_uri(serve(lambda *request: (500, SECRET.encode()) if broken else answer(*request)))
    first = source.current()
    broken.append(True)
    time.sleep(1.1)
    with caplog.at_level(logging.DEBUG):
        assert source.current() == first
    assert "could not be refreshed" in caplog.text
    assert "HTTP 500" in caplog.text
    assert SECRET not in caplog.text


def test_renewing_says_whether_there_is_something_newer(serve, issuer, ims_emulator):
    key = issuer.issue()
    same = from_uri(serve(lambda *_: (200, {"Code": "Success", **key})))
    same.current()
    assert same.renew() is False
    fresh = from_uri(serve(credentials_uri(issuer)))
    first = fresh.current()
    assert fresh.renew() is True
    assert fresh.current() != first


def test_threads_that_are_refused_together_renew_once(serve, issuer):
    source = from_uri(serve(credentials_uri(issuer)))
    together = threading.Barrier(8)

    def one(_: int) -> str:
        source.current()
        together.wait()
        assert source.renew() is True
        return source.current().access_key_id

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(8))) == {"STS.temporary1"}
    assert len(issuer.issued) == 2


def test_threads_that_wait_share_a_failure(serve):
    def slowly(*_):
        time.sleep(0.3)
        return 500, b""

    service = serve(slowly)
    source = from_uri(service)
    together = threading.Barrier(8)

    def one(_: int) -> None:
        together.wait(60)
        with pytest.raises(IMSTransientError):
            source.current()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))
    # One that came late, because the machine is busy, asks for itself.
    assert len(service.asked) <= 4


def test_a_fork_takes_neither_lock_nor_connection_along(serve, issuer):
    release = threading.Event()
    answer = credentials_uri(issuer)

    def hold(*request):
        if len(service.asked) == 2:
            release.wait(60)
        return answer(*request)

    service = serve(hold)
    source = from_uri(service)

    def fetch_twice() -> None:
        source.current()
        source.renew()

    holder = threading.Thread(target=fetch_twice)
    holder.start()
    wait_until(lambda: len(service.asked) == 2)
    child = os.fork()
    if child == 0:  # here the thread that holds the lock does not exist
        source.current()
        os._exit(0)
    ended = (0, 0)

    def has_ended() -> bool:
        nonlocal ended
        ended = os.waitpid(child, os.WNOHANG)
        return bool(ended[0])

    wait_until(has_ended)
    assert os.waitstatus_to_exitcode(ended[1]) == 0
    release.set()
    holder.join()
    assert len(service.peers) == len(service.asked) == 3


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (200, {"Code": "Success", "AccessKeyId": "x", "AccessKeySecret": SECRET}, IMSAuthError, "incomplete"),
        (200, {"Code": "Failed", "SecurityToken": SECRET}, IMSAuthError, "Failed"),
        (200, SECRET.encode(), IMSTransientError, "no JSON"),
        (200, [SECRET], IMSAuthError, "not of the form"),
        (404, SECRET.encode(), IMSAuthError, "HTTP 404"),
        (503, SECRET.encode(), IMSTransientError, "HTTP 503"),
    ],
)
def test_what_cannot_be_had_is_told_without_the_answer(serve, caplog, status, body, error, words):
    source = from_uri(serve(lambda *_: (status, body)))
    with caplog.at_level(logging.DEBUG), pytest.raises(error, match=words) as raised:
        source.current()
    assert SECRET not in everything_in(raised.value)
    assert SECRET not in caplog.text
    # The library's loggers have handlers of their own, which caplog does not see.
    assert not [
        record for record in caplog.records if record.name in ("credentials", "urllib3.connectionpool")
    ]


def test_what_sts_repeats_is_not_told(serve, issuer, certificate, monkeypatch, caplog):
    tls, pem = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    service = serve(sts(issuer), tls)
    source = FetchedCredentials(
        "ram_role_arn",
        access_key_id=USER[0],
        access_key_secret="wrong",
        security_token=SECRET,
        role_arn=ROLE_ARN,
        sts_endpoint=service.host,
    )
    with caplog.at_level(logging.DEBUG), pytest.raises(IMSAuthError, match="SignatureDoesNotMatch") as raised:
        source.current()
    assert SECRET in service.asked[0][1]
    assert SECRET not in everything_in(raised.value) + caplog.text
    assert "Signature=" not in everything_in(raised.value) + caplog.text


def test_without_the_filter_the_library_does_log_it(serve, caplog, monkeypatch):
    """The control: what the test above looks for would be found."""
    monkeypatch.setattr(library, "_is_heard", lambda _: True)
    for name in ("credentials", "urllib3.connectionpool"):
        logger = logging.getLogger(name)
        monkeypatch.setattr(logger, "filters", [])
    with caplog.at_level(logging.DEBUG), pytest.raises(IMSAuthError):
        from_uri(serve(lambda *_: (404, SECRET.encode()))).current()
    assert SECRET in caplog.text


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://127.0.0.1:9/", "could not be reached"),
        ("http://ims.invalid/", "is not known"),
    ],
)
def test_a_service_that_is_not_there(address, words):
    with pytest.raises(IMSTransientError, match=words):
        FetchedCredentials("credentials_uri", credentials_uri=address).current()


def test_a_certificate_that_nobody_vouches_for(serve, issuer, certificate):
    service = serve(sts(issuer), certificate[0])
    source = FetchedCredentials(
        "oidc_role_arn",
        role_arn=ROLE_ARN,
        oidc_provider_arn=OIDC_PROVIDER_ARN,
        oidc_token_file_path=__file__,
        sts_endpoint=service.host,
    )
    with pytest.raises(IMSAuthError, match=r"certificate of 127\.0\.0\.1 is not trusted"):
        source.current()
    assert not service.asked


def test_a_token_file_that_is_not_there(tmp_path):
    source = FetchedCredentials(
        "oidc_role_arn",
        role_arn=ROLE_ARN,
        oidc_provider_arn=OIDC_PROVIDER_ARN,
        oidc_token_file_path=str(tmp_path / "token"),
    )
    with pytest.raises(IMSAuthError, match="token can't be read: No such file"):
        source.current()


def test_an_answer_without_an_end_is_not_read_to_its_end(serve):
    source = from_uri(serve(lambda *_: (200, b" " * (library.MAX_ANSWER_BYTES + 1))))
    with pytest.raises(IMSAuthError, match="longer than any that credentials come in"):
        source.current()


def test_an_answer_that_trickles_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(library, "WHOLE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def trickle() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                while True:
                    connection.sendall(b"H")
                    time.sleep(0.05)

        threading.Thread(target=trickle, daemon=True).start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        began = time.monotonic()
        with pytest.raises(IMSTransientError):
            FetchedCredentials("credentials_uri", credentials_uri=address).current()
    assert time.monotonic() - began < 30  # it would trickle for ever


def test_a_library_that_no_longer_sends_by_our_session_is_told_of(serve, issuer, monkeypatch, caplog):
    service = serve(credentials_uri(issuer))
    from_uri(service).current()
    assert not caplog.records
    monkeypatch.setattr(library.TeaCore, "_sessions", {})
    from_uri(service).current()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "no longer sends its requests as this provider expects" in record.getMessage()


@pytest.mark.parametrize("release", ["1.0.0", "1.0.1", "1.0.2"])
def test_a_library_that_writes_secrets_into_the_log_is_not_asked(serve, issuer, monkeypatch, release):
    """Seen with these: a logger of another name, which repeats answers; and an event loop asked for in a thread."""
    monkeypatch.setattr(library, "version", lambda _: release)
    service = serve(credentials_uri(issuer))
    with pytest.raises(
        IMSAuthError, match=rf"alibabacloud-credentials {release} writes secrets .* install 1\.0\.3"
    ):
        from_uri(service).current()
    assert not issuer.issued
    monkeypatch.setattr(library, "version", lambda _: "1.0.10")
    assert from_uri(service).current()
