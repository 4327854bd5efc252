"""A run of some minutes at a terminal: lines with the time that has passed, a folder of its own, and Ctrl-C."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

_began = time.monotonic()


def say(text: str) -> None:
    """Print a line with the time that has passed."""
    print(f"{time.monotonic() - _began:6.1f} s  {text}", flush=True)


def run_in_folder(prefix: str, run: Callable[[Path], bool], *, keep: bool) -> int:
    """Run in a new folder, which stays if it is wanted or something went wrong; give the exit code.

    :param run: says whether all was as it must be.
    :returns: 0, 1, or 130 after Ctrl-C.
    """
    # A shell that starts this in the background ignores Ctrl-C for it, and SIGTERM would leave processes behind.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    home = Path(tempfile.mkdtemp(prefix=prefix))
    stays = True  # what went wrong is to be looked at
    try:
        good = run(home)
        stays = keep or not good
    except KeyboardInterrupt:
        say("interrupted; nothing is left running")
        stays = keep
        return 130
    finally:
        if stays:
            say(f"logs and reports are in {home}")
        else:
            shutil.rmtree(home)
    say(f"{'all is as it must be' if good else 'NOT all is as it must be'}; nothing is left running")
    return 0 if good else 1
