"""A state folder belongs to one market."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from financial_assets.errors import SettingsError, SourceError
from financial_assets.market.calendar import sessions
from financial_assets.market.restatement import is_same_market
from financial_assets.resources import Market, make_resources
from financial_assets.settings import load_settings


def resources(home: Path, **changes: Any) -> dict[str, Any]:
    return make_resources(load_settings(financial_assets_home=home, **changes))


def market(home: Path, **changes: Any) -> Market:
    found = resources(home, **changes)["market"]
    assert isinstance(found, Market)
    return found


def bars(*tickers: str, level: float = 10.0) -> pd.DataFrame:
    """Sixty sound bars of each ticker."""
    days = sessions(dt.date(2020, 1, 2), dt.date(2020, 6, 1))[:60]
    close = level + np.arange(60) % 7 + np.arange(60) / 100  # no bar is a copy of another
    frame = pd.DataFrame({"date": days, "open": close, "high": close + 1, "low": close - 1, "close": close})
    frame = frame.assign(volume=1e6, adj_close=close)
    return pd.concat([frame.assign(ticker=ticker) for ticker in tickers], ignore_index=True)


def fill(home: Path, **changes: Any) -> Market:
    """A home with prices of the configured market."""
    filled = market(home, **changes)
    filled.store().upsert(bars("AAPL", "MSFT"))
    return filled


def bar_files(folder: Path, level: float = 10.0) -> str:
    folder.mkdir()
    for ticker in ("AAPL", "MSFT"):
        bars(ticker, level=level).to_csv(folder / f"{ticker}.csv", index=False)
    return str(folder)


@pytest.mark.parametrize(
    "other",
    [
        {"price_source": "simulated"},
        {"price_source": "yahoo"},
        {"price_source": "files", "price_files": "a.csv"},
    ],
)
def test_a_home_filled_from_another_source_is_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    fill(tmp_path, price_source="sample")
    with pytest.raises(SettingsError, match="FINANCIAL_ASSETS_HOME") as caught:
        market(tmp_path, **other).store()
    for part in (str(tmp_path), "PRICE_SOURCE=sample", f"PRICE_SOURCE={other['price_source']}"):
        assert part in str(caught.value)
    assert not set("{}'") & set(str(caught.value))  # names and values as they are written in a shell
    market(tmp_path, price_source="sample").store()


def test_a_run_that_stored_nothing_binds_the_home_to_nothing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no file there"):
        market(tmp_path, price_source="files", price_files=str(tmp_path / "none")).ingest()
    assert not (tmp_path / "market.json").exists()
    # What such a run of an earlier version leaves.
    (tmp_path / "market.json").write_text(json.dumps({"PRICE_SOURCE": "files", "PRICE_FILES": "bars/"}))
    fill(tmp_path, price_source="sample")
    with pytest.raises(SettingsError, match="PRICE_SOURCE=sample"):
        market(tmp_path, price_source="yahoo").store()
    (tmp_path / "prices" / "prices.parquet").unlink()  # models may be left of it
    (tmp_path / "training.json").write_text("{}")
    with pytest.raises(SettingsError, match="PRICE_SOURCE=sample"):
        market(tmp_path, price_source="yahoo").store()


def test_files_are_the_same_market_wherever_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, first = tmp_path / "home", bar_files(tmp_path / "bars")

    def files(path: str) -> Market:
        return market(home, price_source="files", price_files=path)

    assert files(first).ingest().report is not None
    monkeypatch.chdir(tmp_path)
    (tmp_path / "moved").mkdir()
    other = bar_files(tmp_path / "other", level=11.0)
    shutil.move(first, tmp_path / "moved" / "bars")
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    with pytest.raises(SettingsError, match=rf"PRICE_FILES={first}, .*PRICE_FILES={other};"):
        files(other).ingest()
    for spelling in ("moved/bars", str(tmp_path / "moved" / "bars") + "/", "./link/bars/*.csv"):
        files(spelling).store()
        assert files(spelling).ingest().report is not None
        assert json.loads((home / "market.json").read_text())["PRICE_FILES"] == spelling
    shutil.rmtree(tmp_path / "moved")
    files("./link/bars/*.csv").prices()  # the same words need no bars to be read


def test_a_market_is_known_by_its_bars_and_not_by_a_path(tmp_path: Path) -> None:
    days, stored = sessions(dt.date(2020, 1, 2), dt.date(2020, 12, 1)), bars("AAPL", "MSFT")
    split = stored.assign(**{name: stored[name] / 4 for name in ("open", "high", "low", "close", "adj_close")})
    later = stored.assign(date=np.tile(days[100:160], 2))
    corrected = stored.assign(volume=2e6, close=stored["close"].where(stored.index != 7, 10.4))
    assert is_same_market(stored, split)
    assert is_same_market(stored, later)
    assert is_same_market(stored, corrected)
    assert is_same_market(stored, stored.head(1))
    assert not is_same_market(stored, split.head(1))
    assert not is_same_market(stored, bars("JPM"))
    assert not is_same_market(stored, bars("AAPL", level=11.0))
    home = tmp_path / "home"
    for name, frame in (("one", stored), ("two", pd.concat([stored, later]))):
        (tmp_path / name).mkdir()
        frame.to_csv(tmp_path / name / "bars.csv", index=False)
    assert market(home, price_source="files", price_files=str(tmp_path / "one")).ingest().report is not None
    shutil.rmtree(tmp_path / "one")
    moved = market(home, price_source="files", price_files=str(tmp_path / "two" / "bars.csv"))
    assert len(moved.prices()) == 120  # nothing is read for that


def test_a_relative_path_of_another_folder_is_another_market(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, level in (("one", 10.0), ("two", 11.0)):
        (tmp_path / folder).mkdir()
        bar_files(tmp_path / folder / "bars", level=level)
    source = market(tmp_path / "home", price_source="files", price_files="bars")
    monkeypatch.chdir(tmp_path / "one")
    source.ingest()
    monkeypatch.chdir(tmp_path / "two")
    with pytest.raises(SettingsError, match=r"PRICE_FILES=bars \(.*/one/bars\), .*PRICE_FILES=bars \(.*/two/bars\);"):
        source.ingest()


def test_a_marker_of_an_earlier_version_keeps_opening(tmp_path: Path) -> None:
    fill(tmp_path, price_source="files", price_files="bars/")
    (tmp_path / "market.json").write_text(json.dumps({"PRICE_SOURCE": "files", "PRICE_FILES": "bars/"}))
    assert len(market(tmp_path, price_source="files", price_files="bars/").prices()) == 120


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", "{}"])
def test_a_damaged_marker_is_told_with_what_mends_it(tmp_path: Path, damage: str) -> None:
    fill(tmp_path)
    (tmp_path / "market.json").write_text(damage)
    with pytest.raises(SettingsError, match=r"FINANCIAL_ASSETS_HOME: .*market\.json is damaged"):
        market(tmp_path).store()


def test_a_home_holds_one_simulated_market(tmp_path: Path) -> None:
    fill(tmp_path, price_source="simulated")
    for changes in (
        {"seed": 7},
        {"simulated_signal": 0.4},
        {"simulated_sessions": 600},
        {"simulated_pattern": "parity"},
    ):
        with pytest.raises(SettingsError, match="FINANCIAL_ASSETS_HOME"):
            market(tmp_path, price_source="simulated", **changes).store()
    market(tmp_path, price_source="simulated", cost_bps=1.0, sequence_length=20).store()


def test_the_marker_is_written_when_a_remembered_setting_changes(tmp_path: Path) -> None:
    fill(tmp_path)
    written = (tmp_path / "market.json").stat().st_mtime_ns
    fill(tmp_path, cost_bps=1.0)
    assert (tmp_path / "market.json").stat().st_mtime_ns == written
    fill(tmp_path, seed=7)
    marker = json.loads((tmp_path / "market.json").read_text())
    assert (marker["PRICE_SOURCE"], marker["settings"]["SEED"]) == ("sample", "7")
