"""Row 5: how time and memory grow with the number of media."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import tracemalloc
from pathlib import Path

from benchmarks.rows import Figure, Measured, Quantity, Row, median
from benchmarks.sabotage import sabotage
from benchmarks.service import BATCH, connection, emulator, peak_megabytes, run

SIZES = {2_000: 3, 20_000: 3, 200_000: 3, 1_000_000: 2}
"""How many media, and in how many rounds."""
SHORT = {2_000: 2, 200_000: 1}
TRACED = (2_000, 20_000)
"""Sizes at which every allocation of the run is traced, too: what it holds on to hides below the peak of reading."""


def measure(short: bool) -> Measured:
    """Delete manifests of growing size, each in a process of its own, with a report and a kept state."""
    sizes = SHORT if short else SIZES
    measured = Measured({})
    with emulator() as service, tempfile.TemporaryDirectory(prefix="ims-benchmark-") as scratch:
        for number in range(max(sizes.values())):
            for size, rounds in sizes.items():
                if number >= rounds:
                    continue
                service.reset()
                manifest = Path(scratch, "ids")
                manifest.write_text("\n".join(service.generate(size)))
                report = Path(scratch, f"report-{size}-{number}")
                found = run("size", str(manifest), str(report), env=connection(service))
                lines = sum(part.read_bytes().count(b"\n") for part in report.rglob("part-*.jsonl"))
                if not found["deleted"] == lines == size:
                    raise RuntimeError(f"{found['deleted']} deleted and {lines} lines for {size} media")
                for quantity in ("seconds", "cpu", "megabytes", "requests"):
                    quantities = measured.samples.setdefault(f"{size:,} media", {})
                    quantities.setdefault(quantity, []).append(found[quantity])
        for size in TRACED:
            service.reset()
            manifest = Path(scratch, "ids")
            manifest.write_text("\n".join(service.generate(size)))
            report = Path(scratch, f"report-{size}-traced")
            found = run("size", str(manifest), str(report), "traced", env=connection(service))
            quantities = measured.samples.setdefault(f"{size:,} media", {})
            quantities["held_kb"] = [found["held_kb"]]
    return measured


def figures(measured: Measured) -> list[Figure]:
    """Judge what 200,000 need more than 2,000, and whether a million takes five times as long."""
    samples = measured.samples
    least = {
        size: min(quantities["megabytes"])
        for size, quantities in samples.items()
        if "megabytes" in quantities
    }
    few, many = (samples[f"{size:,} media"]["held_kb"][0] for size in TRACED)
    more_requests = (TRACED[1] - TRACED[0]) / BATCH
    found = [
        Figure(
            "memory at 200,000, more than at 2,000",
            least["200,000 media"] - least["2,000 media"],
            "MB",
            at_most=60,
            digits=1,
            tolerance=1.0,
            slack=5,
        ),
        Figure(
            "memory that a run holds for each request, from 2,000 to 20,000 media",
            1024 * (many - few) / more_requests,
            "bytes",
            digits=0,
            tolerance=1.0,
            slack=200,
        ),
        Figure("requests for 200,000", max(samples["200,000 media"]["requests"]), digits=0, tolerance=1.01),
    ]
    if "1,000,000 media" in samples:
        million, fifth = (median(samples, f"{size} media", "seconds") for size in ("1,000,000", "200,000"))
        found += [
            Figure("time for 1,000,000, of five times that for 200,000", million / fifth / 5, at_most=1.1),
            Figure(
                "memory at 1,000,000, more than at 2,000",
                least["1,000,000 media"] - least["2,000 media"],
                "MB",
                digits=1,
            ),
        ]
    return found


def main() -> None:
    """Delete a manifest; print the result, with this process's peak memory and processor time."""
    logging.disable(logging.WARNING)
    sabotage()
    import resource

    from airflow_provider_ims.deletion.targets import read_targets
    from airflow_provider_ims.files.storage import storage_path
    from airflow_provider_ims.hooks.ims import IMSHook
    from tests.faults.crash import Life, MortalStore

    manifest, report, *traced = sys.argv[1:]
    hook, targets = IMSHook(), read_targets(manifest=manifest)
    if traced:
        # One request before, so that what is loaded once does not count.
        hook.delete_media_infos(media_ids=["00000000000000000000000000000000"])
        tracemalloc.start()
    result = hook.delete_media(targets, report_base=storage_path(report), store=MortalStore({}, Life()))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "seconds": result["seconds"],
                "cpu": used.ru_utime + used.ru_stime,
                "megabytes": peak_megabytes(),
                "requests": result["requests"],
                "deleted": result["deleted"],
                "held_kb": tracemalloc.get_traced_memory()[1] / 1024,
            }
        )
    )


ROW = Row(
    number=5,
    name="size",
    title="From 2,000 to 1,000,000 media",
    how="A manifest with an id a line is deleted in a process of its own, with a report on the local disk and a "
    "state that is kept as JSON in memory (Airflow's own store: row 8). No limit, no delay: the time is that of the "
    "two processes, this provider and the emulator.",
    quantities={
        "seconds": Quantity("time", "s", 1),
        "cpu": Quantity("CPU of the task", "s", 1),
        "megabytes": Quantity("peak memory", "MB"),
        "requests": Quantity("requests", ""),
    },
    measure=measure,
    figures=figures,
)

if __name__ == "__main__":
    main()
