"""Every operation, driven by the official SDK."""

from __future__ import annotations

import asyncio
import json
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from alibabacloud_ice20201109 import models
from alibabacloud_tea_openapi.exceptions import ClientException

BUCKET = "https://team.oss-cn-shanghai.aliyuncs.com"


def media_id(number):
    return f"{number:032x}"


def medium(number, **fields):
    return {"media_id": media_id(number), "url": f"{BUCKET}/{number}.mp4", **fields}


def delete(client, media_ids=None, urls=None, files=False):
    request = models.DeleteMediaInfosRequest(
        media_ids=media_ids and ",".join(media_ids),
        input_urls=urls and ",".join(urls),
        delete_physical_files=files,
    )
    return client.delete_media_infos(request).body


def code_of(call, *arguments, **named):
    with pytest.raises(ClientException) as caught:
        call(*arguments, **named)
    return caught.value.code


class TestDeleteMediaInfos:
    @pytest.fixture(autouse=True)
    def _library(self, ims_emulator):
        ims_emulator.seed(
            [medium(1), medium(2), medium(3, protected=True), medium(4, undeletable=True), medium(5)]
        )

    def test_each_outcome(self, sdk, ims_emulator):
        answer = delete(sdk(), [media_id(number) for number in (1, 2, 3, 4, 6)])
        assert answer.ignored_list == [media_id(4), media_id(6)]
        assert answer.forbidden_list == [media_id(3)]
        assert ims_emulator.media_ids() == [media_id(3), media_id(4), media_id(5)]

    def test_the_books(self, sdk, ims_emulator):
        answer = delete(sdk(), [media_id(number) for number in (1, 3, 4, 6)], files=True)
        [entry] = ims_emulator.requests("DeleteMediaInfos")
        assert entry["outcomes"] == {
            media_id(1): "deleted",
            media_id(3): "forbidden",
            media_id(4): "ignored",
            media_id(6): "missing",
        }
        assert entry["request_id"] == answer.request_id
        assert entry["delete_physical_files"] is True
        assert entry["done"]
        assert entry["answered"]
        [deletion] = ims_emulator.deleted()
        assert deletion["media_id"] == media_id(1)
        assert deletion["url"] == f"{BUCKET}/1.mp4"
        assert deletion["files"] is True
        assert deletion["request_id"] == answer.request_id
        stats = ims_emulator.stats()
        assert stats["outcomes"] == {"deleted": 1, "forbidden": 1, "ignored": 1, "missing": 1}
        assert stats["largest_batch"] == 4
        assert stats["asked_again"] == 0
        delete(sdk(), [media_id(1)])
        assert ims_emulator.stats()["asked_again"] == 1

    @pytest.mark.parametrize("files", [True, False])
    def test_physical_files(self, sdk, ims_emulator, files):
        ims_emulator.seed([{"media_id": media_id(11), "url": f"{BUCKET}/1.mp4"}])
        delete(sdk(), [media_id(1)], files=files)
        assert ims_emulator.medium(media_id(11))["file"] is not files
        assert ims_emulator.medium(media_id(1))["deletion"]["files"] is files

    def test_urls(self, sdk, ims_emulator):
        ims_emulator.seed([{"media_id": media_id(11), "url": f"{BUCKET}/1.mp4"}])
        gone = f"{BUCKET}/gone.mp4"
        answer = delete(sdk(), urls=[f"{BUCKET}/1.mp4", "OSS://team/2.mp4", f"{BUCKET}/3.mp4", gone])
        assert answer.ignored_list == [gone]
        assert answer.forbidden_list == [f"{BUCKET}/3.mp4"]
        assert ims_emulator.media_ids() == [media_id(3), media_id(4), media_id(5)]

    def test_ids_win_over_urls(self, sdk, ims_emulator):
        delete(sdk(), [media_id(1)], urls=[f"{BUCKET}/2.mp4"])
        assert media_id(2) in ims_emulator.media_ids()

    def test_ids_are_echoed_as_they_were_written(self, sdk):
        assert delete(sdk(), [" unknown\t", media_id(9)]).ignored_list == [" unknown\t", media_id(9)]

    def test_an_id_named_twice_is_ignored_the_second_time(self, sdk, ims_emulator):
        assert delete(sdk(), [media_id(1), media_id(1)]).ignored_list == [media_id(1)]
        assert ims_emulator.requests()[0]["outcomes"] == {media_id(1): "deleted"}

    def test_twenty_are_allowed_and_twenty_one_are_not(self, sdk, ims_emulator):
        ids = [media_id(number) for number in range(1, 22)]
        assert code_of(delete, sdk(), ids) == "InvalidParameter"
        assert len(ims_emulator.deleted()) == 0
        assert len(delete(sdk(), ids[:20]).ignored_list) == 16

    def test_nothing_means_nothing(self, sdk, ims_emulator):
        assert code_of(delete, sdk()) == "MissingParameter"
        assert code_of(delete, sdk(), [""]) == "MissingParameter"
        assert code_of(delete, sdk(), [""], [""]) == "MissingParameter"
        assert len(ims_emulator.media_ids()) == 5

    @pytest.mark.parametrize(
        ("text", "files"), [("true", True), ("True", True), ("false", False), ("", False)]
    )
    def test_spellings_of_a_boolean(self, raw, ims_emulator, text, files):
        assert raw("DeleteMediaInfos", MediaIds=media_id(1), DeletePhysicalFiles=text).status == 200
        assert ims_emulator.deleted()[0]["files"] is files

    def test_nonsense_for_a_boolean(self, raw, ims_emulator):
        reply = raw("DeleteMediaInfos", MediaIds=media_id(1), DeletePhysicalFiles="yes")
        assert reply.json["Code"] == "InvalidParameter"
        assert ims_emulator.deleted() == []


