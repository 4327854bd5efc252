"""A local IMS: checks every request as strictly as the service, and keeps a log of what became of every medium.

Run it with ``python -m airflow_provider_ims.emulator``, or from Python with
:class:`airflow_provider_ims.emulator.server.Emulator`. Needs the extra ``emulator``.
"""
