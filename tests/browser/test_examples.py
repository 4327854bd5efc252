"""Two example DAGs as people see them: a deletion's log, and a retention plan that somebody looks at and approves."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from local_airflow import LocalAirflow
from media_team import REGION, cleanup
from playwright.sync_api import Browser, Page, expect

from airflow_provider_ims.emulator import Emulator
from tests.browser.conftest import log_in
from tests.browser.test_emulator_page import CONTRAST

EXAMPLES = Path(__file__).parent.parent.parent / "example_dags"
AUTH_MANAGER = str(Path(__file__).parent.parent / "web" / "plugins_path")


@pytest.fixture(scope="module")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, ims_emulator_session: Emulator
) -> Iterator[LocalAirflow]:
    """Instead of the one with an empty connection list: the examples, and a connection to the local IMS."""
    connection = ims_emulator_session.airflow_connection(extra={"region": REGION})
    env = {
        "AIRFLOW_CONN_IMS_DEFAULT": connection,
        # `clerk` may see DAGs and their runs, but no XComs.
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,clerk:viewer",
        "AIRFLOW__CORE__AUTH_MANAGER": "strict_auth_manager.StrictAuthManager",
        "PYTHONPATH": os.pathsep.join(filter(None, [AUTH_MANAGER, os.environ.get("PYTHONPATH")])),
    }
    home = tmp_path_factory.mktemp("examples") / "home"
    with LocalAirflow(home, EXAMPLES, env=env) as airflow:
        yield airflow


@pytest.fixture
def plans() -> Iterator[str]:
    """A folder with a short name, since the pictures show it."""
    with tempfile.TemporaryDirectory(prefix="ims-plans-") as folder:
        yield folder


def test_the_log_tells_what_became_of_each(
    page: Page, airflow: LocalAirflow, ims_emulator: Emulator, shoot: Callable[[str], None], plans: str
) -> None:
    work = cleanup()
    ims_emulator.seed(work.media)
    run = airflow.trigger("ims_delete_media", {**work.conf, "folder": plans})
    assert airflow.wait("ims_delete_media", run) == "success"

    page.set_viewport_size({"width": 1280, "height": 600})
    page.goto(f"{airflow.url}/dags/ims_delete_media/runs/{quote(run)}/tasks/delete_by_id")
    expect(page.get_by_text("132 deleted, 10 missing, 5 forbidden").first).to_be_visible()
    page.keyboard.press("w")  # long lines are wrapped
    shoot("run")


def test_a_person_approves_a_plan(
    page: Page,
    browser: Browser,
    airflow: LocalAirflow,
    ims_emulator: Emulator,
    shoot: Callable[[str], None],
    plans: str,
    tmp_path: Path,
) -> None:
    library = ims_emulator.generate(1200, seed=9, days=105)
    run = airflow.trigger("ims_retention", {"folder": plans})
    airflow.wait_for_task("ims_retention", run, "approve", "awaiting_input", "deferred", timeout=120)
    plan = airflow.xcom("ims_retention", run, "plan")

    page.set_viewport_size({"width": 1100, "height": 1250})
    page.goto(f"file://{plan['page']}")
    expect(page.get_by_role("heading", level=1)).to_contain_text(
        f"Plan to delete {plan['selected']} of 1,200"
    )
    shoot("plan-page")

    page.set_viewport_size({"width": 1280, "height": 1000})
    page.goto(f"{airflow.url}/dags/ims_retention/runs/{quote(run)}/tasks/approve/required_actions")
    expect(page.get_by_text(plan["digest"])).to_be_visible()
    shoot("approval")
    # From the question to all that would go, and one of them found by its id.
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Look at all of them").click()
    look = opened.value
    expect(look.get_by_role("heading", level=1)).to_have_text(
        f"Plan to delete {plan['selected']} of 1,200 media"
    )
    wanted = json.loads(Path(plan["manifest"]).read_text().splitlines()[-1])
    search = look.get_by_role("searchbox", name="Search")
    search.fill(wanted["media_id"])
    search.press("Enter")
    expect(look.locator(".rows tbody tr")).to_have_count(1)
    expect(look.locator(".rows tbody tr")).to_contain_text(wanted["input_url"])
    look.get_by_role("link", name="Back to the question").click()
    expect(look.get_by_text(plan["digest"])).to_be_visible()
    look.close()
    assert ims_emulator.deleted() == []
    page.wait_for_timeout(8_000)  # the scheduler must have noted the deferral before it is answered
    # So slow that it is still running when a busy machine has shown it.
    ims_emulator.add_fault("limit", rate=0.1, burst=1, action="DeleteMediaInfos")
    page.get_by_role("button", name="Approve").click()

    # How far the deletion is, watched without touching anything.
    airflow.wait_for_task("ims_retention", run, "delete", "running", timeout=120)
    page.goto(f"{airflow.url}/dags/ims_retention/runs/{quote(run)}/tasks/delete/details")
    page.get_by_role("link", name="Deletion").click()
    bar = page.get_by_role("progressbar", name="Done")
    expect(bar).to_be_visible()
    seen = bar.get_attribute("value")
    expect(bar).not_to_have_attribute("value", seen or "", timeout=60_000)
    page.set_viewport_size({"width": 1280, "height": 400})
    shoot("deletion-running")
    ims_emulator.drop_faults()
    expect(page.get_by_role("heading", level=1)).to_have_text(
        f"{plan['selected']} of {plan['selected']} deleted", timeout=60_000
    )
    shoot("deletion")
    search = page.get_by_role("searchbox", name="Search")
    search.fill(wanted["media_id"])
    search.press("Enter")
    expect(page.locator(".rows tbody tr")).to_have_count(1)
    expect(page.locator(".rows tbody tr")).to_contain_text("deleted")
    for link in ("tasks/plan/-1/plan", "tasks/delete/-1/deletion"):
        page.goto(f"{airflow.url}/ims/dags/ims_retention/runs/{quote(run)}/{link}")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            for width in (1200, 500):
                page.set_viewport_size({"width": width, "height": 900})
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                assert page.evaluate(CONTRAST) == []
                page.screenshot(path=tmp_path / f"{link.rpartition('/')[2]}-{scheme}-{width}.png")

    passwords = json.loads((airflow.home / "passwords.json").read_text())
    clerk = log_in(browser, airflow, "clerk", passwords["clerk"])
    nobody = browser.new_page()
    for link in ("tasks/plan/-1/plan", "tasks/delete/-1/deletion"):
        for visitor, refusal in ((clerk, "Forbidden"), (nobody, "Unauthorized")):
            visitor.goto(f"{airflow.url}/ims/dags/ims_retention/runs/{quote(run)}/{link}")
            expect(visitor.get_by_role("heading", level=1)).to_have_text(refusal)
            assert wanted["media_id"] not in visitor.content()
    nobody.get_by_role("link", name="Log in").click()
    expect(nobody.get_by_label("Username")).to_be_visible()

    assert airflow.wait("ims_retention", run, timeout=180) == "success"
    assert len(ims_emulator.deleted()) == plan["selected"] == len(library) - len(ims_emulator.media_ids())
