"""The page in a real browser: quiet, nothing wider than a phone, and readable in the dark and on paper."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from folders import write_study, write_thumbnails

from ablate.analysis.by_class import changed_items
from ablate.analysis.report import write_report
from ablate.analysis.saved import StudyFiles

Tables = tuple[pd.DataFrame, pd.DataFrame]
NAMES = [
    *("mixup", "progressive_resizing", "label_smoothing", "model.arch=tf_efficientnetv2_s.in21k_ft_in1k"),
    *("tta", "ema", "gridmask", "optimizer=ranger", "phases.finetune.lr=[1e-6, 1e-4]", "<script>", "x" * 60),
]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CONTRASTS = """() => {
  const channels = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const linear = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const weights = [0.2126, 0.7152, 0.0722];
  const luminance = text => channels(text).map(linear).reduce((sum, c, i) => sum + c * weights[i], 0);
  const ground = luminance(getComputedStyle(document.body).backgroundColor);
  const chosen = "p, h1, h2, dt, dd, .note, .verdict, th, td small, summary, figcaption, svg text, a";
  return [...document.querySelectorAll(chosen)].map(element => {
    const style = getComputedStyle(element);
    const ink = luminance(element.closest("svg") ? style.fill : style.color);
    return [(Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05), element.outerHTML.slice(0, 80)];
  });
}"""

SIZES = """all => all.map(each => {
  const turned = each.getScreenCTM();
  return parseFloat(getComputedStyle(each).fontSize) * Math.hypot(turned.a, turned.b);
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, tables: Callable[..., Tables]) -> dict[str, Path]:
    """Reports of a usual study, of one with 12 variants and 20 classes, and of one with 1,000 classes."""
    studies: dict[str, Any] = {
        "usual": tables({"baseline": 1.0, "baseline+mixup": 2.5, "baseline+tta": 1.05}),
        "wide": tables(
            {"baseline": 1.5} | {f"baseline+{name}": 1.2 + 0.1 * i for i, name in enumerate(NAMES)},
            seeds=2,
            items=300,
            classes=20,
        ),
        "classes": tables({"baseline": 2.0, "baseline+mixup": 2.6}, seeds=2, items=500, classes=1000),
    }
    found = {}
    for name, study in studies.items():
        folder = tmp_path_factory.mktemp(name)
        write_study(folder, *study, [f"class number {k}" for k in range(1000 if name == "classes" else 20)])
        write_thumbnails(folder, changed_items(StudyFiles.read(folder)))
        write_report(folder)
        found[name] = folder / "report.html"
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("name", ["usual", "wide", "classes"])
def test_the_page_is_quiet_fits_and_can_be_read(
    browser: Any, pages: dict[str, Path], name: str, width: int, scheme: str
):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    address = pages[name].as_uri()
    page.goto(address)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert said == []
    assert {url for url in asked if not url.startswith("data:")} == {address}
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    loaded = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth)")
    assert loaded
    assert all(loaded)
    names = page.locator("svg").evaluate_all("all => all.map(each => each.getAttribute('aria-label'))")
    assert len(names) >= 3
    assert page.get_by_role("img", name="Effects on accuracy").count() == 1
    assert all(names)
    dim = [(round(ratio, 2), what) for ratio, what in page.evaluate(CONTRASTS) if ratio < 4.5]
    assert dim == []
    page.close()


@pytest.mark.parametrize("name", ["usual", "wide"])
def test_text_in_figures_can_be_read_on_a_phone(browser: Any, pages: dict[str, Path], name: str):
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.goto(pages[name].as_uri())
    sizes = page.locator("svg text").evaluate_all(SIZES)
    assert min(sizes) >= 10
    page.close()


@pytest.mark.parametrize("name", ["usual", "wide", "classes"])
def test_nothing_is_cut_off_on_paper(browser: Any, pages: dict[str, Path], name: str):
    page = browser.new_page(viewport={"width": 680, "height": 900})  # A4 within margins of 15 mm
    page.emulate_media(media="print", color_scheme="dark")
    page.goto(pages[name].as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 680
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.get_by_text("name: demo").bounding_box()["height"] > 0
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()
