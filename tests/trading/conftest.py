"""Desks over state folders as runs leave them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.desk.home import make_home
from financial_assets.installation import Installation, open_installation
from financial_assets.settings import load_settings

TICKERS = ("AAA", "BBB", "CCC")
CAPITAL = 1_000_000.0
Open = Callable[..., Installation]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after a first run, for copies."""
    folder = tmp_path_factory.mktemp("desk") / "home"
    make_home(folder, TICKERS, foresight=0.03)
    return folder


@pytest.fixture
def open_desk(finished: Path, tmp_path: Path) -> Open:
    """Opens a copy of it with these settings."""
    home = tmp_path / "home"
    shutil.copytree(finished, home)

    def make(**settings: Any) -> Installation:
        values = {"orders_capital": CAPITAL, "orders_per_name": 0.4, **settings}
        return open_installation(load_settings(financial_assets_home=home, **values))

    return make


@pytest.fixture
def desk(open_desk: Open) -> Installation:
    return open_desk()
