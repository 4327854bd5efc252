"""Sources of credentials: keys that are typed in, and keys that are fetched and renewed.

A source is asked once for each request and answers with key, secret and token together: read one by one while
a refresh runs, they could belong to different sets.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

from airflow_provider_ims.api.errors import IMSAPIError, IMSAuthError, IMSTransientError
from airflow_provider_ims.api.forks import start_anew_in_children

# The code of the errors that are raised here; the service has none for it, since it was never asked.
NO_CREDENTIALS = "NoCredentials"

# The library fetches each time it is asked once a token has less than 15 minutes to live.
_REUSE_SECONDS = 1.0
# After a refresh that failed, as long as there is something left to use.
_RETRY_SECONDS = 10.0

log = logging.getLogger(__name__)


class Credentials(NamedTuple):
    """One consistent set. Its ``repr`` shows no secret."""

    access_key_id: str
    access_key_secret: str
    security_token: str | None = None

    def __repr__(self) -> str:
        return f"Credentials(access_key_id={self.access_key_id!r})"


class CredentialSource(Protocol):
    """Whatever can give credentials for the next request."""

    def current(self) -> Credentials:
        """Return the credentials to sign the next request with."""

    def renew(self) -> bool:
        """Forget what is cached because the service refused it. False when there is nothing newer to get."""


class StaticCredentials:
    """Keys that are typed in: an AccessKey pair, or an STS triple that nobody renews.

    :raises ValueError: when either half of the pair is empty.
    """

    def __init__(self, access_key_id: str, access_key_secret: str, security_token: str | None = None) -> None:
        # An empty half must not be filled in from anywhere else: a mixed pair signs as somebody else.
        if not access_key_id or not access_key_secret:
            missing = "login (AccessKey ID)" if not access_key_id else "password (AccessKey Secret)"
            raise ValueError(f"{missing} is empty")
        for name, value in (
            ("login (AccessKey ID)", access_key_id),
            ("password (AccessKey Secret)", access_key_secret),
            ("extra 'security_token'", security_token or ""),
        ):
            # Usually a line end that came along when it was copied; it could not be sent in a header.
            if not (value.isascii() and value.isprintable() and " " not in value):
                raise ValueError(f"{name} has a blank or another character that no key has")
        self._credentials = Credentials(access_key_id, access_key_secret, security_token or None)

    def current(self) -> Credentials:
        """Return the keys."""
        return self._credentials

    def renew(self) -> bool:
        """Nothing newer can be had."""
        return False


class FetchedCredentials:
    """Credentials that ``alibabacloud-credentials`` fetches, keeps and refreshes. Threads may share one source.

    A refresh that fails does not end a run whose token is still good, and a fork takes no held lock along.

    :param kind: ``ram_role_arn``, ``oidc_role_arn``, ``ecs_ram_role``, ``credentials_uri`` or ``default``.
    :param fields: all that the kind needs, as the library's ``Config`` names them. Whatever is missing the library
        takes from the environment by itself, and a key and a secret of different origin sign as somebody else.
    """

    def __init__(self, kind: str, **fields: Any) -> None:
        self._kind = kind
        self._fields = fields
        self._given = threading.local()
        self._latest: Credentials | None = None
        self._ask_again_at = 0.0
        self.start_anew()
        start_anew_in_children(self)

    def start_anew(self) -> None:
        """Begin with no connection and no lock held; what was fetched stays."""
        self._client: Any = None
        self._failed_at = float("-inf")
        self._failure: Callable[[], IMSAPIError] | None = None
        self._lock = threading.Lock()

    def current(self) -> Credentials:
        """Return the credentials to sign the next request with, refreshed when they are about to expire.

        :raises IMSTransientError: when they could not be fetched, which may go better soon.
        :raises IMSAuthError: when there are none to be had.
        """
        asked_at = time.monotonic()
        with self._lock:
            if self._failure and self._failed_at > asked_at:
                raise self._failure()  # another thread met it while this one waited
            if self._latest is None or time.monotonic() >= self._ask_again_at:
                self._ask()
            credentials = self._given.credentials = self._latest
        assert credentials
        return credentials

    def renew(self) -> bool:
        """Fetch anew, because the service refused what this thread was given last.

        False when that brings the same again.
        """
        refused = getattr(self._given, "credentials", None)
        with self._lock:
            if self._latest and self._latest != refused:
                return True  # another thread was faster
            self._client = self._latest = None
            try:
                self._ask()
            except IMSAPIError:
                return True  # the next try meets the same error, and says so
            return self._latest != refused

    def _ask(self) -> None:
        """Ask the library; keep what there is when it has nothing for now."""
        from airflow_provider_ims.api import credential_library as library

        try:
            is_new = self._client is None
            if is_new:
                with library.unheard():
                    self._client = library.make_client(self._kind, self._fields)
            found = library.get_credentials(self._client, self._kind, is_new=is_new)
            self._latest = Credentials(
                found.access_key_id, found.access_key_secret, found.security_token or None
            )
            self._ask_again_at = time.monotonic() + _REUSE_SECONDS
            return
        except Exception as error:  # noqa: BLE001 - the library raises whatever happens to it
            words, is_transient = library.describe(error)
        # Out here, because the caught error holds the signed request.
        if self._latest:
            self._ask_again_at = time.monotonic() + _RETRY_SECONDS
            log.warning(
                "Credentials of type %s could not be refreshed, so the last ones go on: %s.",
                self._kind,
                words,
            )
            return
        kind = IMSTransientError if is_transient else IMSAuthError
        self._failed_at = time.monotonic()
        self._failure = partial(kind, f"no credentials of type {self._kind}: {words}", code=NO_CREDENTIALS)
        raise self._failure()
