"""The way of a platform engineer through Airflow's UI: a connection, its test, a run, its log and result."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote, urlsplit

import demo
import pytest
from local_airflow import LocalAirflow
from playwright.sync_api import Locator, Page, expect

from airflow_provider_ims.api.endpoints import REGIONS
from airflow_provider_ims.emulator import Emulator
from airflow_provider_ims.get_provider_info import CONNECTION_FIELDS

SECRET = Emulator.access_key_secret
DAG, TASK, CONNECTION = "delete_media_by_conf", "delete_media", "ims_team"


@pytest.fixture
def connections(page: Page, airflow: LocalAirflow) -> Page:
    """The list of connections."""
    page.goto(f"{airflow.url}/connections")
    return page


def open_section(form: Locator, name: str) -> None:
    section = form.get_by_role("button", name=name, exact=True)
    if section.get_attribute("aria-expanded") == "false":
        section.click()
    expect(section).to_have_attribute("aria-expanded", "true")


def fill(form: Locator, **fields: str) -> None:
    open_section(form, "Standard Fields")
    for name, value in fields.items():
        form.locator(f"input[name={name}]").fill(value)


def save(form: Locator) -> None:
    form.get_by_role("button", name="Save").click()
    expect(form).to_be_hidden()


def change(page: Page, **fields: str) -> None:
    page.get_by_role("button", name="Edit Connection").click()
    form = page.get_by_role("dialog")
    fill(form, **fields)
    save(form)


def press_test(page: Page, sentence: str) -> None:
    """Press the button of the one connection there is, and read what the page says."""
    with page.expect_response(lambda answer: answer.url.endswith("/connections/test")):
        page.get_by_role("button", name="Test Connection").click()
    expect(page.get_by_text(sentence)).to_be_visible()


def test_the_connection_of_the_demo_can_be_tested(
    connections: Page, airflow: LocalAirflow, ims_emulator: Emulator
) -> None:
    page = connections
    ims_emulator.generate(70)
    demo.connect(airflow, ims_emulator)
    try:
        page.reload()
        press_test(page, "70 media are visible to this key")
    finally:
        airflow.request("DELETE", "connections/ims_default")


def test_from_the_form_to_the_result(
    connections: Page, airflow: LocalAirflow, ims_emulator: Emulator, shoot: Callable[[str], None]
) -> None:
    page = connections
    media = ims_emulator.generate(70)
    ims_emulator.protect(media[:2])
    ims_emulator.add_key("LTAIreader", "secret-of-the-reader", actions=["ice:DeleteMediaInfos"])
    address = urlsplit(ims_emulator.endpoint)

    page.get_by_role("button", name="Add Connection").click()
    form = page.get_by_role("dialog")
    form.locator("input[name=connection_id]").fill(CONNECTION)
    form.get_by_role("combobox").first.fill("Alibaba Cloud IMS")
    page.get_by_role("option", name="Alibaba Cloud IMS").click()
    open_section(form, "Standard Fields")
    shoot("form")
    fill(
        form,
        host=f"http://{address.hostname}",
        login=ims_emulator.access_key_id,
        password="not-the-secret",
        port=str(address.port),
    )
    open_section(form, "Extra Fields")
    for field in CONNECTION_FIELDS.values():
        expect(form.get_by_text(field["description"])).to_be_visible()
    offered = form.locator("#list_region option").evaluate_all("options => options.map(one => one.value)")
    assert offered == list(REGIONS)
    assert form.locator("#element_security_token").get_attribute("type") == "password"
    form.locator("#element_region").fill("cn-shanghai")
    form.locator("#element_credential_type").click()
    shoot("form-extra-fields")
    page.get_by_role("option", name="access_key").click()
    save(form)

    press_test(page, "The AccessKey ID is right, but the AccessKey Secret is not")
    shoot("test-wrong-secret")
    change(page, password="secret-of-the-reader", login="LTAIreader")
    press_test(page, "allow its user or role the RAM action ice:ListMediaBasicInfos")
    shoot("test-missing-permission")
    change(page, password=SECRET, login=ims_emulator.access_key_id)
    press_test(page, "Connected to IMS in cn-shanghai")
    shoot("test-good")
    assert SECRET not in page.content()

    run = airflow.trigger(DAG, {"media_ids": media[2:]})
    assert airflow.wait(DAG, run) == "success"
    assert sorted(ims_emulator.media_ids()) == sorted(media[:2])

    task = f"{airflow.url}/dags/{DAG}/runs/{quote(run)}/tasks/{TASK}"
    page.goto(task)
    expect(page.get_by_text("68 deleted").first).to_be_visible()
    page.keyboard.press("w")  # long lines are wrapped
    page.set_viewport_size({"width": 1400, "height": 500})
    shoot("log")
    page.set_viewport_size({"width": 1400, "height": 900})
    assert SECRET not in page.content()
    page.goto(f"{task}/xcom")
    expect(page.get_by_text("return_value")).to_be_visible()
    page.get_by_role("button", name="Expand all extra JSON").click()
    shoot("xcom")
    assert SECRET not in page.content()
    page.goto(f"{task}/details")
    link = page.get_by_role("link", name="Deletion")
    expect(link).to_be_visible()
    shoot("link")
    link.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("68 of 68 deleted")
    assert SECRET not in page.content()
