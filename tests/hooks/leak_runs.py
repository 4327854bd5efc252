"""Runs all of dags/leak_dags.py at DEBUG, and writes every log record down as it was handed over, before any masking.

``python leak_runs.py FILE``; stdin: one media id list (JSON) for each DAG. Prints the states of the tasks.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from pathlib import Path

from airflow.utils.db import initdb

from tests.test_example_dags import load, run


class Everything(logging.Handler):
    """Writes a record with all that hangs on it."""

    def __init__(self, file: Path) -> None:
        super().__init__(logging.DEBUG)
        self.file = file.open("a")

    def emit(self, record: logging.LogRecord) -> None:
        trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        self.file.write(f"{record.name} {record.getMessage()} {record.__dict__!r} {trace}\n")
        self.file.flush()


initdb()
media = json.load(sys.stdin)
dags = load(Path(__file__).parent / "dags" / "leak_dags.py")
root = logging.getLogger()
root.addHandler(Everything(Path(sys.argv[1])))
root.setLevel(logging.DEBUG)
for name in ("airflow_provider_ims", "requests", "urllib3", "alibabacloud-tea", "credentials"):
    logging.getLogger(name).setLevel(logging.DEBUG)
states = {}
for dag_id, dag in dags.items():
    finished = run(dag, {"media_ids": media.get(dag_id, [])})
    states[dag_id] = {one.task_id: str(one.state) for one in finished.get_task_instances()}
print("STATES " + json.dumps(states))
