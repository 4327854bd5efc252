"""What is sent for each operation, and how answers are read: leniently or strictly, never half."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

from airflow_provider_ims.api import fields, operations
from airflow_provider_ims.api.errors import IMSAPIError, IMSTransientError

ID = "0123456789abcdef0123456789abcdef"
SIGNED = "https://b.oss-cn-shanghai.aliyuncs.com/a.mp4?Expires=1&OSSAccessKeyId=LEAK&Signature=LEAK"


@pytest.fixture
def client(service, connect, pauses):
    return connect(service)


@pytest.fixture
def answer(service, wire):
    """Sets what the service says from now on."""

    def answer(**fields):
        service.default = wire.ok(**fields)

    return answer


class TestDeletePlayInfo:
    URL = "https://b.oss-cn-shanghai.aliyuncs.com/a b/中.m3u8"

    def test_urls(self, client, service, answer):
        answer(IgnoredList=["a"], ForbiddenList=["b\n"])
        got = operations.delete_play_info(
            client, ID, file_urls=[self.URL, "oss://b/2"], delete_physical_files=True
        )
        assert got.value == operations.Deletion(("a",), ("b\n",))
        assert service.requests[0].headers["x-acs-action"] == "DeletePlayInfo"
        assert service.requests[0].query == {
            "MediaId": ID,
            "FileURLs": f"{self.URL},oss://b/2",
            "DeletePhysicalFiles": "true",
        }

    @pytest.mark.parametrize(
        ("media_id", "file_urls", "complaint"),
        [
            ("", ["oss://b/1"], "media_id"),
            (ID, [], "1 to 20"),
            (ID, ["oss://b/1"] * 21, "1 to 20"),
            (ID, ["oss://b/1,2"], "'oss://b/1,2'"),
        ],
    )
    def test_refused_before_anything_is_sent(self, client, service, media_id, file_urls, complaint):
        with pytest.raises(ValueError, match=complaint):
            operations.delete_play_info(client, media_id, file_urls=file_urls, delete_physical_files=False)
        assert not service.requests


class TestDelete:
    def test_ids(self, client, service, answer):
        answer(IgnoredList=["a"], ForbiddenList=["b\n"])
        got = operations.delete_media_infos(client, media_ids=["a", "b", "c"], delete_physical_files=False)
        assert got.value == operations.Deletion(("a",), ("b\n",))
        assert (got.request_id, got.answer_lost) == ("R-OK", False)
        assert service.requests[0].headers["x-acs-action"] == "DeleteMediaInfos"
        assert service.requests[0].query == {"MediaIds": "a,b,c", "DeletePhysicalFiles": "false"}

    def test_urls(self, client, service, answer):
        answer()
        url = "https://b.oss-cn-shanghai.aliyuncs.com/a b/中+~*.mp4"
        got = operations.delete_media_infos(client, input_urls=[url], delete_physical_files=True)
        assert got.value == operations.Deletion((), ())
        assert service.requests[0].query == {"InputURLs": url, "DeletePhysicalFiles": "true"}

    @pytest.mark.parametrize(
        "absent",
        [
            {},
            {"IgnoredList": None, "ForbiddenList": None, "Surprise": {"of": "a later version"}},
            {"IgnoredList": [], "Surprise": {"of": "a later version"}},
        ],
    )
    def test_lists_may_be_absent(self, client, answer, absent):
        answer(**absent)
        got = operations.delete_media_infos(client, media_ids=["a"], delete_physical_files=False)
        assert got.value == operations.Deletion((), ())

    def test_no_other_operations_answer_is_taken_for_it(self, client, answer):
        """What any operation of the official SDK may answer with, one field each."""
        models = importlib.import_module("alibabacloud_ice20201109.models")
        bodies = [model for name, model in vars(models).items() if name.endswith("ResponseBody")]
        names = {field for body in bodies for field in _wire_names(body)} - {
            *fields._ENVELOPE,
            "IgnoredList",
            "ForbiddenList",
        }
        assert {"MediaInfos", "MediaInfo", "JobId", "TranscodeParentJob"} <= names
        for name in sorted(names):
            with pytest.raises(ValueError, match=f"of another operation, for it has {name}"):
                operations._read_deletion({"RequestId": "R", name: "something"})
        for read in ({"MediaInfos": [], "IgnoredList": ["a"]}, {"MediaInfos": []}, {"MediaInfos": [{}]}):
            answer(**read)
            with pytest.raises(IMSTransientError, match="of another operation"):
                operations.delete_media_infos(client, media_ids=["a"], delete_physical_files=False)

    @pytest.mark.parametrize("name", ["IgnoredList", "ForbiddenList"])
    @pytest.mark.parametrize("wrong", ["a", "", 0, False, {}, {"Item": ["a"]}, [1], [None], [["a"]], 7])
    def test_a_list_that_is_none_is_no_empty_list(self, client, answer, name, wrong):
        answer(**{name: wrong})
        with pytest.raises(IMSTransientError, match=name) as error:
            operations.delete_media_infos(client, media_ids=["a"], delete_physical_files=False)
        assert (error.value.code, error.value.answer_lost) == ("BadAnswer", True)
        assert error.value.request_id == "R-OK"

    @pytest.mark.parametrize(
        "targets",
        [
            {},
            {"media_ids": ["a"], "input_urls": ["https://b"]},
            {"media_ids": ["a"] * 21},
            {"input_urls": ["u"] * 21},
        ],
    )
    def test_refused_before_anything_is_sent(self, client, service, targets):
        with pytest.raises(ValueError, match=r"exactly one|1 to 20"):
            operations.delete_media_infos(client, **targets, delete_physical_files=False)
        assert not service.requests

    def test_twenty_are_not_too_many(self, client, service):
        ids = [f"{n:032x}" for n in range(20)]
        operations.delete_media_infos(client, media_ids=ids, delete_physical_files=False)
        assert service.requests[0].query["MediaIds"].split(",") == ids


class TestMedia:
    def test_every_field(self, client, service, answer):
        answer(
            MediaInfos=[
                {
                    "MediaId": ID,
                    "MediaBasicInfo": {
                        "MediaId": ID,
                        "InputURL": SIGNED,
                        "CoverURL": SIGNED,
                        "Title": "trailer",
                        "MediaType": "video",
                        "Source": "oss",
                        "BusinessType": "general",
                        "Status": "Normal",
                        "CreateTime": "2024-01-02T03:04:05Z",
                        "DeletedTime": "",
                        "MediaTags": "keep, raw ,,",
                    },
                    "FileInfoList": [
                        {"FileBasicInfo": {"FileSize": "10", "FileUrl": SIGNED}},
                        {"FileBasicInfo": {"FileSize": 5}},
                    ],
                }
            ],
            IgnoredList=["gone"],
        )
        (medium,) = operations.batch_get_media_infos(client, [ID, "gone"]).value
        assert medium == operations.MediaInfo(
            media_id=ID,
            input_url="https://b.oss-cn-shanghai.aliyuncs.com/a.mp4",
            title="trailer",
            media_type="video",
            source="oss",
            business_type="general",
            status="Normal",
            created="2024-01-02T03:04:05Z",
            deleted=None,
            tags=("keep", "raw"),
            size=15,
        )
        assert not medium.is_gone
        assert "LEAK" not in repr(medium)
        assert service.requests[0].query == {"MediaIds": f"{ID},gone", "AuthTimeout": "1"}

    def test_a_bare_medium_has_no_defaults(self, client, answer):
        answer(
            MediaInfos=[{"MediaId": ID}, {"MediaBasicInfo": {"MediaId": "b", "Title": 7, "MediaTags": None}}]
        )
        for medium in operations.batch_get_media_infos(client, [ID]).value:
            rest = [getattr(medium, name) for name in medium.__dataclass_fields__ if name != "media_id"]
            assert rest == [None] * 10

    @pytest.mark.parametrize(
        ("tags", "read"),
        [
            ("", ()),
            ("a", ("a",)),
            (" a , b,", ("a", "b")),
            (None, None),
            (["a"], None),
            (7, None),
            ({}, None),
        ],
    )
    def test_tags(self, client, answer, tags, read):
        answer(MediaInfos=[{"MediaId": ID, "MediaBasicInfo": {"MediaTags": tags}}])
        assert operations.batch_get_media_infos(client, [ID]).value[0].tags == read

    @pytest.mark.parametrize(
        ("files", "size"),
        [
            ([{"FileBasicInfo": {"FileSize": "7"}}], 7),
            ([{"FileBasicInfo": {"FileSize": " 7 "}}, {"FileBasicInfo": {"FileSize": 3}}], 10),
            ([{"FileBasicInfo": {"FileSize": "0"}}], 0),
            # One that does not tell its size makes the sum unknown.
            ([{"FileBasicInfo": {"FileSize": "7"}}, {"FileBasicInfo": {}}], None),
            ([{"FileBasicInfo": {"FileSize": "7.5"}}], None),
            ([{"FileBasicInfo": {"FileSize": True}}], None),
            ([{"FileBasicInfo": None}], None),
            ([{"FileBasicInfo": "text"}], None),
            ([{"FileBasicInfo": ["list"]}], None),
            (["text"], None),
            ([], None),
            (None, None),
            ("text", None),
        ],
    )
    def test_sizes(self, client, answer, files, size):
        answer(MediaInfos=[{"MediaId": ID, "FileInfoList": files}])
        assert operations.batch_get_media_infos(client, [ID]).value[0].size == size

    @pytest.mark.parametrize(
        "media",
        [
            {},
            "text",
            "",
            0,
            [1],
            [None],
            [{}],
            [{"MediaId": ""}],
            [{"MediaId": 7}],
            [{"MediaId": "a", "MediaBasicInfo": [1]}],
        ],
    )
    def test_media_of_a_wrong_shape(self, client, answer, media):
        answer(MediaInfos=media)
        for call in (
            lambda: operations.batch_get_media_infos(client, [ID]),
            lambda: operations.list_media_basic_infos(client),
        ):
            with pytest.raises(IMSTransientError) as error:
                call()
            assert error.value.code == "BadAnswer"

    @pytest.mark.parametrize("deleted_at", ["2024-01-02T03:04:05Z", "2025-01-01T00:00:00Z"])
    @pytest.mark.parametrize("status", ["Normal", "Deleted"])
    def test_a_deleted_medium_that_still_shows(self, client, answer, deleted_at, status):
        basic = {"Status": status, "CreateTime": "2024-01-02T03:04:05Z", "DeletedTime": deleted_at}
        answer(MediaInfos=[{"MediaId": ID, "MediaBasicInfo": basic}])
        is_gone = operations.batch_get_media_infos(client, [ID]).value[0].is_gone
        assert is_gone == (status == "Deleted" and deleted_at.startswith("2025"))

    @pytest.mark.parametrize("ids", [[], ["a"] * 21])
    def test_none_and_too_many_are_refused(self, client, service, ids):
        with pytest.raises(ValueError, match="1 to 20"):
            operations.batch_get_media_infos(client, ids)
        assert not service.requests


class TestGetOne:
    def test_by_id_and_by_url(self, client, service, answer):
        answer(MediaInfo={"MediaId": ID, "MediaBasicInfo": {"InputURL": SIGNED}})
        by_id = operations.get_media_info(client, media_id=ID).value
        by_url = operations.get_media_info(client, input_url="https://b/a,b").value
        assert by_id
        assert by_id == by_url
        assert by_id.input_url == "https://b.oss-cn-shanghai.aliyuncs.com/a.mp4"
        assert [request.query for request in service.requests] == [
            {"MediaId": ID, "AuthTimeout": "1"},
            {"InputURL": "https://b/a,b", "AuthTimeout": "1"},
        ]

    @pytest.mark.parametrize("fields", [{}, {"MediaInfo": None}, {"MediaInfo": {}}])
    def test_none(self, client, answer, fields):
        answer(**fields)
        assert operations.get_media_info(client, media_id=ID).value is None

    @pytest.mark.parametrize("wrong", ["text", "", [], [{"MediaId": "a"}], 0, {"Title": "no id"}])
    def test_a_wrong_shape_is_not_none(self, client, answer, wrong):
        answer(MediaInfo=wrong)
        with pytest.raises(IMSTransientError):
            operations.get_media_info(client, media_id=ID)

    @pytest.mark.parametrize("given", [{}, {"media_id": "a", "input_url": "b"}])
    def test_exactly_one(self, client, service, given):
        with pytest.raises(ValueError, match="exactly one"):
            operations.get_media_info(client, **given)
        assert not service.requests


class TestList:
    def test_filters_and_page(self, client, service, answer):
        answer(MediaInfos=[{"MediaId": ID}], TotalCount="7", NextToken="next\n", MaxResults=1)
        page = operations.list_media_basic_infos(
            client,
            start_time="2024-01-01T00:00:00Z",
            media_type="video",
            sort_by="asc",
            include_file_basic_info=True,
            max_results=1,
        ).value
        assert [medium.media_id for medium in page.media] == [ID]
        assert (page.total, page.next_token) == (7, "next")
        assert service.requests[0].query == {
            "StartTime": "2024-01-01T00:00:00Z",
            "MediaType": "video",
            "SortBy": "asc",
            "IncludeFileBasicInfo": "true",
            "MaxResults": "1",
            "AuthTimeout": "1",
        }

    @pytest.mark.parametrize("end", [{}, {"NextToken": None}, {"NextToken": ""}, {"TotalCount": None}])
    def test_the_last_page(self, client, answer, end):
        answer(**end)
        assert operations.list_media_basic_infos(client).value == operations.MediaPage((), None, None)

    @pytest.mark.parametrize("token", [7, 0, False, ["next"], {}])
    def test_an_unreadable_token_is_not_the_end(self, client, answer, token):
        answer(NextToken=token)
        with pytest.raises(IMSTransientError, match="NextToken"):
            operations.list_media_basic_infos(client)

    def test_all_pages(self, client, service, wire):
        service.script = [
            wire.ok(MediaInfos=[{"MediaId": "a"}, {"MediaId": "b"}], NextToken="1"),
            wire.ok(MediaInfos=[], NextToken="2"),
            wire.ok(MediaInfos=[{"MediaId": "c"}]),
        ]
        found = operations.list_all_media(client, status="Normal")
        assert [medium.media_id for medium in found] == ["a", "b", "c"]
        assert [request.query.get("NextToken") for request in service.requests] == [None, "1", "2"]
        assert {request.query["Status"] for request in service.requests} == {"Normal"}

    def test_a_token_given_twice_ends_in_an_error_and_not_in_a_circle(self, client, service, answer):
        answer(MediaInfos=[{"MediaId": "a"}], NextToken="again")
        with pytest.raises(IMSAPIError, match="repeats a page token"):
            list(operations.list_all_media(client))
        assert len(service.requests) == 2


def _wire_names(body: type) -> set[str]:
    """Return the fields of a model of the official SDK as they are spelled on the wire."""
    return set(re.findall(r"result\['(\w+)'\]", inspect.getsource(body.to_map)))