class TestDeletePlayInfo:
    SOURCE, HIGH, LOW = (f"{BUCKET}/{name}" for name in ("1.mp4", "1/1080p.m3u8", "1/480p.m3u8"))

    @pytest.fixture(autouse=True)
    def _library(self, ims_emulator):
        ims_emulator.seed(
            [
                medium(1, streams=[self.HIGH, self.LOW], size=400),
                medium(2, streams=[f"{BUCKET}/2/1080p.m3u8"], protected=True),
                medium(3, streams=[f"{BUCKET}/3/1080p.m3u8"], undeletable=True),
            ]
        )

    def delete(self, sdk, number, *urls, files=False):
        request = models.DeletePlayInfoRequest(
            media_id=media_id(number), file_urls=",".join(urls) or None, delete_physical_files=files
        )
        return sdk().delete_play_info(request).body

    def files(self, sdk, number):
        request = models.GetMediaInfoRequest(media_id=media_id(number))
        basics = [
            file.file_basic_info for file in sdk().get_media_info(request).body.media_info.file_info_list
        ]
        return {basic.file_url.partition("?")[0]: (basic.file_type, basic.file_size) for basic in basics}

    def test_reads_show_the_streams_beside_the_source(self, sdk):
        assert self.files(sdk, 1) == {
            self.SOURCE: ("source_file", "400"),
            self.HIGH: ("transcode_file", "100"),
            self.LOW: ("transcode_file", "100"),
        }

    def test_what_is_named_goes_and_the_medium_stays(self, sdk, ims_emulator):
        answer = self.delete(sdk, 1, self.HIGH, files=True)
        assert (answer.ignored_list, answer.forbidden_list) == ([], [])
        assert set(self.files(sdk, 1)) == {self.SOURCE, self.LOW}
        assert ims_emulator.medium(media_id(1))["streams"] == [self.LOW]
        assert ims_emulator.deleted() == []
        [entry] = ims_emulator.requests("DeletePlayInfo")
        assert entry["outcomes"] == {self.HIGH: "deleted"}
        assert entry["delete_physical_files"] is True
        assert entry["request_id"] == answer.request_id

    def test_each_outcome(self, sdk, ims_emulator):
        unknown = f"{BUCKET}/other.m3u8"
        answer = self.delete(sdk, 1, self.HIGH, self.HIGH, self.SOURCE, unknown)
        assert answer.ignored_list == [self.HIGH, unknown]
        assert answer.forbidden_list == [self.SOURCE]
        assert ims_emulator.requests("DeletePlayInfo")[0]["outcomes"] == {
            self.HIGH: "deleted",
            self.SOURCE: "forbidden",
            unknown: "missing",
        }
        assert self.delete(sdk, 2, f"{BUCKET}/2/1080p.m3u8").forbidden_list == [f"{BUCKET}/2/1080p.m3u8"]
        assert self.delete(sdk, 3, f"{BUCKET}/3/1080p.m3u8").ignored_list == [f"{BUCKET}/3/1080p.m3u8"]
        assert self.delete(sdk, 9, self.LOW).ignored_list == [self.LOW]
        for number in (1, 2, 3):
            assert len(self.files(sdk, number)) == 2

    def test_other_spellings_of_a_url(self, sdk, ims_emulator):
        written = "OSS://team/1/1080p.m3u8?"
        assert self.delete(sdk, 1, written, self.HIGH).ignored_list == [self.HIGH]
        assert ims_emulator.medium(media_id(1))["streams"] == [self.LOW]

    def test_without_urls_all_streams_go(self, sdk):
        self.delete(sdk, 1)
        assert set(self.files(sdk, 1)) == {self.SOURCE}

    def test_missing_and_bad_parameters(self, sdk):
        client = sdk()
        assert (
            code_of(client.delete_play_info, models.DeletePlayInfoRequest(file_urls=self.HIGH))
            == "MissingParameter"
        )
        many = models.DeletePlayInfoRequest(media_id=media_id(1), file_urls=",".join([self.HIGH] * 21))
        assert code_of(client.delete_play_info, many) == "InvalidParameter"


