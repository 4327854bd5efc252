"""A whole Airflow on this machine whose tasks run in Celery workers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from local_airflow import LocalAirflow

READY = " ready."  # the last that a worker says before it waits for tasks


class CeleryAirflow(LocalAirflow):
    """Runs Airflow with so many Celery workers, called ``worker-1``, ``worker-2`` and so on.

    :param database: of PostgreSQL, without a scheme.
    :param broker: URL of Redis.
    :param slots: tasks that a worker runs at a time.
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        *,
        database: str,
        broker: str,
        workers: int,
        slots: int,
        env: Mapping[str, str],
    ) -> None:
        settings = {
            "CORE__EXECUTOR": "CeleryExecutor",
            "CORE__PARALLELISM": str(workers * slots),
            "DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{database}",
            "CELERY__BROKER_URL": broker,
            "CELERY__RESULT_BACKEND": f"db+postgresql+psycopg2://{database}",
            "CELERY__WORKER_CONCURRENCY": str(slots),
        }
        super().__init__(
            home,
            dags,
            triggerer=False,
            env={**{f"AIRFLOW__{name}": value for name, value in settings.items()}, **env},
        )
        self.workers = [f"worker-{number}" for number in range(1, workers + 1)]
        for name in self.workers:
            arguments = ("celery", "worker", "--skip-serve-logs", "--celery-hostname", f"{name}@localhost")
            self._processes[name] = self._process(name, "-m", "airflow", *arguments)

    def _up(self) -> set[str]:
        ready = {name for name in self.workers if READY in self._processes[name].last_lines(1000)}
        return super()._up() | ready

    def pid(self, name: str) -> int:
        """The process id of a part."""
        popen = self._processes[name].popen
        assert popen is not None
        return popen.pid

    def processes_of(self, name: str) -> list[int]:
        """The living processes of a part, those of the tasks that it runs among them."""
        return self._processes[name].members()
