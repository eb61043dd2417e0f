"""The page in Chromium: axe-core finds nothing, no request leaves, nothing is cut off, the keyboard reaches all."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from financial_assets.experiment.decision.record import Guardrail, TrafficEvidence
from financial_assets.experiment.evaluation.evaluation import Evaluation
from financial_assets.experiment.report import html as report
from financial_assets.experiment.report.decision_case import DecisionCase
from financial_assets.experiment.report.style import PALETTE
from tests.experiment.builders import CHALLENGER
from tests.experiment.report.test_report import decided, evaluation  # noqa: F401
from tests.experiment.report.test_report_of_several import judged  # noqa: F401

pytestmark = pytest.mark.debian("chromium")

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text()
RUN = """async options => (await axe.run(document, options)).violations.map(
    found => [found.id, found.impact, found.nodes.slice(0, 3).map(node => node.html.slice(0, 150))])"""
STRUCTURE = {"rules": {"color-contrast": {"enabled": False}}}  # it needs most of the time


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def pages(
    evaluation: Evaluation,  # noqa: F811
    judged: tuple[Evaluation, list[DecisionCase]],  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """Pages of no, one and two challengers; the second has every section, and a guardrail that fired."""
    folder = tmp_path_factory.mktemp("report")
    rails = (
        Guardrail("latency", CHALLENGER, "rollback", True, 0.3, 0.01, 500, "slow", 1e-9),
        Guardrail("sample ratio", "", "hold", False, 0.319, 0.3, 1000, "", 0.19),
    )
    several, cases = judged
    full = replace(evaluation, candidates=several.candidates, backtests=several.backtests[:8])
    made_by = report.Provenance("0f1e2d3c", "predictor", "https://mlflow.example", 4)
    clock = "Market clock: 2012-03-01. `financial-assets replay` moves it."
    alone = replace(evaluation, arms=evaluation.arms[:1])
    report.write_report(folder / "none.html", report.html(alone), alone)
    page = report.html(full, [decided(60, traffic=TrafficEvidence(rails, "x"))], clock, made_by)
    report.write_report(folder / "one.html", page, full)
    report.write_report(folder / "several.html", report.html(several, cases), several)
    return {name: folder / f"{name}.html" for name in ("none", "one", "several")}


def opened(browser: Browser, path: Path, width: int, scheme: Literal["light", "dark"] = "light") -> Page:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(path.as_uri())
    return page


def violations(page: Page, options: dict[str, Any]) -> list[Any]:
    page.evaluate(AXE)
    return page.evaluate(RUN, options)


@pytest.mark.parametrize(
    ("name", "width", "scheme", "options"),
    [
        ("one", 1280, "light", {}),
        ("one", 390, "dark", {}),
        ("none", 390, "light", STRUCTURE),
        ("several", 390, "dark", STRUCTURE),
    ],
)
def test_axe_finds_nothing(
    browser: Browser,
    pages: dict[str, Path],
    name: str,
    width: int,
    scheme: Literal["light", "dark"],
    options: dict[str, Any],
) -> None:
    """All rules, those of WCAG 2 A and AA and best practices among them: both widths, both schemes, and both contrasts.

    Colours do not depend on the width, nor the structure on the scheme.
    """
    page = opened(browser, pages[name], width, scheme)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.reload()
    assert requests == [pages[name].as_uri()], "one file is all that is loaded"
    assert violations(page, options) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "tables scroll inside their boxes"
    page.close()


def test_axe_would_find_what_is_missing(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    """One page with four faults, because to draw a page takes most of the time."""
    damages: dict[str, Callable[[str], str]] = {
        "svg-img-alt": lambda text: re.sub(r"<title id.*?</title>|<desc.*?</desc>", "", text),
        "scrollable-region-focusable": lambda text: text.replace(' tabindex="0"', ""),
        "region": lambda text: text.replace("<main ", "<div ").replace("</main>", "</div>"),
        "color-contrast": lambda text: text.replace(f"--soft: {PALETTE['soft'][0]}", "--soft: #aaaaaa"),
    }
    text = pages["one"].read_text()
    for rule, damage in damages.items():
        damaged = damage(text)
        assert damaged != text, rule
        text = damaged
    path = tmp_path / "damaged.html"
    path.write_text(text)
    page = opened(browser, path, 390)
    assert {found[0] for found in violations(page, {"runOnly": list(damages)})} == set(damages)
    page.close()


def test_the_keyboard_reaches_the_decision_and_every_table(browser: Browser, pages: dict[str, Path]) -> None:
    page = opened(browser, pages["one"], 390)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the decision"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0, "shown once it has the focus"
    wide = page.evaluate(
        """[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth).map(box => {
            box.focus()
            const hint = getComputedStyle(box.querySelector('.more'))
            const first = box.querySelector('tbody th')
            box.scrollLeft = 60
            const kept = first.getBoundingClientRect().left - box.getBoundingClientRect().left
            return [box === document.activeElement, hint.display, hint.visibility, Math.round(kept)]
        })"""
    )
    assert len(wide) > 5
    assert {tuple(box) for box in wide} == {(True, "block", "visible", 0)}, "focus, hint, and a first column that stays"
    targets = page.evaluate("[...document.querySelectorAll('nav a')].map(a => document.querySelector(a.hash)?.tagName)")
    assert set(targets) == {"H2"}
    first = page.evaluate("document.querySelector('main caption').textContent")
    assert first.strip() == "The questions and their answers"
    tops = [
        # From the page's beginning: what had the focus has been scrolled to.
        page.evaluate(f"document.querySelector('{part}').getBoundingClientRect().top + window.scrollY")
        for part in ("main", ".verdict")
    ]
    assert tops[0] < 200, "the questions come first"
    assert tops[1] < 500, "then, on the same screen of a telephone, the verdict"
    page.close()


def test_dark_is_dark_for_page_and_plots_and_paper_is_white(browser: Browser, pages: dict[str, Path]) -> None:
    ground = """() => [document.body, document.querySelector('figure svg path')].map(
        (node, place) => getComputedStyle(node)[place ? 'fill' : 'backgroundColor'])"""
    page = opened(browser, pages["one"], 1280, "dark")
    dark = "rgb(" + ", ".join(str(int(PALETTE["page"][1][at : at + 2], 16)) for at in (1, 3, 5)) + ")"
    assert page.evaluate(ground) == [dark, dark]
    assert not re.search(r"#[0-9a-f]{6}", "".join(re.findall(r"<svg.*?</svg>", pages["one"].read_text(), re.DOTALL)))
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(ground) == ["rgb(255, 255, 255)"] * 2
    page.set_viewport_size({"width": 688, "height": 1000})  # A4 without its margins
    assert page.evaluate("document.documentElement.scrollWidth") <= 688, "no column is cut off on paper"
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    page.close()


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_and_lines_of_plots_stand_out_from_their_ground(scheme: int) -> None:
    """Text inside plots is beyond axe: labels are in the colour of the page on bars, lines in theirs on the page."""
    page = luminance(PALETTE["page"][scheme])
    for name in PALETTE.keys() - {"page", "panel", "code", "rule", "grid"}:
        low, high = sorted((page, luminance(PALETTE[name][scheme])))
        assert (high + 0.05) / (low + 0.05) >= 4.5, name
    assert len({colours[0] for colours in PALETTE.values()}) == len(PALETTE), "svg_of tells them apart"
