"""The page in headless Chromium: nothing is fetched, nothing fails, nothing runs over, and axe-core finds no fault.

It takes `chromium` on the path and Playwright (`pip install playwright`, without its own browsers). For axe-core, name
its axe.min.js in the environment variable JAXSSL_AXE (`npm pack axe-core` has it).
"""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxssl.cli.parser import main
from jaxssl.report import page
from tests.report.test_report import HOSTILE, add_gallery, make
from tests.study.test_compare import run as make_run

pytestmark = pytest.mark.slow
WIDTHS = (360, 1440)


@pytest.fixture(scope="module")
def browser():
    place = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if place is None:
        pytest.skip("no chromium on the path")
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
    with playwright.sync_playwright() as p:
        running = p.chromium.launch(executable_path=place, args=["--no-sandbox"])
        yield running
        running.close()


def whole(folder):
    add_gallery(folder, make(folder), images=120, side=40)


def hostile(folder):
    classes = [*(name.replace("\ud800", "?") for name in HOSTILE), "n" * 1000, "ירוק \u202e"]
    results = make(folder, classes=classes, images=48)
    add_gallery(folder, results, near_ids=np.array([*classes, *classes]).reshape(2, 6))


def many(folder):
    add_gallery(folder, make(folder, classes=tuple(f"class {i}" for i in range(200)), images=400), images=256)


def unlabelled(folder):
    add_gallery(folder, make(folder, classes=()), channels=5)


def bare(folder):
    make(folder, classes=("only",))


def study(folder):
    for seed in range(5):
        for share in (0.1, 1.0):
            make_run(folder / f"{seed}-{share}", seed, share=share, protocols=("probe", "finetune"))
    assert main(["compare", str(folder)]) == 0


@pytest.fixture(scope="module", params=[whole, hostile, many, unlabelled, bare, study], ids=lambda make: make.__name__)
def file(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param.__name__)
    request.param(folder)
    place = folder / "report.html"
    if not place.exists():
        page.write(folder)
    assert place.stat().st_size < 8 * 2**20
    return place


@pytest.fixture(params=["light", "dark"])
def opened(request, browser, file):
    """The page at both widths one after the other, and what it said and asked for."""
    context = browser.new_context(color_scheme=request.param, viewport={"width": WIDTHS[0], "height": 800})
    shown, heard = context.new_page(), []
    shown.on("console", lambda message: heard.append(message.text))
    shown.on("pageerror", lambda error: heard.append(str(error)))
    shown.on("request", lambda request: heard.append(request.url[:80]))
    shown.goto(file.as_uri())
    yield shown, heard
    context.close()


