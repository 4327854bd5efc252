"""Every example DAG can be imported and is safe to run as it is; and does what it is for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import books
import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS
from media_team import cleanup

from airflow_provider_ims.emulator import EmulatedOSS, Emulator

FOLDER = Path(__file__).parent.parent / "example_dags"
# Approval by a person came with Airflow 3.1.
NEED_APPROVAL = ("ims_retention",)
EXAMPLES = [
    file for file in sorted(FOLDER.glob("*.py")) if AIRFLOW_V_3_1_PLUS or file.stem not in NEED_APPROVAL
]

pytestmark = pytest.mark.usefixtures("airflow_database", "ims_connection")


def load(file: Path) -> dict[str, Any]:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # before Airflow 3.2
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

    bag = DagBag(dag_folder=str(file))
    assert bag.import_errors == {}
    return dict(bag.dags)


def run(dag: Any, conf: dict[str, Any] | None = None) -> Any:
    """Run a DAG in this process, by hand: without a logical date, where Airflow has such runs."""
    return dag.test(run_conf=conf, **({"logical_date": None} if AIRFLOW_V_3_0_PLUS else {}))


def states(run: Any) -> dict[str, str]:
    return {
        task.task_id + (f"[{task.map_index}]" if task.map_index >= 0 else ""): str(task.state)
        for task in run.get_task_instances()
    }


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_explains_itself(file: Path) -> None:
    dags = load(file)
    assert dags
    for dag in dags.values():
        assert dag.doc_md
        assert "example" in dag.tags


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_deletes_nothing_as_it_is(file: Path, ims_emulator: Emulator) -> None:
    for dag in load(file).values():
        finished = run(dag)
        assert set(states(finished).values()) <= {"success", "skipped"}
    assert ims_emulator.requests("DeleteMediaInfos") == []


def test_delete_media(ims_emulator: Emulator, tmp_path: Path) -> None:
    work = cleanup()
    ims_emulator.seed(work.media)
    dag = load(FOLDER / "ims_delete_media.py")["ims_delete_media"]
    before = books.read(ims_emulator)
    finished = run(dag, {**work.conf, "folder": str(tmp_path)})
    assert set(states(finished).values()) == {"success"}
    task = finished.get_task_instance("delete_by_id")
    results = {name: task.xcom_pull(task_ids=name) for name in ("delete_by_id", "delete_by_url")}
    wrong = [
        says for says, true in books.compare(work, before, books.read(ims_emulator), results) if not true
    ]
    assert wrong == []


class Conversion:
    """A run of the example for a convert job that is done, with the outputs that a test wants."""

    source, url = f"{1:032x}", "oss://my-bucket/masters/1.mov"

    def __init__(self, ims: Emulator, **job: Any) -> None:
        self._ims = ims
        ims.seed([{"media_id": self.source, "url": self.url}])
        outputs = [{"url": f"oss://my-bucket/web/{name}.mp4", "name": name} for name in ("hd", "sd")]
        given = {"outputs": outputs, "seconds": 0, "source": self.source, **job}
        self._job_id = ims.add_job(kind="convert", **given)["JobId"]

    def run(self) -> dict[str, str]:
        """Run it with the example's own retries: what it finds wrong, it must not try again."""
        dag = load(FOLDER / "ims_cleanup_after_transcode.py")["ims_cleanup_after_transcode"]
        return states(run(dag, {"source_media_id": self.source, "job_id": self._job_id}))

    @property
    def source_is_there(self) -> bool:
        has_file = "masters/1.mov" in self._ims.oss.names("my-bucket")
        return has_file and self.source in self._ims.media_ids()


def test_a_source_goes_once_its_renditions_are_there(ims_emulator: Emulator, ims_oss: EmulatedOSS) -> None:
    conversion = Conversion(ims_emulator)
    assert set(conversion.run().values()) == {"success"}
    assert ims_emulator.media_ids() == []
    assert ims_oss.names("my-bucket") == ["web/hd.mp4", "web/sd.mp4"]


