"""The asset ``features``, run by Dagster in this process over a temporary home."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import dagster as dg
import numpy as np
import pytest

from financial_assets.assets.features import features, features_version
from financial_assets.assets.market import price_panel, raw_prices
from financial_assets.features.catalogue import FEATURE_NAMES, MAX_LOOKBACK
from financial_assets.features.feature import Feature
from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.features.schema import check_features
from financial_assets.features.stored.reading import load_features
from financial_assets.market.panel import PricePanel, build_panel

ALL = (raw_prices, price_panel, features)


@dg.asset(deps=[features])
def downstream() -> None:
    """Must not run on features that failed a check."""


def test_features_arrive_and_say_what_they_are(make_market: Any, materialize: Any) -> None:
    market = make_market()
    outcome = materialize(ALL, market)
    assert outcome.success
    assert outcome.checks("features")["schema"].passed
    assert outcome.checks("features")["causal"].passed
    panel = FeaturePanel.load(market.features_path)
    metadata = outcome.metadata("features")
    assert metadata["dagster/row_count"] == panel.valid.sum() > 0
    assert metadata["features"] == len(FEATURE_NAMES)
    assert metadata["lookback"] == MAX_LOOKBACK
    columns = metadata["dagster/column_schema"].columns
    assert [column.name for column in columns] == ["date", "ticker", *FEATURE_NAMES]
    assert all(column.description for column in columns)
    lineage = metadata["dagster/column_lineage"].deps_by_column
    gap = {(dep.asset_key.to_user_string(), dep.column_name) for dep in lineage["gap"]}
    assert gap == {("price_panel", "open"), ("price_panel", "close")}
    assert all(lineage[name] for name in FEATURE_NAMES)
    assert all(f"| {name} |" in metadata["distribution"] for name in FEATURE_NAMES)
    version = features_version(PricePanel.load(market.panel_path), FeatureGraph())
    assert outcome.data_version("features") == version


def test_they_are_those_of_the_panel_and_end_at_the_clock(make_market: Any, materialize: Any) -> None:
    market = make_market()
    materialize(ALL, market)
    stored = FeaturePanel.load(market.features_path)
    assert stored.sessions[-1] == market.clock().now()
    expected = compute_panel(PricePanel.load(market.panel_path), FeatureGraph())
    np.testing.assert_array_equal(stored.values, expected.values)


def test_one_session_later_the_earlier_ones_are_bit_equal(make_market: Any, materialize: Any) -> None:
    market = make_market()
    before_version = materialize(ALL, market).data_version("features")
    before = FeaturePanel.load(market.features_path)
    later = materialize(ALL, market, advance=1, complete=True)
    assert later.metadata("features")["rows computed"] == len(before.tickers), (
        "one new session: none before it has changed"
    )
    after = load_features(market.features_path)
    assert later.data_version("features") != before_version
    assert len(after.sessions) == len(before.sessions) + 1
    np.testing.assert_array_equal(after.values[:, :, :-1], before.values)
    assert materialize(ALL, market).data_version("features") == later.data_version("features")


def test_one_session_later_nothing_old_is_laid_out_or_compared(
    make_market: Any, materialize: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = make_market()
    assert materialize(ALL, market).success
    for place in ("installation.market.build_layout", "features.appending._digests", "assets.features.compute_panel"):
        monkeypatch.setattr(f"financial_assets.{place}", lambda *_, place=place: pytest.fail(place))
    for _ in range(2):
        assert materialize(ALL, market, advance=1, complete=True).success
    monkeypatch.undo()
    panel = PricePanel.load(market.panel_path)
    assert panel.content_hash() == build_panel(market.prices()).until(market.clock().now()).content_hash()
    expected = compute_panel(panel, FeatureGraph())
    assert load_features(market.features_path).content_hash() == expected.content_hash()


def test_a_feature_that_looks_ahead_stops_the_run_by_name(
    make_market: Any, materialize: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tomorrow(bars: Any) -> Any:
        return (bars.close.roll(-1, dims=-1) > bars.close).float()

    def planted(**_: object) -> FeatureGraph:
        honest = [feature for feature in FeatureGraph().features if feature.lookback < 20][:5]
        return FeatureGraph([*honest, Feature("momentum", "crystal_ball", 1, "x[+1] > x", "the test", tomorrow)])

    monkeypatch.setattr("financial_assets.assets.features.FeatureGraph", planted)
    monkeypatch.setattr(
        "financial_assets.assets.features.check_feature_panel",
        lambda panel, _: check_features(panel.to_frame()).head(0),
    )
    market = make_market()
    outcome = materialize([*ALL, downstream], market)
    assert not outcome.success
    assert outcome.materialized == {"raw_prices", "price_panel"}
    assert "crystal_ball" in outcome.failure_text
    assert not market.features_path.exists()
    causal = outcome.checks("features")["causal"]
    assert not causal.passed
    assert causal.blocking
    assert "crystal_ball" in outcome.failed_rows("features", "causal")
    named = {row.split(" | ")[2] for row in outcome.failed_rows("features", "causal").splitlines()[2:]}
    assert named == {"crystal_ball"}


def test_a_value_out_of_range_stops_the_run_names_ticker_and_date_and_is_not_kept(
    make_market: Any, materialize: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = make_market()
    assert materialize(ALL, market).success
    sound = market.features_path.read_bytes()

    def spoilt(panel: PricePanel, graph: FeatureGraph) -> FeaturePanel:
        computed = compute_panel(panel, graph)
        values = computed.values.copy()
        values[1, 3, -5] = 1e9
        return replace(computed, values=values)

    monkeypatch.setattr("financial_assets.assets.features.compute_panel", spoilt)
    outcome = materialize([*ALL, downstream], market)
    assert not outcome.success
    assert outcome.materialized == {"raw_prices", "price_panel"}
    assert not outcome.checks("features")["schema"].passed
    assert outcome.checks("features")["schema"].blocking
    day = PricePanel.load(market.panel_path).sessions[-5]
    assert f"| {day:%Y-%m-%d} | BBB | {FEATURE_NAMES[3]} |" in outcome.failed_rows("features", "schema")
    for named in ("BBB", f"{day:%Y-%m-%d}", FEATURE_NAMES[3], "the stored ones are unchanged"):
        assert named in outcome.failure_text
    assert market.features_path.read_bytes() == sound


def test_features_without_a_panel_name_the_asset_to_run(make_market: Any, materialize: Any) -> None:
    outcome = materialize([features], make_market())
    assert not outcome.success
    assert "materialize price_panel first" in outcome.failure_text
