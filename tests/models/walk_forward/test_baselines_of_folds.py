"""Baselines of a fold: each fills its columns on the rows that a served model would answer, from the past alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.market.panel import PricePanel
from financial_assets.models.forecasts import HEADS, QUANTILES, QUANTILES_5D
from financial_assets.models.risk.bars import RiskBars
from financial_assets.models.walk_forward.baselines import (
    DIRECTION_BASELINES,
    RISK_BASELINES,
    FoldBaselines,
    forecast_baselines,
)
from financial_assets.models.walk_forward.folds import Fold, FoldPlan, lay_folds
from financial_assets.models.walk_forward.spans import features_of_span, risk_of_span
from tests.models.conftest import SEQUENCE_LENGTH, panel_from_returns, persistent


def forecast(fold: Fold, panel: PricePanel, features: FeaturePanel) -> FoldBaselines:
    return forecast_baselines(fold, features, panel, sequence_length=SEQUENCE_LENGTH, seed=1)


@pytest.fixture(scope="module")
def said(folds: tuple[Fold, ...], universe: PricePanel, universe_features: FeaturePanel) -> FoldBaselines:
    return forecast(folds[0], universe, universe_features)


def test_every_baseline_fills_the_columns_it_has_on_every_row(
    said: FoldBaselines, folds: tuple[Fold, ...], universe: PricePanel
) -> None:
    counts = said.forecasts.groupby("model")[list(HEADS)].count()
    rows = len(folds[0].test) * len(universe.tickers)
    assert set(counts.index) == {*DIRECTION_BASELINES, *RISK_BASELINES}
    assert (counts.loc[list(DIRECTION_BASELINES), "probability_up"] == rows).all()
    assert (counts.loc[list(RISK_BASELINES), [*QUANTILES, *QUANTILES_5D]] == rows).all(axis=None)
    assert (counts.loc[["reversal", "momentum_5", "momentum_20", "trees"], "score"] == rows).all()
    assert set(said.forecasts["date"]) == set(universe.sessions[folds[0].test.start : folds[0].test.stop])
    assert set(said.forecasts["fold"]) == {"fold-1"}
    assert said.forecasts[["outcome", "outcome_5d", "excess"]].notna().all(axis=None)
    assert said.silent == {}


def test_what_comes_after_a_session_changes_no_forecast_of_it(
    said: FoldBaselines, folds: tuple[Fold, ...], universe: PricePanel, graph: FeatureGraph
) -> None:
    """The panel is bent after the first test session: the same parameters, the same forecasts at that session."""
    first = folds[0].test.start
    bent = universe.values.copy()
    bent[:, :4, first + 1 :] *= np.linspace(1.2, 3.0, bent.shape[2] - first - 1, dtype=np.float32)
    other = replace(universe, values=bent)
    again = forecast(folds[0], other, compute_panel(other, graph)).forecasts
    now = universe.sessions[first]
    before, after = (table[table["date"] == now].reset_index(drop=True) for table in (said.forecasts, again))
    pd.testing.assert_frame_equal(before[["ticker", "model", *HEADS]], after[["ticker", "model", *HEADS]])
    assert not np.allclose(before["outcome"], after["outcome"])


def test_two_fits_are_the_same(
    said: FoldBaselines, folds: tuple[Fold, ...], universe: PricePanel, universe_features: FeaturePanel
) -> None:
    again = forecast(folds[0], universe, universe_features)
    pd.testing.assert_frame_equal(said.forecasts, again.forecasts, check_exact=True)


def test_rules_say_their_direction_and_rank_by_the_move(said: FoldBaselines, universe: PricePanel) -> None:
    close = pd.DataFrame(universe.values[:, 3].T.astype(float), universe.sessions, list(universe.tickers))
    for model, sessions, sign in (("reversal", 1, -1), ("momentum_5", 5, 1), ("momentum_20", 20, 1)):
        rows = said.forecasts[said.forecasts["model"] == model]
        moved = np.log(close / close.shift(sessions)).stack().loc[list(zip(rows["date"], rows["ticker"], strict=True))]
        up = rows["probability_up"].to_numpy() > 0.5
        np.testing.assert_array_equal(up, sign * moved.to_numpy() > 0)
    one_day = said.forecasts[said.forecasts["date"] == said.forecasts["date"].min()].set_index(["model", "ticker"])
    moved = np.log(close / close.shift(5)).loc[one_day["date"].iloc[0]]
    scaled = moved / one_day.loc["momentum_5", "volatility"]
    ranked = one_day.loc["momentum_5", "score"] * 5**0.5 - scaled
    # What is left is the market's move, in units of each ticker's volatility.
    left = ranked * one_day.loc["momentum_5", "volatility"]
    assert float(np.ptp(left)) < 1e-5


def test_a_rule_that_holds_is_said_with_its_hit_rate(graph: FeatureGraph) -> None:
    panel = persistent(seed=4, tickers=4, count=760, hit=0.75)
    fold = lay_folds(760, FoldPlan(splits=1, test_sessions=100))[0]
    said = forecast(fold, panel, compute_panel(panel, graph)).forecasts
    reversal = said.loc[said["model"] == "reversal", "probability_up"]
    assert np.abs(reversal - 0.5).max() < 0.01  # wrong three times in four: named all the same, without confidence
    trees = said[said["model"] == "trees"]
    assert ((trees["probability_up"] > 0.5) == (trees["outcome"] > 0)).mean() > 0.58  # three deviations
    persistence = said.loc[said["model"] == "persistence", "probability_up"]
    np.testing.assert_allclose(sorted(persistence.round(2).unique()), [0.25, 0.75], atol=0.05)


def test_a_ticker_that_cannot_be_fitted_is_named_and_keeps_its_other_forecasts(
    folds: tuple[Fold, ...], graph: FeatureGraph
) -> None:
    returns = np.random.default_rng(5).normal(0, 0.015, (3, 760))
    panel = panel_from_returns(returns)
    values, valid = panel.values.copy(), panel.valid.copy()
    # Listed so late that it has bars enough for a request, but too few returns for a fit at the cut-off.
    values[2, :5, :430] = np.nan
    valid[2, :430] = False
    late = replace(panel, values=values, valid=valid)
    said = forecast(folds[1], late, compute_panel(late, graph))
    assert any(name == "garch of T2" and "too few returns" in why for name, why in said.silent.items())
    counts = said.forecasts[said.forecasts["ticker"] == "T2"].groupby("model").size()
    assert counts["majority"] == len(folds[1].test)
    garch = said.forecasts[(said.forecasts["ticker"] == "T2") & (said.forecasts["model"] == "garch")]
    assert garch[list(QUANTILES)].isna().all(axis=None)


def test_a_rolling_span_forgets_what_is_before_it(universe: PricePanel, universe_features: FeaturePanel) -> None:
    plan = FoldPlan(splits=2, test_sessions=20, window="rolling", window_sessions=600)
    fold = lay_folds(len(universe.sessions), plan)[1]
    assert fold.training.start > 0
    said = forecast(fold, universe, universe_features).forecasts
    # Other bars and labels before the span: nothing is said otherwise.
    features = universe_features.values.copy()
    features[:, :, : fold.training.start - SEQUENCE_LENGTH] += 1.0
    again = forecast(fold, universe, replace(universe_features, values=features)).forecasts
    pd.testing.assert_frame_equal(said, again)
    span = features_of_span(universe_features, fold)
    assert not span.valid[:, : fold.training.start].any()
    np.testing.assert_array_equal(
        span.valid[:, fold.training.start :], universe_features.valid[:, fold.training.start :]
    )
    bars = risk_of_span(RiskBars.of(universe), fold)
    assert bars.sessions[0] == universe.sessions[fold.training.start]
