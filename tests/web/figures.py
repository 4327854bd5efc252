"""What the pages of a plan and of a report with a million lines cost: seconds and megabytes.

``python -m tests.web.figures`` measures on a local disk and in a local OSS, a process of its own, and writes the
table into ``docs/scale.md``. Each request goes to the pages' own application, in this process.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.files.storage import storage_path, to_line, write_whole

LINES_IN_A_PART = 100_000
BUCKET, CONNECTION = "pages", "ims_figures"
DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "scale.md"
TABLE = re.compile(r"(?<=<!-- pages: python -m tests.web.figures -->\n)(?:.+\n)*")
SEARCHES = ("search, found at the beginning", "search, found at the end", "search, nothing found")


class Cost(NamedTuple):
    """What it took to answer a question of a user.

    :param answers: pages that were asked for: a search whose time is up goes on by itself.
    :param longest: seconds until the slowest of them was there.
    :param seconds: all of them.
    :param megabytes: more memory than before, at most.
    """

    answers: int
    longest: float
    seconds: float
    megabytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--lines", type=int, default=1_000_000, help="other than a million are not written down"
    )
    lines = parser.parse_args().lines
    os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    with (
        tempfile.TemporaryDirectory() as name,
        pytest.MonkeyPatch.context() as patch,
        Emulator("--oss-port", "0") as ims,
    ):
        from tests.web.test_hostile import Server

        ims.oss.make_bucket(BUCKET)
        extra = {"region": "cn-shanghai", "oss_endpoint": ims.oss.endpoint}
        patch.setenv(f"AIRFLOW_CONN_{CONNECTION.upper()}", ims.airflow_connection(extra=extra))
        server = Server(Path(name), patch)
        server.plan([])  # loads what the first page loads
        table = ["| | first page | last page | search | to the end of the file | memory |", "|---" * 6 + "|"]
        for place, folder in (("local disk", name), ("OSS", f"oss://{CONNECTION}@{BUCKET}/figures")):
            for page, of in (("plan", "a plan"), ("deletion", "a report")):
                server.result = write(page, folder, lines)
                table.append(row(f"{of}, {place}", ask(server, page, lines)))
    if lines == 1_000_000:
        DOCUMENT.write_text(TABLE.sub("".join(f"{line}\n" for line in table), DOCUMENT.read_text(), count=1))
    print(*table, sep="\n")


def ask(server: Any, page: str, lines: int) -> dict[str, Cost]:
    """Ask for the pages that a user opens."""
    costs = {}
    for words, query in (
        ("first page", {}),
        ("last page", {"before": 10**15}),
        *zip(
            SEARCHES,
            ({"q": "medium 0000000"}, {"q": f"medium {lines - 1:07}"}, {"q": "nobody has this"}),
            strict=True,
        ),
    ):
        costs[words] = measure(server, page, query)
        print(f"{page:9} {words:32} {costs[words]}", flush=True)
    return costs


def row(name: str, costs: dict[str, Cost]) -> str:
    """Return a line of the table: an answer's seconds, those of a whole search, and the most memory of all."""
    searches = [costs[words] for words in SEARCHES]
    cells = [f"{costs[words].longest:.1f} s" for words in ("first page", "last page")]
    longest = max(one.longest for one in searches)
    whole = max(searches, key=lambda one: one.seconds)
    memory = max(one.megabytes for one in costs.values())
    cells += [
        f"{longest:.1f} s",
        f"{whole.seconds:.1f} s in {whole.answers} answer{'s' * (whole.answers > 1)}",
        f"{memory:.0f} MB",
    ]
    return f"| {name} | {' | '.join(cells)} |"


def measure(server: Any, page: str, query: dict[str, Any]) -> Cost:
    """Ask for a page, and for what it leads to by itself."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, began = memory("VmRSS"), time.monotonic()
    url: str | None = f"/dags/d/runs/r/tasks/t/-1/{page}"
    answers, longest = 0, 0.0
    while url:
        asked = time.monotonic()
        answer = server.client.get(url, params=query if not answers else None)
        assert answer.status_code == 200, answer.text
        longest = max(longest, time.monotonic() - asked)
        answers += 1
        refresh = answer.headers.get("Refresh", "")
        url = f"/dags/d/runs/r/tasks/t/-1/{page}" + refresh.partition("url=")[2] if refresh else None
    return Cost(answers, longest, time.monotonic() - began, memory("VmHWM") - before)


def memory(name: str) -> float:
    """Return what this process has (``VmRSS``) or had at most (``VmHWM``), in megabytes."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024 / 1e6


def write(page: str, folder: str, lines: int) -> dict[str, Any]:
    """Write a plan or a report of so many lines; return the result that names it."""
    from tests.web.test_hostile import PLAN_HEADER, RESULT

    if page == "plan":
        import pendulum

        from airflow_provider_ims.retention.policy import make_policy

        policy = make_policy(older_than="P90D", as_of=pendulum.datetime(2026, 11, 23)).as_json()
        header = {**PLAN_HEADER, "policy": policy, "selected": lines, "population": 2 * lines}
        path = storage_path(f"{folder}/plan.jsonl")
        write_whole(path, itertools.chain([to_line(header)], map(to_line, rows(lines))))
        return {"manifest": str(path), "digest": ""}
    written = iter(rows(lines))
    for number in range(-(-lines // LINES_IN_A_PART)):
        part = itertools.islice(written, LINES_IN_A_PART)
        write_whole(
            storage_path(f"{folder}/report/part-{number + 1:05}.jsonl"), map(to_line, map(told, part))
        )
    return {**RESULT, "requested": lines, "kept": 0, "deleted": lines, "report": f"{folder}/report"}


def rows(lines: int) -> Iterator[dict[str, Any]]:
    for number in range(lines):
        yield {
            "media_id": f"{number:032x}",
            "input_url": f"https://media-team.oss-cn-shanghai.aliyuncs.com/interviews/2026/take-{number:07}.mp4",
            "title": f"晨间新闻 medium {number:07}",
            "media_type": "video",
            "created": "2026-01-01T00:00:00Z",
            "size": 123_456_789,
            "tags": ["raw", "project-x"],
            "reason": "326 days old",
        }


def told(row: dict[str, Any]) -> dict[str, Any]:
    told = {name: value for name, value in row.items() if name != "reason"}
    ending = {"outcome": "deleted", "inferred": False, "request_id": "0A0A0A0A-1B1B-2C2C-3D3D-4E4E4E4E4E4E"}
    return {**told, **ending, "at": "2026-11-23T12:00:00Z"}


if __name__ == "__main__":
    main()
