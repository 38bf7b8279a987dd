"""The report of a training, in a real browser: Debian's Chromium, driven by Playwright.

XPCNN_TEST_BROWSER=1 makes a browser that is missing an error; else these tests are then skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None and os.environ.get("XPCNN_TEST_BROWSER") != "1":
    pytest.skip("there is no chromium on the PATH", allow_module_level=True)

OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
BOXES = "all => all.map(one => one.getBoundingClientRect()).map(box => [box.width, box.height])"
BEYOND = """() => [...document.querySelectorAll("body *")].filter(
    one => one.getBoundingClientRect().right > innerWidth + 0.5).map(one => one.outerHTML)"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The page of a training as people start it."""
    folder = tmp_path_factory.mktemp("run")
    command = [sys.executable, "-m", "xpcnn.cli", "train", "--epochs", "2", "--validation", "0.1"]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "XPCNN_DEVICE": "cpu"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "xpcnn-digits.html"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        yield found
        found.close()


@pytest.fixture
def opened(browser, report):
    """Open the page; in the end nothing may have been said, gone wrong or been asked for."""
    pages, told, asked = [], [], []

    def open_page(viewport=DESK, colours="light"):
        page = browser.new_page(viewport=viewport, color_scheme=colours)
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("requestfailed", lambda request: told.append(request.url))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report.as_uri())
        pages.append(page)
        return page

    yield open_page
    assert told == []
    asked = [url for url in asked if not url.startswith("data:")]
    assert asked == [report.as_uri()] * len(pages)
    for page in pages:
        page.close()


def test_every_figure_is_there(opened):
    page = opened()
    assert page.title().startswith("digits by convnet: ")
    drawn = page.locator("figure svg:visible")
    assert drawn.count() > 3
    assert all(width > 80 and height > 80 for width, height in drawn.evaluate_all(BOXES))
    pictures = page.locator("figure svg:visible image")
    assert pictures.count() > 2
    assert all(width > 5 and height > 5 for width, height in pictures.evaluate_all(BOXES))
    sources = pictures.evaluate_all("all => all.map(one => one.href.baseVal)")
    decoded = (
        "url => { const one = new Image(); one.src = url; return one.decode().then("
        "() => one.naturalWidth) }"
    )
    assert all(page.evaluate(decoded, source) > 0 for source in sources)
    labels = drawn.evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")
    assert any(label.startswith("Learning curves: ") for label in labels)
    assert any(label.startswith("Confusion matrix: ") for label in labels)
    assert any(label.startswith("The kernels of the first layer. ") for label in labels)


def test_words_in_figures_are_those_of_the_page(opened):
    page = opened()
    text = page.locator("figure svg:visible text").first
    fonts = [one.evaluate("one => getComputedStyle(one).fontFamily") for one in (
        text, page.locator("body"),
    )]  # fmt: skip
    assert fonts[0] == fonts[1]


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_words_can_be_read_on_what_is_behind_them(opened, colours):
    """Of the page and of figures: a contrast of 7, the most that is asked for.

    Source: WCAG 2.2, 1.4.6.
    """
    page = opened(colours=colours)
    behind = luminance(
        page.locator("body").evaluate("one => getComputedStyle(one).backgroundColor")
    )
    for words, style in (("body", "color"), (".curves text", "fill")):
        found = page.locator(f"{words}:visible").first
        ink = luminance(found.evaluate(f"one => getComputedStyle(one).{style}"))
        low, high = sorted((ink, behind))
        assert (high + 0.05) / (low + 0.05) > 7
    assert (behind < 0.5) == (colours == "dark")


def luminance(colour):
    """The relative luminance of a CSS colour. Source: WCAG 2.2."""
    channels = [int(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_it(opened, colours):
    page = opened(PHONE, colours)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert page.evaluate(BEYOND) == []
    assert page.locator(".matrix svg:visible").count() == 1
    heights = page.locator(".matrix text:visible").evaluate_all(BOXES)
    assert min(height for _, height in heights) > 9  # of letters, in pixels
    page.locator("summary").click()  # with the table of epochs open, neither
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert page.locator("figure svg:visible").count() > 3


def test_light_and_dark_differ(opened):
    light, dark = (opened(colours=colours).screenshot() for colours in ("light", "dark"))
    assert light != dark


def test_on_paper_it_is_light(opened, tmp_path):
    page = opened(colours="dark")
    path = tmp_path / "page.pdf"
    data = page.pdf(path=path, format="A4", print_background=True)
    assert data.startswith(b"%PDF-")
    assert len(data) > 20_000
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator("body").evaluate("one => getComputedStyle(one).color") == "rgb(27, 31, 36)"
    ink = page.locator(".curves text:visible").first
    assert ink.evaluate("one => getComputedStyle(one).fill") == "rgb(27, 31, 36)"
