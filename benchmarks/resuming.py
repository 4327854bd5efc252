"""Row 8: what it costs to keep a state from which the next try goes on."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.rows import Figure, Measured, Quantity, Row, in_alternation, ratio
from benchmarks.service import ANSWER_MS, ROOT, connection, emulator

ON, OFF = "durable=True", "durable=False"
IDS = 20_000


def measure(short: bool) -> Measured:
    """Run the operator as a task of a whole Airflow, whose ``task_state_store`` keeps the state."""
    sys.path.insert(0, str(ROOT / "dev"))
    from local_airflow import LocalAirflow

    with emulator() as service, tempfile.TemporaryDirectory(prefix="ims-benchmark-") as scratch:
        dags = ROOT / "benchmarks" / "dags"
        with LocalAirflow(
            Path(scratch, "airflow"), dags, triggerer=False, env=connection(service)
        ) as airflow:
            number = 0

            def delete(contender: str) -> dict[str, float]:
                nonlocal number
                number += 1
                service.reset()
                manifest = Path(scratch, f"ids-{number}")
                manifest.write_text("\n".join(service.generate(IDS)))
                service.add_fault("delay", milliseconds=ANSWER_MS)
                dag_id = f"durable_{contender == ON}"
                run_id = airflow.trigger(
                    dag_id, {"manifest": str(manifest), "report": str(Path(scratch, f"report-{number}"))}
                )
                state = airflow.wait(dag_id, run_id)
                result = airflow.xcom(dag_id, run_id, "delete")
                if state != "success" or result["deleted"] != IDS:
                    raise RuntimeError(f"{dag_id} ended as {state}: {result}")
                return {"seconds": result["seconds"], "requests": result["requests"]}

            # The first run in a new Airflow is slower, whichever it is.
            delete(ON)
            return Measured(in_alternation(2 if short else 5, [ON, OFF], delete))


def figures(measured: Measured) -> list[Figure]:
    """Judge the difference."""
    slower = 100 * (ratio(measured.samples, "seconds", ON, OFF) - 1)
    return [
        Figure(
            "slower with durable",
            slower,
            "%",
            at_most=5,
            digits=1,
            reason="Without a limit the run takes all that the processors give, and Airflow saves a checkpoint for "
            "each half of the batches that may be in flight with the same ones. Fewer would leave more in doubt "
            "after a kill.",
        )
    ]


ROW = Row(
    number=8,
    name="resuming",
    title="What resuming costs",
    how=f"The operator deletes {IDS:,} media from a manifest, with a report, at {ANSWER_MS} ms an answer, as a task "
    "of a real Airflow (scheduler, API server, DAG processor, worker process; SQLite) on the same machine, whose "
    "task_state_store keeps the state through the execution API. The time is the run's own, from its XCom.",
    quantities={"seconds": Quantity("time", "s", 2), "requests": Quantity("requests", "")},
    measure=measure,
    figures=figures,
)
