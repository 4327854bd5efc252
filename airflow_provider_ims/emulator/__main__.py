"""Starts the command line: ``python -m airflow_provider_ims.emulator``, or ``ims-emulator``."""

from __future__ import annotations

import sys

from airflow_provider_ims.emulator.extra import require_extra


def main() -> None:
    """Run the emulator until it is interrupted; without the extra ``emulator``, say so."""
    try:
        require_extra()
    except ModuleNotFoundError as error:
        sys.exit(f"ims-emulator: {error}")
    from airflow_provider_ims.emulator.command import run

    run()


if __name__ == "__main__":
    main()