class TestReads:
    @pytest.fixture(autouse=True)
    def _library(self, ims_emulator):
        ims_emulator.seed(
            [
                medium(1, title="One", tags=["a", "b"], size=5, created="2024-01-01T00:00:00Z"),
                medium(2, file=False),
            ]
        )

    def test_batch_get(self, sdk):
        request = models.BatchGetMediaInfosRequest(
            media_ids=f"{media_id(1)},{media_id(9)}", addition_type="FileInfo,DynamicMetaData"
        )
        body = sdk().batch_get_media_infos(request).body
        assert body.ignored_list == [media_id(9)]
        [info] = body.media_infos
        basic = info.media_basic_info
        assert info.media_id == basic.media_id == media_id(1)
        assert (basic.title, basic.media_tags, basic.media_type) == ("One", "a,b", "video")
        assert basic.create_time == "2024-01-01T00:00:00Z"
        assert info.file_info_list[0].file_basic_info.file_size == "5"
        assert info.media_dynamic_info.dynamic_meta_data.data == "{}"

    def test_urls_are_signed(self, sdk):
        request = models.GetMediaInfoRequest(media_id=media_id(1), auth_timeout=60)
        info = sdk().get_media_info(request).body.media_info
        for url in (info.file_info_list[0].file_basic_info.file_url, info.media_basic_info.cover_url):
            query = parse_qs(urlsplit(url).query)
            assert set(query) == {"Expires", "OSSAccessKeyId", "Signature", "security-token"}
            assert abs(int(query["Expires"][0]) - time.time() - 60) < 5
        assert info.media_basic_info.input_url == f"{BUCKET}/1.mp4"

    def test_basic_infos_only(self, sdk):
        request = models.BatchGetMediaInfosRequest(media_ids=media_id(1))
        assert sdk().batch_get_media_infos(request).body.media_infos[0].file_info_list == []

    def test_a_file_that_is_gone(self, sdk):
        request = models.GetMediaInfoRequest(media_id=media_id(2))
        assert sdk().get_media_info(request).body.media_info.file_info_list == []

    def test_get_by_url(self, sdk):
        request = models.GetMediaInfoRequest(input_url="oss://team/1.mp4")
        assert sdk().get_media_info(request).body.media_info.media_id == media_id(1)

    def test_get_what_is_not_there(self, sdk):
        for request in (
            models.GetMediaInfoRequest(media_id=media_id(9)),
            models.GetMediaInfoRequest(input_url="x"),
        ):
            assert code_of(sdk().get_media_info, request) == "ResourceNotFound"

    def test_missing_and_bad_parameters(self, sdk):
        client = sdk()
        assert code_of(client.get_media_info, models.GetMediaInfoRequest()) == "MissingParameter"
        assert code_of(client.batch_get_media_infos, models.BatchGetMediaInfosRequest()) == "MissingParameter"
        many = ",".join(media_id(number) for number in range(21))
        for request in (
            models.BatchGetMediaInfosRequest(media_ids=many),
            models.BatchGetMediaInfosRequest(media_ids=media_id(1), addition_type="Everything"),
            models.BatchGetMediaInfosRequest(media_ids=media_id(1), auth_timeout=86401),
        ):
            assert code_of(client.batch_get_media_infos, request) == "InvalidParameter"


