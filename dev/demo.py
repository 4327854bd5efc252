"""Watch a real Airflow delete media from a local IMS, and see what became of each.

``python dev/demo.py`` ends by itself; ``--ui`` leaves the web UI and the local IMS running until Ctrl-C.
The exit code is 0 only if what the tasks report is what the local IMS has in its own books.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import textwrap
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import books
from local_airflow import LocalAirflow, LocalAirflowError
from media_team import REGION, Cleanup, cleanup

from airflow_provider_ims.emulator import Emulator

DAG_ID = "ims_delete_media"
EXAMPLE_DAGS = Path(__file__).resolve().parent.parent / "example_dags"
DELETING = ("delete_by_id", "delete_by_url")
WAITING = "wait_until_gone"
OUTCOMES = ("deleted", "missing", "forbidden", "failed", "unknown")
DEFERRAL = ("Pausing task as DEFERRED", "Trigger fired event")
LAG_MILLISECONDS = 10_000
REPORTS = "oss://media-team/ims"
"""In the local OSS, in the bucket of the media."""
WIDTH = 96


class Progress:
    """Lines for the one who waits, with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, text: str) -> None:
        print(f"[{time.monotonic() - self._start:4.0f} s] {text}", flush=True)


@dataclass(frozen=True)
class Run:
    """What Airflow says of one run of the DAG."""

    results: dict[str, dict[str, Any]]
    waited: dict[str, Any]
    logs: dict[str, list[dict[str, Any]]]


def run_dag(airflow: LocalAirflow, work: Cleanup) -> Run:
    """Run the example by hand, and fetch everything that is said about it through Airflow's API."""
    run_id = airflow.trigger(DAG_ID, {**work.conf, "folder": REPORTS})
    state = airflow.wait(DAG_ID, run_id)
    tasks = airflow.task_states(DAG_ID, run_id)
    logs = {task: airflow.log(DAG_ID, run_id, task) for task in tasks}
    if state != "success":
        for task, lines in logs.items():
            print(f"\n{task}: {tasks[task]}")
            for line in lines:
                print(
                    f"  {line['event']}",
                    *(f"{e['exc_type']}: {e['exc_value']}" for e in line.get("error_detail") or ()),
                )
        raise LocalAirflowError(f"the run ended as {state!r}, tasks: {tasks}")
    results = {task: airflow.xcom(DAG_ID, run_id, task) for task in DELETING}
    return Run(results, airflow.xcom(DAG_ID, run_id, WAITING), logs)


def heading(text: str) -> None:
    """Print a line that stands out."""
    print(f"\n{text}\n{'-' * WIDTH}")


def show_library(work: Cleanup, before: books.Books, after: books.Books) -> None:
    """Print what was there, and what is there now."""
    heading("The media library")
    row = "  {:<46}{:>7}{:>8}   {}".format
    print(row("", "before", "after", "").rstrip())
    for group, label, note in (
        ("masters", "masters, transcoded: deleted by id", "the bucket's owner protects these"),
        ("uploads", "raw uploads: deleted by URL, with files", "two files were registered twice"),
        ("renditions", "renditions, posters, sound", "not named, not touched"),
    ):
        ids = set(work.groups[group])
        print(row(label, len(ids & before.media.keys()), len(ids & after.media.keys()), note))
    print(row("all media", len(before.media), len(after.media), "").rstrip())
    print(row("files in the bucket", len(before.files), len(after.files), "only delete_by_url takes files"))


def show_outcomes(run: Run) -> None:
    """Print what became of every target, as the tasks' results have it."""
    heading("What became of every target (the tasks' results, from XCom)")
    row = ("  {:<15}" + "{:>11}" * (len(OUTCOMES) + 2)).format
    print(row("", "requested", *OUTCOMES, "duplicates"))
    for task, result in run.results.items():
        print(row(task, result["requested"], *(result[name] for name in OUTCOMES), result["duplicates"]))
    media, seconds = run.waited["media"], run.waited["seconds"]
    print(f"  {WAITING}: {seconds:.0f} s later, reads showed none of the {media} that were to go")


def show_reports(run: Run, ims: Emulator) -> None:
    """Print where the tasks' reports lie, and how a line of theirs looks."""
    heading("The reports, in the local OSS: a line for every target")
    for result in run.results.values():
        lines = list(books.report_lines(result["report"], ims.oss))
        print(textwrap.fill(result["report"], WIDTH, initial_indent="  ", subsequent_indent="    "))
        print(textwrap.indent(textwrap.fill(json.dumps(lines[0]), WIDTH - 4), "    "))


def show_logs(run: Run) -> None:
    """Print what the provider logged, and the deferral; the rest of a task's log is Airflow's."""
    heading("The tasks' own words (from the task logs)")
    for task, lines in run.logs.items():
        print(f"  {task}")
        for line in lines:
            if "ims" in (line.get("logger") or "") or line["event"].startswith(DEFERRAL):
                print(textwrap.fill(line["event"], WIDTH, initial_indent="    ", subsequent_indent="      "))


