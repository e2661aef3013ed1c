"""The page in a real browser: what a reader sees and does, and that what names hold is never run."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from septum.picture import Edge, Graph, Node, page
from tests.test_picture import platform

CHROMIUM = "/usr/bin/chromium"
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Its sandbox can't be had by root; the pages are this test's own.
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        yield chromium
        chromium.close()


@pytest.fixture
def shown(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    tab = browser.new_page(viewport={"width": 1500, "height": 900})
    complaints: list[str] = []
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("request", lambda request: None if request.url.startswith("file:") else complaints.append(request.url))
    yield tab
    tab.close()
    assert complaints == []


def show(tab: Page, graph: Graph, folder: Path) -> None:
    (folder / "page.html").write_text(page(graph))
    tab.goto(f"file://{folder}/page.html")


def small() -> Graph:
    nodes = (Node("acme/web", "acme"), Node("acme/db", "acme"), Node("blue/web", "blue"), Node("virtd", "", "daemon"))
    edges = (
        Edge("acme/web", "acme/db", "channel", "send", "(allow web db)"),
        Edge("acme/web", "blue/web", "selinux", "file write", "(allow svirt_t svirt_image_t)", change="added"),
        Edge("virtd", "blue/web", "selinux", "file read", "(allow virtd_t all)", change="removed"),
    )
    return Graph("small", nodes, edges, compared=True)


def visible(tab: Page) -> int:
    return tab.locator(".line:not(.gone):not(.dim)").count()


def test_clicking_a_line_shows_its_rule(shown: Page, tmp_path: Path) -> None:
    show(shown, small(), tmp_path)
    assert shown.text_content("#count") == "3 of 3 ways"
    shown.locator(".line.added path").dispatch_event("click")
    panel = shown.locator("#panel")
    assert "(allow svirt_t svirt_image_t)" in panel.inner_text()
    assert "(allow virtd_t all)" not in panel.inner_text()
    shown.get_by_text("blue/web", exact=True).first.click()
    assert "(allow virtd_t all)" in panel.inner_text()
    shown.locator(".box.platform .realm").click()
    assert "1 way" in panel.inner_text()


def test_search_and_filters(shown: Page, tmp_path: Path) -> None:
    show(shown, small(), tmp_path)
    shown.fill("#search", "svirt_image")
    assert visible(shown) == 1
    shown.fill("#search", "")
    shown.select_option("#realm", label="acme")
    assert visible(shown) == 2
    shown.uncheck("input[value=selinux]")
    assert visible(shown) == 1
    shown.check("input[value=selinux]")
    shown.select_option("#realm", label="all realms")
    for change, number in {"added": 1, "removed": 1, "changed": 2, "*": 3}.items():
        shown.select_option("#change", change)
        assert visible(shown) == number


def test_the_choice_of_changes_is_there_only_where_states_are_compared(shown: Page, tmp_path: Path) -> None:
    show(shown, small()._replace(compared=False), tmp_path)
    assert not shown.locator("#change").is_visible()


def test_moving_about(shown: Page, tmp_path: Path) -> None:
    show(shown, small(), tmp_path)
    before = shown.get_attribute("#picture svg", "viewBox")
    shown.mouse.move(300, 300)
    shown.mouse.wheel(0, -400)
    shown.wait_for_function(
        "before => document.querySelector('#picture svg').getAttribute('viewBox') !== before", arg=before
    )
    shown.click("#whole")
    assert [float(part) for part in (shown.get_attribute("#picture svg", "viewBox") or "").split()] == [
        float(part) for part in (before or "").split()
    ]


def test_hostile_names_are_text(shown: Page, tmp_path: Path) -> None:
    nodes = (Node(HOSTILE, HOSTILE, HOSTILE, HOSTILE), Node("\x00\ud800&", "*"))
    edges = (Edge(HOSTILE, "\x00\ud800&", HOSTILE, HOSTILE, HOSTILE),)
    (tmp_path / "page.html").write_text(page(Graph(HOSTILE, nodes, edges)))
    shown.goto(f"file://{tmp_path}/page.html")
    shown.locator(".line path").dispatch_event("click")
    assert HOSTILE in (shown.text_content("#panel code") or "")
    assert shown.title() == HOSTILE
    shown.select_option("#realm", label="*")
    assert shown.text_content("#count") == "1 of 1 ways"


def test_a_thousand_guests(shown: Page, tmp_path: Path) -> None:
    show(shown, platform(50, 20, 3000), tmp_path)
    assert shown.text_content("#count") == "3000 of 3000 ways"
    assert shown.locator(".node").count() == 1001
    shown.select_option("#realm", label="r7")
    assert 0 < shown.locator(".node:not(.dim)").count() < 300
    shown.locator(".box .realm", has_text="r7").first.click()
    assert "rule" in shown.locator("#panel").inner_text()
