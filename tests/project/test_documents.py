"""README and manual: what they name exists, generated pages are up to date, and no figure depends on the machine."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
import pytest

from financial_assets.cli.main import main
from financial_assets.monitoring.boards import BOARDS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

MADE_BY_RUNS = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split()]
FOLDERS = {
    path.name
    for path in (*ROOT.iterdir(), *(ROOT / "financial_assets").iterdir())
    if path.is_dir() and not any(fnmatch(path.name, pattern) for pattern in MADE_BY_RUNS)
}
"""Those of the repository: what `make run` has left is there on one machine and not on another."""
ABSENT_ON_PURPOSE = re.compile(r"test_source_database|\| planned \||my_|/my|<|\*")
"""Lines of the scope that say so, and what a how-to page lets the reader make."""
NOT_A_PATH = {"models/baseline", "models/enhanced", "onnx/baseline"}

TIME = re.compile(r"\b\d[\d.,]*\s?(?:ms|s|min|milliseconds?|seconds?|minutes?)\b(?!-)")
LIMITS = re.compile(
    r"latency_objective_s|--timeout|TIMEOUT|_INTERVAL|_COOLDOWN|p95 <|recovery <|45 / 62 ms|takes more than 10 ms"
    r"|a challenger of 0\.8 s|took more than 0\.2 s|\(\d+s\)"
)
"""Limits, settings, test parameters, decades, claims of the original system: the same on every machine."""


def code(text: str) -> Iterator[str]:
    """Every line of a code block, and every piece of code within a sentence."""
    for place, part in enumerate(re.split(r"^\s*```.*$", text, flags=re.MULTILINE)):
        yield from part.splitlines() if place % 2 else re.findall(r"`([^`\n]+)`", part)


def test_the_readme_fits_on_a_few_screens():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


@PAGE
def test_every_path_exists(page: Path):
    lines = [line for line in page.read_text().splitlines() if not ABSENT_ON_PURPOSE.search(line)]
    named = {
        path.rstrip("/.")
        for line in lines
        for path in re.findall(r"(?<![\w./:-])\.?[\w-]+/[\w./-]*", line)
        if path.split("/")[0] in FOLDERS and path.rstrip("/") not in NOT_A_PATH
    }
    places = (ROOT, ROOT / "financial_assets", page.parent)
    files = {path for path in named if "." in path.rsplit("/", 1)[-1] or path.startswith(("financial_assets", "tests"))}
    assert [path for path in sorted(files) if not any((place / path).exists() for place in places)] == []


@PAGE
def test_every_command_exists(page: Path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    context = click.Context(main)
    for line in code(page.read_text()):
        for target in re.findall(r"(?:^|[\s`])make ([a-z][a-z-]*)", line):
            assert target in targets, line
        for name, rest in re.findall(r"(?:^|/|\s)financial-assets ([a-z][\w-]*)([^|#)]*)", line):
            command = main.get_command(context, name)
            assert command is not None, line
            known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            assert set(re.findall(r"(?<=\s)--[a-z-]+", rest)) <= known, line


@PAGE
def test_no_figure_depends_on_the_machine(page: Path):
    lines = page.read_text().splitlines()
    assert [line for line in lines if TIME.search(line) and not LIMITS.search(line)] == []


def test_the_settings_page_is_up_to_date():
    written = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert written == script("write_settings").settings_page(), "run: python docs/write_settings.py > docs/settings.md"


def test_the_page_of_price_files_is_up_to_date():
    written = (ROOT / "docs" / "price-files.md").read_text(encoding="utf-8")
    page = script("write_price_files").price_files_page()
    assert written == page, "run: python docs/write_price_files.py > docs/price-files.md"


def test_pictures_are_small():
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs" / "images").iterdir()}
    boards = {f"dashboard-{board.name}.png" for board in BOARDS}
    assert set(sizes) == {"graph.png", "check.png", "session.png", "launchpad.png", "report.png", *boards}
    assert max(sizes.values()) < 150_000


def script(name: str) -> Any:
    """A script of docs/ as a module."""
    specification = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
