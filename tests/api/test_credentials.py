"""Typed-in keys."""

from __future__ import annotations

import pytest

from airflow_provider_ims.api.credentials import Credentials, StaticCredentials


def test_a_pair_and_a_triple():
    assert StaticCredentials("id", "secret").current() == ("id", "secret", None)
    assert StaticCredentials("id", "secret", "").current() == ("id", "secret", None)
    assert StaticCredentials("id", "secret", "token").current() == ("id", "secret", "token")
    assert StaticCredentials("id", "secret").renew() is False


@pytest.mark.parametrize(
    ("key_id", "secret", "token", "field"),
    [
        ("", "secret", None, "login"),
        ("id", "", None, "password"),
        ("id\n", "hidden", None, "login"),
        ("id", "hidden\n", None, "password"),
        ("id", " hidden", None, "password"),
        ("id", "hidden", "hidden\r\nx-acs-action: other", "security_token"),
        ("id", "hidden", "hidden中", "security_token"),
    ],
)
def test_a_refusal_names_the_field_and_not_what_is_in_it(key_id, secret, token, field):
    with pytest.raises(ValueError, match=field) as refused:
        StaticCredentials(key_id, secret, token)
    assert "hidden" not in str(refused.value)


def test_shown_credentials_hide_their_secrets():
    shown = f"{Credentials('id', 'hidden', 'hidden')} {Credentials('id', 'hidden', 'hidden')!r}"
    assert "id" in shown
    assert "hidden" not in shown
