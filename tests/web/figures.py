"""What a page of a plan or a report with a million lines costs: seconds, seconds of CPU, megabytes.

``python -m tests.web.figures [--folder oss://conn@bucket/prefix] [--lines 1000000]``. Beside a local folder, any that
Airflow knows; its connection comes from the environment. Each request goes to the pages' own application.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_ims.files.storage import storage_path, to_line, write_whole

LINES_IN_A_PART = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="where the files go; default: a temporary folder")
    parser.add_argument("--lines", type=int, default=1_000_000)
    arguments = parser.parse_args()
    os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        from tests.web.test_hostile import Server

        folder = arguments.folder or name
        server = Server(Path(name), patch)
        server.plan([])  # loads what the first page loads
        results = {page: write(page, folder, arguments.lines) for page in ("plan", "deletion")}
        first, last = "medium 0000000", f"medium {arguments.lines - 1:07}"
        for page, result in results.items():
            server.result = result
            for words, query in (
                ("first page", {}),
                ("last page", {"before": 10**15}),
                ("search, found at the beginning", {"q": first}),
                ("search, found at the end", {"q": last}),
                ("search, nothing found", {"q": "nobody has this"}),
            ):
                measure(server, page, words, query)


def measure(server: Any, page: str, words: str, query: dict[str, Any]) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, began, cpu = memory("VmRSS"), time.monotonic(), time.process_time()
    url: str | None = f"/dags/d/runs/r/tasks/t/-1/{page}"
    answers, longest = 0, 0.0
    while url:  # a search that ran out of time goes on by itself
        asked = time.monotonic()
        answer = server.client.get(url, params=query if not answers else None)
        assert answer.status_code == 200, answer.text
        longest = max(longest, time.monotonic() - asked)
        answers += 1
        refresh = answer.headers.get("Refresh", "")
        url = f"/dags/d/runs/r/tasks/t/-1/{page}" + refresh.partition("url=")[2] if refresh else None
    print(
        f"{page:9} {words:32} {time.monotonic() - began:6.2f} s, {time.process_time() - cpu:6.2f} s of CPU, "
        f"{answers} answers, the longest after {longest:.2f} s, {memory('VmHWM') - before:5.1f} MB more",
        flush=True,
    )


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
