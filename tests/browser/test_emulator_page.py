"""The emulator's front page, as somebody sees it who runs a DAG against the emulator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.credentials import StaticCredentials
from airflow_provider_ims.api.endpoints import parse_host
from airflow_provider_ims.deletion.run import DeletionRun
from airflow_provider_ims.deletion.targets import read_targets
from airflow_provider_ims.emulator import Emulator

HOSTILE = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"


@pytest.fixture
def front(browser: Browser, ims_emulator: Emulator) -> Iterator[Page]:
    """The page, which must not complain."""
    page = browser.new_page(viewport={"width": 1200, "height": 900}, timezone_id="UTC", locale="en-GB")
    page.set_default_timeout(20_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(ims_emulator.control)
    yield page
    assert complaints == []


@pytest.fixture
def client(ims_emulator: Emulator) -> IMSClient:
    return IMSClient(
        parse_host(ims_emulator.endpoint),
        StaticCredentials(ims_emulator.access_key_id, ims_emulator.access_key_secret),
        read_timeout=2,
        retry_seconds=20,
    )


def delete(client: IMSClient, ids: list[str]) -> None:
    DeletionRun(client, read_targets(media_ids=ids), max_concurrency=1).execute()


def rows(page: Page, table: str) -> list[str]:
    return page.locator(f"#{table} tr").all_inner_texts()


def tile(page: Page, name: str) -> str:
    return page.locator("#counts div", has_text=name).locator("dd").inner_text()


def test_it_follows_what_happens(front: Page, ims_emulator: Emulator, client: IMSClient) -> None:
    expect(front.get_by_text("Nobody has asked for anything yet.")).to_be_visible()
    ids = ims_emulator.generate(30)
    ims_emulator.protect(ids[:2])
    expect(front.locator("#library tr")).to_have_count(30)
    ims_emulator.add_fault("reset", when="after", times=1, action="DeleteMediaInfos")
    delete(client, ids[:20])
    expect(front.locator("#deleted tr")).to_have_count(18)
    expect(front.locator("#library tr")).to_have_count(12)
    expect(front.locator("#counts")).to_contain_text("18")
    assert tile(front, "media") == "12"
    requests = rows(front, "requests")
    lost = next(row for row in requests if "answer lost" in row)
    assert "18 deleted" in lost
    assert "2 forbidden" in lost
    assert "fault: reset_after" in lost
    assert "struck 1 of" in front.locator("#faults").inner_text()
    # Which request did it, and what else it did.
    front.locator("#deleted a").first.click()
    row = front.locator("#requests tr:target")
    expect(row).to_contain_text("18 deleted")
    row.locator("summary").click()
    expect(row.get_by_text(ids[0])).to_be_visible()
    assert sorted(row.locator("li code").all_inner_texts()) == sorted(ids[:20])


def test_what_is_open_and_where_it_was_scrolled_to_stays(
    front: Page, ims_emulator: Emulator, client: IMSClient
) -> None:
    ids = ims_emulator.generate(100)
    for number in range(30):
        delete(client, [ids[number]])
    expect(front.locator("#requests tr")).to_have_count(30)
    row = front.locator("#requests tr", has_text="#15 ")
    row.locator("summary").click()
    panel = front.locator(".rows", has=front.locator("#requests"))
    panel.evaluate("panel => panel.scrollTop = 300")
    front.evaluate("scrollTo(0, 200)")
    before = row.bounding_box()
    for number in range(30, 35):
        delete(client, [ids[number]])
    expect(front.locator("#requests tr")).to_have_count(35)
    after = row.bounding_box()
    assert row.locator("details").get_attribute("open") is not None
    assert front.evaluate("scrollY") == 200
    assert before is not None
    assert after is not None
    # The same row lies where it lay, although there are new ones above it.
    assert abs(after["y"] - before["y"]) < 2


def test_hostile_titles_are_text(front: Page, ims_emulator: Emulator, client: IMSClient) -> None:
    media = {"url": "oss://b/<b>1</b>.mp4", "title": HOSTILE, "tags": "<i>tag</i>", "status": "<u>odd</u>"}
    [media_id] = ims_emulator.seed([media])
    expect(front.locator("#library")).to_contain_text(HOSTILE)
    expect(front.locator("#library")).to_contain_text("<i>tag</i>")
    delete(client, [media_id])
    expect(front.locator("#deleted")).to_contain_text(HOSTILE)
    assert front.title() == "Emulated IMS"
    assert front.locator("main").locator("script, img, b, i, u").count() == 0


def test_a_large_library_is_shown_in_parts(front: Page, ims_emulator: Emulator) -> None:
    ids = ims_emulator.generate(100_000)
    with front.expect_response("**/overview") as answered:
        expect(front.locator("#library-note")).to_have_text("50 of 100,000, oldest first")
    assert len(answered.value.body()) < 50_000
    assert front.locator("#library .id").all_inner_texts() == ids[:50]
    front.get_by_role("button", name="Newer").click()
    expect(front.locator("#library .id").first).to_have_text(ids[50])
    assert front.locator("#library .id").all_inner_texts() == ids[50:100]
    front.get_by_role("button", name="Oldest").click()
    expect(front.locator("#library .id").first).to_have_text(ids[0])


def test_it_says_when_the_emulator_is_gone_and_goes_on_when_it_is_back(browser: Browser) -> None:
    page = browser.new_page()
    emulator = Emulator("--sample")
    emulator.start()
    port = emulator.control.rpartition(":")[2]
    page.goto(emulator.control)
    expect(page.locator("#library tr")).to_have_count(50)
    emulator.stop()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator("#library tr")).to_have_count(50)
    with Emulator("--control-port", port):
        expect(page.get_by_role("alert")).to_be_hidden()
        expect(page.get_by_text("No media.")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 500])
def test_it_is_readable(browser: Browser, pictures: Path, tmp_path: Path, scheme: str, width: int) -> None:
    with Emulator("--sample") as emulator:
        client = IMSClient(
            parse_host(emulator.endpoint),
            StaticCredentials(emulator.access_key_id, emulator.access_key_secret),
            retry_seconds=20,
        )
        emulator.add_fault("throttle", every=4)
        emulator.add_fault("reset", when="after", action="DeleteMediaInfos", every=3)
        raw = [medium["media_id"] for medium in emulator.library() if medium["tags"] == "raw"]
        kept = [medium["media_id"] for medium in emulator.library() if medium["protected"]]
        delete(client, raw[:50] + kept[:3])
        delete(client, raw[50:70])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        page.goto(emulator.control)
        expect(page.locator("#deleted tr")).to_have_count(50)
        # Nothing is cut off at the side.
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CONTRAST) == []
        documented = (scheme, width) == ("light", 1200)
        page.screenshot(
            path=(pictures if documented else tmp_path) / "emulator.png", full_page=not documented
        )
        page.close()


# What has less contrast than WCAG's 4.5 to 1 with what lies behind it.
CONTRAST = """() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const weak = [];
  for (const node of document.querySelectorAll("body *")) {
    if (node.disabled || node.hidden || !node.checkVisibility()) continue;
    if (![...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim())) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) weak.push(`${node.className}: ${node.textContent.slice(0, 30)}`);
  }
  return weak;
}"""
