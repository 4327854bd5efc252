"""How jobs of each kind are read and judged: leniently or strictly, never half."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_ims.api import jobs
from airflow_provider_ims.api.errors import IMSAPIError, IMSTransientError
from airflow_provider_ims.api.fields import number
from airflow_provider_ims.api.jobs import JOB_KINDS, Job, JobFile, JobPart, read_job

ID = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32
PLAIN = "https://b.oss-cn-shanghai.aliyuncs.com/a.mp4"
SIGNED = f"{PLAIN}?Expires=1&OSSAccessKeyId=LEAK&Signature=LEAK"
CONVERT = "media convert job"


@pytest.fixture
def client(service, connect, pauses):
    return connect(service)


@pytest.fixture
def answer(service, wire):
    """Sets what the service says from now on."""

    def answer(**fields):
        service.default = wire.ok(**fields)

    return answer


@pytest.fixture
def convert(client, answer):
    """Reads a convert job that the service shows."""

    def convert(**shown):
        answer(Job={"JobId": ID, **shown})
        return read_job(client, CONVERT, ID)

    return convert


def output(name, status="Success", **file):
    result = {"Result": {"OutputFile": file}} if file else {}
    return {"Name": name, "Status": status, **result}


def test_the_example_of_a_convert_job_in_both_places(client, service, convert):
    job = convert(
        State="Complete",
        Percent=100,
        Config={
            "Inputs": [
                {"Name": "in", "InputFile": {"Type": "Media", "Media": OTHER}},
                {"Name": "in2", "InputFile": {"Type": "OSS", "Media": SIGNED}},
            ],
            "Outputs": [{"Name": "a"}],
            "OutputGroups": [
                {
                    "Name": "g",
                    "GroupConfig": {"OutputFileBase": {"Type": "OSS", "Media": "oss://b/out"}},
                    "Outputs": [{"Name": "hd"}],
                }
            ],
        },
        OutputDetails=[output("a", Type="Media", Media=OTHER, Url=SIGNED)],
        OutputGroupDetails=[
            {
                "Name": "g",
                "Status": "Success",
                "Outputs": [
                    {
                        "Name": "hd",
                        "Status": "Success",
                        "Result": {
                            "OutputFile": {"Type": "OSS", "Media": "oss://b/out/hd.mp4"},
                            "OutFileMeta": {"FileBasicInfo": {"FileUrl": SIGNED, "FileSize": "30611502"}},
                        },
                    }
                ],
            }
        ],
    )
    assert job == Job(
        CONVERT,
        ID,
        "Complete",
        inputs=(JobFile(media_id=OTHER), JobFile(url=PLAIN)),
        outputs=(
            JobPart("a", "Success", media_id=OTHER, url=PLAIN),
            JobPart("hd", "Success", url="oss://b/out/hd.mp4"),
        ),
        groups=(JobPart("g", "Success"),),
        expected=2,
    )
    assert job.is_over
    assert job.failures() == []
    assert service.requests[0].headers["x-acs-action"] == "GetMediaConvertJob"
    assert service.requests[0].query == {"JobId": ID}


def test_a_group_that_is_written_into_a_medium_names_it_for_its_outputs(convert):
    job = convert(
        State="Complete",
        Config={
            "OutputGroups": [
                {"Name": "g", "GroupConfig": {"OutputFileBase": {"Type": "Media", "Media": OTHER}}}
            ]
        },
        OutputGroupDetails=[{"Name": "g", "Status": "Success", "Outputs": [output("hd")]}],
    )
    assert [part.media_id for part in job.outputs] == [OTHER]


def test_a_config_may_be_the_text_that_was_submitted(convert):
    config = {"Inputs": [{"InputFile": {"Type": "Media", "Media": OTHER}}], "Outputs": [{"Name": "a"}]}
    job = convert(State="Complete", Config=json.dumps(config), OutputDetails=None)
    assert job.inputs == (JobFile(media_id=OTHER),)
    assert job.expected == 1


@pytest.mark.parametrize(
    ("file", "media_id", "url"),
    [
        ({"Type": "Media", "Media": OTHER}, OTHER, None),
        ({"Type": "media", "Media": OTHER, "Url": SIGNED}, OTHER, PLAIN),
        ({"Media": OTHER}, OTHER, None),
        ({"Type": None, "Media": OTHER}, OTHER, None),
        ({"Type": "OSS", "Media": SIGNED}, None, PLAIN),
        ({"Media": SIGNED}, None, PLAIN),
        ({"Type": "Media", "Media": SIGNED}, None, PLAIN),
        ({"Type": "OSS", "Media": "bucket/a.mp4"}, None, "bucket/a.mp4"),
        ({"Type": "OSS", "Url": SIGNED}, None, PLAIN),
        ({"Type": ["Media"], "Media": {"MediaId": OTHER}, "Url": 7}, None, None),
    ],
)
def test_a_url_is_never_an_id_and_never_signed(convert, file, media_id, url):
    job = convert(State="Complete", OutputDetails=[{**output("a"), "Result": {"OutputFile": file}}])
    assert [(part.media_id, part.url) for part in job.outputs] == [(media_id, url)]


@pytest.mark.parametrize(
    "shown",
    [
        {"Config": None, "OutputDetails": None, "OutputGroupDetails": None},
        {},
        {"OutputDetails": [], "OutputGroupDetails": [], "Percent": "100", "NewField": {"a": 1}},
    ],
)
def test_a_good_end_that_shows_no_output_is_a_failure(convert, shown):
    job = convert(State="Complete", **shown)
    assert job.is_over
    assert job.failures() == ["it shows no output"]
    assert convert(State="Running", **shown).failures() == []


GROUP_NAMES = st.sampled_from([None, "", " ", "g", "h"])
GROUPS = st.lists(
    st.fixed_dictionaries(
        {
            "name": GROUP_NAMES,
            "into": st.none() | st.text("0123456789abcdef", min_size=32, max_size=32),
            "outputs": st.integers(1, 3),
            "missing": st.integers(0, 3),
            "skipped": st.booleans(),
        }
    ),
    max_size=4,
)


def as_the_service_shows_them(groups, names_are_shown):
    """What was asked for and what is shown of groups of outputs, whose names may be given twice or not at all."""
    asked, shown = [], []
    for group in groups:
        base = (
            {"Type": "Media", "Media": group["into"]}
            if group["into"]
            else {"Type": "OSS", "Media": "oss://b/o"}
        )
        named = {} if group["name"] is None else {"Name": group["name"]}
        config = {"GroupConfig": {"OutputFileBase": base}, "Outputs": [{"Name": "x"}] * group["outputs"]}
        asked.append({**named, **config})
        state, there = "Success", group["outputs"] - group["missing"]
        if group["skipped"]:
            state, there = "Skipped", 0
        outputs = [{"Name": "x", "Status": "Success"}] * there
        shown.append({**(named if names_are_shown else {}), "Status": state, "Outputs": outputs or None})
    return asked, shown


@given(GROUPS, st.booleans())
def test_groups_are_read_whatever_their_names_are(groups, names_are_shown):
    """A group that is written into a medium names it for its outputs; one that was skipped may show none of them."""
    asked, shown = as_the_service_shows_them(groups, names_are_shown)
    job = jobs._convert_job(
        {"State": "Complete", "Config": {"OutputGroups": asked}, "OutputGroupDetails": shown}, ID
    )
    assert [part.media_id for part in job.outputs] == [
        group["into"] for group, one in zip(groups, shown, strict=True) for _ in one["Outputs"] or ()
    ]
    missing = sum(min(group["missing"], group["outputs"]) for group in groups if not group["skipped"])
    assert job.expected == len(job.outputs) + missing
    assert job.is_over == (not missing or not job.outputs)


def test_groups_are_found_by_their_names_in_any_order(convert):
    groups = [
        {"name": name, "into": into, "outputs": 1, "missing": 0, "skipped": False}
        for name, into in (("g", ID), ("h", OTHER), ("g", None))
    ]
    asked, shown = as_the_service_shows_them(groups, names_are_shown=True)
    config = {"OutputGroups": asked[::-1]}
    job = convert(State="Complete", Config=config, OutputGroupDetails=shown)
    # Of the two of one name, those come first that were asked for first.
    assert [part.media_id for part in job.outputs] == [None, OTHER, ID]


def test_an_output_is_written_where_it_was_to_be(convert):
    """Also one that stands beside the groups, and does not say so itself."""
    config = {"Outputs": [{"Name": "a", "OutputFile": {"Type": "Media", "Media": OTHER}}, {"Name": "b"}]}
    job = convert(State="Complete", Config=config, OutputDetails=[output("b"), output("a")])
    assert [(part.name, part.media_id) for part in job.outputs] == [("b", None), ("a", OTHER)]


def test_an_output_that_is_not_shown_yet_is_waited_for(convert):
    config = {"OutputGroups": [{"Name": "g", "Outputs": [{"Name": "hd"}, {"Name": "sd"}]}]}
    group = {"Name": "g", "Status": "Success", "Outputs": [output("hd")]}
    assert not convert(State="Complete", Config=config, OutputGroupDetails=[group]).is_over
    group["Outputs"].append(output("sd"))
    assert convert(State="Complete", Config=config, OutputGroupDetails=[group]).is_over


def test_a_group_that_was_skipped_or_failed_counts_without_its_outputs(convert):
    config = {"OutputGroups": [{"Name": name, "Outputs": [{"Name": "hd"}]} for name in ("g", "h")]}
    groups = [
        {"Name": "g", "Status": "Success", "Outputs": [output("hd")]},
        {"Name": "h", "Status": "Skipped", "Outputs": None},
    ]
    job = convert(State="Complete", Config=config, OutputGroupDetails=groups)
    assert job.is_over
    assert job.failures() == ["h is Skipped"]
    assert job.failures(accept_skipped=True) == []
    groups[1]["Status"] = "Failed"
    assert convert(State="Running", Config=config, OutputGroupDetails=groups).failures() == ["h is Failed"]


@pytest.mark.parametrize("kind", JOB_KINDS)
@pytest.mark.parametrize("shown", [None, {}])
def test_an_answer_without_a_job_is_final(client, service, answer, kind, shown):
    answer(**{JOB_KINDS[kind].field: shown} if shown is not None else {})
    with pytest.raises(IMSAPIError, match=f"it shows no {kind} {ID}") as caught:
        read_job(client, kind, ID)
    assert not isinstance(caught.value, IMSTransientError)
    assert caught.value.request_id
    assert len(service.requests) == 1


@pytest.mark.parametrize("kind", JOB_KINDS)
@pytest.mark.parametrize("other", JOB_KINDS)
def test_an_answer_of_another_operation_is_no_answer(client, answer, kind, other):
    about = JOB_KINDS[other]
    answer(**{about.field: {about.parameter: ID, "State": "Complete", "Status": "Success"}})
    if kind == other:
        read_job(client, kind, ID)
    else:
        with pytest.raises(IMSTransientError, match=f"another operation, for it has {about.field}"):
            read_job(client, kind, ID)


@pytest.mark.parametrize("kind", JOB_KINDS)
@pytest.mark.parametrize(
    "job_id", ["", " ", "None", f"['{ID}']", f"{ID},{ID}", f"{ID}\n{OTHER}", SIGNED, "9" * 129, None, 7, [ID]]
)
def test_what_can_be_no_id_is_an_error_and_no_request(client, service, kind, job_id):
    with pytest.raises(
        ValueError, match=f"{JOB_KINDS[kind].parameter} is .*, which names no {kind}"
    ) as caught:
        read_job(client, kind, job_id)
    assert "LEAK" not in str(caught.value)
    assert len(str(caught.value)) < 250
    assert service.requests == []


@pytest.mark.parametrize("kind", JOB_KINDS)
@pytest.mark.parametrize("shown", [[], "text", 7, {"Status": "Success"}, "another"])
def test_a_wrong_shape_and_another_job_are_no_answer(client, answer, kind, shown):
    about = JOB_KINDS[kind]
    answer(**{about.field: {about.parameter: OTHER, "State": "Complete"} if shown == "another" else shown})
    with pytest.raises(IMSTransientError):
        read_job(client, kind, ID)


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (CONVERT, "OutputDetails"),
        (CONVERT, "OutputGroupDetails"),
        ("transcoding job", "TranscodeJobList"),
        ("transcoding job", "InputGroup"),
    ],
)
@pytest.mark.parametrize("value", [{}, "text", ["text"], 7])
def test_a_list_that_is_none_is_no_answer(client, answer, kind, field, value):
    about = JOB_KINDS[kind]
    answer(**{about.field: {about.parameter: ID, "State": "Complete", field: value}})
    with pytest.raises(IMSTransientError):
        read_job(client, kind, ID)


def test_a_transcoding_job(client, answer, service):
    answer(
        TranscodeParentJob={
            "ParentJobId": ID,
            "Status": "Success",
            "TranscodeJobList": [
                {
                    "JobId": "1",
                    "Status": "Success",
                    "Output": {"Type": "OSS", "Media": SIGNED},
                    "OutFileMeta": {"FileBasicInfo": {"MediaId": OTHER, "FileUrl": SIGNED}},
                },
                {
                    "JobId": "2",
                    "Status": "Fail",
                    "Output": {"Type": "Media", "Media": OTHER, "OutputUrl": SIGNED},
                },
                {"JobId": "3", "OutFileMeta": {"FileBasicInfo": {"FileUrl": SIGNED}}},
                {"Output": None, "OutFileMeta": "text"},
            ],
        }
    )
    job = read_job(client, "transcoding job", ID)
    assert job.outputs == (
        JobPart("1", "Success", job_id="1", media_id=OTHER, url=PLAIN),
        JobPart("2", "Fail", job_id="2", media_id=OTHER, url=PLAIN),
        JobPart("3", "", job_id="3", url=PLAIN),
        JobPart(""),
    )
    assert job.failures() == ["2 is Fail"]
    assert service.requests[0].query == {"ParentJobId": ID}


def test_a_workflow_task_tells_ids_as_a_sister_product_writes_them(client, answer):
    results = (
        '{"act-1": {"ActivityId": "act-1", "Status": "Succeed", '
        f'"Result": {{"JobType": "Transcode", "JobId": "{OTHER}"}}}}, '
        f'"act-2": {{"Status": "Failed", "Result": "{{\\"MediaId\\": \\"{ID}\\"}}"}}}}'
    )
    task = {"TaskId": ID, "Status": "Succeed", "ActivityResults": results, "TaskInput": "{broken"}
    answer(WorkflowTask=task)
    job = read_job(client, "workflow task", ID)
    assert job.outputs == (
        JobPart("act-1", "Succeed", job_id=OTHER),
        JobPart("act-2", "Failed", media_id=ID),
    )
    assert job.inputs == ()
    # The task's own state is what counts: an activity may fail where the workflow goes on.
    assert job.is_over
    assert job.failures() == []
    answer(WorkflowTask={**task, "Status": "Failed"})
    assert read_job(client, "workflow task", ID).failures() == ["act-2 is Failed"]


@pytest.mark.parametrize(
    "results",
    [
        json.dumps({f"act-{number}": {"Status": "Succeed"} for number in range(25_000)}),
        json.dumps({"a" * 500_000: {"Status": "b" * 500_000}}),
        json.dumps({"act": json.dumps({"Result": json.dumps({"JobId": ID, "More": "x" * 1_000_000})})}),
        '{"act": {"Result": ' + "[" * 1_000_000,
        "9" * 1_000_000,
    ],
    ids=["many", "long words", "JSON in JSON", "deep", "digits"],
)
def test_a_megabyte_of_activities_is_read_in_no_time(results):
    began = time.process_time()
    job = jobs._workflow_task({"TaskId": ID, "Status": "Succeed", "ActivityResults": results}, ID)
    assert time.process_time() - began < 5
    assert job.is_over
    assert all(len(one.name) <= 100 and len(one.state) <= 100 for one in job.outputs)
    assert len(job.describe()) <= 500


def test_what_a_job_calls_its_parts_is_fit_to_be_repeated(convert):
    said = f"hd\r\nERROR {SIGNED}" + "x" * 10_000
    (part,) = convert(State="Complete", OutputDetails=[{"Name": said, "Status": said}]).outputs
    for text in (part.name, part.state):
        assert text.isprintable()
        assert len(text) <= 100
        assert "LEAK" not in text


STATES = st.sampled_from(["", "Init", "Scheduled", "Running", "Success", "Failed", "Skipped", "Pondering"])
PARTS = st.lists(STATES.map(lambda state: JobPart("x", state)), max_size=4).map(tuple)


@given(
    st.sampled_from(["", "Running", "Complete", "SUCCESS", "finished", "Error", "Cancelled", "Odd"]),
    PARTS,
    PARTS,
    st.integers(0, 5),
    st.booleans(),
)
def test_a_source_may_only_go_if_everything_is_there(state, outputs, groups, expected, accept_skipped):
    job = Job(CONVERT, ID, state, outputs=outputs, groups=groups, expected=expected)
    well = job.is_over and not job.failures(accept_skipped=accept_skipped)
    ends = {"Success", "Skipped"} if accept_skipped else {"Success"}
    truly = (
        state.casefold() in ("complete", "success", "finished")
        and len(outputs) >= max(expected, 1)
        and all(part.state in ends for part in (*outputs, *groups))
    )
    assert well == truly
    # What is not over can't have failed: the triggerer, which only knows the one, would wait for ever.
    assert job.is_over or not job.failures(accept_skipped=accept_skipped)


def test_what_a_job_says_is_fit_to_be_repeated():
    """Its words get into an error and into XCom."""
    said = "failed\r\nERROR \x1b[31m https://b.oss/a.mp4?Expires=1&Signature=SIGNEDbySOMEBODY " + "x" * 10_000
    described = jobs._describe(jobs.JobPart("it", "Fail\u2028ed", code="C\u202e", message=said))
    assert described.isprintable()
    assert len(described) <= 500
    assert "SIGNED" not in described


@pytest.mark.parametrize("size", ["9" * 400, "9" * 5000, 10**400, -(10**30)])
def test_a_number_that_is_none_is_absent(size):
    assert number(size) is None
