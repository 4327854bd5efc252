"""Row 1: what a DAG file pays for an import."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.rows import Figure, Measured, Quantity, Row, in_alternation, median
from benchmarks.service import environment

HEAVY = ("requests", "aiohttp", "alibabacloud_")
"""What no DAG file must load: names, or how they begin."""

CONTENDERS = {
    "this provider": (
        "airflow_provider_ims.operators.ims",
        "airflow_provider_ims.sensors.ims",
        "airflow_provider_ims.hooks.ims",
    ),
    "Alibaba OSS operators": ("airflow.providers.alibaba.cloud.operators.oss",),
    "Amazon S3 operators": ("airflow.providers.amazon.aws.operators.s3",),
    "Azure Blob operator": ("airflow.providers.microsoft.azure.operators.wasb_delete_blob",),
    "official SDK's client": ("alibabacloud_ice20201109.client",),
}
OURS = "this provider"

# What every DAG file with an operator in it has loaded already.
SCRIPT = """
import gc, json, sys, time
import airflow.providers.common.compat.sdk as sdk
sdk.BaseOperator, sdk.BaseSensorOperator, sdk.BaseHook, sdk.AirflowFailException, sdk.DAG
def peak_megabytes():  # not ru_maxrss, which begins with that of the parent
    with open("/proc/self/status") as status:
        return int(status.read().split("VmHWM:")[1].split()[0]) / 1024
# So that everybody begins equally far from the next full collection, which Airflow's objects make long.
gc.collect()
before, memory = set(sys.modules), peak_megabytes()
began, used = time.perf_counter(), time.process_time()
for name in sys.argv[1:]:
    __import__(name)
took, used = time.perf_counter() - began, time.process_time() - used
new = set(sys.modules) - before
print(json.dumps({
    "milliseconds": 1000 * took,
    "cpu_ms": 1000 * used,
    "modules": len(new),
    "megabytes": peak_megabytes() - memory,
    "heavy": sum(name.partition(".")[0].startswith(HEAVY) for name in new),
}))
"""


def import_once(contender: str) -> dict[str, float]:
    """Import in a fresh interpreter."""
    script = SCRIPT.replace("HEAVY", repr(HEAVY))
    command = [sys.executable, "-W", "ignore", "-c", script, *CONTENDERS[contender]]
    done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(short: bool) -> Measured:
    """Import each in turn, once before it counts, so that bytecode is there."""
    contenders = [OURS, "official SDK's client"] if short else list(CONTENDERS)
    for contender in contenders:
        import_once(contender)
    return Measured(in_alternation(3 if short else 5, contenders, import_once))


def figures(measured: Measured) -> list[Figure]:
    """Judge the time and what is loaded."""
    samples = measured.samples
    ours = median(samples, OURS, "milliseconds")
    return [
        Figure("import beyond Airflow's common base", ours, "ms", at_most=60, digits=0),
        Figure(
            "modules of requests, aiohttp, alibabacloud_* loaded",
            max(samples[OURS]["heavy"]),
            at_most=0,
            digits=0,
            tolerance=1,
        ),
        Figure("modules loaded", median(samples, OURS, "modules"), digits=0, tolerance=1.3),
        Figure(
            "CPU, of that of the SDK's client",
            min(samples[OURS]["cpu_ms"]) / min(samples["official SDK's client"]["cpu_ms"]),
            digits=3,
            tolerance=1.5,
            slack=0.005,
        ),
    ]


ROW = Row(
    number=1,
    name="imports",
    title="What a DAG file pays for an import",
    how="This provider is operators, sensors and hooks together. Each in a fresh interpreter that has loaded what "
    "every DAG file needs (operators, sensors, hooks and DAG of Airflow's common base), with bytecode in place.",
    quantities={
        "milliseconds": Quantity("time", "ms"),
        "cpu_ms": Quantity("CPU", "ms"),
        "modules": Quantity("modules", ""),
        "megabytes": Quantity("memory", "MB"),
        "heavy": Quantity("of them requests, aiohttp, alibabacloud", ""),
    },
    measure=measure,
    figures=figures,
)
