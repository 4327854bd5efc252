"""What proves that a medium is gone, and that whoever asks goes by the same proof."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

import pytest

from airflow_provider_ims.api.operations import MediaInfo
from airflow_provider_ims.deletion.run import DeletionRun
from airflow_provider_ims.deletion.targets import read_targets
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.hooks.ims import IMSHook
from airflow_provider_ims.pytest_plugin import MediaLibrary
from airflow_provider_ims.retention.listing import list_whole
from airflow_provider_ims.retention.policy import Selection, make_policy
from airflow_provider_ims.triggers.status import still_pending

LIVING = ["Init", "Preparing", "PrepareFail", "Normal", "Uploading", "UploadSucc", "UploadFail", "Blocked"]
STATUSES = [*LIVING, "Transcoding", "TranscodeFail", "Checking", "normal", "NORMAL", None, "Deleted", "17"]
BEFORE, SAME, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-02T00:00:01Z"
TIMES = [
    BEFORE,
    SAME,
    LATER,
    "2026-01-02T08:00:01+08:00",
    None,
    "",
    "0",
    "0001-01-01T00:00:00+08:00",
    "2026-01-03",
]


@pytest.mark.parametrize("status", STATUSES)
def test_every_combination(status: str | None) -> None:
    for created, deleted in product(TIMES, TIMES):
        medium = MediaInfo("a", None, None, None, None, None, status, created, deleted, None, None)
        later = (BEFORE, SAME), (BEFORE, LATER), (SAME, LATER), (BEFORE, TIMES[3]), (SAME, TIMES[3])
        first_year = ((TIMES[7], other) for other in TIMES[:4])  # names no moment for sure
        proved = (created, deleted) in later and status in ("Deleted", "17")
        assert medium.is_gone == proved, (status, created, deleted)
        assert (created, deleted) not in first_year or not medium.is_gone


@pytest.mark.usefixtures("ims_connection")
def test_nothing_living_is_called_gone(ims_emulator: Emulator, ims_library: MediaLibrary) -> None:
    """Each medium of the emulator shows a ``DeletedTime``, as the service's own sample does."""
    hook = IMSHook()
    shown = hook.batch_get_media_infos(ims_library.registered[:20])
    assert all(medium.deleted for medium in shown)

    pending = still_pending(hook.client, "media_id", ims_library.registered[:20])
    assert pending == set(ims_library.registered[:20])
    url = ims_library.urls[ims_library.old[0]]
    assert still_pending(hook.client, "input_url", [url]) == {url}

    preview = DeletionRun(hook.client, read_targets(media_ids=ims_library.registered), preview=True).execute()
    assert (preview["deleted"], preview["missing"]) == (len(ims_library.registered), 0)

    selection = Selection(make_policy(as_of=datetime.now(UTC), older_than="P90D", exclude_tags="keep"))
    selected = {medium.media_id for _, medium in selection.pick(list_whole(hook.client, datetime.now(UTC)))}
    old = {*ims_library.old, *ims_library.protected, *ims_library.undeletable}
    assert selected == old