class TestList:
    @pytest.fixture(autouse=True)
    def _library(self, ims_emulator):
        ims_emulator.seed(
            medium(
                number,
                created=f"2024-01-01T00:00:{number:02d}Z",
                media_type="audio" if number % 3 else "video",
            )
            for number in range(25)
        )

    def listed(self, client, **filters):
        token, media, totals = None, [], set()
        while True:
            body = client.list_media_basic_infos(
                models.ListMediaBasicInfosRequest(next_token=token, **filters)
            ).body
            media.extend(int(info.media_id, 16) for info in body.media_infos)
            totals.add(body.total_count)
            token = body.next_token
            if not token:
                assert totals == {len(media)}
                return media

    def test_newest_first_is_the_default(self, sdk):
        assert self.listed(sdk()) == list(range(24, -1, -1))

    def test_oldest_first(self, sdk):
        assert self.listed(sdk(), sort_by="asc", max_results=7) == list(range(25))

    def test_start_is_exclusive_and_end_inclusive(self, sdk):
        window = {"start_time": "2024-01-01T00:00:05Z", "end_time": "2024-01-01T00:00:09Z", "sort_by": "asc"}
        assert self.listed(sdk(), **window) == [6, 7, 8, 9]

    def test_filters_add_up(self, sdk):
        filters = {"media_type": "Video", "end_time": "2024-01-01T00:00:09Z", "max_results": 2}
        assert self.listed(sdk(), **filters) == [9, 6, 3, 0]
        assert self.listed(sdk(), media_id=media_id(4)) == [4]
        assert self.listed(sdk(), status="Blocked") == []

    def test_deleting_between_pages_skips_nothing(self, sdk):
        client = sdk()
        first = client.list_media_basic_infos(
            models.ListMediaBasicInfosRequest(sort_by="asc", max_results=5)
        ).body
        delete(client, [media_id(number) for number in range(5)])
        request = models.ListMediaBasicInfosRequest(
            sort_by="asc", max_results=100, next_token=first.next_token
        )
        rest = client.list_media_basic_infos(request).body
        assert [int(info.media_id, 16) for info in rest.media_infos] == list(range(5, 25))
        assert rest.total_count == 20
        assert not rest.next_token

    def test_files_on_demand(self, sdk):
        request = models.ListMediaBasicInfosRequest(max_results=1, include_file_basic_info=True)
        [info] = sdk().list_media_basic_infos(request).body.media_infos
        assert info.file_info_list[0].file_basic_info.file_name == "24.mp4"

    @pytest.mark.parametrize(
        "filters",
        [
            {"max_results": 101},
            {"max_results": 0},
            {"sort_by": "title"},
            {"start_time": "yesterday"},
            {"next_token": "stale"},
        ],
    )
    def test_bad_parameters(self, sdk, filters):
        request = models.ListMediaBasicInfosRequest(**filters)
        assert code_of(sdk().list_media_basic_infos, request) == "InvalidParameter"