@pytest.mark.parametrize(
    "job",
    [
        {"statuses": ["Success", "Failed"], "state": "Complete"},
        {"statuses": ["Success", "Skipped"], "state": "Complete"},
        {"state": "Cancelled"},
    ],
    ids=["failed", "skipped", "cancelled"],
)
def test_a_source_stays_unless_every_output_is_well(ims_emulator: Emulator, job: dict[str, Any]) -> None:
    conversion = Conversion(ims_emulator, **job)
    ended = conversion.run()
    assert (ended["wait_for_renditions"], ended["delete_source"]) == ("failed", "upstream_failed")
    assert conversion.source_is_there
    assert ims_emulator.requests("DeleteMediaInfos") == []


@pytest.mark.parametrize("content", [None, ""], ids=["not written", "empty"])
def test_a_source_stays_unless_every_rendition_is_there(
    ims_emulator: Emulator, ims_oss: EmulatedOSS, content: str | None
) -> None:
    conversion = Conversion(ims_emulator)
    ims_oss.remove("my-bucket", "web/sd.mp4")
    if content is not None:
        ims_oss.put("my-bucket", "web/sd.mp4", content)
    ended = conversion.run()
    assert (ended["check_renditions"], ended["delete_source"]) == ("failed", "upstream_failed")
    assert conversion.source_is_there
    assert ims_emulator.requests("DeleteMediaInfos") == []


@pytest.mark.parametrize("into", ["the medium", "the file"])
def test_a_source_among_its_own_renditions_stays(ims_emulator: Emulator, into: str) -> None:
    own = {"media_id": Conversion.source} if into == "the medium" else {"url": Conversion.url}
    conversion = Conversion(ims_emulator, outputs=[{**own, "name": "hd"}])
    ended = conversion.run()
    stops = "check_renditions" if into == "the medium" else "delete_source"
    assert ended[stops] == "failed"
    assert "success" not in (ended["delete_source"], ended["wait_until_gone"])
    assert conversion.source_is_there
    assert ims_emulator.requests("DeleteMediaInfos") == []


def test_renditions_may_be_told_by_their_web_addresses(ims_emulator: Emulator, ims_oss: EmulatedOSS) -> None:
    url = "https://my-bucket.oss-cn-shanghai.aliyuncs.com/web/a%20b.mp4"
    conversion = Conversion(ims_emulator, outputs=[{"url": url, "name": "hd"}])
    assert set(conversion.run().values()) == {"success"}
    assert ims_oss.names("my-bucket") == ["web/a b.mp4"]


@pytest.mark.parametrize("given", [f"{2:032x}", "oss://my-bucket/masters/2.mov"])
def test_a_source_stays_unless_the_job_read_it(
    ims_emulator: Emulator, ims_oss: EmulatedOSS, given: str
) -> None:
    """Whoever gives the id of another job would lose a source that was never transcoded."""
    ims_emulator.seed([{"media_id": f"{2:032x}", "url": "oss://my-bucket/masters/2.mov"}])
    conversion = Conversion(ims_emulator, source=given)
    ended = conversion.run()
    assert (ended["check_renditions"], ended["delete_source"]) == ("failed", "upstream_failed")
    assert conversion.source_is_there
    assert ims_emulator.requests("DeleteMediaInfos") == []


def test_a_job_may_have_read_the_source_by_its_url(ims_emulator: Emulator, ims_oss: EmulatedOSS) -> None:
    conversion = Conversion(ims_emulator, source=Conversion.url)
    assert set(conversion.run().values()) == {"success"}
    assert ims_emulator.media_ids() == []


def test_a_job_is_started_once(ims_emulator: Emulator, ims_oss: EmulatedOSS) -> None:
    """By the example itself; what it starts is waited for, written and checked before the source goes."""
    (source,) = ims_emulator.seed([{"url": "oss://my-bucket/masters/1.mov"}])
    dag = load(FOLDER / "ims_cleanup_after_transcode.py")["ims_cleanup_after_transcode"]
    dag.get_task("wait_for_renditions").poke_interval = 0.5
    finished = run(dag, {"source_media_id": source, "folder": "oss://my-bucket/web"})
    assert set(states(finished).values()) == {"success"}
    job = finished.get_task_instance("wait_for_renditions").xcom_pull(task_ids="wait_for_renditions")
    assert job["inputs"] == [{"media_id": source, "url": None}]
    written = [f"web/{source}-{name}.mp4" for name in ("1080p", "480p")]
    assert [output["url"] for output in job["outputs"]] == [f"oss://my-bucket/{name}" for name in written]
    assert ims_oss.names("my-bucket") == written
    assert len(ims_emulator.requests("SubmitMediaConvertJob")) == ims_emulator.stats()["jobs"] == 1
    assert ims_emulator.media_ids() == []


