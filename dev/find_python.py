"""Print the interpreter of a Python version, such as 3.13, if this machine has one; none is fetched."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")


def find_python(version: str) -> str | None:
    """Return the newest of that version: pyenv's first, whose shims on ``PATH`` only work for the selected ones."""
    ours = [path for path in PYENV.glob(f"versions/{version}.*/bin/python") if os.access(path, os.X_OK)]
    if ours:
        return str(max(ours, key=lambda path: [int(number) for number in re.findall(r"\d+", path.parts[-3])]))
    command = [sys.executable, "-m", "uv", "python", "find", "--no-python-downloads", version]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


if __name__ == "__main__":
    if (path := find_python(sys.argv[1])) is None:
        sys.exit(f"Python {sys.argv[1]} is not on this machine")
    print(path)
