"""Every kind of credentials deletes media, with keys from real services on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hooks.credential_services import (
    OIDC_PROVIDER_ARN,
    OIDC_TOKEN,
    ROLE_ARN,
    USER,
    Issuer,
    credentials_uri,
    metadata,
    sts,
)

HERE = Path(__file__).parent


@pytest.fixture
def media(ims_emulator) -> list[str]:
    return ims_emulator.generate(60)


@pytest.fixture
def delete_in_a_process(hook, media, tmp_path):
    """Deletes the media in a new process with further environment variables."""

    def delete(*, connection: dict, **environment: str) -> dict:
        hook(**{"login": None, "password": None} | connection)
        done = subprocess.run(
            [sys.executable, HERE / "delete_media.py"],
            input="\n".join(media),
            env=os.environ | {"HOME": str(tmp_path)} | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return delete


def all_gone(emulator, result: dict) -> bool:
    assert result["deleted"] == 60
    return not emulator.media_ids()


def test_access_key_without_the_library(delete_in_a_process, ims_emulator):
    key = {"login": ims_emulator.access_key_id, "password": ims_emulator.access_key_secret}
    done = delete_in_a_process(connection=key)
    assert all_gone(ims_emulator, done["result"])
    assert not done["library"]


def test_sts(hook, ims_emulator, media, issuer):
    key = issuer.issue()
    extra = {"credential_type": "sts", "security_token": key["SecurityToken"]}
    used = hook(login=key["AccessKeyId"], password=key["AccessKeySecret"], extra=extra)
    assert all_gone(ims_emulator, used.delete_media(media))


def test_ram_role_arn(hook, ims_emulator, media, issuer, serve, certificate, monkeypatch):
    tls, pem = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    service = serve(sts(issuer), tls)
    extra = {
        "credential_type": "ram_role_arn",
        "role_arn": ROLE_ARN,
        "sts_endpoint": service.host,
        "external_id": "for-us",
        "role_session_expiration": "900",
        # A blank must not reach the library, which signs it otherwise than STS does.
        "policy": {
            "Version": "1",
            "Statement": [{"Sid": "media only", "Effect": "Allow", "Action": "ice:*"}],
        },
    }
    used = hook(login=USER[0], password=USER[1], extra=extra)
    assert all_gone(ims_emulator, used.delete_media(media))
    assert len(issuer.issued) == 1
    asked = service.asked[0][1]
    for part in (
        "ExternalId=for-us",
        "DurationSeconds=900",
        "RoleSessionName=airflow-provider-ims",
        "Policy=%7B",
    ):
        assert part in asked


def test_oidc_role_arn(hook, ims_emulator, media, issuer, serve, certificate, monkeypatch, tmp_path):
    tls, pem = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    service = serve(sts(issuer), tls)
    token = tmp_path / "token"
    token.write_text(OIDC_TOKEN)
    # As the platform sets them for a pod; the library itself reads them only when it is imported.
    monkeypatch.setenv("ALIBABA_CLOUD_ROLE_ARN", ROLE_ARN)
    monkeypatch.setenv("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", OIDC_PROVIDER_ARN)
    monkeypatch.setenv("ALIBABA_CLOUD_OIDC_TOKEN_FILE", str(token))
    extra = {"credential_type": "oidc_role_arn", "sts_endpoint": f"https://{service.host}"}
    assert all_gone(ims_emulator, hook(login=None, password=None, extra=extra).delete_media(media))
    assert "AssumeRoleWithOIDC" in service.asked[0][1]


def test_credentials_uri(hook, ims_emulator, media, issuer, serve):
    service = serve(credentials_uri(issuer))
    extra = {"credential_type": "credentials_uri", "credentials_uri": f"{service.url}/keys?for=airflow"}
    assert all_gone(ims_emulator, hook(login=None, password=None, extra=extra).delete_media(media))
    assert [target for _, target, _ in service.asked] == ["/keys?for=airflow"]


def test_ecs_ram_role(delete_in_a_process, ims_emulator, issuer, serve):
    """The address of the metadata is fixed, so a proxy leads there, as the library lets it."""
    service = serve(metadata(issuer))
    done = delete_in_a_process(
        connection={"extra": {"credential_type": "ecs_ram_role"}},
        HTTP_PROXY=service.url,
        ALIBABA_CLOUD_ECS_METADATA_DISABLED="false",
    )
    assert all_gone(ims_emulator, done["result"])
    assert service.asked[0][:2] == ("PUT", "http://100.100.100.200/latest/api/token")
    assert not done["scheduler_threads"]


def test_default_from_the_environment(delete_in_a_process, ims_emulator, issuer):
    key = issuer.issue()
    done = delete_in_a_process(
        connection={},
        ALIBABA_CLOUD_ACCESS_KEY_ID=key["AccessKeyId"],
        ALIBABA_CLOUD_ACCESS_KEY_SECRET=key["AccessKeySecret"],
        ALIBABA_CLOUD_SECURITY_TOKEN=key["SecurityToken"],
    )
    assert all_gone(ims_emulator, done["result"])


def test_default_from_the_metadata_without_a_thread(delete_in_a_process, ims_emulator, issuer, serve):
    service = serve(metadata(issuer))
    done = delete_in_a_process(
        connection={}, HTTP_PROXY=service.url, ALIBABA_CLOUD_ECS_METADATA_DISABLED="false"
    )
    assert all_gone(ims_emulator, done["result"])
    assert not done["scheduler_threads"]


def test_default_from_a_cli_profile(delete_in_a_process, ims_emulator, issuer, tmp_path):
    key = issuer.issue()
    profile = {
        "name": "media",
        "mode": "StsToken",
        "access_key_id": key["AccessKeyId"],
        "access_key_secret": key["AccessKeySecret"],
        "sts_token": key["SecurityToken"],
    }
    (tmp_path / ".aliyun").mkdir()
    (tmp_path / ".aliyun" / "config.json").write_text(json.dumps({"current": "media", "profiles": [profile]}))
    assert all_gone(ims_emulator, delete_in_a_process(connection={})["result"])


def test_default_from_an_ini_profile(delete_in_a_process, ims_emulator, tmp_path):
    ims_emulator.add_key("LTAIini", "secret-in-the-file")
    file = tmp_path / "credentials.ini"
    file.write_text(
        "[media]\ntype = access_key\naccess_key_id = LTAIini\naccess_key_secret = secret-in-the-file # ours\n"
    )
    done = delete_in_a_process(
        connection={}, ALIBABA_CLOUD_CREDENTIALS_FILE=str(file), ALIBABA_CLOUD_PROFILE="media"
    )
    assert all_gone(ims_emulator, done["result"])


def test_default_from_a_credentials_uri(delete_in_a_process, ims_emulator, issuer, serve):
    service = serve(credentials_uri(issuer))
    done = delete_in_a_process(connection={}, ALIBABA_CLOUD_CREDENTIALS_URI=service.url)
    assert all_gone(ims_emulator, done["result"])


@pytest.mark.parametrize(
    ("lifetime", "told"),
    [(2.5, 1200), (5, 5)],
    ids=["refused while it seems good", "known to live 5 s"],
)
def test_keys_that_rotate_during_a_run_lose_nothing(hook, ims_emulator, serve, lifetime, told):
    issuer = Issuer(ims_emulator, lifetime=lifetime, told=told)
    media = ims_emulator.generate(2000)
    ims_emulator.add_fault("delay", milliseconds=100)
    service = serve(credentials_uri(issuer))
    extra = {
        "credential_type": "credentials_uri",
        "credentials_uri": service.url,
        "max_requests_per_second": 12,
    }
    result = hook(login=None, password=None, extra=extra).delete_media(media, max_concurrency=4)
    assert result["deleted"] == 2000
    assert result["failed"] == result["unknown"] == 0
    assert not ims_emulator.media_ids()
    # Not one for each request, though the library would fetch so often with what has less than 15 minutes.
    assert 3 <= len(issuer.issued) <= 20
