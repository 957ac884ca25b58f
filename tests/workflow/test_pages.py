"""The report in a real browser, and the rule and `snakemake --report` that make it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import compare
import report
from made_results import make_results

# For each piece of text that is seen: its contrast with what is behind it, and what WCAG AA asks of its size.
_CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => {
    const linear = [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || ["SCRIPT", "STYLE"].includes(element.tagName) || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const [a, b] = [rgba(element.closest("svg") ? style.fill : style.color), behind(element)].map(luminance);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    found.push({text, contrast: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), wanted: large ? 3 : 4.5});
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium without a window; skips where it or what drives it is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on PATH (Debian: apt-get install chromium)")
    # Chromium refuses its sandbox to root, as whom tests run in containers.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=program, args=arguments)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report and the comparison of made results that have every section's data."""
    folder = tmp_path_factory.mktemp("pages")
    made, other = make_results(folder / "a"), make_results(folder / "b", lost=9, verdict="DISTURBED", extras=False)
    dataset = ["--dataset_path", str(made.root), "--class_names", str(made.class_names)]
    arguments = [*dataset, "--calibration_root", str(made.root), "--imagenet"]
    found = {name: folder / f"{name}.html" for name in ("report", "comparison")}
    assert report.main([str(made.results), "--html", str(found["report"]), *arguments]) == 0
    gates = ["--fail-if", "top1_drop > 5", "--fail-if", "throughput_ratio < 0.5"]
    assert compare.main([str(made.results), str(other.results), "--html", str(found["comparison"]), *gates]) == 1
    return found


class _Opened:
    """A page in the browser, and what it complained about or asked for while it was open."""

    def __init__(self, browser: Any, path: Path, scheme: str, width: int) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("light", 390), ("dark", 390)])
@pytest.mark.parametrize("name", ["report", "comparison"])
def test_a_page_is_quiet_alone_readable_and_fits(
    browser: Any, pages: dict[str, Path], repository: Path, name: str, scheme: str, width: int
) -> None:
    opened = _Opened(browser, pages[name], scheme, width)
    page = opened.page
    page.screenshot(path=repository / f"test-output/{name}-{scheme}-{width}.png", full_page=True)
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    contrasts = page.evaluate(_CONTRASTS)
    assert len(contrasts) > 50
    assert [found for found in contrasts if found["contrast"] < found["wanted"]] == []
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [pages[name].as_uri()]
    page.close()


@pytest.mark.parametrize(("width", "seen"), [(1200, ".wide"), (390, ".narrow")])
def test_every_plot_is_there(browser: Any, pages: dict[str, Path], width: int, seen: str) -> None:
    page = _Opened(browser, pages["report"], "light", width).page
    assert page.locator("#decision figure:visible").count() == page.locator(f"#decision {seen}:visible").count() == 1
    counts = {name: page.locator(f"#{name} figure svg:visible").count() for name in ("latency", "layers", "time")}
    # Two variants with a curve each; two int8 rows of each variant have layers.
    assert counts == {"latency": 4, "layers": 4, "time": 2}
    assert page.locator("#calibration svg:visible").count() == 1
    for plot in page.locator("figure svg:visible").all():
        box = plot.bounding_box()
        assert box["width"] > 250 and box["height"] > 120
        assert plot.locator("path").count() > 5
    images = page.locator("#losses img")
    assert images.count() == 12
    assert images.evaluate_all("all => all.every(image => image.complete && image.naturalWidth === 96)")
    page.close()


def test_the_table_sorts_by_what_is_clicked(browser: Any, pages: dict[str, Path]) -> None:
    page = _Opened(browser, pages["report"], "light", 1200).page

    headings = page.locator("#rows thead th").all_inner_texts()

    def column(heading: str) -> list[str]:
        place = headings.index(heading) + 1
        return page.eval_on_selector_all(
            f"#rows tbody tr > :nth-child({place})", "all => all.map(c => c.dataset.value)"
        )

    rates = page.locator("#rows thead th", has_text="images/s")
    for sort, reverse in (("ascending", False), ("descending", True)):
        rates.locator("button").click()
        assert rates.get_attribute("aria-sort") == sort
        values = [float(value) for value in column("images/s")]
        assert values == sorted(values, reverse=reverse) and len(set(values)) > 3
    drop = page.locator("#rows thead th", has_text="drop")
    for _ in range(2):  # fp32 rows have no drop: unknown stays last either way
        drop.locator("button").click()
        assert column("drop")[-2:] == ["", ""] and "" not in column("drop")[:-2]
    page.locator("#rows thead th", has_text="model").locator("button").click()
    assert column("model") == sorted(column("model"))
    page.close()


def test_a_command_is_copied(browser: Any, pages: dict[str, Path]) -> None:
    page = _Opened(browser, pages["report"], "light", 1200).page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#reproduce summary").first.click()
    command = page.locator("#reproduce .command").first
    command.locator("button").click()
    command.locator("button", has_text="Copied").wait_for(timeout=5000)
    assert page.evaluate("navigator.clipboard.readText()") == command.locator("code").text_content()
    page.close()


def test_it_prints_in_black_on_white(browser: Any, pages: dict[str, Path], repository: Path) -> None:
    page = _Opened(browser, pages["report"], "dark", 1200).page
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("nav").is_hidden() and page.locator("button.copy:visible").count() == 0
    page.pdf(path=repository / "test-output/report.pdf", format="A4")
    page.close()


def test_the_pages_are_small_enough_to_mail(pages: dict[str, Path]) -> None:
    assert all(path.stat().st_size < 1_500_000 for path in pages.values())
