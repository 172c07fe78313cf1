"""The page in a real browser, from disk: quiet, without a request, and usable."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from softprompt.config.stage import run_stage
from stages.report import main
from tests.report.project import NASTY, SOURCES, make_rows

ANSWERED = [row for row in make_rows() if row["tuned_answer"] is not None]


@pytest.fixture
def page(browser: Browser, results: Path) -> Iterator[Page]:
    """The page, opened; after the test, whatever it did, it has said nothing and asked for nothing."""
    run_stage(main)
    url = (results / "results/report.html").as_uri()
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(5000)
    said, requests = list[str](), list[str]()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(url)
    yield page
    page.close()
    assert said == []
    assert requests == [url]


def shown(page: Page) -> list[str]:
    """example_id of each visible row, from the top."""
    return page.eval_on_selector_all(
        "article", "rows => rows.filter(row => row.checkVisibility()).map(row => row.dataset.id)"
    )


def test_texts_of_the_data_are_shown(page: Page) -> None:
    assert len(shown(page)) == 18
    assert page.locator("#count").text_content() == "18 of 18 rows"
    text = page.locator("#list").inner_text()
    assert NASTY[0] in text
    assert NASTY[1] in text
    assert NASTY[3] in text


@pytest.mark.parametrize("variant", ["few_shot", "hard", "base"])
def test_sort(page: Page, variant: str) -> None:
    worst = sorted(ANSWERED, key=lambda row: (row[f"gain_over_{variant}"], row["example_id"]))
    best = sorted(ANSWERED, key=lambda row: (-row[f"gain_over_{variant}"], row["example_id"]))
    for first, rows in (("best", best), ("worst", worst)):
        page.select_option("#order", f"{variant} {first}")
        assert shown(page) == [row["example_id"] for row in rows]


def test_search_and_filters(page: Page) -> None:
    page.fill("#search", "  HARD says 苹果 ")
    assert set(shown(page)) == {row["example_id"] for row in ANSWERED if row["reference"] == NASTY[4]}
    assert page.locator("#count").text_content() == "2 of 18 rows"
    page.fill("#search", "")
    page.select_option("#source", SOURCES[1])
    of_source = {row["example_id"] for row in ANSWERED if row["source"] == SOURCES[1]}
    assert set(shown(page)) == of_source
    page.check("#worse")
    worse = {row["example_id"] for row in ANSWERED if row["gain_over_few_shot"] < 0}
    assert set(shown(page)) == of_source & worse
    page.fill("#search", "nowhere to be found")
    assert shown(page) == []
    assert page.locator("#count").text_content() == "0 of 18 rows"


def test_a_point_leads_to_its_row_though_it_was_filtered_out(page: Page) -> None:
    page.fill("#search", "nowhere to be found")
    page.locator("#rows a").first.dispatch_event("click")
    target = page.locator("article:target")
    target.wait_for(state="visible")
    assert len(shown(page)) == 18


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_the_page_does_not_scroll_sideways(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_light_and_dark(page: Page) -> None:
    looks = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        line = page.evaluate(
            "getComputedStyle(document.querySelector('#training svg [stroke=\"var(--tuned)\"]')).stroke"
        )
        looks[scheme] = (ground, line)
    assert looks["light"][0] != looks["dark"][0]
    assert looks["light"][1] != looks["dark"][1], "charts follow the theme"


def test_print_has_every_row_and_no_controls(page: Page) -> None:
    page.emulate_media(media="print")
    assert len(shown(page)) == 18
    assert not page.locator("#controls").is_visible()


def test_printed_it_is_as_wide_as_the_paper(page: Page) -> None:
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 690, "height": 1000})  # of A4 between its margins
    wide = "elements => elements.filter(one => one.getBoundingClientRect().right > innerWidth + 1).length"
    assert page.eval_on_selector_all("table, figure, dl, svg", wide) == 0
    assert page.pdf().startswith(b"%PDF")


def test_without_script_all_is_there(browser: Browser, page: Page) -> None:
    plain = browser.new_context(java_script_enabled=False).new_page()
    plain.goto(page.url)
    assert plain.locator("article >> visible=true").count() == 18
    assert not plain.locator("#controls").is_visible()
    plain.context.close()