def show_checks(work: Cleanup, before: books.Books, after: books.Books, run: Run, ims: Emulator) -> bool:
    """Print whether the tasks' results agree with the local IMS's books; tell whether all do."""
    heading("Checked against the local IMS's own books")
    checks = list(books.compare(work, before, after, run.results, ims.oss))
    for sentence, true in checks:
        print(f"  {'ok   ' if true else 'WRONG'}  {sentence}")
    return all(true for _, true in checks)


def show_where_to_read_on() -> None:
    """Print the next steps."""
    heading("Where to read on")
    print("  example_dags/ims_delete_media.py   the DAG that just ran; copy it")
    print("  README.md                          connection, parameters, outcomes")
    print("  make ui                            the same with Airflow's web UI, until Ctrl-C")
    print("  python -m airflow_provider_ims.emulator --help   the local IMS, for tests of your own DAGs")


def connect(airflow: LocalAirflow, ims: Emulator) -> None:
    """Put the connection to the local IMS where Admin > Connections shows it."""
    airflow.create_connection(
        "ims_default",
        conn_type="alibaba_ims",
        description="The local IMS of this demo",
        login=ims.access_key_id,
        password=ims.access_key_secret,
        host=ims.endpoint,
        # Airflow 3.3.1 and 3.3.2 test none without: https://github.com/apache/airflow/pull/73298
        port=ims.endpoint.rpartition(":")[2],
        extra=json.dumps({"region": REGION, "oss_endpoint": ims.oss.endpoint}),
    )


def stay(airflow: LocalAirflow, ims: Emulator, after: books.Books) -> None:
    """Keep everything running until Ctrl-C, and say how to use it."""
    conf = {"media_ids": sorted(after.media)[:3], "input_urls": [], "folder": REPORTS}
    heading("Running until Ctrl-C")
    print(f"  Airflow        {airflow.url}   log in as {airflow.user} / {airflow.password}")
    print(f"  the run        {airflow.url}/dags/{DAG_ID}")
    print(f"  connection     {airflow.url}/connections   ims_default")
    print(f"  the local IMS  {ims.endpoint}   its books: {ims.control}")
    print(f"  to try         trigger {DAG_ID} with this configuration:")
    print(textwrap.indent(json.dumps(conf, indent=2), " " * 17))
    print(f"                 trigger ims_retention with the folder {REPORTS}, in the local OSS: its")
    print(
        "                 plan waits for you under Required Actions. (Plans in /tmp/ims-plans, where they go"
    )
    print("                 by default, stay there when this ends.)")
    sys.stdout.flush()
    threading.Event().wait()


def demonstrate(home: Path, *, ui: bool, say: Progress) -> bool:
    """Do it all once; tell whether all agreed."""
    work = cleanup()
    with Emulator("--region", REGION, "--oss-port", "0") as ims:
        ims.seed(work.media)
        # As in the service, reads may go on to show a medium for a while: so there is something to wait for.
        ims.add_fault("lagging_reads", milliseconds=LAG_MILLISECONDS)
        say(f"a local IMS runs at {ims.endpoint} with {len(work.media)} media")
        say("starting Airflow: API server, scheduler, DAG processor, triggerer ...")
        with LocalAirflow(home, EXAMPLE_DAGS) as airflow:
            connect(airflow, ims)
            before = books.read(ims)
            ids, urls = len(work.conf["media_ids"]), len(work.conf["input_urls"])
            say(f"Airflow is up; running {DAG_ID} with {ids} ids and {urls} URLs ...")
            run = run_dag(airflow, work)
            after = books.read(ims)
            say("the run succeeded")
            show_library(work, before, after)
            show_outcomes(run)
            show_reports(run, ims)
            show_logs(run)
            agreed = show_checks(work, before, after, run, ims)
            show_where_to_read_on()
            if ui:
                stay(airflow, ims, after)
            print()
            say("ending Airflow and the local IMS ...")
    return agreed


def main() -> int:
    """Run the demo; the exit code is 0, 1 when something is wrong, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--ui", action="store_true", help="leave the web UI running until Ctrl-C")
    arguments = parser.parse_args()
    # A shell that starts this in the background ignores Ctrl-C for it, and SIGTERM would leave processes behind.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    say = Progress()
    home = Path(tempfile.mkdtemp(prefix="airflow-ims-demo-"))
    try:
        agreed = demonstrate(home / "airflow", ui=arguments.ui, say=say)
    except KeyboardInterrupt:
        print()
        say("interrupted; nothing is left running")
        shutil.rmtree(home)
        return 0 if arguments.ui else 130
    except LocalAirflowError as error:
        say(f"failed: {error}\nAll logs are in {home}")
        return 1
    shutil.rmtree(home)
    say("done; nothing is left running" if agreed else "done, but the books disagree: see WRONG above")
    return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(main())
