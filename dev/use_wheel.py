"""Run by check_wheel.py in a bare environment: the form that Airflow makes, and a DAG that deletes media.

Imports nothing of the repository: only what the wheel brought.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from importlib.metadata import version
from typing import Any

with contextlib.redirect_stdout(sys.stderr):
    import airflow.providers_manager as managers
    from airflow.utils.db import initdb

    import airflow_provider_ims
    from airflow_provider_ims.emulator.server import Emulator
    from airflow_provider_ims.get_provider_info import CONNECTION_FIELDS

CONNECTION_TYPE = "alibaba_ims"
DAG_ID = "ims_delete_media"


def main() -> None:
    expect(airflow_provider_ims.__file__.startswith(sys.prefix), "the package is not the wheel's")
    with contextlib.redirect_stdout(sys.stderr):
        fields = form_fields()
        expect(fields == list(CONNECTION_FIELDS), f"the form has {fields}")
        initdb()
        with Emulator() as emulator:
            deleted = delete(emulator)
    print(
        f"Airflow {version('apache-airflow')}: {len(fields)} fields in the form, {deleted} media deleted by a DAG"
    )


def form_fields() -> list[str]:
    """The form's own fields, as this Airflow's UI gets them."""
    try:
        from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
    except ImportError:  # Airflow 2
        prefix = f"extra__{CONNECTION_TYPE}__"
        widgets = managers.ProvidersManager().connection_form_widgets
        return [name.removeprefix(prefix) for name in widgets if name.startswith(prefix)]
    forms = {one.connection_type: one for one in HookMetaService.hook_meta_data()}
    return list(forms[CONNECTION_TYPE].extra_fields)


def delete(emulator: Emulator) -> int:
    """Run the example DAG by hand over half of a library."""
    os.environ["AIRFLOW_CONN_IMS_DEFAULT"] = emulator.airflow_connection(extra={"region": "cn-shanghai"})
    library = emulator.generate(50)
    unwanted, rest = library[:25], library[25:]
    dag = dags()[DAG_ID]
    by_hand = {"logical_date": None} if version("apache-airflow") >= "3" else {}
    run = dag.test(run_conf={"media_ids": unwanted}, **by_hand)
    states = {task.task_id: str(task.state) for task in run.get_task_instances()}
    expect(set(states.values()) == {"success"}, f"the DAG's tasks ended as {states}")
    expect(set(emulator.media_ids()) == set(rest), "other media are gone than those that were named")
    return len(emulator.deleted())


def dags() -> dict[str, Any]:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # before Airflow 3.2
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

    file = os.path.join(os.environ["AIRFLOW__CORE__DAGS_FOLDER"], f"{DAG_ID}.py")
    bag = DagBag(dag_folder=file)
    expect(not bag.import_errors, f"the DAG can't be imported: {bag.import_errors}")
    return dict(bag.dags)


def expect(true: bool, otherwise: str) -> None:
    if not true:
        sys.exit(f"use_wheel: {otherwise}")


if __name__ == "__main__":
    logging.captureWarnings(True)
    main()
