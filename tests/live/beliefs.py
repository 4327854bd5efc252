"""Three services that decide otherwise in what the documentation leaves open, and what must be reported of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Beliefs(NamedTuple):
    """One way in which the service may be.

    :param rules: that make the emulator so.
    :param answers: what must stand in the report, as verdict and value, by the names of questions; a value of
        ``...`` may be any.
    """

    rules: list[Mapping[str, Any]]
    answers: Mapping[str, tuple[str, Any]]


def _limit(**options: Any) -> Mapping[str, Any]:
    return {"kind": "limit", "action": "BatchGetMediaInfos", "rate": 40, "burst": 40, **options}


def _throttle(code: str, status: int) -> dict[str, Any]:
    return {"code": code, "status": status}


_REFUSED = "refused: InvalidParameter (400)"

AS_INFERRED = Beliefs(
    [{"kind": "absent_lists"}, _limit(status=400)],
    {
        "tokens_beyond_100": ("holds", {"listed": 105, "of": 105, "TotalCount": 105}),
        "bounds_of_a_window": ("holds", {"StartTime": "exclusive", "EndTime": "inclusive"}),
        "unknown_id_in_a_read": ("holds", "in IgnoredList"),
        "malformed_id_in_a_read": ("holds", "in IgnoredList"),
        "most_media_of_a_read": ("holds", {"20": 20, "21": _REFUSED, "50": _REFUSED}),
        "missing_medium": (
            "holds",
            dict.fromkeys(("by_id", "by_url"), "refused: ResourceNotFound (404)"),
        ),
        "deleted_time_of_the_living": ("holds", ["equal to CreateTime"]),
        "registered_again": ("noted", _REFUSED),
        "default_of_delete_physical_files": ("holds", "it stays"),
        "delete_physical_files": ("holds", {"true": "the file goes", "false": "the file stays"}),
        "unknown_id_in_a_deletion": ("holds", "in IgnoredList"),
        "empty_lists": ("holds", {"IgnoredList": "absent", "ForbiddenList": "absent"}),
        "echo_of_ids": ("holds", {"repeated": "in IgnoredList", "order": "as sent", "written": ["'id'"]}),
        "white_space_around_an_id": ("noted", "deleted"),
        "duplicate_ids": ("holds", "deleted, echoed 1 times"),
        "too_many_in_a_deletion": ("noted", _REFUSED),
        "source_as_a_stream": ("holds", "in ForbiddenList"),
        "a_whole_deletion": ("holds", ...),
        "operations_of_jobs": ("holds", ...),
        "states_of_a_convert_job": ("holds", {"job": "Complete", "group": "Success", "output": "Success"}),
        "states_of_a_failed_convert_job": ("holds", {"job": "Error", "group": "Failed", "output": "Failed"}),
        "states_of_a_half_failed_convert_job": ("holds", {"job": "Error", "output": "Success, Failed"}),
        "output_in_its_own_source": ("holds", {"job": "Complete", "written_to": "its source"}),
        "states_of_a_producing_job": ("holds", {"job": "Success"}),
        "states_of_a_workflow_task": (
            "holds",
            {"task": "Succeed", "ActivityResults": {"JSON in a text": {"act-transcode": {"Result": dict}}}},
        ),
        "unknown_operation": ("holds", "refused: InvalidApi.NotFound (404)"),
        "wrong_keys": ("holds", ...),
        "wrong_clock": ("holds", "corrected"),
        "throttle": ("holds", {**_throttle("Throttling.User", 400), "x-acs-retry-after": None}),
    },
)

STRICT = Beliefs(
    [
        {
            "kind": "otherwise",
            "unknown_ids": "refused",
            "white_space": "kept",
            "duplicates": "silent",
            "over_20": "cut",
            "file_by_default": True,
            "missing": "empty",
            "deleted_time": "absent",
            "pages": "first_100",
            "job_words": "Success Failed",
            "failed_output": "passes",
        },
        {"kind": "null_lists"},
        {"kind": "lagging_reads", "milliseconds": 700},
        {"kind": "refuse", "action": "GetTranscodeJob", "status": 404, "code": "InvalidAction.NotFound"},
        _limit(status=429, retry_after=True),
    ],
    {
        "tokens_beyond_100": ("does not hold", {"listed": 100, "of": 105, "TotalCount": 105}),
        "unknown_id_in_a_read": ("does not hold", _REFUSED),
        "malformed_id_in_a_read": ("does not hold", _REFUSED),
        "most_media_of_a_read": ("holds", {"20": 20, "21": 20, "50": 20}),
        "missing_medium": ("holds", dict.fromkeys(("by_id", "by_url"), "MediaInfo is absent")),
        "deleted_time_of_the_living": ("holds", ["absent"]),
        "default_of_delete_physical_files": ("does not hold", "it is deleted too"),
        "delete_physical_files": ("holds", {"true": "the file goes", "false": "the file stays"}),
        "unknown_id_in_a_deletion": ("holds", _REFUSED),
        "malformed_id_in_a_deletion": ("holds", _REFUSED),
        "empty_lists": ("holds", {"IgnoredList": "null", "ForbiddenList": "null"}),
        "echo_of_ids": ("noted", {"repeated": _REFUSED}),
        "white_space_around_an_id": ("noted", f"{_REFUSED}; still there"),
        "duplicate_ids": ("holds", "deleted, echoed 0 times"),
        "too_many_in_a_deletion": ("noted", "20 of 21 deleted"),
        "lag_after_deletion": ("holds", ...),
        "a_whole_deletion": ("holds", ...),
        "operations_of_jobs": (
            "holds",
            {
                "GetTranscodeJob": "ended: refused: InvalidAction.NotFound (404)",
                "GetMediaConvertJob": "there",
            },
        ),
        "unknown_jobs": ("holds", {"GetMediaConvertJob": "no Job", "GetWorkflowTask": "no WorkflowTask"}),
        "states_of_a_convert_job": ("holds", {"job": "Success", "output": "Success"}),
        "states_of_a_failed_convert_job": ("holds", {"job": "Failed", "output": "Failed"}),
        "states_of_a_half_failed_convert_job": ("holds", {"job": "Success", "output": "Success, Failed"}),
        "throttle": ("holds", {**_throttle("Throttling", 429), "x-acs-retry-after": int}),
    },
)

LENIENT = Beliefs(
    [
        {
            "kind": "otherwise",
            "over_20": "taken",
            "registered_again": "same_id",
            "job_words": "Finished Fail",
        },
        {"kind": "echo", "before": " ", "after": "\n"},
        {"kind": "refuse", "action": "GetWorkflowTask", "status": 404, "code": "InvalidApi.NotFound"},
        {"kind": "refuse", "action": "DeletePlayInfo", "status": 403, "code": "Forbidden.RAM"},
        _limit(status=403),
    ],
    {
        "most_media_of_a_read": ("holds", {"20": 20, "21": 21, "50": 50}),
        "registered_again": ("noted", "the same id"),
        "empty_lists": ("holds", {"IgnoredList": "[]", "ForbiddenList": "[]"}),
        "echo_of_ids": ("holds", {"repeated": "in IgnoredList", "order": "as sent", "written": [r"' id\n'"]}),
        "too_many_in_a_deletion": ("noted", "21 of 21 deleted"),
        "unknown_stream": ("does not hold", "refused: Forbidden.RAM (403)"),
        "a_whole_deletion": ("holds", ...),
        "operations_of_jobs": (
            "does not hold",
            {"GetWorkflowTask": "ended: refused: InvalidApi.NotFound (404)", "GetTranscodeJob": "there"},
        ),
        "states_of_a_convert_job": ("holds", {"job": "Finished"}),
        "states_of_a_failed_convert_job": ("holds", {"job": "Fail"}),
        "throttle": ("holds", {**_throttle("RequestsTooFrequent", 403), "x-acs-retry-after": None}),
    },
)

ALL = {"as_inferred": AS_INFERRED, "strict": STRICT, "lenient": LENIENT}


def agree(expected: Any, found: Any) -> bool:
    """Whether a value of a report is the expected one; of objects what is expected, of states the last."""
    if expected is ... or (isinstance(expected, type) and isinstance(found, expected)):
        return True
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        return all(name in found and agree(value, found[name]) for name, value in expected.items())
    if isinstance(expected, str) and isinstance(found, list):
        return found[-1:] == [expected]
    return bool(expected == found)
