"""Every spelling of the targets, every refusal, every form of nothing."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_ims.api.errors import GuardError
from airflow_provider_ims.api.identifiers import match_key
from airflow_provider_ims.deletion.policies import check_guards
from airflow_provider_ims.deletion.targets import (
    MAX_BATCH_QUERY_BYTES,
    Batch,
    Targets,
    batches,
    read_targets,
)
from airflow_provider_ims.files.report import Spool
from airflow_provider_ims.files.storage import StorageError, storage_path

A, B, C = ("a" * 32, "b" * 32, "c" * 32)
CREATED = "2026-01-01T00:00:00Z"


def values(targets: Targets) -> list[str]:
    return [target.value for target in targets]


@pytest.mark.parametrize(
    "spelled",
    [
        [A, B],
        (A, B),
        {A: 1, B: 2}.keys(),
        f"{A},{B}",
        f"{A}\n{B}\n",
        f" {A} ,\r\n{B},",
        json.dumps([A, B]),
        str([A, B]),
        str((A, B)),
        [f" {A}\n", B],
    ],
    ids=repr,
)
def test_every_spelling_names_the_same_media(spelled: Any) -> None:
    targets = read_targets(media_ids=spelled)
    assert values(targets) == [A, B]
    assert targets.kind == "media_id"


@pytest.mark.parametrize("nothing", [None, [], (), "", " \n", "[]", "None", "null"], ids=repr)
@pytest.mark.parametrize("name", ["media_ids", "input_urls"])
def test_nothing_means_nothing(name: str, nothing: Any) -> None:
    assert values(read_targets(**{name: nothing})) == []


@pytest.mark.parametrize("nothing", ["", "None", "[]"])
def test_a_manifest_of_nothing_means_nothing(nothing: str) -> None:
    assert values(read_targets(manifest=nothing)) == []


def test_an_empty_file_names_nothing(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("\n\n")
    assert values(read_targets(manifest=str(tmp_path / "ids.txt"))) == []


def test_duplicates_are_dropped_and_counted() -> None:
    targets = read_targets(media_ids=[A, B, A, f" {A} "])
    assert (values(targets), targets.duplicates) == ([A, B], 2)


def test_a_url_is_one_whatever_its_schemes_case_and_empty_query() -> None:
    targets = read_targets(input_urls=["OSS://bucket/key", "oss://bucket/key?", "oss://bucket/Key"])
    assert (values(targets), targets.duplicates) == (["oss://bucket/Key", "OSS://bucket/key"], 1)


@pytest.mark.parametrize(
    "bad",
    ["a b", "a\tb", ["a,b"], ["a\x00b"], "https://bucket/key", ["None"], ["a" * 129], "['a', 'None']"],
    ids=repr,
)
def test_what_is_no_id_is_refused_by_name(bad: Any) -> None:
    with pytest.raises(ValueError, match="media_ids") as refused:
        read_targets(media_ids=bad)
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize(
    "bad", [[None], [A, 7], [""], ["[]"], {"a": 1}, 7, b"abc", "[broken", "['a', None]"], ids=repr
)
def test_what_is_no_list_of_ids_is_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match="media_ids"):
        read_targets(media_ids=bad)


@pytest.mark.parametrize(
    "bad",
    [
        "ftp://bucket/key",
        "bucket/key",
        "oss://",
        "file:///etc/passwd",
        ["https://bucket.oss-cn-shanghai.aliyuncs.com/a,b.mp4"],
        ["https://bucket/a\x01.mp4"],
    ],
    ids=repr,
)
def test_what_is_no_registered_url_is_refused_by_name(bad: Any) -> None:
    with pytest.raises(ValueError, match="input_urls"):
        read_targets(input_urls=bad)


def test_a_signed_url_is_refused_without_showing_its_signature() -> None:
    with pytest.raises(ValueError, match="has a query") as refused:
        read_targets(input_urls=["https://bucket/key.mp4?Expires=1&Signature=c2VjcmV0"])
    assert "c2VjcmV0" not in str(refused.value)
    assert "Expires" not in str(refused.value)


def test_a_list_in_a_text_is_refused_without_showing_a_signature() -> None:
    with pytest.raises(ValueError, match="input_urls") as refused:
        read_targets(input_urls="['https://bucket/key.mp4?Signature=c2VjcmV0'")
    assert "c2VjcmV0" not in str(refused.value)


@pytest.mark.parametrize(
    "inputs",
    [
        {"media_ids": [A], "input_urls": ["oss://b/k"]},
        {"media_ids": [], "manifest": "x"},
        {"media_ids": [A], "input_urls": ["oss://b/k"], "manifest": "x"},
    ],
)
def test_several_inputs_at_once_are_refused(inputs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="only one of them"):
        read_targets(**inputs)


def test_a_url_may_hold_blanks_and_anything_of_unicode() -> None:
    url = "https://b.oss-cn-shanghai.aliyuncs.com/a b/中~*'().mp4"
    assert values(read_targets(input_urls=[url])) == [url]


def test_a_text_file_has_one_id_a_line(tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_bytes(b"\xef\xbb\xbf" + f"{A}\r\n\r\n  {B}  \n{A}".encode())
    targets = read_targets(manifest=str(file))
    assert (values(targets), targets.duplicates) == ([A, B], 1)
    assert targets.manifest_digest == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"abc\nde f\n", "line 2"),
        (b"abc\noss://b/k\n", "is a URL"),
        (b"abc\n\xff\xfe\n", "line 2: not UTF-8"),
        (b'{"media_id": "abc"}\n', "lacks the first line of a plan"),
        (b'{"media_id": "abc", "outcome": "deleted"}\n', "is a report"),
        (b'{"plan": 1}\n{"title": "x"}\n', "line 2: has no media_id"),
        (b'{"plan": 1}\n{"media_id": "ab', "line 2: not a whole JSON object"),
        (b'{"plan": 1}\n{"media_id": "ab", "created": 5}\n', "line 2: its created is 5, which is no time"),
        (b'{"plan": 1}\n{"media_id": "ab", "created": "soon"}\n', "line 2: its created is 'soon', which"),
        (b'{"plan": 1}\n{"media_id": "ab"}\n', "line 2: its created is None, which is no time"),
        (b'{"plan": 1}\n{"media_id": ' + b"[" * 100_000, "line 2: not a whole JSON object"),
        (b'{"plan": 1}\nabc\n', "line 2: not a line of a plan"),
        (b"x" * 2_000_000, "longer than"),
    ],
)
def test_a_manifest_that_is_none_is_refused_with_its_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "manifest").write_bytes(content)
    with pytest.raises(ValueError, match=said) as refused:
        read_targets(manifest=str(tmp_path / "manifest"))
    assert str(tmp_path / "manifest") in str(refused.value)


def test_a_manifest_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        read_targets(manifest=str(tmp_path / "nowhere.txt"))
    with pytest.raises(ValueError, match="is a folder"):
        read_targets(manifest=str(tmp_path))


def test_a_plan_keeps_its_columns_and_its_first_line(tmp_path: Path) -> None:
    file = tmp_path / "plan.jsonl"
    file.write_text(
        '{"plan": 1, "region": "cn-beijing"}\n'
        + json.dumps({"media_id": A, "title": "é", "created": CREATED})
        + "\n"
    )
    targets = read_targets(manifest=str(file))
    assert targets.plan_header == {"plan": 1, "region": "cn-beijing"}
    assert [target.columns for target in targets] == [{"media_id": A, "title": "é", "created": CREATED}]


def test_what_was_checked_is_what_is_deleted_even_if_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_text(f"{A}\n{B}\n")
    targets = read_targets(manifest=str(file))
    file.write_text(f"{C}\n")
    assert values(targets) == [A, B]


def test_of_a_report_only_what_was_deleted_is_waited_for(tmp_path: Path) -> None:
    part = tmp_path / "part-00001.jsonl"
    lines = [
        {"media_id": A, "outcome": "deleted"},
        {"media_id": B, "outcome": "forbidden"},
        {"media_id": C, "outcome": "deleted", "preview": True},
    ]
    part.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert values(read_targets(manifest=str(tmp_path), from_report=True)) == [A]


def test_a_report_that_is_not_written_yet_is_not_taken_for_one_that_names_nobody(tmp_path: Path) -> None:
    (tmp_path / "_journal").mkdir()
    with pytest.raises(ValueError, match="is not written yet"):
        read_targets(manifest=str(tmp_path), from_report=True)


def test_batches_hold_at_most_20_and_fit_a_request_line() -> None:
    ids = [f"{number:032x}" for number in range(137)]
    sizes = [len(batch.targets) for batch in batches(read_targets(media_ids=ids))]
    assert sizes == [20] * 6 + [17]
    urls = [f"https://bucket/{'中' * 300}/{number:02}" for number in range(30)]
    cut = list(batches(read_targets(input_urls=urls)))
    assert [target.value for batch in cut for target in batch.targets] == urls
    assert all(len(batch.targets) * 2700 <= MAX_BATCH_QUERY_BYTES + 2700 for batch in cut)
    assert [batch.number for batch in cut] == list(range(len(cut)))


def test_the_same_input_has_the_same_digest_and_another_has_not() -> None:
    assert read_targets(media_ids=[A, B]).digest == read_targets(media_ids=f"{A},{B},{A}").digest
    assert read_targets(media_ids=[A]).digest != read_targets(media_ids=[A, B]).digest


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        ("abc", "abc\n"),
        ("abc", " abc "),
        ("ABC", "abc"),
        ("OSS://b/k", "oss://b/k"),
        ("oss://b/k", "oss://b/k?"),
        ("oss://b/k", "oss://b/k\n"),
    ],
)
def test_an_echo_is_recognised(sent: str, echoed: str) -> None:
    assert match_key(sent) == match_key(echoed)


def test_two_iterations_at_a_time() -> None:
    targets = read_targets(media_ids=[f"{number:032x}" for number in range(50)])
    assert all(one.value == other.value for one, other in zip(targets, targets, strict=True))


@given(st.permutations([f"{letter * 32}" for letter in "0123456789ABCDEF"]))
def test_the_order_of_a_list_is_no_part_of_it(ids: list[str]) -> None:
    one, other = read_targets(media_ids=ids), read_targets(media_ids=set(ids))
    assert one.digest == other.digest
    assert list(map(values_of, batches(one))) == list(map(values_of, batches(other)))


def values_of(batch: Batch) -> list[str]:
    return [target.value for target in batch.targets]


@pytest.mark.parametrize(
    "content",
    [b'{"no": "plan"', b'"A","B"\n', b"\xff\xfe", b"a b\n", b'{"plan": 1}\n{}\n', b"\n".join([b"A"] * 3)],
)
def test_another_file_than_the_approved_one_is_refused_as_such_whatever_is_in_it(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "manifest").write_bytes(content)
    with pytest.raises(GuardError, match="not the one that was approved"):
        read_targets(manifest=str(tmp_path / "manifest"), manifest_digest="0" * 64)


@pytest.mark.parametrize("line", ['"A"', "'A'", "A;B", "A,B", "A|B", "None", "null", "['A']", "A，B"])
def test_a_line_that_is_no_id_is_refused_by_file_and_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "ids.txt").write_text(f"{A}\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"ids\.txt, line 2"):
        read_targets(manifest=str(tmp_path / "ids.txt"))


@pytest.mark.parametrize(
    "bad", ["oss://bucket", "oss://bucket/", "https://b/aoss://b/c", "oss://b/a;oss://b/c", "oss:///a"]
)
def test_a_url_without_an_object_or_with_two_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match=r"^input_urls"):
        read_targets(input_urls=[bad])


@pytest.mark.parametrize("path", ["~/ids.txt", "~", ObjectStoragePath("~/x")])
def test_a_path_in_nobodys_home_is_refused(path: Any) -> None:
    # The oldest universal_pathlib that Airflow takes makes the last an absolute one, of a file that is not there.
    with pytest.raises(ValueError, match=r"without ~|/~/x does not exist"):
        read_targets(manifest=path)


URL = "oss://bucket/show/2.mp4"
PLAN = [
    {"plan": 1},
    {
        "media_id": A,
        "input_url": "https://bucket.oss-cn-shanghai.aliyuncs.com/show/2.mp4",
        "created": CREATED,
    },
]


@pytest.mark.parametrize("protect", [[A], A.upper(), f"{B}\n{A}", repr({A}), URL, [B, URL], f"OSS{URL[3:]}"])
def test_protected_media_are_refused(tmp_path: Path, protect: Any) -> None:
    (tmp_path / "plan.jsonl").write_text("\n".join(map(json.dumps, PLAN)))
    with pytest.raises(GuardError, match=f"must not be deleted, as protect says: {A}"):
        check_guards(read_targets(manifest=str(tmp_path / "plan.jsonl")), protect=protect)


@pytest.mark.parametrize("protect", [[], "", "None", "[]", [URL]])
def test_a_guard_that_guards_nothing_is_refused(protect: Any) -> None:
    with pytest.raises(GuardError, match="would guard nothing"):
        check_guards(read_targets(media_ids=[A]), protect=protect)


NO_URL = [*PLAN, {"media_id": "d" * 32, "input_url": None, "created": CREATED}]


@pytest.mark.parametrize(
    ("targets", "protect"),
    [
        ({"media_ids": [A]}, [B, URL]),
        ({"input_urls": [f"{URL}.mp4"]}, [A]),
        ({"input_urls": [f"{URL}.mp4"]}, [A, URL + "x"]),
        ({"manifest": "ids.txt"}, [B, URL]),
        ({"manifest": "plan.jsonl"}, [URL + "x"]),
    ],
)
def test_what_cant_be_compared_is_not_taken_for_guarded(
    targets: dict[str, Any], protect: Any, tmp_path: Path
) -> None:
    (tmp_path / "ids.txt").write_text(A)
    (tmp_path / "plan.jsonl").write_text(
        "\n".join(map(json.dumps, [{**PLAN[0], "selected": len(NO_URL) - 1}, *NO_URL[1:]]))
    )
    if "manifest" in targets:
        targets = {"manifest": str(tmp_path / targets["manifest"])}
    with pytest.raises(GuardError, match=r"can be compared by .* alone, so it would guard nothing there"):
        check_guards(read_targets(**targets), protect=protect)


@pytest.mark.parametrize(
    ("target", "protect"),
    [
        ("https://cdn.example.com/c.mp4", "http://cdn.example.com/c.mp4"),
        ("https://cdn.example.com/c.mp4", "https://cdn.example.com:443/c.mp4"),
        ("http://cdn.example.com:80/c.mp4", "https://CDN.example.com/c.mp4"),
        *(
            (target, protect)
            for protect in (
                "https://b.oss-cn-shanghai.aliyuncs.com:443/x/a.mp4",
                "http://b.oss-cn-shanghai.aliyuncs.com:80/x/a.mp4",
                "https://b.oss-cn-shanghai.aliyuncs.com./x/a.mp4",
                "https://b.cn-shanghai.oss.aliyuncs.com/x/a.mp4",
                "https://b.s3.oss-cn-shanghai.aliyuncs.com/x/a.mp4",
                "https://b.vpc100-oss-cn-shanghai.aliyuncs.com/x/a.mp4",
                "https://b.oss-cn-shanghai-internal.aliyuncs.com/x/a.mp4",
                "https://b.oss-accelerate.aliyuncs.com/x/a.mp4",
            )
            for target in ("oss://b/x/a.mp4", "https://b.oss-cn-shanghai.aliyuncs.com/x/a.mp4")
        ),
    ],
)
def test_a_file_is_protected_whatever_protocol_it_is_fetched_by(target: str, protect: str) -> None:
    with pytest.raises(GuardError, match="must not be deleted"):
        check_guards(read_targets(input_urls=[target]), protect=[protect])


@pytest.mark.parametrize(
    "protect", ["oss://b/part,2.mp4", f"oss://b/1.mp4,{B}", f"{B}\noss://b/part,2.mp4\n"]
)
def test_a_comma_in_a_protected_url_does_not_protect_another(protect: str, tmp_path: Path) -> None:
    row = {"media_id": A, "input_url": "oss://b/part,2.mp4", "created": CREATED}
    (tmp_path / "plan.jsonl").write_text("\n".join(map(json.dumps, [PLAN[0], row])))
    targets = read_targets(manifest=str(tmp_path / "plan.jsonl"))
    with pytest.raises(ValueError, match=r"protect: .*give a list, or a name on each line"):
        check_guards(targets, protect=protect)
    with pytest.raises(GuardError, match="must not be deleted"):
        check_guards(targets, protect=["oss://b/part,2.mp4"])
    with pytest.raises(GuardError, match="must not be deleted"):
        check_guards(targets, protect=f"oss://b/1.mp4,oss://b/2.mp4,\n{A}")


@pytest.mark.parametrize("ids", [[A.upper(), A], [A, A.upper()]])
def test_of_two_spellings_the_registered_one_is_deleted(ids: list[str], tmp_path: Path) -> None:
    targets = read_targets(media_ids=ids)
    assert (values(targets), targets.duplicates) == ([A], 1)
    (tmp_path / "ids.txt").write_text("\n".join([A, A.upper()]))
    assert values(read_targets(manifest=str(tmp_path / "ids.txt"))) == [A]
    (tmp_path / "ids.txt").write_text("\n".join([B, A.upper(), C, A.upper(), A, B.upper()]))
    targets = read_targets(manifest=str(tmp_path / "ids.txt"))
    assert (values(targets), targets.duplicates) == ([B, A, C], 3)


def test_ids_with_other_letters_than_hexadecimal_ones_have_a_case() -> None:
    assert values(read_targets(media_ids=["Clip-One", "clip-one"])) == ["Clip-One", "clip-one"]


def test_an_empty_folder_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is empty, so it is no report"):
        read_targets(manifest=str(tmp_path), from_report=True)


@pytest.mark.parametrize(
    "path",
    [
        *(False, 5, float("nan"), ["/tmp/x"], b"/tmp/x", {"a": 1}),
        *("False", "True/x", "./", "//", "oss://", "a\nb/x", "a\tb", "file://localhost/x"),
        *("None/x", "./nan/x", "undefined", "\u200b", "s3://None/x", "file://~/x", "a\0b", "\ud800"),
    ],
    ids=repr,
)
def test_what_is_no_path_makes_no_folder_of_its_name(
    path: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^report "):
        storage_path(path, "report")


@pytest.mark.parametrize("protect", ["a;b", [[A]], ["a,b"], {A: 1}, "oss://bucket", "oss://b/part,2.mp4"])
def test_protect_is_read_as_strictly_as_targets(protect: Any) -> None:
    with pytest.raises(ValueError, match="protect"):
        check_guards(read_targets(media_ids=[A]), protect=protect)


def test_others_than_the_protected_may_go() -> None:
    check_guards(read_targets(media_ids=[A]), protect=[B])
    check_guards(read_targets(media_ids=[]), protect=[B, URL])


def test_a_digest_without_a_manifest_says_so() -> None:
    with pytest.raises(GuardError, match="no manifest that it could be of"):
        check_guards(read_targets(media_ids=[A]), digest="0" * 64)


@pytest.mark.parametrize(
    "url",
    [
        "oss://b/第1回\u3000本編.mp4",
        "oss://b/at 1.00.00\u202fPM.mov",
        "oss://b/می\u200cخواهم.mp4",
        "oss://b/👨\u200d👩.mp4",
    ],
)
def test_a_key_may_have_every_blank_and_joiner(url: str) -> None:
    assert values(read_targets(input_urls=[url])) == [url]


@pytest.mark.parametrize("url", ["oss://b/a\x00b", "oss://b/a\u2028b", "oss://b/a\x7fb", "oss://b/\ud800"])
def test_a_key_has_no_control_character(url: str) -> None:
    with pytest.raises(ValueError, match="has a control character"):
        read_targets(input_urls=[url])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_full_disk_for_temporary_files_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", partial(open, "/dev/full", "wb"))
    with pytest.raises(
        StorageError, match=r"the folder for temporary files, .*No space left on device; make room"
    ):
        read_targets(media_ids=[f"{number:032x}" for number in range(3000)])
    spool = Spool(1)
    with pytest.raises(StorageError, match=r"the folder for temporary files"):
        spool.put([(0, b"x" * 2**20)])
