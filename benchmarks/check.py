"""``python -m benchmarks.check``: is this provider still what ``results`` say? Short runs, ratios only.

Held against each other are figures that a busy machine changes little: processor time and least times relative to
a contender that was measured in the same minute, counts of requests and modules, growth of memory. A row that
looks worse is measured again, and fails only if it does each time.

``--sabotage`` makes the provider worse on purpose, and succeeds if that is noticed.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from pathlib import Path

from benchmarks.render import RESULTS, read
from benchmarks.rows import Figure, Row, from_json, load
from benchmarks.sabotage import KINDS, VARIABLE

CHECKED = ("imports", "cost", "latency", "size")
TRIES = 3


def worse(now: Figure, committed: Figure) -> bool:
    """Whether a figure is beyond what noise explains."""
    assert now.tolerance is not None
    return now.value > committed.value * now.tolerance + now.slack


def check(row: Row, results: Path) -> bool:
    """Measure a row, up to three times; whether it held once."""
    committed = {figure.words: figure for figure in row.figures(from_json(read(results)[row.name]))}
    for number in range(1, TRIES + 1):
        began = time.monotonic()
        bad = False
        for figure in row.figures(row.measure(True)):
            if figure.tolerance is None:
                continue
            before = committed[figure.words]
            is_worse = worse(figure, before)
            bad |= is_worse
            print(
                f"  {'WORSE' if is_worse else 'ok':5} {figure.words}: {figure.text}, committed {before.text}",
                flush=True,
            )
        print(f"  took {time.monotonic() - began:.0f} s", flush=True)
        if not bad:
            return True
        if number < TRIES:
            print("  once more", flush=True)
    return False


def main() -> int:
    """Check what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.check", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(CHECKED)}; all by default")
    parser.add_argument(
        "--against", type=Path, default=RESULTS, metavar="FOLDER", help="other results than those committed"
    )
    parser.add_argument("--sabotage", choices=KINDS, help="; ".join(f"{k}: {v}" for k, v in KINDS.items()))
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - set(CHECKED):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    logging.disable(logging.WARNING)
    if arguments.sabotage:
        os.environ[VARIABLE] = arguments.sabotage
        print(f"On purpose: {KINDS[arguments.sabotage]}.")
    failed = []
    for name in arguments.rows or CHECKED:
        row = load(name)
        print(f"{row.number} {row.title}", flush=True)
        if not check(row, arguments.against):
            failed.append(name)
    if failed:
        print(f"Worse than what is committed, {TRIES} times in a row: {', '.join(failed)}.")
    else:
        print("As good as what is committed.")
    if arguments.sabotage:
        print("It was noticed." if failed else "It was NOT noticed.")
        return not failed
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
