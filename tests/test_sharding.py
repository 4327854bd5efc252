"""Shards: each line of a manifest in exactly one, whatever the manifest is like; and results that must add up."""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import fsspec
import pytest
from airflow.sdk.io import attach
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.errors import GuardError
from airflow_provider_ims.api.identifiers import is_missing
from airflow_provider_ims.deletion.policies import check_guards
from airflow_provider_ims.deletion.result import MAX_SAMPLE_BYTES
from airflow_provider_ims.deletion.run import DeletionRun
from airflow_provider_ims.deletion.targets import read_targets
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.exceptions import IMSDeletionError, IMSGuardError
from airflow_provider_ims.files import manifest as manifest_module
from airflow_provider_ims.files.manifest import ManifestReader
from airflow_provider_ims.retention.plan import check_plan
from airflow_provider_ims.sharding import MAX_SHARDS, merge_results, shard_of, split_manifest
from tests.retention.test_plan import HOST, HOSTILE, REGION, medium
from tests.retention.test_plan import plan as write_plan

IDS = [f"{number:032x}" for number in range(1000)]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(IDS) + "\n")
    return path


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A plan of media with all kinds of titles, some of unknown size."""
    library = [
        medium(100 + number % 9, number, title=title, size=None if number % 10 == 9 else number)
        for number, title in enumerate([*HOSTILE, *map(str, range(100 - len(HOSTILE)))])
    ]
    return Path(write_plan(tmp_path / "plan.jsonl", library).path.path)


def ids_in(shard: dict[str, Any]) -> list[str]:
    return [row.media_id for row in ManifestReader(shard["manifest"])]


def refused(manifest: Path, folder: Path, kind: type[Exception], match: str, **options: Any) -> None:
    """Check that a split is refused, and leaves nothing behind."""
    with pytest.raises(kind, match=match):
        split_manifest(str(manifest), str(folder), options.pop("shards", 4), **options)
    assert not folder.exists()


@pytest.mark.parametrize("shards", [1, 2, 7, 128])
def test_each_id_is_in_the_shard_that_it_hashes_to(tmp_path: Path, manifest: Path, shards: int) -> None:
    made = split_manifest(str(manifest), str(tmp_path / "shards"), shards)
    assert len(made) == shards
    assert len({shard["manifest"] for shard in made}) == shards
    for number, shard in enumerate(made):
        assert ids_in(shard) == [media_id for media_id in IDS if shard_of(media_id, shards) == number]
        assert shard["max_media"] == len(ids_in(shard))
        content = Path(shard["manifest"]).read_bytes()
        assert shard["manifest_digest"] == hashlib.sha256(content).hexdigest()
    assert sum(shard["max_media"] for shard in made) == len(IDS)
    assert len(list((tmp_path / "shards").iterdir())) == shards, "no parts are left"


def test_where_an_id_goes_never_changes() -> None:
    """Releases of one deployment may differ between tries; an id must not be in two shards for that."""
    assert [shard_of(media_id, 8) for media_id in IDS[:12]] == [1, 3, 0, 7, 6, 4, 7, 2, 4, 6, 7, 2]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.from_regex(r"[0-9a-fA-F]{1,4}|[A-Za-z_.][A-Za-z0-9_.-]{0,3}", fullmatch=True).filter(
            lambda media_id: not is_missing(media_id)
        ),
        min_size=1,
        max_size=40,
    ),
    st.integers(1, 8),
    st.randoms(use_true_random=False),
)
def test_all_spellings_of_an_id_meet_in_one_shard(
    media_ids: list[str], shards: int, rng: random.Random
) -> None:
    """So as many media are deleted, and as many duplicates dropped, as by one task."""
    spelled = [f"{form(media_id)}{rng.choice(['', ' ', chr(9)])}" for media_id in media_ids for form in
               (str, str.lower, str.upper, str.swapcase)]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ids.txt")
        path.write_text("\n".join(spelled))
        whole = read_targets(manifest=str(path))
        parts = [
            read_targets(manifest=shard["manifest"])
            for shard in split_manifest(str(path), f"{folder}/shards", shards)
        ]
    assert sum(map(len, parts)) == len(whole)
    assert sum(part.duplicates for part in parts) == whole.duplicates


def test_shards_are_about_as_large(tmp_path: Path) -> None:
    rng = random.Random(8)
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(f"{rng.getrandbits(128):032x}" for _ in range(80_000)))
    sizes = [shard["max_media"] for shard in split_manifest(str(path), str(tmp_path / "shards"), 8)]
    assert 9_500 < min(sizes) <= max(sizes) < 10_500


def test_a_retry_writes_the_same_bytes(tmp_path: Path, manifest: Path) -> None:
    first = split_manifest(str(manifest), str(tmp_path / "shards"), 5)
    Path(first[2]["manifest"]).write_text("cut")
    assert split_manifest(str(manifest), str(tmp_path / "shards"), 5) == first
    assert hashlib.sha256(Path(first[2]["manifest"]).read_bytes()).hexdigest() == first[2]["manifest_digest"]


def test_a_shard_is_never_seen_half_written(
    tmp_path: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = split_manifest(str(manifest), str(tmp_path / "shards"), 1)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("killed here")))
    with pytest.raises(OSError, match="killed here"):
        split_manifest(str(manifest), str(tmp_path / "shards"), 1)
    check_guards(read_targets(manifest=before[0]["manifest"]), digest=before[0]["manifest_digest"])


def test_more_shards_than_ids_leaves_some_empty(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("a\nb\nc")
    made = split_manifest(str(path), str(tmp_path / "shards"), 50)
    assert sorted(media_id for shard in made for media_id in ids_in(shard)) == ["a", "b", "c"]
    empty = next(shard for shard in made if not shard["max_media"])
    targets = read_targets(manifest=empty["manifest"])
    check_guards(targets, max_media=empty["max_media"], digest=empty["manifest_digest"])
    assert len(targets) == 0


@pytest.mark.parametrize("content", ["", "\n\n  \n", "\ufeff", "\ufeff\n"])
def test_an_empty_manifest_makes_empty_shards(tmp_path: Path, content: str) -> None:
    path = tmp_path / "ids.txt"
    path.write_text(content)
    made = split_manifest(str(path), str(tmp_path / "shards"), 3)
    assert [shard["max_media"] for shard in made] == [0, 0, 0]
    assert [ids_in(shard) for shard in made] == [[], [], []]


@pytest.mark.parametrize("nothing", [None, "", "  ", "None", "[]"])
def test_no_manifest_makes_no_shards(tmp_path: Path, nothing: str | None) -> None:
    assert split_manifest(nothing, str(tmp_path / "shards"), 3) == []
    assert not (tmp_path / "shards").exists()


def test_duplicates_blank_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes(
        b"\xef\xbb\xbf" + b"\r\n\r\n".join(f" {media_id}\t".encode() for media_id in IDS[:50] * 3)
    )
    made = split_manifest(str(path), str(tmp_path / "shards"), 4)
    targets = [read_targets(manifest=shard["manifest"]) for shard in made]
    assert sorted(target.value for shard in targets for target in shard) == IDS[:50]
    assert sum(shard.duplicates for shard in targets) == 100
    assert sum(shard["max_media"] for shard in made) == 150


@pytest.mark.parametrize("store", ["memory", "file"])
def test_object_stores(tmp_path: Path, manifest: Path, store: str) -> None:
    attach("memory", fs=fsspec.filesystem("memory"))
    made = split_manifest(str(manifest), f"{store}://{tmp_path}/shards", 3)
    assert all(shard["manifest"].startswith(f"{store}://") for shard in made)
    assert sorted(media_id for shard in made for media_id in ids_in(shard)) == IDS


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a\nb c\n", r"line 2: 'b c' is not a media id"),
        ("a\nb,c\n", r"line 2: 'b,c' is not a media id"),
        ("a\nhttps://bucket/x.mp4\n", "line 2: .* is a URL"),
        ('{"media_id": "a", "outcome": "deleted"}\n', "is a report"),
        ('{"media_id": "a"}\n', "lacks the first line of a plan"),
        ('{"plan": 1, "sel', "line 1: not a whole JSON object; is the file cut?"),
        ("a" * 129, "line 1: .* is not a media id"),
        pytest.param("a" * (2**20 + 1), "line 1: longer than 1 MiB", id="long line"),
    ],
)
def test_evil_manifests_are_refused_by_line(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "manifest"
    path.write_text(content)
    refused(path, tmp_path / "shards", ValueError, says)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "report").mkdir()
    refused(tmp_path / "binary", tmp_path / "shards", ValueError, "not UTF-8")
    refused(tmp_path / "report", tmp_path / "shards", ValueError, "is a folder")
    refused(tmp_path / "absent", tmp_path / "shards", ValueError, "does not exist")


@pytest.mark.parametrize("shards", [0, -1, MAX_SHARDS + 1, 2.0, "8", True, None])
def test_numbers_of_shards_that_make_no_sense(tmp_path: Path, manifest: Path, shards: Any) -> None:
    refused(manifest, tmp_path / "shards", ValueError, "shards is", shards=shards)


def test_only_what_was_approved_is_split(tmp_path: Path, manifest: Path) -> None:
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert len(split_manifest(str(manifest), str(tmp_path / "1"), 4, manifest_digest=digest.upper())) == 4
    manifest.write_text(manifest.read_text() + "one-more\n")
    refused(manifest, tmp_path / "2", IMSGuardError, "not the one that was approved", manifest_digest=digest)


def test_a_manifest_that_changes_after_its_digest_was_checked_is_not_split(
    tmp_path: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()

    def then_it_changes(path: Any, first_reading: Any = manifest_module._file_digest) -> str:
        found: str = first_reading(path)
        manifest.write_text(manifest.read_text() + "one-more\n")
        return found

    monkeypatch.setattr(manifest_module, "_file_digest", then_it_changes)
    refused(manifest, tmp_path / "1", IMSGuardError, "not the one that was approved", manifest_digest=digest)


# --- plans ---


def test_a_shard_of_a_plan_is_a_plan(tmp_path: Path, plan: Path) -> None:
    whole_header, *whole_rows = [json.loads(line) for line in plan.read_bytes().split(b"\n")[:-1]]
    made = split_manifest(str(plan), str(tmp_path / "shards"), 7)
    raw: list[bytes] = []
    for number, shard in enumerate(made, start=1):
        targets = read_targets(manifest=shard["manifest"])
        check_guards(targets, max_media=shard["max_media"], digest=shard["manifest_digest"])
        header = targets.plan_header
        assert header is not None
        check_plan(header, region=REGION, host=HOST, rows=len(targets))
        with pytest.raises(GuardError, match="made for cn-shanghai"):
            check_plan(header, region="cn-beijing", host=HOST, rows=len(targets))
        rows = [target.columns for target in targets]
        assert header["policy"] == whole_header["policy"]
        assert header["shard"] == {
            "number": number, "of": 7, "plan": hashlib.sha256(plan.read_bytes()).hexdigest()
        }  # fmt: skip
        sizes = [row["size"] for row in rows if row]
        assert header["bytes"] == sum(filter(None, sizes))
        assert header["size_unknown"] == sizes.count(None)
        assert (header["oldest"], header["newest"]) == (rows[0]["created"], rows[-1]["created"])  # type: ignore[index]
        raw += Path(shard["manifest"]).read_bytes().split(b"\n")[1:-1]
    assert Counter(raw) == Counter(plan.read_bytes().split(b"\n")[1:-1]), "a row's bytes stay the same"
    assert len(raw) == len(whole_rows) == 100


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"refused": "too many"}, "not to be deleted: too many"),
        ({"plan": 2}, "format 2"),
        ({"selected": 99}, "says that it names 99 media, but it names 100"),
        ({"policy": {}}, "policy can't be read"),
    ],
)
def test_a_plan_that_must_not_be_deleted_is_not_split(
    tmp_path: Path, plan: Path, change: dict[str, Any], says: str
) -> None:
    first, rest = plan.read_text().split("\n", 1)
    plan.write_text(json.dumps(json.loads(first) | change) + "\n" + rest)
    refused(plan, tmp_path / "shards", IMSGuardError, says)


def test_a_plan_that_is_cut_is_not_split(tmp_path: Path, plan: Path) -> None:
    whole = plan.read_bytes()
    plan.write_bytes(whole[:-1])  # only the last line end is missing: every medium is there
    made = split_manifest(str(plan), str(tmp_path / "whole"), 4)
    assert sum(shard["max_media"] for shard in made) == 100
    for length in (len(whole) - 2, len(whole) - 30, whole.rfind(b"\n", 0, -1) + 1, whole.find(b"\n") + 1):
        plan.write_bytes(whole[:length])
        with pytest.raises((IMSGuardError, ValueError), match=r"cut|says that it names"):
            split_manifest(str(plan), str(tmp_path / "shards"), 4)
        assert not (tmp_path / "shards").exists()


def test_a_plan_without_its_first_line_is_not_split(tmp_path: Path, plan: Path) -> None:
    plan.write_text(plan.read_text().split("\n", 1)[1])
    refused(plan, tmp_path / "shards", ValueError, "lacks the first line of a plan")


def test_memory_does_not_grow_with_the_manifest(tmp_path: Path) -> None:
    peaks = []
    for count in (5_000, 50_000):
        path = tmp_path / f"{count}.txt"
        path.write_text("\n".join(f"{number:032x}" for number in range(count)))
        tracemalloc.start()
        split_manifest(str(path), str(tmp_path / str(count)), 8)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Pieces of a MiB are the most that is held; 50,000 ids as texts alone would be 4 MB.
    assert peaks[1] < 2.5 * 2**20
    assert peaks[1] - peaks[0] < 1.5 * 2**20


# --- merging ---


@pytest.fixture
def sharded(
    tmp_path: Path, ims_emulator: Emulator, client: IMSClient
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What three shards gave: deleted, missing and forbidden ones, and duplicates."""
    library = ims_emulator.generate(200)
    ims_emulator.protect(library[:5])
    path = tmp_path / "ids.txt"
    path.write_text("\n".join([*library[:150], *library[50:60], *IDS[:4]]))
    shards = split_manifest(str(path), str(tmp_path / "shards"), 3)
    results = [DeletionRun(client, read_targets(manifest=shard["manifest"])).execute() for shard in shards]
    return shards, results