def run_sharded(conf: dict[str, Any], folder: Path) -> tuple[dict[str, str], Any]:
    dag = load(FOLDER / "ims_delete_sharded.py")["ims_delete_sharded"]
    finished = run(dag, {"folder": str(folder), **conf})
    return states(finished), finished.get_task_instance("merge").xcom_pull(task_ids="merge")


def test_sharded_deletion(ims_emulator: Emulator, tmp_path: Path) -> None:
    library = ims_emulator.generate(300)
    named = [*library[:90], *library[20:30], *(f"{number:032x}" for number in range(3))]
    (tmp_path / "ids.txt").write_text("\n".join(named))
    ended, merged = run_sharded({"manifest": str(tmp_path / "ids.txt"), "shards": 12}, tmp_path)
    assert len([name for name in ended if name.startswith("delete[")]) == 12
    assert set(ended.values()) == {"success"}
    assert merged.items() >= {"requested": 93, "duplicates": 10, "deleted": 90, "missing": 3}.items()
    assert set(ims_emulator.media_ids()) == set(library[90:])
    lines = [json.loads(line) for part in tmp_path.glob("reports/**/*.jsonl") for line in part.open()]
    assert sorted(line["media_id"] for line in lines) == sorted(set(named))
    assert all(Path(merged["report"]) in part.parents for part in tmp_path.glob("reports/**/*.jsonl"))


def test_a_shard_that_fails_is_counted_and_fails_the_run(ims_emulator: Emulator, tmp_path: Path) -> None:
    library = ims_emulator.generate(100)
    ims_emulator.protect(library[:1])
    (tmp_path / "ids.txt").write_text("\n".join(library[:50]))
    ended, merged = run_sharded({"manifest": str(tmp_path / "ids.txt"), "shards": 3}, tmp_path)
    assert sorted(ended.values()) == ["failed", "failed", "success", "success", "success"]
    assert (ended["split"], ended["merge"], merged) == ("success", "failed", None)
    assert set(ims_emulator.media_ids()) == {*library[:1], *library[50:]}


def test_a_manifest_that_was_not_approved_is_never_split(ims_emulator: Emulator, tmp_path: Path) -> None:
    ims_emulator.generate(10)
    (tmp_path / "ids.txt").write_text("\n".join(ims_emulator.media_ids()))
    conf = {"manifest": str(tmp_path / "ids.txt"), "manifest_digest": "0" * 64}
    ended, _ = run_sharded(conf, tmp_path)
    assert (ended["split"], ended["merge"]) == ("failed", "failed")
    assert not (tmp_path / "ims_delete_sharded").exists()
    assert ims_emulator.stats()["requests"] == 0


@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="approval by a person came with Airflow 3.1")
def test_retention_as_make_ui_offers_it(ims_emulator: Emulator) -> None:
    """In what the demo's cleanup left, the example as it is finds a tenth to ask about, with its files in OSS."""
    work = cleanup()
    ims_emulator.seed(medium for medium in work.media if medium["media_id"] not in work.leaving)
    finished = load(FOLDER / "ims_retention.py")["ims_retention"].test(
        run_conf={"folder": "oss://media-team/ims"}, logical_date=None, mark_success_pattern="^approve$"
    )
    assert set(states(finished).values()) == {"success"}
    plan = finished.get_task_instance("plan").xcom_pull(task_ids="plan")
    assert 5 < plan["percent"] < 20
    deletion = finished.get_task_instance("plan").xcom_pull(task_ids="delete")
    assert deletion["deleted"] == len(ims_emulator.deleted()) > 0
    assert plan["manifest"].startswith("oss://ims_default@media-team/ims/")
    assert ims_emulator.oss.names("media-team", "ims/reports/")
