"""A local IMS: checks every request as strictly as the service, and keeps a log of what became of every medium.

Run it with ``python -m airflow_provider_ims.emulator``, or from Python with
:class:`Emulator`. Needs the extra ``emulator``.
"""

from airflow_provider_ims.emulator.process import ControlError, EmulatedOSS, Emulator

__all__ = ["ControlError", "EmulatedOSS", "Emulator"]