def test_merged_counts_are_sums(sharded: Any) -> None:
    shards, results = sharded
    merged = merge_results(shards, results, on_forbidden="warn")
    expected = {"requested": 154, "duplicates": 10, "deleted": 145, "missing": 4, "forbidden": 5, "shards": 3}
    assert merged.items() >= expected.items()
    assert merged["requests"] == sum(result["requests"] for result in results)
    assert sorted(merged["samples"]["missing"]) == IDS[:4]
    assert len(merged["samples"]["deleted"]) == 100
    assert merged.keys() == results[0].keys() | {"shards"}
    json.dumps(merged)


def test_merging_judges_like_one_task(sharded: Any) -> None:
    with pytest.raises(IMSDeletionError, match="5 of 154 forbidden") as failed:
        merge_results(*sharded)
    assert failed.value.result["deleted"] == 145
    with pytest.raises(IMSDeletionError, match="4 of 154 missing"):
        merge_results(*sharded, on_forbidden="ignore", on_missing="fail")


def test_files_that_were_left_are_judged_like_those_of_one_task(sharded: Any) -> None:
    shards, results = sharded
    addresses = [f"oss://bucket/{number}.mp4" for number in range(6)]
    for number, result in enumerate(results):
        own = addresses[2 * number : 2 * number + 2]
        result |= {"files_left": 2, "samples": result["samples"] | {"files_left": own}}
    merged = merge_results(shards, results, on_forbidden="ignore")
    assert (merged["files_left"], merged["samples"]["files_left"]) == (6, addresses)
    with pytest.raises(IMSDeletionError, match="6 of 154 files left"):
        merge_results(shards, results, on_forbidden="ignore", on_files_left="fail")
    with pytest.raises(ValueError, match="on_files_left is 'never'"):
        merge_results(shards, results, on_files_left="never")  # type: ignore[arg-type]


