"""Real applications over state folders as runs leave them; a client that calls from this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from benchmarks.desk.home import make_home
from financial_assets.api.app import create_app
from financial_assets.installation import Installation, open_installation
from financial_assets.settings import load_settings
from tests.api.local_client import LOCAL, LocalClient

TICKERS = ("AAA", "BBB", "CCC")


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: tests that change a state folder make their own."""
    folder = tmp_path_factory.mktemp("api") / "home"
    universe = folder.parent / "universe.csv"
    universe.write_text("ticker,from,to,sector,currency\nAAA,,,energy,USD\nBBB,,,energy,USD\nCCC,,,banks,USD\n")
    make_home(folder, TICKERS, foresight=0.03, settings={"universe_file": universe})
    return folder


@pytest.fixture
def installation(home: Path) -> Installation:
    return open_installation(load_settings(financial_assets_home=home))


@pytest.fixture
def open_client() -> Iterator[Callable[..., LocalClient]]:
    """Clients of applications, whose lifespan ends with the test."""
    with ExitStack() as stack:

        def make(installation: Installation, *, client: tuple[str, int] = LOCAL, **more: Any) -> LocalClient:
            app = create_app(installation, look_s=0.0, **more)
            return stack.enter_context(LocalClient(app, client))

        yield make


@pytest.fixture
def client(installation: Installation, open_client: Callable[..., LocalClient]) -> LocalClient:
    return open_client(installation)