def test_register(sdk, ims_emulator):
    client = sdk()
    request = models.RegisterMediaInfoRequest(input_url=f"{BUCKET}/new.mp4", media_tags="a,b", title="New")
    first = client.register_media_info(request).body.media_id
    assert ims_emulator.medium(first)["tags"] == "a,b"
    assert code_of(client.register_media_info, request) == "InvalidParameter"
    request.overwrite = True
    second = client.register_media_info(request).body.media_id
    assert ims_emulator.media_ids() == [second]
    assert ims_emulator.deleted()[0]["by"] == "RegisterMediaInfo"
    assert code_of(client.register_media_info, models.RegisterMediaInfoRequest()) == "MissingParameter"
    assert (
        code_of(client.register_media_info, models.RegisterMediaInfoRequest(input_url="x"))
        == "InvalidParameter"
    )


def sync(client, operation, request):
    return getattr(client, operation)(request).body


def asynchronous(client, operation, request):
    return asyncio.run(getattr(client, f"{operation}_async")(request)).body


@pytest.fixture(params=[sync, asynchronous], ids=["sync", "async"])
def call(request, sdk):
    """Calls an operation by the unmodified SDK, in both of its ways."""
    client = sdk()
    return lambda operation, made: request.param(client, operation, made)


def wait_for(read, states):
    """Read until a final state comes; give what was read last, and every state on the way."""
    seen = []
    deadline = time.monotonic() + 60
    while not seen or seen[-1] not in states:
        assert time.monotonic() < deadline, seen
        shown, state = read()
        seen.append(state)
    return shown, set(seen)