def test_what_can_be_added_is_added(sharded: Any) -> None:
    shards, results = sharded
    merged = merge_results(shards, results, on_forbidden="ignore")
    numbers = {name for name, value in results[0].items() if type(value) is int}
    assert {name: merged[name] for name in numbers} == {
        name: sum(result[name] for result in results) for name in numbers
    }


def test_the_samples_of_all_shards_are_as_small_as_those_of_one(sharded: Any) -> None:
    shards, results = sharded
    for result in results:
        result["samples"] = {"deleted": [f"oss://bucket/{'ä' * 200}/{number}" for number in range(4)]}
    merged = merge_results(shards, results, on_forbidden="ignore")
    assert 0 < len(json.dumps(merged["samples"]["deleted"])) <= MAX_SAMPLE_BYTES


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda shards, results: (shards, results[:2]), "1 of 3 shards have no result"),
        (lambda shards, results: (shards, [None, *results[1:]]), "1 of 3 shards have no result"),
        (lambda shards, results: (shards, [*results, results[0]]), "-1 of 3 shards"),
        (lambda shards, results: (shards, []), "3 of 3 shards"),
        (lambda shards, results: (shards, None), "3 of 3 shards"),
        (lambda shards, results: (None, None), "was not split"),
        (
            lambda shards, results: (shards, [results[0] | {"deleted": 1}, *results[1:]]),
            "of 154 have an outcome",
        ),
        (lambda shards, results: (shards, [results[0], results[0], results[2]]), "the shards name 164 media"),
    ],
)
def test_results_that_do_not_add_up(sharded: Any, change: Any, says: str) -> None:
    with pytest.raises(IMSDeletionError, match=says):
        merge_results(*change(*sharded), on_forbidden="warn")


def test_nothing_merged_is_nothing() -> None:
    merged = merge_results([], None)
    assert (merged["requested"], merged["deleted"], merged["report"], merged["shards"]) == (0, 0, None, 0)


@pytest.mark.parametrize(("shards", "results"), [("[]", []), ([], "[]")])
def test_the_text_of_results_is_none(shards: Any, results: Any) -> None:
    with pytest.raises(ValueError, match=r"is the text '\[\]'; give the output of the tasks itself"):
        merge_results(shards, results)
