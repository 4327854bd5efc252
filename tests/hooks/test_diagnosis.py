"""What the Test button says of everything that can be wrong, each brought about for real."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest

from airflow_provider_ims.hooks import diagnosis
from tests.hooks.credential_services import ROLE_ARN, USER, credentials_uri, sts


def refuse(status: int, code: str):
    """A service that refuses everything, for what the emulated one never does."""
    return lambda *_: (status, {"RequestId": "R-1", "HostId": "x", "Code": code, "Message": "Refused."})


@pytest.fixture
def press(hook):
    """Presses the button; checks what goes for every sentence."""

    def press(**fields) -> tuple[bool, str]:
        used = hook(**fields)
        started = time.monotonic()
        well, words = used.test_connection()
        assert time.monotonic() - started < 15
        secrets = [value for value in (fields.get("password"), "emulator-secret") if value]
        assert not any(secret in words for secret in secrets)
        assert words[0].isupper()
        assert words.endswith((".", "?"))
        assert "client" not in vars(used)  # the hook's own client is left alone
        return well, words

    return press


def test_all_is_well(press, ims_emulator):
    ims_emulator.generate(1234)
    where = f"IMS in cn-shanghai ({ims_emulator.host})"
    assert press(extra={"region": "cn-shanghai"}) == (
        True,
        f"Connected to {where}: 1,234 media are visible to this key.",
    )
    assert press()[1].startswith(f"Connected to IMS at {ims_emulator.host}: ")


def test_it_asks_once_and_reads_one_medium(press, ims_emulator):
    press()
    (request,) = ims_emulator.requests()
    assert request["action"] == "ListMediaBasicInfos"


def test_what_is_strange_is_told_too(press):
    well, words = press(extra={"regoin": "cn-shanghai"})
    assert well
    assert words.endswith("Note: extra 'regoin' is not known; was 'region' meant?")


def test_unknown_key(press):
    well, words = press(login="LTAIunknown")
    assert not well
    assert words.startswith("Alibaba Cloud does not know this AccessKey ID: check login")
    assert "(InvalidAccessKeyId.NotFound, request id " in words


def test_wrong_secret(press):
    well, words = press(password="wrong-secret")
    assert not well
    assert words.startswith("The AccessKey ID is right, but the AccessKey Secret is not: enter password")


def test_inactive_key(press, ims_emulator):
    ims_emulator.add_key("LTAIoff", "secret-of-it", status="inactive")
    assert press(login="LTAIoff", password="secret-of-it")[1].startswith("The AccessKey is disabled")


def test_missing_permission(press, ims_emulator):
    ims_emulator.add_key("LTAIless", "secret-of-it", actions=["ice:DeleteMediaInfos"])
    well, words = press(login="LTAIless", password="secret-of-it")
    assert not well
    assert "The key is right, but lacks the permission to list media" in words
    assert "allow its user or role the RAM action ice:ListMediaBasicInfos" in words


def test_expired_and_other_tokens(press, ims_emulator):
    ims_emulator.add_key("STS.old", "secret-of-it", security_token="token-of-it", expires_in=-1)
    key = {"login": "STS.old", "password": "secret-of-it"}
    assert press(**key, extra={"security_token": "token-of-it"})[1].startswith(
        "The security token has expired"
    )
    assert press(**key, extra={"security_token": "another"})[1].startswith(
        "The security token does not belong"
    )
    assert press(**key)[1].startswith("This AccessKey is a temporary one: enter the security token")


def test_a_clock_that_is_off_is_made_up_for_and_told(press, ims_emulator):
    ims_emulator.add_fault("wrong_clock", seconds=1860)
    well, words = press()
    assert well
    assert "The clock of this machine is 31 minutes behind; requests make up for it" in words


def test_a_clock_that_cannot_be_made_up_for(press, serve):
    service = serve(refuse(400, "InvalidTimeStamp.Expired"))
    well, words = press(host=service.url)
    assert not well
    assert words.startswith("The clock of this machine is off: set it right")


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (
            403,
            "OperationDenied",
            "IMS is not activated for this account in cn-shanghai: activate it at https://",
        ),
        (403, "OperationDenied.Suspended", "IMS is suspended for this account because of an overdue payment"),
        (403, "Forbidden", "The key is right, but lacks the permission to list media"),
        (403, "NoPermission", "The key is right, but lacks the permission to list media"),
        (403, "Forbidden.RiskControl", "Alibaba Cloud has restricted this account"),
        (403, "RequestsTooFrequent", "IMS takes no more requests from this account just now"),
        (400, "Throttling.User", "IMS takes no more requests from this account just now"),
        (500, "InternalError", "IMS answers with an error of its own"),
        (503, "ServiceUnAvailable", "IMS answers with an error of its own"),
        (404, "InvalidApi.NotFound", "The host 127.0.0.1:"),
        (400, "SomethingNew", "IMS refuses the request: Refused (SomethingNew, request id R-1)."),
    ],
)
def test_other_refusals(press, serve, status, code, words):
    well, said = press(host=serve(refuse(status, code)).url, extra={"region": "cn-shanghai"})
    assert not well
    assert said.startswith(words)


def test_a_name_that_is_not_known(press):
    well, words = press(host=None, extra={"region": "cn-nowhere"})
    assert not well
    assert words.startswith(
        "There is no connection, for the host ice.cn-nowhere.aliyuncs.com is not known: check Region"
    )


def test_a_port_where_nobody_listens(press):
    well, words = press(host="http://127.0.0.1:9")
    assert not well
    assert words.startswith(
        "There is no connection, for 127.0.0.1:9 could not be reached: Connection refused: check"
    )


def test_a_host_that_accepts_and_says_nothing(press, monkeypatch):
    monkeypatch.setattr(diagnosis, "_READ_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        well, words = press(host=f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert not well
    assert "There is no answer, for no whole answer" in words


def test_an_answer_that_trickles_ends_with_the_patience(press, monkeypatch):
    """No time-out of a connection ends it: each byte comes in time."""
    monkeypatch.setattr(diagnosis, "PATIENCE_SECONDS", 2.0)
    stop = threading.Event()

    def trickle(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
            while not stop.wait(0.2):
                connection.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle, args=(listener,), daemon=True)
        thread.start()
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        assert press(host=f"http://{host}") == (False, f"No answer within 2 s while asking {host}.")
        stop.set()


def test_the_worst_case_keeps_within_its_time():
    assert diagnosis.PATIENCE_SECONDS < 15


def test_a_certificate_that_nobody_vouches_for(press, serve, certificate):
    tls, pem = certificate
    service = serve(refuse(404, "InvalidAccessKeyId.NotFound"), tls)
    well, words = press(host=service.url)
    assert not well
    assert words.startswith(f"The TLS certificate of {service.host} is not trusted: set 'verify'")
    assert not service.asked
    assert "does not know this AccessKey ID" in press(host=service.url, extra={"verify": str(pem)})[1]
    words = press(host=service.url, extra={"verify": "false"})[1]
    assert "does not know this AccessKey ID" in words
    assert "Note: TLS certificates are not checked" in words


def test_a_host_without_tls(press, ims_emulator):
    well, words = press(host=ims_emulator.host)
    assert not well
    assert "speaks no TLS at that port; name the right one, or put http:// in front of the host" in words


@pytest.mark.parametrize(
    "answer",
    [
        (404, b"<html>not found</html>"),
        (200, b"<html>welcome</html>"),
        (200, {}),
        (302, b"http://127.0.0.1:9/"),
    ],
)
def test_a_host_that_is_no_ims(press, serve, answer):
    service = serve(lambda *_: answer)
    well, words = press(host=service.url)
    assert not well
    assert words.startswith(f"The host {service.host} answers, but not as IMS does")
    assert len(service.asked) == 1


def test_a_proxy_that_is_not_there(press, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    well, words = press(host="http://ims.example", extra={"proxy": "http://user:hidden@127.0.0.1:9"})
    assert not well
    assert "check Endpoint and Proxy" in words
    assert "hidden" not in words


def test_nothing_filled_in(press):
    well, words = press(login="", password="")
    assert not well
    assert words.startswith("There are no credentials of type default: none were found in the default places")
    assert words.endswith("; enter AccessKey ID and Secret, or choose a credential type.")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"host": None}, "These fields don't make a connection: neither extra 'region'"),
        ({"password": ""}, "These fields don't make a connection: password (AccessKey Secret) is empty."),
        ({"extra": {"verify": "maybe"}}, "These fields don't make a connection: extra 'verify'"),
    ],
)
def test_fields_that_make_no_sense(press, fields, words):
    well, said = press(**fields)
    assert not well
    assert said.startswith(words)
    assert "ims_here" not in said  # the button tests a connection under a made-up name


def test_a_connection_that_is_not_there(monkeypatch):
    from airflow_provider_ims.hooks.ims import IMSHook

    well, words = IMSHook("nowhere").test_connection()
    assert not well
    assert words.startswith("The connection 'nowhere' can't be read (")


def test_fetched_credentials(press, serve, issuer, ims_emulator):
    service = serve(credentials_uri(issuer))
    extra = {"credential_type": "credentials_uri", "credentials_uri": service.url}
    fields = {"login": None, "password": None, "extra": extra}
    assert press(**fields)[0]
    ims_emulator.add_fault("expired_token")
    assert press(**fields)[1].startswith(
        "The credentials of type credentials_uri were fetched, but IMS refuses them"
    )
    service.close()
    assert press(**fields)[1].startswith(
        "There are no credentials of type credentials_uri: 127.0.0.1 could not be"
    )


def test_a_role_that_may_not_be_assumed(press, serve, issuer, certificate, monkeypatch):
    tls, pem = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    extra = {
        "credential_type": "ram_role_arn",
        "sts_endpoint": serve(sts(issuer), tls).host,
        "role_arn": ROLE_ARN,
    }
    assert press(login=USER[0], password=USER[1], extra=extra)[0]
    words = press(login=USER[0], password=USER[1], extra={**extra, "role_arn": "another"})[1]
    assert (
        words
        == "There are no credentials of type ram_role_arn: EntityNotExist.Role (HTTP 404): check role_arn."
    )
    words = press(login=USER[0], password="wrong-secret", extra=extra)[1]
    assert "SignatureDoesNotMatch (HTTP 400): check password (AccessKey Secret)" in words


def test_the_hooks_own_client_is_left_as_it_was(hook, ims_emulator):
    used = hook()
    client, retry_seconds, tally = used.client, used.client.retry_seconds, used.client.stats
    ims_emulator.add_fault("wrong_clock", seconds=3600)
    assert used.test_connection()[0]
    assert used.client is client
    assert (client.retry_seconds, client.stats, client.clock_offset.total_seconds()) == (
        retry_seconds,
        tally,
        0,
    )


def test_airflow_shows_what_the_hook_says(hook, ims_emulator):
    """The way the form goes: Airflow's own connection object asks the hook that belongs to its type."""
    from airflow.providers.common.compat.sdk import Connection

    hook()
    made = Connection(
        conn_id="ims_here",
        conn_type="alibaba_ims",
        host=ims_emulator.endpoint,
        login="emulator",
        password="emulator-secret",
        extra=json.dumps({"region": "cn-shanghai"}),
    )
    well, words = made.test_connection()
    assert well, words
    assert words.startswith("Connected to IMS")
