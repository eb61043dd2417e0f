"""Features of covariates obey the laws of the catalogue, and are what they say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from financial_assets.errors import FeatureError
from financial_assets.features.bars import Bars, split_channels
from financial_assets.features.catalogue import CATALOGUE, FEATURE_NAMES, catalogue
from financial_assets.features.causality import causality_violations
from financial_assets.features.feature import Feature
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.features.indicators.covariates import covariate_features, feature_prefix
from financial_assets.features.schema import check_feature_panel
from financial_assets.market.panel import PricePanel
from tests.features import feature_laws as laws

NAMES = ("^VIX", "^TNX - ^IRX", "sector")
GRAPH = FeatureGraph(covariate_features(NAMES), covariates=NAMES)
SESSIONS = GRAPH.lookback + 30
EXAMPLES = settings(max_examples=8, deadline=None)
seeds = st.integers(0, 2**32 - 1)
powers = st.integers(-12, 12).map(lambda power: 2.0**power)


def with_covariates(bars: Tensor, seed: int, trouble: bool = False) -> Tensor:
    """The bars with a rate, a spread that changes its sign, and a sector's level; in trouble the first two rest."""
    rng = np.random.default_rng(seed)
    tickers, _, sessions = bars.shape
    rate = 20 * np.exp(np.cumsum(rng.normal(0, 0.05, sessions)))
    spread = np.cumsum(rng.normal(0, 0.05, sessions))
    if trouble:
        rate[: sessions // 2], spread[sessions // 3 :] = 20.0, 0.0
    sector = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (tickers, sessions)), axis=1))
    shape = (tickers, sessions)
    more = np.stack([np.broadcast_to(rate, shape), np.broadcast_to(spread, shape), sector], axis=1)
    return torch.cat([bars, torch.tensor(more, dtype=torch.float32)], dim=1)


@EXAMPLES
@given(seed=seeds, cut=st.integers(1, SESSIONS - 1), trouble=st.booleans())
def test_later_bars_change_nothing(make_bars, seed, cut, trouble):
    bars = with_covariates(make_bars(seed, sessions=SESSIONS, trouble=trouble), seed, trouble)
    assert laws.causal_violations(GRAPH, bars[..., :cut], bars[..., cut:]) == ()
    assert laws.causal_violations(GRAPH, bars[..., :cut], torch.full_like(bars[..., cut:], torch.nan)) == ()


@EXAMPLES
@given(seed=seeds, trouble=st.booleans())
def test_only_the_last_lookback_bars_matter(make_bars, seed, trouble):
    bars = with_covariates(make_bars(seed, sessions=SESSIONS, trouble=trouble), seed, trouble)
    assert laws.fixed_lookback_violations(GRAPH, bars) == ()


@EXAMPLES
@given(seed=seeds, prices=powers, covariates=powers, trouble=st.booleans())
def test_powers_of_two_change_no_bit(make_bars, seed, prices, covariates, trouble):
    bars = with_covariates(make_bars(seed, sessions=SESSIONS, trouble=trouble), seed, trouble)
    assert laws.scale_violations(GRAPH, bars, prices=prices, volume=2.0, market=0.5) == ()
    assert laws.covariate_scale_violations(GRAPH, bars, factor=covariates) == ()


@EXAMPLES
@given(seed=seeds, factor=st.floats(0.01, 100.0), shift=st.floats(-50, 50))
def test_units_and_zeros_of_covariates_change_only_the_rounding(make_bars, seed, factor, shift):
    bars = with_covariates(make_bars(seed, sessions=SESSIONS), seed)
    assert laws.covariate_scale_violations(GRAPH, bars, factor=factor) == ()
    levels = FeatureGraph(covariate_features(NAMES[:2]), covariates=NAMES[:2])
    assert laws.covariate_scale_violations(levels, bars[:, :9], factor=factor, shift=shift) == ()


