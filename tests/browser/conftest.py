"""A real Airflow, and Debian's Chromium to look at it. Not part of ``make test``: ``make test-browser`` runs it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from local_airflow import LocalAirflow
from playwright.sync_api import Browser, Page, expect, sync_playwright


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    dags = Path(__file__).parent / "dags"
    with LocalAirflow(tmp_path_factory.mktemp("browser") / "home", dags, triggerer=False) as airflow:
        yield airflow


@pytest.fixture
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "apt-get install chromium"
    expect.set_options(timeout=20_000)
    with sync_playwright() as playwright:
        # Without its sandbox, which can't be had as root in a container. It sees nothing but this machine.
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, airflow: LocalAirflow) -> Page:
    """A page of Airflow's UI that is logged in."""
    return log_in(browser, airflow, airflow.user, airflow.password)


def log_in(browser: Browser, airflow: LocalAirflow, user: str, password: str) -> Page:
    page = browser.new_page(viewport={"width": 1400, "height": 900}, timezone_id="UTC", locale="en-GB")
    page.set_default_timeout(20_000)
    page.goto(airflow.url)
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_test_id("nav-home-link")).to_be_visible()
    return page


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where pictures go; ``SCREENSHOTS=docs/images`` puts them where the documentation shows them."""
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def shoot(page: Page, pictures: Path) -> Callable[[str], None]:
    """Takes a picture of the page."""

    def shoot(name: str) -> None:
        page.wait_for_timeout(600)  # for what moves into its place
        page.screenshot(path=pictures / f"{name}.png")

    return shoot
