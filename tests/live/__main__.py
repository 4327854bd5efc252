"""``make live``: asks IMS itself what its documentation leaves open, with media that the run makes and takes away."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType

# Before Airflow is imported, which makes its home.
_home = tempfile.TemporaryDirectory(prefix="airflow-home-")
os.environ.setdefault("AIRFLOW_HOME", _home.name)
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

from airflow_provider_ims import __version__  # noqa: E402
from tests.live.media import Media, make_media  # noqa: E402
from tests.live.question import Answered, Question, Run, ask, questions_of  # noqa: E402
from tests.live.questions import deletions, jobs, listings, reads, refusals  # noqa: E402
from tests.live.report import Summary, write_report  # noqa: E402
from tests.long_run import say as _say  # noqa: E402

CONNECTION = "ims_live"
MODULES = (listings, reads, deletions, jobs, refusals)


def say(text: str) -> None:
    """Say what goes on, as long as somebody listens: a terminal that was closed must not end the cleaning up."""
    # RuntimeError: a signal in the middle of a line.
    with suppress(OSError, RuntimeError):
        _say(text)


def questions() -> list[Question]:
    """Return all questions: those first that need many media, the throttle last."""
    return questions_of(*MODULES)


def announce(arguments: argparse.Namespace, media: Media) -> str:
    """Say what will be done, and what that can cost."""
    started = (
        f"- starts 5 jobs on a file of one second: four converting (template {arguments.template}; one of them "
        "fails, one in part, one writes into its own source), one producing"
        + (
            f",\n  and the workflow {arguments.workflow_id}, which writes where it is told to: that stays"
            if arguments.workflow_id
            else ""
        )
        if arguments.jobs
        else "- starts no jobs"
    )
    throttle = (
        f"- looks for the account's request limit by reading one medium ever faster, up to {arguments.max_rate:g} "
        "requests a second for 20 s, and stops at the first throttle. The limit is shared by all of the account: "
        "whoever else uses IMS in this region may be throttled at that moment (--max-rate 0 leaves it out)"
        if arguments.max_rate
        else "- does not look for the account's request limit"
    )
    workflow = "StartWorkflow, " if arguments.workflow_id else ""
    return f"""\
