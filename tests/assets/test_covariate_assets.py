"""Covariates on their way from the settings to the features, run by Dagster over a temporary home."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from financial_assets.assets.features import features
from financial_assets.assets.market import price_panel, raw_prices
from financial_assets.errors import MarketDataError, SettingsError, TrainingError
from financial_assets.features.catalogue import FEATURE_NAMES
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.features.stored.reading import load_features
from financial_assets.market.panel import PricePanel
from financial_assets.market.sources.simulated import SimulatedMarket, SimulatedPrices
from financial_assets.models.training_data import TrainingData
from financial_assets.serving.signals import without_signal

ALL = (raw_prices, price_panel, features)
MORE = ("ccc_z_score_60", "ccc_change_5", "ccc_correlation_60", "cpi_z_score_60", "cpi_change_5", "cpi_correlation_60")


@pytest.fixture
def table(tmp_path: Path, bars: pd.DataFrame) -> Path:
    """A figure every twenty sessions, published three days after its date."""
    days = pd.Series(sorted(bars["date"].unique()))[::20]
    known = (days + pd.Timedelta(days=3)).dt.strftime("%Y-%m-%d")
    values = np.random.default_rng(1).normal(2, 0.2, len(days)).round(2)
    path = tmp_path / "macro.csv"
    frame = pd.DataFrame({"date": days.dt.strftime("%Y-%m-%d"), "known_at": known, "name": "cpi", "value": values})
    frame.to_csv(path, index=False)
    return path


def row(day: pd.Timestamp, known: pd.Timestamp, value: float) -> str:
    return f"{day:%Y-%m-%d},{known:%Y-%m-%d},cpi,{value}\n"


def test_tickers_and_tables_become_channels_and_features(make_market: Any, materialize: Any, table: Path) -> None:
    market = make_market(covariates=["CCC"], covariate_files=str(table))
    outcome = materialize(ALL, market)
    assert outcome.success, outcome.failure_text
    panel = PricePanel.load(market.panel_path)
    assert panel.tickers == ("AAA", "BBB"), "a covariate is not traded"
    assert panel.covariates == ("CCC", "cpi")
    stored = load_features(market.features_path)
    assert stored.names == (*FEATURE_NAMES, *MORE)
    assert outcome.metadata("features")["features"] == len(stored.names)
    assert outcome.metadata("price_panel")["covariates"] == "CCC, cpi"
    closes = market.store().read(["CCC"]).set_index("date")["adj_close"].reindex(panel.sessions)
    np.testing.assert_array_equal(panel.values[0, 7], closes.to_numpy().astype(np.float32))


def test_a_late_value_dated_today_changes_nothing_today(make_market: Any, materialize: Any, table: Path) -> None:
    """The planted fault: it is dated in the past or today, and becomes known only tomorrow."""
    market = make_market(covariate_files=str(table))
    before = materialize(ALL, market)
    today = market.clock().now()
    panel, stored = PricePanel.load(market.panel_path), load_features(market.features_path)
    clean = table.read_text()
    tomorrow = today + pd.Timedelta(days=1)
    table.write_text(clean + row(today, tomorrow, 99.0))
    again = materialize(ALL, market)
    for asset in ("price_panel", "features"):
        assert again.data_version(asset) == before.data_version(asset)
    np.testing.assert_array_equal(load_features(market.features_path).values, stored.values)
    # Had the table been joined by date, today's bar would hold the planted value: this proves that the test can fail.
    joined_by_date = clean + row(today, today - pd.Timedelta(days=1), 99.0)
    table.write_text(joined_by_date.replace(f"{today:%Y-%m-%d},", f"{today - pd.Timedelta(days=1):%Y-%m-%d},"))
    wrong = market.panel()
    assert (wrong.values[:, 7, -1] == 99.0).all()
    assert (wrong.values[:, 7, :-1] == panel.values[:, 7, :-1])[:, 60:].all()
    late = compute_panel(wrong, FeatureGraph(covariates=wrong.covariates)).values[:, :, -1]
    assert (late != stored.values[:, :, -1]).any()


def test_the_next_session_sees_it_and_is_appended(make_market: Any, materialize: Any, table: Path) -> None:
    market = make_market(covariate_files=str(table), covariates=["CCC"])
    materialize(ALL, market)
    before, today = load_features(market.features_path), market.clock().now()
    table.write_text(table.read_text() + row(today, today, 5.0))
    later = materialize(ALL, market, advance=1, complete=True)
    assert later.success, later.failure_text
    assert later.metadata("features")["rows computed"] == 2 * 12
    after = load_features(market.features_path)
    np.testing.assert_array_equal(after.values[:, :, :-1], before.values)
    panel = PricePanel.load(market.panel_path)
    place = panel.channels.index("cpi")
    assert (panel.values[:, place, -1] == 5.0).all()
    assert (panel.values[:, place, -2] != 5.0).all()
    np.testing.assert_array_equal(after.values, compute_panel(panel, FeatureGraph(covariates=panel.covariates)).values)


@pytest.mark.parametrize("again", [False, True], ids=["next session", "same session"])
def test_a_past_value_that_was_entered_late_is_taken_into_the_past_features(
    make_market: Any, materialize: Any, table: Path, again: bool
) -> None:
    """No price has changed, so only the covariate itself can tell that stored features are no longer true."""
    market = make_market(covariate_files=str(table))
    materialize(ALL, market)
    before = load_features(market.features_path)
    day = before.sessions[-52]
    table.write_text(table.read_text() + row(day, day, 7.0))
    later = materialize(ALL, market) if again else materialize(ALL, market, advance=1, complete=True)
    assert later.success, later.failure_text
    panel, after = PricePanel.load(market.panel_path), load_features(market.features_path)
    assert (panel.values[:, 7, before.sessions.get_loc(day) + 1] == 7.0).all()
    np.testing.assert_array_equal(after.values, compute_panel(panel, FeatureGraph(covariates=panel.covariates)).values)
    assert (after.values[:, :, : len(before.sessions)] != before.values)[:, :, -40].any()


def test_a_covariate_that_the_source_lacks_is_named(make_market: Any, materialize: Any, bars: pd.DataFrame) -> None:
    folder = Path(make_market().home).parent
    bars.to_csv(folder / "bars.csv", index=False)
    market = make_market(files=folder / "bars.csv", covariates=["^VIX"])
    outcome = materialize(ALL, market)
    assert not outcome.success
    assert "COVARIATES: there are no prices of ^VIX" in outcome.failure_text
    assert any("^VIX" in warning and "COVARIATES" in warning for warning in outcome.warnings)


def test_a_covariate_with_holidays_of_its_own_is_carried_over_them(
    make_market: Any, materialize: Any, bars: pd.DataFrame
) -> None:
    """Bonds do not trade on some days on which shares do; the source delivers no bar of them."""
    folder = Path(make_market().home).parent
    source = SimulatedPrices(SimulatedMarket(sessions=400, seed=3))
    other = source.fetch(("CCC",)).prices.assign(ticker="^TNX", volume=0.0)
    days = sorted(other["date"].unique())
    closed = [days[100], days[101], days[250]]
    pd.concat([bars, other[~other["date"].isin(closed)]]).to_csv(folder / "bars.csv", index=False)
    market = make_market(files=folder / "bars.csv", covariates=["^TNX"])
    outcome = materialize(ALL, market)
    assert outcome.success, outcome.failure_text
    level = PricePanel.load(market.panel_path).values[0, 7]
    expected = other.set_index("date")["adj_close"].to_numpy().astype(np.float32)
    assert level[100] == level[101] == level[99] == expected[99]
    assert (level[251:] == expected[251 : len(level)]).all()


def test_a_covariate_that_ends_leaves_no_features_and_says_so(
    make_market: Any, materialize: Any, table: Path, bars: pd.DataFrame
) -> None:
    day = pd.Timestamp(sorted(bars["date"].unique())[150])
    market = make_market(covariate_files=str(table), covariate_max_age=20)
    kept = pd.read_csv(table)
    kept[kept["date"] <= f"{day:%Y-%m-%d}"].to_csv(table, index=False)
    outcome = materialize((raw_prices, price_panel), market)
    assert any("covariate cpi: unknown on " in warning for warning in outcome.warnings)
    panel = PricePanel.load(market.panel_path)
    assert (panel.listed_bars()[:, -1] == 0).all()
    reason = without_signal(panel, ["AAA"])["AAA"]
    assert "has 0 bars" in reason
    assert reason.endswith("on which all covariates are known, and cpi has a gap there")
    stored = compute_panel(panel, FeatureGraph(covariates=panel.covariates))
    with pytest.raises(TrainingError, match=r"INGESTION_START_DATE, or give longer covariates \(cpi\)"):
        TrainingData.until(panel.sessions[-1], stored, panel, sequence_length=5)


def test_a_folder_keeps_to_its_covariates(make_market: Any, materialize: Any, table: Path) -> None:
    market = make_market(covariates=["CCC"])
    assert materialize(ALL, market).success
    for changes in ({}, {"covariates": ["BBB"]}, {"covariates": ["CCC"], "covariate_files": str(table)}):
        with pytest.raises(SettingsError, match="the channels CCC of COVARIATES, COVARIATE_FILES and SECTOR_INDEX"):
            make_market(**changes).panel()
    plain = make_market(home="plain")
    assert materialize(ALL, plain).success
    with pytest.raises(SettingsError, match=r"no covariates, but the settings say .*the channels CCC of COVARIATES"):
        make_market(home="plain", covariates=["CCC"]).panel()


def test_a_mistake_in_the_first_run_can_be_corrected(make_market: Any, materialize: Any, bars: pd.DataFrame) -> None:
    folder = Path(make_market().home).parent
    bars.to_csv(folder / "bars.csv", index=False)
    mistaken = materialize(ALL, make_market(files=folder / "bars.csv", covariates=["CCX"]))
    assert "there are no prices of CCX" in mistaken.failure_text
    market = make_market(files=folder / "bars.csv", covariates=["AAA"])
    assert materialize(ALL, market).success
    assert PricePanel.load(market.panel_path).covariates == ("AAA",)
    with pytest.raises(SettingsError, match="the channels AAA of COVARIATES"):
        make_market(files=folder / "bars.csv", covariates=["BBB"]).panel()


def test_the_sectors_of_a_universe_file(make_market: Any, materialize: Any, tmp_path: Path) -> None:
    universe = tmp_path / "universe.csv"
    universe.write_text("ticker,sector\nAAA,Banks\nBBB,Banks\n")
    market = make_market(universe_file=str(universe), sector_index=True)
    outcome = materialize(ALL, market)
    assert outcome.success, outcome.failure_text
    panel = PricePanel.load(market.panel_path)
    assert panel.covariates == ("sector",)
    close = panel.values[:, 3].astype(np.float64)
    np.testing.assert_allclose(panel.values[::-1, 7], 100 * close / close[:, :1], rtol=1e-5, err_msg="of its one peer")
    universe.write_text("ticker\nAAA\nBBB\n")
    with pytest.raises(MarketDataError, match="SECTOR_INDEX"):
        market.panel()