class TestConvertJobs:
    def config(self, *outputs, source="oss://team/in.mp4", base=("OSS", "oss://team/out")):
        file = {"Type": "OSS" if "://" in source else "Media", "Media": source}
        return {
            "JobName": "job",
            "Inputs": [{"Name": "in", "InputFile": file}],
            "OutputGroups": [
                {
                    "Name": "files",
                    "GroupConfig": {"Type": "File", "OutputFileBase": {"Type": base[0], "Media": base[1]}},
                    "Outputs": [
                        {"Name": name, "OutputFileName": f"{name}.mp4", "TemplateId": "t"} for name in outputs
                    ],
                }
            ],
        }

    def submit(self, call, config, **fields):
        request = models.SubmitMediaConvertJobRequest(config=json.dumps(config), **fields)
        return call("submit_media_convert_job", request).job

    def get(self, call, job_id):
        return call("get_media_convert_job", models.GetMediaConvertJobRequest(job_id=job_id)).job

    def test_a_job_goes_on_by_time(self, call, ims_emulator):
        job = self.submit(call, self.config("hd", "sd"), user_data="{}", pipeline_id="p")
        assert job.state == "Inited"
        assert (job.config.job_name, job.pipeline_id, job.user_data) == ("job", "p", "{}")

        def read():
            shown = self.get(call, job.job_id)
            return shown, shown.state

        job, states = wait_for(read, {"Complete"})
        assert states >= {"Running", "Complete"}
        assert (job.percent, bool(job.create_time), bool(job.finish_time)) == (100, True, True)
        assert job.config.inputs[0].input_file.media == "oss://team/in.mp4"
        assert job.output_details == []
        (group,) = job.output_group_details
        assert (group.name, group.status, bool(group.task_id)) == ("files", "Success", True)
        assert [output.name for output in group.outputs] == ["hd", "sd"]
        assert [output.result.output_file.media for output in group.outputs] == [
            "oss://team/out/hd.mp4",
            "oss://team/out/sd.mp4",
        ]
        meta = group.outputs[0].result.out_file_meta.file_basic_info
        assert (meta.file_name, meta.file_type) == ("hd.mp4", "transcode_file")
        # A plain object: nothing is registered of it.
        assert ims_emulator.media_ids() == []

    def test_an_output_of_a_medium_is_a_stream_of_it(self, call, ims_emulator):
        ims_emulator.seed([medium(1)])
        config = self.config("hd", source=media_id(1), base=("Media", media_id(1)))
        job_id = self.submit(call, config).job_id
        job, _ = wait_for(lambda: (job := self.get(call, job_id), job.state), {"Complete"})
        file = job.output_group_details[0].outputs[0].result.output_file
        assert (file.type, file.media, file.url) == ("Media", media_id(1), f"{BUCKET}/hd.mp4")
        assert ims_emulator.medium(media_id(1))["streams"] == [f"{BUCKET}/hd.mp4"]

    def test_an_input_that_is_not_there_fails_the_job(self, call):
        job_id = self.submit(call, self.config("hd", source=media_id(9))).job_id
        job, _ = wait_for(lambda: (job := self.get(call, job_id), job.state), {"Error"})
        assert job.code == "InvalidParameter.ResourceNotFound"
        assert job.output_group_details[0].status == "Failed"

    @pytest.mark.parametrize(("sides", "state"), [({}, "Error"), ({"failed_output": "passes"}, "Complete")])
    def test_an_output_that_fails_alone(self, call, ims_emulator, sides, state):
        """One that is to fail if the source is smaller than the template."""
        ims_emulator.add_fault("otherwise", **sides)
        config = self.config("hd", "sd")
        override = {"TransConfig": {"IsCheckResoFail": "true"}}
        config["OutputGroups"][0]["Outputs"][0]["OverrideParams"] = json.dumps(override)
        job_id = self.submit(call, config).job_id
        job, _ = wait_for(lambda: (job := self.get(call, job_id), job.state), {"Error", "Complete"})
        assert job.state == state
        (group,) = job.output_group_details
        assert [output.status for output in group.outputs] == ["Failed", "Success"]
        assert group.outputs[0].code == "InvalidParameter.ResourceContentBad"

    def test_a_token_that_was_used_starts_no_second_job(self, call, ims_emulator):
        jobs = {self.submit(call, self.config("hd"), client_token="token").job_id for _ in range(3)}
        assert len(jobs) == 1
        assert ims_emulator.stats()["jobs"] == 1

    def test_top_level_outputs_polls_and_what_is_chosen(self, call, ims_emulator):
        outputs = [
            {"url": "oss://team/1.mp4", "name": "a"},
            {"url": "oss://team/2.mp4", "name": "b", "code": "Bad", "message": "It is bad."},
        ]
        job_id = ims_emulator.add_job(kind="convert", outputs=outputs, polls=3, bad="FAILED", grouped=False)[
            "JobId"
        ]
        states = [self.get(call, job_id).state for _ in range(3)]
        assert states == ["Running", "Running", "FAILED"]
        job = self.get(call, job_id)
        assert [(one.name, one.status, one.code, one.message) for one in job.output_details] == [
            ("a", "Success", None, None),
            ("b", "Failed", "Bad", "It is bad."),
        ]
        ims_emulator.ask("POST", f"/jobs/{job_id}", {"statuses": ["Success", "Skipped"], "state": "Finished"})
        job = self.get(call, job_id)
        assert (job.state, [one.status for one in job.output_details]) == ("Finished", ["Success", "Skipped"])

    def test_the_list(self, call, ims_emulator):
        ids = [self.submit(call, self.config("hd")).job_id for _ in range(5)]
        for job_id in ids:  # and none goes on by time
            ims_emulator.ask(
                "POST", f"/jobs/{job_id}", {"state": "Complete" if job_id == ids[0] else "Processing"}
            )

        def page(**fields):
            return call("list_media_convert_jobs", models.ListMediaConvertJobsRequest(**fields))

        first = page(page_size=3)
        second = page(page_size=3, next_page_token=first.next_page_token)
        listed = [job.job_id for job in (*first.jobs, *second.jobs)]
        assert listed == ids[::-1]
        assert not second.next_page_token
        assert [job.job_id for job in page(order_by="CreateTimeAsc").jobs] == ids
        assert [job.job_id for job in page(status="Complete").jobs] == ids[:1]
        assert [job.job_id for job in page(job_id=ids[2]).jobs] == ids[2:3]
        assert page(start_of_create_time="2099-01-01T00:00:00Z").jobs == []

    @pytest.mark.parametrize(
        ("action", "params", "code"),
        [
            ("SubmitMediaConvertJob", {}, "MissingParameter"),
            ("SubmitMediaConvertJob", {"Config": "nonsense"}, "InvalidParameter"),
            ("SubmitMediaConvertJob", {"Config": "{}"}, "InvalidParameter"),
            ("SubmitMediaConvertJob", {"Config": '{"Inputs": [{}], "Outputs": [{}]}'}, "InvalidParameter"),
            ("SubmitMediaConvertJob", {"Config": '{"Inputs": [{}], "Outputs": 7}'}, "InvalidParameter"),
            ("GetMediaConvertJob", {}, "MissingParameter"),
            ("GetMediaConvertJob", {"JobId": "unknown"}, "ResourceNotFound"),
            ("ListMediaConvertJobs", {"PageSize": "101"}, "InvalidParameter"),
            ("ListMediaConvertJobs", {"OrderBy": "Size"}, "InvalidParameter"),
            ("ListMediaConvertJobs", {"NextPageToken": "x"}, "InvalidParameter"),
            ("StartWorkflow", {"WorkflowId": "w"}, "MissingParameter"),
            ("StartWorkflow", {"TaskInput": "{}", "WorkflowId": "w"}, "InvalidParameter"),
            ("GetWorkflowTask", {"TaskId": "unknown"}, "ResourceNotFound"),
            ("SubmitMediaProducingJob", {"OutputMediaConfig": "{}"}, "MissingParameter"),
            ("SubmitMediaProducingJob", {"Timeline": "{}", "OutputMediaConfig": "{}"}, "InvalidParameter"),
            ("GetMediaProducingJob", {"JobId": "unknown"}, "ResourceNotFound"),
        ],
    )
    def test_bad_parameters(self, raw, action, params, code):
        assert raw(action, **params).json["Code"] == code


