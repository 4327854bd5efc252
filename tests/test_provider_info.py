"""What Airflow makes of the provider's description: its type, its form, its modules."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import distribution
from unittest import mock

import pytest
from airflow.providers_manager import ProvidersManager

from airflow_provider_ims.api.endpoints import REGIONS
from airflow_provider_ims.connection import CREDENTIAL_KINDS
from airflow_provider_ims.get_provider_info import CONNECTION_FIELDS, get_provider_info
from airflow_provider_ims.hooks.ims import IMSHook

INFO = get_provider_info()
(CONNECTION,) = INFO["connection-types"]


def test_the_package_name_is_the_distributions():
    """Otherwise each command of Airflow breaks."""
    assert INFO["package-name"] == distribution(INFO["package-name"]).name
    assert INFO["versions"] == [distribution(INFO["package-name"]).version]


def test_airflows_schema_takes_it():
    from airflow.providers_manager import _create_provider_info_schema_validator

    _create_provider_info_schema_validator().validate(INFO)


def test_every_name_in_it_can_be_imported():
    names = [module for kind in ("hooks", "operators", "sensors", "triggers") for module in modules(kind)]
    names += [CONNECTION["hook-class-name"], *INFO["extra-links"]]
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert attribute[0].islower() or hasattr(import_module(module), attribute)
        if attribute[0].islower():
            import_module(name)


def modules(kind: str) -> list[str]:
    return [name for entry in INFO.get(kind, []) for name in entry["python-modules"]]


def test_airflow_finds_type_form_and_hook():
    manager = ProvidersManager()
    hook = manager.hooks["alibaba_ims"]
    assert hook
    assert (hook.hook_name, hook.connection_id_attribute_name) == ("Alibaba Cloud IMS", "ims_conn_id")
    assert hook.connection_testable
    links = {f"airflow_provider_ims.links.ims.{name}" for name in ("IMSPlanLink", "IMSReportLink")}
    assert links <= set(manager.extra_links_class_names)


def test_the_form_as_airflow_3_shows_it():
    services = pytest.importorskip("airflow.api_fastapi.core_api.services.ui.connections")
    form = {one.connection_type: one for one in services.HookMetaService.hook_meta_data()}["alibaba_ims"]
    assert list(form.extra_fields) == list(CONNECTION_FIELDS)
    assert form.extra_fields["region"]["schema"]["examples"] == list(REGIONS)
    assert form.extra_fields["credential_type"]["schema"]["enum"] == list(CREDENTIAL_KINDS)
    assert form.standard_fields.login.title == "AccessKey ID"
    assert form.standard_fields.url_schema.hidden


def test_no_field_is_required_and_each_tells_what_it_is_for():
    for name, field in CONNECTION_FIELDS.items():
        assert "null" in field["schema"]["type"], name
        assert field["label"], name
        assert field["description"].endswith("."), name


def test_secrets_are_password_fields():
    secret = [
        name for name, field in CONNECTION_FIELDS.items() if field["schema"].get("format") == "password"
    ]
    assert secret == ["security_token"]


def test_each_kind_of_credentials_has_a_name_that_a_person_reads():
    schema = CONNECTION_FIELDS["credential_type"]["schema"]
    assert set(schema["values_display"]) == set(schema["enum"]) == set(CREDENTIAL_KINDS)


def test_what_the_form_says_beside_its_fields_is_text_throughout():
    """One value that is no text, and Airflow drops all of it."""
    behaviour = CONNECTION["ui-field-behaviour"]
    texts = [
        *behaviour["hidden-fields"],
        *behaviour["relabeling"].values(),
        *behaviour["placeholders"].values(),
    ]
    assert all(isinstance(text, str) for text in texts)


def test_the_form_of_airflow_2_has_the_same_fields():
    """Where Flask-AppBuilder is not installed, its place is taken by what Airflow 3.0 and 3.1 put there."""
    stand_ins = {}
    try:
        import flask_appbuilder  # noqa: F401
    except ImportError:
        names = (
            "flask_appbuilder",
            "flask_appbuilder.fieldwidgets",
            "flask_babel",
            "wtforms",
            "wtforms.validators",
        )
        stand_ins = {name: mock.MagicMock() for name in names}
    with mock.patch.dict(sys.modules, stand_ins):
        assert list(IMSHook.get_connection_form_widgets()) == list(CONNECTION_FIELDS)
    behaviour = IMSHook.get_ui_field_behaviour()
    assert set(behaviour) == {"hidden_fields", "relabeling", "placeholders"}
    assert behaviour["relabeling"]["login"] == "AccessKey ID"


def test_reading_it_imports_next_to_nothing():
    """Airflow reads it for each of its commands."""
    import subprocess

    script = (
        "import sys; from airflow_provider_ims.get_provider_info import get_provider_info; get_provider_info();"
        "print({'airflow', 'requests', 'alibabacloud_credentials', 'pendulum'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "set()"
