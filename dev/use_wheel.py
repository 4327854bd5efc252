"""Run by check_wheel.py in a bare environment: what the wheel does beside the Airflow that is there.

Imports nothing of the repository: only what the wheel brought, and the DAGs beside this file. A warning from a line
of the package itself ends it. Prints one line of JSON: each suite, and what it saw.

With ``--only-store``, which needs no emulator here, it prints nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from packaging.version import Version

with contextlib.redirect_stdout(sys.stderr):
    import airflow.providers_manager as managers
    from airflow.utils.db import initdb

    # Not ``-W error:::airflow_provider_ims``: that names one module, and none of those in it.
    warnings.filterwarnings("error", module=r"airflow_provider_ims(\.|$)")

    import airflow_provider_ims
    from airflow_provider_ims.emulator import Emulator
    from airflow_provider_ims.get_provider_info import CONNECTION_FIELDS

CONNECTION_TYPE = "alibaba_ims"
FILE = Path(__file__).parent / "wheel_dags" / "wheel.py"
AIRFLOW_VERSION = Version(version("apache-airflow"))
AIRFLOW_3 = AIRFLOW_VERSION.major >= 3
LAG = 2.0
"""Seconds for which there is something to wait for."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only-store", metavar="FOLDER", help="only a plain task with paths in this folder")
    folder = parser.parse_args().only_store
    expect(airflow_provider_ims.__file__.startswith(sys.prefix), "the package is not the wheel's")
    if folder:
        prepare_database()
        run("store", folder=folder)
        return
    seen = {}
    with contextlib.redirect_stdout(sys.stderr):
        seen["form"] = form()
        prepare_database()
        with Emulator("--job-seconds", "0") as emulator:
            os.environ["AIRFLOW_CONN_IMS_DEFAULT"] = emulator.airflow_connection(
                extra={"region": "cn-shanghai"}
            )
            # Not deferral: ``dag.test()`` drops what is handed to ``defer(kwargs=)``; the system tests have real
            # processes.
            for suite in (deletion, sensors, plan, pages):
                emulator.reset()
                seen[suite.__name__] = suite(emulator)
    print(json.dumps(seen))


def prepare_database() -> None:
    initdb()
    if AIRFLOW_VERSION.release == (3, 1, 0):  # whose dag.test() runs nothing that is not serialized
        airflow_command = Path(sys.executable).with_name("airflow")
        subprocess.run([airflow_command, "dags", "reserialize"], check=True, stdout=sys.stderr)