class TestWorkflows:
    def test_a_task_goes_on_by_time_and_tells_its_activities(self, call, ims_emulator):
        ims_emulator.seed([medium(1)])
        task_input = json.dumps({"Type": "Media", "Media": media_id(1)})
        request = models.StartWorkflowRequest(task_input=task_input, workflow_id="w", user_data="{}")
        task_id = call("start_workflow", request).task_id

        def read():
            made = models.GetWorkflowTaskRequest(task_id=task_id)
            task = call("get_workflow_task", made).workflow_task
            return task, task.status

        task, states = wait_for(read, {"Succeed"})
        assert states >= {"Processing", "Succeed"}
        assert (task.task_input, task.user_data, task.workflow.workflow_id) == (task_input, "{}", "w")
        (activity,) = json.loads(task.activity_results).values()
        assert activity["Status"] == "Succeed"
        assert activity["Result"]["MediaId"] == media_id(1)
        assert task.finish_time


class TestProducing:
    def test_a_job_goes_on_by_time_and_registers_what_it_made(self, call, ims_emulator):
        request = models.SubmitMediaProducingJobRequest(
            timeline="{}",
            output_media_config=json.dumps({"MediaURL": f"{BUCKET}/made.mp4"}),
            client_token="t",
        )
        started = call("submit_media_producing_job", request)
        assert call("submit_media_producing_job", request).job_id == started.job_id

        def read():
            made = models.GetMediaProducingJobRequest(job_id=started.job_id)
            job = call("get_media_producing_job", made).media_producing_job
            return job, job.status

        job, states = wait_for(read, {"Success"})
        assert states >= {"Processing", "Success"}
        assert (job.media_id, job.media_url, job.progress) == (started.media_id, f"{BUCKET}/made.mp4", 100)
        assert ims_emulator.media_ids() == [started.media_id]