Connection {CONNECTION!r} leads to {media.hook.host}, region {media.region}. This run
- writes {listings.NEEDED + 5} files of 2.5 kB into {media.folder}
- registers each, with the title and the tag {media.mark!r}
- deletes about 70 of them one way or another to see what IMS says, and the rest at its end, with all its files
- sends a few requests that IMS refuses: parameters that make no sense, a wrong secret, an unknown key, a wrong date;
  security monitoring of the account may report them
{throttle}
{started}
- reads listings of media, but keeps nothing of what it did not make, and sends no request that names it
- sends some 400 requests beside that search, {arguments.rate:g} a second, and takes five minutes or so.
What it can cost: some 600 OSS requests, 0.3 MB for minutes, what the account pays for media management, and for each
job the shortest time that is billed. Look at the price lists of OSS and IMS for the region.
What the key needs: ice:RegisterMediaInfo, BatchGetMediaInfos, GetMediaInfo, ListMediaBasicInfos, DeleteMediaInfos,
DeletePlayInfo, Submit/GetMediaConvertJob, Submit/GetMediaProducingJob, {workflow}GetWorkflowTask,
GetTranscodeJob; in the folder oss:PutObject, GetObject, DeleteObject, and oss:ListObjects on its bucket."""


class Interruption:
    """Signals end the questions, not the cleaning up."""

    def __init__(self) -> None:
        self.is_cleaning = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._meet)

    def _meet(self, number: int, frame: FrameType | None) -> None:
        if self.is_cleaning:
            say("cleaning up; this ends by itself")
            return
        self.is_cleaning = True
        raise KeyboardInterrupt(signal.Signals(number).name)


def run_questions(run: Run, asked: list[Question], answered: list[Answered]) -> None:
    """Make the media and ask, one question after the other."""
    say(f"makes {listings.NEEDED} media")
    run.media.prepare(listings.NEEDED)
    for one in asked:
        answered.append(ask(run, one))
        say(f"{one.name}: {answered[-1].verdict}")


def live(run: Run, folder: Path, versions: str) -> int:
    """Ask, clean up whatever happens, and report; return the exit code."""
    answered: list[Answered] = []
    interruption = Interruption()
    trouble = ""
    media = run.media
    try:
        try:
            run_questions(run, questions(), answered)
        finally:
            # In an inner block, so that a signal at whichever moment ends either in here or not at all.
            interruption.is_cleaning = True
    except KeyboardInterrupt as stopped:
        trouble = f"by {stopped}"
    except Exception as error:  # noqa: BLE001 - whatever it is: what was made must go, and be told
        trouble = f"{type(error).__name__}: {error}"
    left = media.clean_up()
    settings = media.hook.settings
    key = settings.credentials.current()
    summary = Summary(
        run.guard.run_id,
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        media.region,
        media.hook.host,
        versions,
        sum(client.stats.requests for client in media.hook.clients),
        media.made,
        tuple(sorted(set().union(*(client.actions for client in media.hook.clients)))),
        trouble,
    )
    cuts = write_report(folder, summary, answered, left, {*key, media.bucket} - {None})  # type: ignore[arg-type]
    if cuts:
        say(f"{cuts} places were cut out of the answers: keys, tokens, accounts or the bucket's name")
    say(f"answers are in {folder}/answers.md" + (f"; interrupted {trouble}" if trouble else ""))
    for one in left:
        say(f"LEFT OVER: {one.what}: {one.reason}")
    return 130 if trouble.startswith("by ") else 1 if trouble or left else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.live",
        description="Ask IMS what its documentation leaves open, and check what the code believes. The connection is "
        "AIRFLOW_CONN_IMS_LIVE; the run touches nothing but media that it makes.",
    )
    parser.add_argument(
        "--folder",
        default=os.environ.get("IMS_LIVE_FOLDER", ""),
        metavar="oss://BUCKET/FOLDER",
        help="of the account's own, in the connection's region (or IMS_LIVE_FOLDER)",
    )
    parser.add_argument(
        "--yes", action="store_true", help="do it; without it only what would be done is said"
    )
    parser.add_argument("--rate", type=float, default=5.0, help="requests a second (default: %(default)g)")
    parser.add_argument(
        "--max-rate",
        type=float,
        default=30.0,
        help="requests a second up to which a throttle is looked for; 0 does not look (default: %(default)g)",
    )
    parser.add_argument("--no-jobs", dest="jobs", action="store_false", help="start no jobs")
    parser.add_argument(
        "--template", default="S00000001-200010", help="of the convert job (default: %(default)s, a preset)"
    )
    parser.add_argument(
        "--workflow-id", default="", help="a workflow of the account's own to start on one medium"
    )
    parser.add_argument(
        "--poll-seconds", type=float, default=2.0, help="between looks at a job (default: %(default)g)"
    )
    parser.add_argument("--output", type=Path, default=Path("build/live"), help="folder of the answers")
    return parser.parse_args()


def main() -> int:
    """Run the command line."""
    arguments = _arguments()
    if f"AIRFLOW_CONN_{CONNECTION.upper()}" not in os.environ or not arguments.folder:
        print(
            "Set AIRFLOW_CONN_IMS_LIVE to a connection of type alibaba_ims, and IMS_LIVE_FOLDER to a folder in a "
            "bucket of the account's own, such as oss://bucket/ims-live. See docs/live.md."
        )
        return 2
    try:
        media = make_media(CONNECTION, arguments.folder, secrets.token_hex(8), arguments.rate, say)
    except ValueError as error:
        print(error)
        return 2
    print(announce(arguments, media), flush=True)
    if not arguments.yes:
        print("\nNothing was sent. To do it: make live LIVE=--yes")
        return 0
    versions = f"airflow-provider-ims {__version__}"
    with suppress(ImportError):
        versions += f", Airflow {version('apache-airflow')}"
    run = Run(
        media,
        arguments.max_rate,
        arguments.jobs,
        arguments.template,
        arguments.workflow_id,
        poll_seconds=arguments.poll_seconds,
    )
    return live(run, arguments.output, versions)


if __name__ == "__main__":
    sys.exit(main())