def form() -> str:
    """The form's own fields, as this Airflow's UI gets them, and no warning on the way."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    fields = form_fields()
    logging.getLogger().removeHandler(handler)
    # Airflow 3.0 and early 3.1 make fields for any provider only where the FAB provider is installed.
    lacking = (
        not fields and (3,) <= AIRFLOW_VERSION.release < (3, 1, 8) and find_spec("flask_appbuilder") is None
    )
    expect(lacking or fields == list(CONNECTION_FIELDS), f"the form has {fields}")
    about = [line for line in said if "ims" in line.lower()]
    expect(not about, f"the form comes with warnings: {about}")
    return f"{len(fields)} fields" if fields else "Extra as JSON: no FAB"


def form_fields() -> list[str]:
    try:
        from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
    except ImportError:  # Airflow 2
        prefix = f"extra__{CONNECTION_TYPE}__"
        widgets = managers.ProvidersManager().connection_form_widgets
        return [name.removeprefix(prefix) for name in widgets if name.startswith(prefix)]
    forms = {one.connection_type: one for one in HookMetaService.hook_meta_data()}
    return list(forms[CONNECTION_TYPE].extra_fields or ())


def deletion(emulator: Emulator) -> str:
    library = emulator.generate(50)
    run("deletion", media_ids=library[:25])
    expect(set(emulator.media_ids()) == set(library[25:]), "other media are gone than those that were named")
    return f"{len(emulator.deleted())} media"


def sensors(emulator: Emulator) -> str:
    run("sensors", **something_to_wait_for(emulator))
    return f"{emulator.stats()['requests']} requests"


def something_to_wait_for(emulator: Emulator) -> dict[str, Any]:
    """Media that go, and a job that ends, some time after a task first looked."""
    from airflow_provider_ims.hooks.ims import IMSHook

    media = emulator.generate(5)
    job = emulator.add_job(seconds=3600)["ParentJobId"]
    emulator.put_job(job, ["Processing"])

    def end() -> None:
        while not emulator.requests():
            time.sleep(0.1)
        time.sleep(LAG)
        emulator.put_job(job, ["Success"])
        IMSHook().delete_media_infos(media_ids=media)

    threading.Thread(target=end, daemon=True).start()
    return {"media_ids": media, "job": job}


def plan(emulator: Emulator) -> str:
    old = {"created": "2024-01-31T08:00:00Z", "tags": "unwanted"}
    unwanted = emulator.seed([{**old, "url": f"oss://b/old-{n}"} for n in range(5)])
    rest = emulator.seed([{"url": f"oss://b/new-{n}", "tags": "unwanted"} for n in range(5)])
    with tempfile.TemporaryDirectory() as folder:
        run("plan", folder=folder)
        expect(any(Path(folder, "reports").rglob("*.jsonl")), "no report was written")
    expect(set(emulator.media_ids()) == set(rest), "other media are gone than those that the plan selects")
    return f"{len(unwanted)} of {len(unwanted) + len(rest)} media"


def pages(emulator: Emulator) -> str:
    """The pages, from Airflow's own API server: for who is logged in, and for nobody else."""
    if AIRFLOW_VERSION.release < (3, 1):
        return "none before 3.1"
    password = secrets.token_urlsafe()
    with tempfile.TemporaryDirectory() as folder:
        passwords = Path(folder, "passwords.json")
        passwords.write_text(json.dumps({"admin": password}))
        os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"] = str(passwords)
        os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] = "admin:admin"
        from airflow.api_fastapi.app import create_app
        from fastapi.testclient import TestClient

        old = {"created": "2024-01-31T08:00:00Z", "tags": "unwanted"}
        media = emulator.seed([{**old, "url": f"oss://b/old-{number}"} for number in range(5)])
        emulator.seed([{"url": "oss://b/new"}])
        run_id = quote(run("plan", folder=folder), safe="")
        client = TestClient(create_app())
        login = client.post("/auth/token", json={"username": "admin", "password": password})
        token = {"Authorization": f"Bearer {login.json()['access_token']}"}
        shown = 0
        for page in ("plan/-1/plan", "delete/-1/deletion"):
            url = f"/ims/dags/plan/runs/{run_id}/tasks/{page}"
            expect(client.get(url).status_code == 401, f"{page} is for everybody")
            answer = client.get(url, headers=token)
            expect(answer.status_code == 200, f"{page}: {answer.status_code} {answer.text[:500]}")
            shown += sum(media_id in answer.text for media_id in media)
        expect(shown == 2 * len(media), f"the pages show {shown} rows, and should {2 * len(media)}")
    return f"{shown} rows"


def run(dag_id: str, **conf: Any) -> str:
    run = dags()[dag_id].test(run_conf=conf, **({"logical_date": None} if AIRFLOW_3 else {}))
    states = {task.task_id: str(task.state) for task in run.get_task_instances()}
    expect(set(states.values()) == {"success"}, f"the tasks of {dag_id} ended as {states}")
    return str(run.run_id)


def dags() -> dict[str, Any]:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # before Airflow 3.2
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

    bag = DagBag(dag_folder=str(FILE))
    expect(not bag.import_errors, f"the DAGs can't be imported: {bag.import_errors}")
    return dict(bag.dags)


def expect(true: bool, otherwise: str) -> None:
    if not true:
        sys.exit(f"use_wheel: {otherwise}")


if __name__ == "__main__":
    logging.captureWarnings(True)
    main()