def test_an_operation_that_has_ended(sdk, ims_emulator):
    ims_emulator.add_fault("refuse", action="GetTranscodeJob", status=404, code="InvalidAction.NotFound")
    request = models.GetTranscodeJobRequest(parent_job_id="any")
    assert code_of(sdk().get_transcode_job, request) == "InvalidAction.NotFound"


class TestTranscoding:
    def submit(self, client, *urls):
        request = models.SubmitTranscodeJobRequest(
            name="job",
            input_group=[models.SubmitTranscodeJobRequestInputGroup(type="OSS", media="oss://team/in.mp4")],
            output_group=[
                models.SubmitTranscodeJobRequestOutputGroup(
                    output=models.SubmitTranscodeJobRequestOutputGroupOutput(type="OSS", media=url),
                    process_config=models.SubmitTranscodeJobRequestOutputGroupProcessConfig(
                        transcode=models.SubmitTranscodeJobRequestOutputGroupProcessConfigTranscode(
                            template_id="t"
                        )
                    ),
                )
                for url in urls
            ],
        )
        return client.submit_transcode_job(request).body.transcode_parent_job

    def get(self, client, job_id):
        return client.get_transcode_job(
            models.GetTranscodeJobRequest(parent_job_id=job_id)
        ).body.transcode_parent_job

    def test_a_job_goes_on_by_time(self, sdk, ims_emulator):
        client = sdk()
        job = self.submit(client, "oss://team/a.mp4", "oss://team/b.mp4")
        assert (job.status, job.job_count, job.percent) == ("Init", 2, 0)
        assert [sub.status for sub in job.transcode_job_list] == ["Init", "Init"]
        states = {job.status}
        deadline = time.monotonic() + 60
        while job.status != "Success":
            assert time.monotonic() < deadline
            job = self.get(client, job.parent_job_id)
            states.add(job.status)
        assert states == {"Init", "Processing", "Success"}
        assert (job.percent, job.name) == (100, "job")
        assert job.finish_time
        outputs = [sub.out_file_meta.file_basic_info for sub in job.transcode_job_list]
        assert [output.file_url for output in outputs] == ["oss://team/a.mp4", "oss://team/b.mp4"]
        assert sorted(ims_emulator.media_ids()) == sorted(output.media_id for output in outputs)

    def test_a_job_stands_where_it_was_put(self, sdk, ims_emulator):
        client = sdk()
        job_id = ims_emulator.add_job(statuses=["Success", "Fail"])["ParentJobId"]
        assert self.get(client, job_id).status == "Success"
        ims_emulator.put_job(job_id, ["Fail", "Fail"])
        assert self.get(client, job_id).status == "Fail"
        ims_emulator.put_job(job_id, ["Success", "Pondering"])
        job = self.get(client, job_id)
        assert job.status == "Processing"
        assert [sub.status for sub in job.transcode_job_list] == ["Success", "Pondering"]

    def test_bad_parameters(self, sdk, raw):
        client = sdk()
        assert code_of(client.get_transcode_job, models.GetTranscodeJobRequest()) == "MissingParameter"
        assert code_of(self.get, client, "unknown") == "ResourceNotFound"
        good = json.dumps([{"Type": "OSS", "Media": "oss://team/in.mp4"}])
        for inputs, outputs, code in (
            (good, "", "MissingParameter"),
            (good, "nonsense", "InvalidParameter"),
            (good, "[{}]", "InvalidParameter"),
            ("[]", good, "InvalidParameter"),
            (json.dumps([{"Type": "Media", "Media": media_id(1)}]), good, "ResourceNotFound"),
        ):
            assert raw("SubmitTranscodeJob", InputGroup=inputs, OutputGroup=outputs).json["Code"] == code
