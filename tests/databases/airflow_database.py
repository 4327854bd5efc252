"""A whole Airflow on PostgreSQL or MariaDB, and a look at what its tables hold.

MariaDB stands for MySQL, which Debian does not have: Airflow takes both by the same dialect, driver and types of
columns. It does not run on MariaDB as a whole: the scheduler does without one query, which it makes by default each
minute, and the triggerer loses its connection and ends.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from local_airflow import LocalAirflow

from airflow_provider_ims.emulator import Emulator
from tests.servers import run_mariadb, run_postgresql

DATABASES = {
    "PostgreSQL": (run_postgresql, "postgresql+psycopg2"),
    "MariaDB": (run_mariadb, "mysql+mysqldb"),
}
MILLION_KEY = {"key_id": "million", "secret": "its-secret", "actions": ["ice:*"]}


class Database:
    """What Airflow's tables hold, asked of the database itself."""

    def __init__(self, url: str) -> None:
        self._engine = sqlalchemy.create_engine(url)

    @property
    def dialect(self) -> str:
        """``postgresql`` or ``mysql``."""
        return self._engine.dialect.name

    def number(self, statement: str, **values: Any) -> int:
        """Return the one number that a query gives, 0 for NULL."""
        return int(self._scalar(statement, values) or 0)

    def version(self) -> str:
        """Return such as ``15.18``."""
        return str(self._scalar("SELECT version()", {})).removeprefix("PostgreSQL ").split()[0].split("-")[0]

    def state_bytes(self, dag_id: str) -> int:
        """How much state the tasks of a DAG have."""
        return self.number(
            "SELECT max(octet_length(value)) FROM task_state_store WHERE dag_id = :dag_id", dag_id=dag_id
        )

    def result_bytes(self, dag_id: str) -> int:
        """How large the largest result of a DAG's tasks is."""
        return self.number(
            f"SELECT max(octet_length({self._text('value')})) FROM xcom WHERE dag_id = :dag_id "
            "AND xcom.key = 'return_value'",
            dag_id=dag_id,
        )

    def deferred_bytes(self, dag_id: str) -> int:
        """How much the deferred tasks of a DAG have for when they go on."""
        return self.number(
            f"SELECT max(octet_length({self._text('next_kwargs')})) FROM task_instance WHERE dag_id = :dag_id",
            dag_id=dag_id,
        )

    def _text(self, column: str) -> str:
        """Spell a column with JSON as text."""
        return f"CAST({column} AS TEXT)" if self.dialect == "postgresql" else column

    def trigger_bytes(self, dag_id: str, task_id: str) -> int:
        """How large the arguments of the trigger are that a task waits for."""
        quoted = self._engine.dialect.identifier_preparer.quote("trigger")
        return self.number(
            f"SELECT octet_length(waiting.kwargs) FROM {quoted} AS waiting JOIN task_instance "
            "ON task_instance.trigger_id = waiting.id WHERE dag_id = :dag_id AND task_id = :task_id",
            dag_id=dag_id,
            task_id=task_id,
        )

    def _scalar(self, statement: str, values: dict[str, Any]) -> Any:
        with self._engine.connect() as connection:
            return connection.execute(sqlalchemy.text(statement), values).scalar()

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()


@contextmanager
def run_airflow(name: str, emulator: Emulator) -> Iterator[tuple[LocalAirflow, Database]]:
    """Run a whole Airflow on a new database of its own, with connections to the emulator."""
    run_database, scheme = DATABASES[name]
    emulator.add_key(**MILLION_KEY)
    home = Path(tempfile.mkdtemp(prefix="databases-"))
    home.chmod(0o711)  # the database is another user
    try:
        with run_database(home / "database") as address:
            env = {
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"{scheme}://{address}",
                "AIRFLOW__CORE__PARALLELISM": "6",
                # The query that MariaDB refuses; see test_one_query_of_airflow_s_scheduler_is_refused.
                "AIRFLOW__SCHEDULER__PARSING_CLEANUP_INTERVAL": "100000",
                # By default logs lie in folders with the tasks' names, which no disk takes where they are this long.
                "AIRFLOW__LOGGING__LOG_FILENAME_TEMPLATE": "{{ ti.id }}/{{ ti.try_number }}.log",
                "AIRFLOW_CONN_IMS_DEFAULT": emulator.airflow_connection(),
                "AIRFLOW_CONN_IMS_MILLION": emulator.airflow_connection(
                    login=MILLION_KEY["key_id"], password=MILLION_KEY["secret"]
                ),
            }
            dags = Path(__file__).parent / "dags"
            with LocalAirflow(home / "airflow", dags, triggerer=name == "PostgreSQL", env=env) as airflow:
                database = Database(f"{scheme}://{address}")
                yield airflow, database
                database.close()
    finally:
        shutil.rmtree(home)
