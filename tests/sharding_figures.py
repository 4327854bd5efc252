"""What splitting a manifest costs: ``python -m tests.sharding_figures`` prints time and memory."""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from airflow_provider_ims.sharding import split_manifest
from benchmarks.service import peak_megabytes


def main() -> None:
    """Split an id list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--media", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=8)
    arguments = parser.parse_args()
    dice = random.Random(arguments.media)
    with tempfile.TemporaryDirectory() as scratch:
        manifest = Path(scratch) / "ids.txt"
        with manifest.open("w") as file:
            file.writelines(f"{dice.getrandbits(128):032x}\n" for _ in range(arguments.media))
        split_manifest(None, scratch, 1)  # loads what a first call loads
        before, began = peak_megabytes(), time.monotonic()
        shards = split_manifest(str(manifest), f"{scratch}/shards", arguments.shards)
        seconds, size = time.monotonic() - began, manifest.stat().st_size
    lines = [shard["max_media"] for shard in shards]
    print(
        f"{arguments.media:,} ids ({size / 1e6:.0f} MB) in {len(lines)} shards of {min(lines):,} to {max(lines):,}: "
        f"{seconds:.1f} s, {arguments.media / seconds:,.0f} ids a second, "
        f"{peak_megabytes() - before:.0f} MB more memory than before, {len(json.dumps(shards)):,} bytes in XCom"
    )


if __name__ == "__main__":
    main()