@EXAMPLES
@given(seed=seeds)
def test_values_are_finite_whatever_happens(make_bars, seed):
    bars = with_covariates(make_bars(seed, sessions=SESSIONS, trouble=True), seed, trouble=True)
    assert laws.always_finite_violations(GRAPH, bars) == ()
    bars[:, 7:9, SESSIONS // 2 :] = 0.0
    bars[:, 7:9, SESSIONS // 2] = -1e15
    assert laws.always_finite_violations(GRAPH, bars) == ()


@pytest.mark.parametrize("level", [-3.7, 0.0, 1e15])
def test_a_covariate_that_stands_still_is_neutral(make_bars, level):
    bars = with_covariates(make_bars(3, sessions=SESSIONS), 3)
    bars[:, 7:9] = level
    still = FeatureGraph(covariate_features(NAMES[:2]), covariates=NAMES[:2])
    assert laws.neutral_violations(still, bars[:, :9]) == ()


def test_no_lookback_claims_more_than_is_used(make_bars):
    bars = with_covariates(make_bars(5, tickers=40, sessions=GRAPH.lookback), 5)
    assert laws.tightness_violations(GRAPH, bars) == ()


@pytest.mark.parametrize(
    "function", [lambda bars: bars.covariates[0] / 100.0, lambda bars: torch.clamp(bars.covariates[1], 0.0, 1.0)]
)
def test_the_unit_of_a_covariate_is_caught(make_bars, function):
    planted = FeatureGraph(
        [Feature("covariates", "planted", 1, "planted", "this test", function, bounds=(-9.0, 9.0))], covariates=NAMES
    )
    bars = with_covariates(make_bars(1), 1)
    assert laws.covariate_scale_violations(planted, bars, factor=2.0)
    assert laws.covariate_scale_violations(planted, bars, shift=30.0)


def value(bars: Tensor, name: str) -> np.ndarray:
    feature = next(feature for feature in GRAPH.features if feature.name == name)
    return feature.compute(split_channels(bars))[0].double().numpy()


def test_values_are_what_the_formulas_say(make_bars):
    bars = with_covariates(make_bars(7, sessions=200), 7)
    close, rate, sector = (pd.Series(bars[0, channel].double().numpy()) for channel in (3, 7, 9))
    returns, changes = np.log(close).diff(), rate.diff()
    rms = (changes**2).rolling(60).mean() ** 0.5
    scale = (returns**2).rolling(60).mean() ** 0.5
    expected = {
        "vix_z_score_60": (rate - rate.rolling(60).mean()) / rate.rolling(60).std(ddof=0),
        "vix_change_5": (rate.diff(5) / (rms * 5**0.5)).clip(-6, 6),
        "vix_correlation_60": returns.rolling(60).corr(changes),
        "sector_relative_return_20": ((np.log(close).diff(20) - np.log(sector).diff(20)) / (scale * 20**0.5)).clip(
            -6, 6
        ),
        "sector_correlation_60": returns.rolling(60).corr(np.log(sector).diff()),
    }
    for name, series in expected.items():
        np.testing.assert_allclose(value(bars, name)[61:], series.to_numpy()[61:], atol=2e-3, err_msg=name)


def test_names_say_what_a_covariate_is():
    names = [
        feature.name for feature in covariate_features(("^VIX", "^TNX - ^IRX", "HYG / LQD", "baa.yield", "SPY[-1]"))
    ]
    prefixes = ("vix", "tnx_minus_irx", "hyg_over_lqd", "baa_yield", "spy_lag_1")
    found = [name.removesuffix("_z_score_60") for name in names if name.endswith("_z_score_60")]
    assert tuple(found) == prefixes
    assert feature_prefix("^GSPC") == "gspc"
    with pytest.raises(FeatureError, match=r"COVARIATES and COVARIATE_FILES: .* of \^VIX, vix would"):
        covariate_features(("^VIX", "vix"))


def test_without_covariates_the_catalogue_is_what_it_was(make_bars):
    assert catalogue() == CATALOGUE
    assert tuple(feature.name for feature in catalogue(NAMES)[: len(CATALOGUE)]) == FEATURE_NAMES
    assert FeatureGraph().names == FEATURE_NAMES
    bars = make_bars(1)
    wide = FeatureGraph(covariates=NAMES)
    assert torch.equal(wide(with_covariates(bars, 1))[:, : len(CATALOGUE)], FeatureGraph()(bars))
    with pytest.raises(FeatureError, match=r"10 channels, session\], not .*\^TNX - \^IRX, sector"):
        wide(bars)
    assert split_channels(bars).covariates == ()
    assert isinstance(split_channels(with_covariates(bars, 1)), Bars)


def test_panel_and_window_agree_bit_for_bit_and_gaps_are_masked(make_bars):
    graph = FeatureGraph(covariates=NAMES)
    bars = with_covariates(make_bars(9, tickers=2, sessions=3 * graph.lookback), 9)
    values = bars.numpy().copy()
    values[:, 8, :10] = np.nan
    values[1, 7, graph.lookback + 20] = np.nan
    sessions = pd.bdate_range("2001-01-01", periods=values.shape[2])
    panel = PricePanel(("A", "B"), sessions, values, np.ones((2, values.shape[2]), dtype=bool), NAMES)
    features = compute_panel(panel, graph)
    assert features.names == graph.names
    first = graph.lookback + 9
    assert not features.valid[:, :first].any()
    assert features.valid[0, first:].all()
    gap = graph.lookback + 20
    assert not features.valid[1, gap : gap + graph.lookback].any()
    assert features.valid[1, first:gap].all()
    assert features.valid[1, gap + graph.lookback :].all()
    for at in (first, gap - 1, values.shape[2] - 1):
        names, windows = panel.windows(sessions[at], graph.lookback)
        assert names == ("A", "B")
        with torch.inference_mode():
            single = graph(torch.from_numpy(windows.transpose(0, 2, 1).copy()))[..., -1]
        assert np.array_equal(single.numpy(), features.values[:, :, at])
    assert check_feature_panel(features, graph.features).empty
    assert causality_violations(graph, panel, seed=1).empty
