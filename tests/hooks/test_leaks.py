"""Runs at DEBUG, good, failing and refused ones; then everything that was written is searched for secrets."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.hooks.credential_services import (
    OIDC_PROVIDER_ARN,
    ROLE_ARN,
    USER,
    Issuer,
    credentials_uri,
    sts,
)

PLANTED = "planted-" + secrets.token_urlsafe(16)
# What a signed request or a signed URL looks like, whatever its secret is.
SIGNED = re.compile(
    rb"Signature=[0-9a-f]{64}|[?&](?:Signature|SecurityToken|OIDCToken|OSSAccessKeyId)=[^&\s*]"
)


def spellings(secret: str) -> set[bytes]:
    """How a secret may be written."""
    return {secret.encode(), quote(secret, safe="").encode(), b64encode(secret.encode()).rstrip(b"=")}


def finds(folder: Path, wanted: Iterable[str]) -> set[str]:
    """The names of the files that hold one of some secrets."""
    needles = {spelling for secret in wanted for spelling in spellings(secret)}
    return {
        file.name
        for file in folder.rglob("*")
        if file.is_file() and any(needle in file.read_bytes() for needle in needles)
    }


@pytest.fixture
def written(tmp_path, ims_emulator, issuer: Issuer, serve, certificate) -> tuple[Path, set[str]]:
    """The folder with everything that the runs wrote, and the secrets that they had."""
    tls, pem = certificate
    home, reports = tmp_path / "home", tmp_path / "reports"
    reports.mkdir()
    ims_emulator.generate(90)
    token = "oidc-" + secrets.token_urlsafe(20)
    (tmp_path.parent / f"{tmp_path.name}-token").write_text(token)
    role = serve(sts(issuer), tls)
    handing_out = serve(credentials_uri(issuer))
    answers_with_its_keys = serve(
        lambda *_: (403, json.dumps({"Code": "Success", **issuer.issue()}).encode())
    )
    typed = {"login": ims_emulator.access_key_id, "password": ims_emulator.access_key_secret}
    ims_emulator.add_key("STS.old", "secret-of-the-old", security_token="token-of-the-old", expires_in=-1)
    connections = {
        "good": typed,
        "good_role": {
            "login": USER[0],
            "password": USER[1],
            "extra": {"credential_type": "ram_role_arn", "role_arn": ROLE_ARN, "sts_endpoint": role.host},
        },
        "good_uri": {"extra": {"credential_type": "credentials_uri", "credentials_uri": handing_out.url}},
        "failing": typed,
        "refused_secret": {**typed, "password": "wrong-but-secret-all-the-same"},
        "refused_token": {
            "login": "STS.old",
            "password": "secret-of-the-old",
            "extra": {"security_token": "token-of-the-old"},
        },
        "refused_role": {
            "login": USER[0],
            "password": "another-wrong-secret",
            "extra": {
                "credential_type": "ram_role_arn",
                "role_arn": ROLE_ARN,
                "sts_endpoint": role.host,
                "security_token": "token-for-the-role",
            },
        },
        "refused_oidc": {
            "extra": {
                "credential_type": "oidc_role_arn",
                "role_arn": ROLE_ARN,
                "oidc_provider_arn": OIDC_PROVIDER_ARN,
                "oidc_token_file_path": str(tmp_path.parent / f"{tmp_path.name}-token"),
                "sts_endpoint": role.host,
            }
        },
        "refused_uri": {
            "extra": {"credential_type": "credentials_uri", "credentials_uri": answers_with_its_keys.url}
        },
    }
    media = ims_emulator.media_ids()
    shares = {name: media[start :: len(connections)][:8] for start, name in enumerate(connections)}
    ims_emulator.protect(shares["failing"])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    environment = inherited | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent / "dags"),
        "CONNECTIONS": ",".join(connections),
        "REPORTS": str(reports),
        "PLANTED": PLANTED,
        "SSL_CERT_FILE": str(pem),
        "PYTHONPATH": f"{Path(__file__).parents[2]}:{Path(__file__).parents[2] / 'dev'}",
    }
    for name, fields in connections.items():
        connection = {"conn_type": "alibaba_ims", "host": ims_emulator.endpoint, **fields}
        connection["extra"] = {"region": "cn-shanghai", "retry_seconds": 0, **fields.get("extra", {})}
        environment[f"AIRFLOW_CONN_{name.upper()}"] = json.dumps(connection)
    done = subprocess.run(
        [sys.executable, Path(__file__).parent / "leak_runs.py", tmp_path / "records.txt"],
        input=json.dumps(shares),
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    # What ``dag.test`` uses in the supervisor's place logs which secrets it is told to mask; a real one does not.
    (tmp_path / "stdout.txt").write_text(re.sub(r"(?m)^.*msg=MaskSecret\(.*$", "", done.stdout))
    (tmp_path / "stderr.txt").write_text(done.stderr)
    assert done.returncode == 0, done.stderr[-3000:]
    states = json.loads(done.stdout.split("STATES ")[-1].splitlines()[0])
    assert {name: state["delete"] for name, state in states.items() if name != "leak"} == {
        name: "success" if name.startswith("good") else "failed" for name in connections
    }
    had = {fields["password"] for fields in connections.values() if "password" in fields}
    had |= {"token-of-the-old", "token-for-the-role", token}
    had |= {key[name] for key in issuer.issued for name in ("AccessKeySecret", "SecurityToken")}
    return tmp_path, had


def test_nothing_that_was_written_holds_a_secret(written):
    folder, had = written
    assert len(had) > 20
    records = (folder / "records.txt").read_text()
    # What is searched was there to be found: records of all parts, at DEBUG, and what the runs wrote.
    for part in (
        "urllib3.connectionpool",
        "airflow_provider_ims.api.client",
        "airflow_provider_ims.deletion",
    ):
        assert part in records
    assert "DEBUG" in records
    assert list((folder / "reports").rglob("part-*.jsonl"))
    assert finds(folder, had) == set()
    for file in folder.rglob("*"):
        if file.is_file():
            assert not SIGNED.search(file.read_bytes()), file
    # The control: a secret that is leaked on purpose is found in the log, the database and a file.
    assert finds(folder, [PLANTED]) >= {"records.txt", "airflow.db", "planted.txt"}
