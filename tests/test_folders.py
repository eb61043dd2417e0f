"""Folders of state are private; those of earlier versions become so, those that a group shares stay."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from financial_assets.atomic import atomic_write_text
from financial_assets.folders import is_open_to_others, make_folder, tighten
from financial_assets.resources import make_resources
from financial_assets.settings import load_settings
from tests.tracking.mlflow_store import client_of


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_what_is_made_is_private_and_what_is_there_is_left(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (mode(tmp_path), mode(tmp_path / "a"), mode(tmp_path / "a" / "b")) == (0o755, 0o700, 0o700)
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")


def test_every_way_to_begin_a_state_folder_makes_it_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    made = {name: tmp_path / name for name in ("prices", "log", "mlflow", "atomic")}
    for name, home in made.items():
        resources = make_resources(load_settings(financial_assets_home=home, price_source="simulated"))
        if name == "prices":
            resources["market"].ingest()
        elif name == "log":
            resources["ab_test"].log().close()
        elif name == "mlflow":
            client_of(f"sqlite:///{home / 'mlflow.db'}")
        else:
            atomic_write_text(home / "x.json", "{}")
        assert mode(home) == 0o700, name
        assert not is_open_to_others(home)


@pytest.mark.parametrize(
    ("before", "after"),
    [(0o755, 0o700), (0o750, 0o700), (0o700, 0o700), (0o2770, 0o2770), (0o775, 0o775), (0o1777, 0o1777)],
)
def test_an_open_folder_is_tightened_once_and_a_shared_one_is_left(tmp_path: Path, before: int, after: int) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(before)
    said = tighten(home)
    assert mode(home) == after
    assert (said is not None) == (before != after)
    assert tighten(home) is None
    assert tighten(tmp_path / "none") is None
