"""Fixtures for tests of DAGs that use IMS: an emulated IMS, media in it, an Airflow connection to it.

pytest finds them by itself wherever this package is installed; they need its extra ``emulator``. Each process of
pytest-xdist has an emulator of its own. A run that uses none of them pays for the import of this module alone, which
imports neither Airflow nor the emulator.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from airflow_provider_ims.emulator import EmulatedOSS, Emulator

_REGION = "cn-shanghai"
_BUCKET = f"https://media-team.oss-{_REGION}.aliyuncs.com"
_DAY = 24 * 60 * 60
# A test shall say what is wrong within seconds. A request that meets faults is still tried eight times or more.
_SHORT = {"connect_timeout": 2, "read_timeout": 5, "retry_seconds": 5}
_THIS_MACHINE = "127.0.0.1,localhost"


@dataclass(frozen=True)
class MediaLibrary:
    """Media that are registered when a test begins, by what a cleanup should do with them. All ids are lists.

    :param old: six videos of more than a year ago, tagged ``transcoded``.
    :param recent: four videos of the last week, tagged ``transcoded``.
    :param keep: two old videos tagged ``transcoded`` and ``keep``.
    :param protected: two old videos that the service refuses to delete: outcome ``forbidden``.
    :param undeletable: one old video whose deletion is ignored for ever: outcome ``failed``. The delete operator
        looks at it again for 30 seconds before it says so.
    :param missing: three ids that were never registered: outcome ``missing``.
    :param urls: the URL of each id, of the missing ones too.
    """

    old: list[str]
    recent: list[str]
    keep: list[str]
    protected: list[str]
    undeletable: list[str]
    missing: list[str]
    urls: Mapping[str, str]

    @property
    def plain(self) -> list[str]:
        """What can be deleted without a word: ``old`` and ``recent``."""
        return self.old + self.recent

    @property
    def registered(self) -> list[str]:
        """Every id there is, so all but the missing ones."""
        return self.old + self.recent + self.keep + self.protected + self.undeletable


class MakeConnection(Protocol):
    """What the fixture ``make_ims_connection`` gives."""

    def __call__(
        self, conn_id: str = "ims_default", *, extra: Mapping[str, Any] | None = None, **fields: Any
    ) -> str:
        """Make an Airflow connection to the emulator, in the environment, until the test ends.

        :param extra: replaces extras, such as ``region`` or ``max_requests_per_second``; None takes one away.
        :param fields: replaces fields: ``login``, ``password``, ``host``.
        :returns: ``conn_id``.
        """


@pytest.fixture(scope="session")
def ims_emulator_session() -> Iterator[Emulator]:
    """The emulator as the tests before left it, for fixtures that live longer than a test."""
    from airflow_provider_ims.emulator import Emulator

    emulator = Emulator("--region", _REGION, "--job-seconds", "0.5", "--oss-port", "0")
    lacking = ""
    try:
        emulator.start()
    except ModuleNotFoundError as error:
        lacking = str(error)
    if lacking:
        # A failure, not a skip: a run in which no deletion was tested must not be green.
        pytest.fail(lacking, pytrace=False)
    yield emulator
    emulator.stop()


@pytest.fixture
def ims_emulator(ims_emulator_session: Emulator) -> Emulator:
    """An emulated IMS on this machine: no media, no requests in its log, no faults. See ``Emulator``.

    Faults by name: ``ims_emulator.add_fault("throttle", every=3)``; ``ims-emulator --help`` lists them.
    """
    ims_emulator_session.reset()
    return ims_emulator_session


@pytest.fixture
def ims_oss(ims_emulator: Emulator) -> EmulatedOSS:
    """The emulator's local OSS: ``oss://`` paths of its connections lead there, and media have their files in it.

    ``ims_oss.names("media-team")`` lists what is left, ``ims_oss.make_bucket("reports")`` makes room for a report.
    """
    return ims_emulator.oss


@pytest.fixture
def ims_library(ims_emulator: Emulator) -> MediaLibrary:
    """Media in the emulator, by what a cleanup should do with them. See ``MediaLibrary``."""
    now = time.time()
    media: list[dict[str, Any]] = []
    urls: dict[str, str] = {}

    def role(name: str, count: int, *, days: int, tags: str = "transcoded", **switches: bool) -> list[str]:
        ids = [f"{name}{number:0{32 - len(name)}d}" for number in range(1, count + 1)]
        for age, media_id in enumerate(ids, start=days):
            urls[media_id] = f"{_BUCKET}/{name}/{media_id[len(name) :].lstrip('0')}.mp4"
            created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - age * _DAY))
            media.append(
                {"media_id": media_id, "url": urls[media_id], "created": created, "tags": tags, **switches}
            )
        return ids

    library = MediaLibrary(
        old=role("old", 6, days=400),
        recent=role("recent", 4, days=1),
        keep=role("keep", 2, days=410, tags="transcoded,keep"),
        protected=role("protected", 2, days=420, protected=True),
        undeletable=role("undeletable", 1, days=430, undeletable=True),
        missing=role("missing", 3, days=0),
        urls=MappingProxyType(urls),
    )
    ims_emulator.seed(medium for medium in media if medium["media_id"] not in library.missing)
    return library


@pytest.fixture
def make_ims_connection(ims_emulator: Emulator) -> Iterator[MakeConnection]:
    """Makes Airflow connections to the emulator: ``make_ims_connection("ims_team", extra={...})``."""
    with pytest.MonkeyPatch.context() as environment:
        # The machine's proxy can't reach what listens on this machine only.
        for name in ("no_proxy", "NO_PROXY"):
            environment.setenv(name, ",".join(filter(None, (os.environ.get(name), _THIS_MACHINE))))

        def make(
            conn_id: str = "ims_default", *, extra: Mapping[str, Any] | None = None, **fields: Any
        ) -> str:
            connection = ims_emulator.airflow_connection(
                extra={
                    "region": _REGION,
                    "oss_endpoint": ims_emulator.oss.endpoint,
                    **_SHORT,
                    **(extra or {}),
                },
                **fields,
            )
            environment.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", connection)
            return conn_id

        yield make


@pytest.fixture
def ims_connection(make_ims_connection: MakeConnection) -> str:
    """The Airflow connection ``ims_default`` to the emulator; gives its id. Others: ``make_ims_connection``."""
    return make_ims_connection()
