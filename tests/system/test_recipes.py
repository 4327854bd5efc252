"""What only a scheduler can do of docs/recipes.md: start a DAG when another one is done."""

from __future__ import annotations

from local_airflow import LocalAirflow

from airflow_provider_ims.emulator import Emulator


def test_an_event_starts_a_deletion_of_what_it_names(airflow: LocalAirflow, ims_emulator: Emulator) -> None:
    library = ims_emulator.generate(10)
    airflow.unpause("delete_drafts")
    published = airflow.trigger("publish", {"drafts": library[:3]})
    assert airflow.wait("publish", published) == "success"

    run_id = airflow.wait_for_run("delete_drafts")
    assert airflow.wait("delete_drafts", run_id) == "success"
    assert {deletion["media_id"] for deletion in ims_emulator.deleted()} == set(library[:3])
    assert airflow.xcom("delete_drafts", run_id, "delete")["deleted"] == 3