def test_it_is_quiet_and_fetches_nothing(opened, file):
    shown, heard = opened
    shown.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert [said for said in heard if not said.startswith("data:image/jpeg")] == [file.as_uri()[:80]]


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_runs_over_and_each_figure_has_a_size_and_words(opened, width):
    shown, _ = opened
    shown.set_viewport_size({"width": width, "height": 800})
    shown.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    figures = shown.evaluate(
        """[...document.querySelectorAll('svg, img')].map(f => {
             const box = f.getBoundingClientRect();
             return [box.width, box.height, f.getAttribute('alt') || f.getAttribute('aria-label') || ''];
           })"""
    )
    assert all(min(width, height) > 4 and said for width, height, said in figures), figures
    # A text may scroll in a box of its own, and must not hang out of any other.
    over = shown.evaluate(
        """[...document.querySelectorAll('main *, header *')].filter(e => !e.closest('.scroll, svg')
             && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    )
    assert over == []


def test_the_map_answers_to_the_keyboard_and_to_the_pointer(opened):
    shown, _ = opened
    slider = shown.locator("#explored")
    if not slider.count():
        pytest.skip("this page has no map")
    shown.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    said, thumb = shown.locator(".explore p"), shown.locator(".explore .thumb")
    before = said.inner_text(), thumb.get_attribute("style")
    assert before[0].startswith("image")
    slider.focus()
    shown.keyboard.press("ArrowRight")
    after = said.inner_text(), thumb.get_attribute("style")
    assert after[0] != before[0] and after[1] != before[1] and slider.input_value() == "1"
    # As `textContent` has what CSS breaks into lines.
    assert slider.get_attribute("aria-valuetext").split() == said.text_content().split()
    plot = shown.locator(".plot").first
    plot.scroll_into_view_if_needed()
    points = [tuple(map(float, pair.split(","))) for pair in plot.get_attribute("data-points").split()]
    box = plot.bounding_box()
    x, y = points[7]
    shown.mouse.move(box["x"] + box["width"] * x / 100, box["y"] + box["height"] * y / 100)
    assert points[int(slider.input_value())] == pytest.approx(points[7], abs=1)


def test_the_first_screen_has_the_verdict_the_forest_plot_and_the_next_step(opened):
    shown, _ = opened
    shown.set_viewport_size({"width": 1440, "height": 900})
    for place in (".verdict", ".basis", ".next"):
        box = shown.locator(place).last.bounding_box()
        assert box["y"] + box["height"] < 900, place
    words = shown.locator(".verdict").inner_text().split()
    assert 0 < len(words) <= 12


def test_a_link_of_the_contents_opens_its_section(opened):
    shown, _ = opened
    if not shown.locator("nav a[href='#provenance']").count():
        pytest.skip("the page of a study")
    assert not shown.locator("details[open] > summary > #provenance").count()
    shown.locator("nav a[href='#provenance']").click()
    shown.locator("details[open] > summary > #provenance").wait_for()


def test_an_image_opens_large_and_closes_by_keyboard(opened):
    shown, _ = opened
    if not shown.locator("button.open").count():
        pytest.skip("this page has no images")
    shown.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    first = shown.locator("button.open").first
    first.focus()
    shown.keyboard.press("Enter")
    dialog = shown.locator("dialog.large")
    assert dialog.is_visible() and dialog.locator("p").inner_text()
    shown.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_without_scripts_the_map_is_a_picture_and_a_table(browser, file):
    context = browser.new_context(java_script_enabled=False)
    shown = context.new_page()
    shown.goto(file.as_uri())
    if not shown.locator("#explored").count():
        pytest.skip("this page has no map")
    shown.locator("details:has(> .map) > summary").click()
    assert not shown.locator("#explored").is_visible() and shown.locator(".plot svg").first.is_visible()
    shown.locator(".map summary").click()
    assert shown.locator(".mapped tbody tr").first.is_visible()
    context.close()


def test_axe_finds_no_serious_fault(opened):
    axe = os.environ.get("JAXSSL_AXE", "")
    if not Path(axe).is_file():
        pytest.skip("JAXSSL_AXE names no axe.min.js of axe-core")
    shown, _ = opened
    shown.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    shown.add_script_tag(path=axe)
    found = shown.evaluate("axe.run().then(found => found.violations)")
    faults = [
        (v["id"], v["help"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")
    ]
    assert faults == []


def test_on_paper_it_is_light_and_whole(browser, file):
    context = browser.new_context(color_scheme="dark", viewport={"width": 700, "height": 900})
    shown = context.new_page()
    shown.goto(file.as_uri())
    shown.emulate_media(media="print")
    ground = shown.evaluate("getComputedStyle(document.body).backgroundColor")
    assert min(map(int, re.findall(r"\d+", ground)[:3])) > 240
    # The answer takes at most two pages, and the rest begins on a new one.
    assert shown.evaluate("getComputedStyle(document.querySelector('main')).breakBefore") == "page"
    shown.add_style_tag(content="main { display: none; }")
    assert len(re.findall(rb"/Type\s*/Page\b", shown.pdf(format="A4"))) <= 2
    context.close()
