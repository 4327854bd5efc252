"""Row 9: what it costs to keep the report on an object store."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from itertools import count

from benchmarks.rows import Figure, Measured, Quantity, Row, in_alternation, ratio
from benchmarks.service import ANSWER_MS, connection, emulator, run

IDS = 20_000
WRITE_SECONDS = 0.08
WRITES = ("PutObject", "UploadPart", "CompleteMultipartUpload", "DeleteObject")
REGION, BUCKET = "cn-shanghai", "reports"
STORE, DISK, NOTHING = "report on a store", "report on this disk", "no report"


def measure(short: bool) -> Measured:
    """Delete 20,000 media with each kind of report in turn."""
    numbers = count()
    with (
        emulator() as service,
        emulator("--oss-port", "0") as store,  # a process of its own, as a store is
        tempfile.TemporaryDirectory(prefix="ims-benchmark-") as folder,
    ):
        store.oss.make_bucket(BUCKET)
        for operation in WRITES:
            store.oss.add_fault("delay", operation=operation, seconds=WRITE_SECONDS)
        extra = {"region": REGION, "oss_endpoint": store.oss.endpoint}
        env = connection(service) | {"AIRFLOW_CONN_STORE": store.airflow_connection(extra=extra)}

        def delete(contender: str) -> dict[str, float]:
            service.reset()
            ids = service.generate(IDS)
            service.add_fault("delay", milliseconds=ANSWER_MS)
            base = {STORE: f"oss://store@{BUCKET}/{next(numbers)}", DISK: f"{folder}/{next(numbers)}"}
            took = run("store", base.get(contender, ""), ids=ids, env=env)
            if took.pop("deleted") != IDS:
                raise RuntimeError(f"{contender}: not all are deleted")
            if contender == STORE:
                took["objects"] = len(store.oss.names(BUCKET, base[STORE].rpartition("/")[2] + "/"))
            return took

        return Measured(in_alternation(2 if short else 5, [STORE, DISK, NOTHING], delete))


def figures(measured: Measured) -> list[Figure]:
    """Judge the time, and what is left."""
    samples = measured.samples
    return [
        Figure(
            "time, of that with a local report",
            ratio(samples, "seconds", STORE, DISK),
            at_most=1.15,
            reason="Three writes wait for each other, however long a run is: a first file before the first request, "
            "the report at the end, and the removal of what it was made of; 0.24 s. The store's own work shares the "
            "processors.",
        ),
        Figure("time with a local report, of that without one", ratio(samples, "seconds", DISK, NOTHING)),
        Figure("objects that are left", max(samples[STORE]["objects"]), at_most=3, digits=0),
    ]


def main() -> None:
    """Delete what comes on standard input, with a report under the folder that is named; print what it took."""
    logging.disable(logging.WARNING)
    from airflow_provider_ims.files.storage import storage_path
    from airflow_provider_ims.hooks.ims import IMSHook

    ids, base = sys.stdin.read().split(), sys.argv[1]
    hook = IMSHook()
    # What is loaded once does not count.
    hook.delete_media_infos(media_ids=["00000000000000000000000000000000"])
    report_base = storage_path(base) if base else None
    if report_base:
        report_base.exists()
    result = hook.delete_media(ids, report_base=report_base)
    print(json.dumps({name: result[name] for name in ("seconds", "requests", "deleted")}))


ROW = Row(
    number=9,
    name="store",
    title="A report on a store that takes 80 ms for each write",
    how="20,000 media are deleted at 30 ms an answer, with the report in a bucket of the local OSS, which answers "
    "each write, each part of an upload and each removal after 80 ms; on this disk; and without one. All other "
    "settings are the defaults.",
    quantities={
        "seconds": Quantity("time", "s", 2),
        "requests": Quantity("requests", ""),
        "objects": Quantity("objects left", ""),
    },
    measure=measure,
    figures=figures,
)

if __name__ == "__main__":
    main()
