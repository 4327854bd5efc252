"""A service that refuses a whole request because of one id in it: the other ids still get their true outcome."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_ims.api import operations
from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.errors import IMSAPIError, IMSPermissionError
from airflow_provider_ims.deletion.run import TargetsUnread
from airflow_provider_ims.deletion.targets import read_targets
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.files.storage import storage_path
from tests.deletion.conftest import Run, counts
from tests.deletion.test_run import lines_of

MISSING = [f"{number:032x}" for number in range(3)]
MALFORMED = "no.id"


@pytest.fixture(autouse=True)
def strict(ims_emulator: Emulator) -> None:
    ims_emulator.add_fault("otherwise", unknown_ids="refused", malformed_ids="refused")


@pytest.mark.parametrize("way", ["delete", "preview", "plan", "verify"])
def test_only_what_the_service_refuses_to_read_is_unknown(
    way: str, ims_emulator: Emulator, run: Run, tmp_path: Path
) -> None:
    library = ims_emulator.generate(55)
    options: dict[str, Any] = {
        "delete": {},
        "preview": {"preview": True},
        "plan": {"why_kept": lambda columns, medium: None},
        "verify": {"verifier": NoStore(), "delete_physical_files": True},
    }[way]
    with pytest.raises(TargetsUnread, match=rf"1 of 59 unknown .*{MALFORMED}") as ended:
        run(
            [*library[:13], MALFORMED, *library[13:], *MISSING],
            report_base=storage_path(str(tmp_path)),
            **options,
        )
    result = ended.value.result
    assert counts(result) == {"deleted": 55, "missing": 3, "unknown": 1}
    lines = {line["media_id"]: line for line in lines_of(result["report"])}
    assert "GetMediaInfo" in lines[MALFORMED]["reason"]
    assert "InvalidParameter" in lines[MALFORMED]["reason"]
    assert {lines[media_id]["outcome"] for media_id in MISSING} == {"missing"}
    assert ims_emulator.media_ids() == (library if way == "preview" else [])


class NoStore:
    """Looks for no file: here only what is read before a deletion counts."""

    def look(self, results: Any) -> Any:
        return list(results)


def test_a_url_that_is_refused_costs_no_other_its_outcome(ims_emulator: Emulator, run: Run) -> None:
    ims_emulator.seed([{"url": f"oss://bucket/{number}"} for number in range(3)])
    # The second of three reads; a preview asks for one URL after another.
    ims_emulator.add_fault(
        "refuse", action="GetMediaInfo", status=400, code="InvalidParameter", skip=1, times=1
    )
    with pytest.raises(TargetsUnread) as ended:
        run(read_targets(input_urls=[f"oss://bucket/{number}" for number in range(3)]), preview=True)
    assert counts(ended.value.result) == {"deleted": 2, "unknown": 1}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds=st.lists(st.sampled_from(["there", "there", "missing", "malformed"]), min_size=1, max_size=20))
def test_every_mixture_is_told_apart(kinds: list[str], ims_emulator: Emulator, client: IMSClient) -> None:
    library = iter(ims_emulator.media_ids() or ims_emulator.generate(20))
    ids = [
        next(library) if kind == "there" else f"{place:032x}" if kind == "missing" else f"no.{place}"
        for place, kind in enumerate(kinds)
    ]
    before = ims_emulator.stats()["requests"]
    found = operations.find_media(client, ids).value
    told = [
        "there" if value in found.shown else "malformed" if value in found.refused else "missing"
        for value in ids
    ]
    assert told == kinds
    asked = ims_emulator.stats()["requests"] - before
    spoiling = len(kinds) - kinds.count("there")
    # One that spoils a batch costs less than asking for each by itself; many cost little more than that.
    assert asked <= (1 if not spoiling else 11 if spoiling == 1 else len(kinds) + 7)


def test_a_refusal_that_is_about_no_id_is_raised_at_once(ims_emulator: Emulator, client: IMSClient) -> None:
    for status, code in ((404, "InvalidApi.NotFound"), (403, "Forbidden.RAM"), (403, "OperationDenied")):
        ims_emulator.add_fault("refuse", action="BatchGetMediaInfos", status=status, code=code, times=1)
        before = ims_emulator.stats()["requests"]
        with pytest.raises(IMSAPIError, match=code):
            operations.find_media(client, MISSING)
        assert ims_emulator.stats()["requests"] == before + 1


def test_a_key_that_may_not_isolate_says_which_right_it_lacks(
    ims_emulator: Emulator, client: IMSClient
) -> None:
    ims_emulator.add_fault("refuse", action="GetMediaInfo", status=403, code="Forbidden.RAM")
    with pytest.raises(IMSPermissionError, match="GetMediaInfo"):
        operations.find_media(client, MISSING)
