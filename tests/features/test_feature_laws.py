"""Each law over the whole catalogue, and each checker against features planted to break the law."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from financial_assets.features import rolling
from financial_assets.features.bars import Bars
from financial_assets.features.catalogue import CATALOGUE, MAX_LOOKBACK
from financial_assets.features.feature import Feature
from financial_assets.features.graph import FeatureGraph
from tests.features import feature_laws as laws

GRAPH = FeatureGraph()
SESSIONS = MAX_LOOKBACK + 30
EXAMPLES = settings(max_examples=8, deadline=None)
seeds = st.integers(0, 2**32 - 1)
volatilities = st.floats(0.002, 0.08)
powers = st.integers(-12, 12).map(lambda power: 2.0**power)
factors = st.floats(0.01, 100.0)


@EXAMPLES
@given(seed=seeds, volatility=volatilities, cut=st.integers(1, SESSIONS - 1), trouble=st.booleans())
def test_later_bars_change_nothing(make_bars, seed, volatility, cut, trouble):
    bars = make_bars(seed, sessions=SESSIONS, volatility=volatility, trouble=trouble)
    assert laws.causal_violations(GRAPH, bars[..., :cut], bars[..., cut:]) == ()
    assert laws.causal_violations(GRAPH, bars[..., :cut], torch.full_like(bars[..., cut:], torch.nan)) == ()


@EXAMPLES
@given(seed=seeds, volatility=volatilities, trouble=st.booleans())
def test_only_the_last_lookback_bars_matter(make_bars, seed, volatility, trouble):
    bars = make_bars(seed, sessions=SESSIONS, volatility=volatility, trouble=trouble)
    assert laws.fixed_lookback_violations(GRAPH, bars) == ()


@EXAMPLES
@given(seed=seeds, volatility=volatilities, prices=powers, volume=powers, market=powers, trouble=st.booleans())
def test_powers_of_two_change_no_bit(make_bars, seed, volatility, prices, volume, market, trouble):
    bars = make_bars(seed, sessions=SESSIONS, volatility=volatility, trouble=trouble)
    assert laws.scale_violations(GRAPH, bars, prices=prices, volume=volume, market=market) == ()


@EXAMPLES
@given(seed=seeds, volatility=st.floats(0.01, 0.05), prices=factors, volume=factors, market=factors)
def test_other_factors_change_only_the_rounding(make_bars, seed, volatility, prices, volume, market):
    bars = make_bars(seed, sessions=SESSIONS, volatility=volatility)
    assert laws.scale_violations(GRAPH, bars, prices=prices, volume=volume, market=market) == ()


@EXAMPLES
@given(seed=seeds, volatility=st.floats(0.0005, 0.3))
def test_values_are_finite_and_within_bounds_whatever_happens(make_bars, seed, volatility):
    bars = make_bars(seed, sessions=SESSIONS, volatility=volatility, trouble=True)
    assert laws.always_finite_violations(GRAPH, bars) == ()


@EXAMPLES
@given(price=st.floats(1e-3, 1e5), volume=st.floats(0, 1e9), market=st.floats(1.0, 1e5), day=st.integers(7000, 30000))
def test_a_market_that_stands_still_is_neutral(price, volume, market, day):
    assert laws.neutral_violations(GRAPH, still_bars(price, volume, market, day)) == ()


@EXAMPLES
@given(seed=seeds, jump=st.floats(0.1, 10.0))
def test_a_jump_is_forgotten_after_the_lookback(make_bars, seed, jump):
    bars = still_bars(30.0, 1e6, 100.0, 12000, sessions=2 * MAX_LOOKBACK)
    bars[:, :5, :MAX_LOOKBACK] *= jump
    assert laws.always_finite_violations(GRAPH, bars) == ()
    assert laws.neutral_violations(GRAPH, bars) == ()


@EXAMPLES
@given(seed=seeds)
def test_without_volume_the_volume_features_are_neutral(make_bars, seed):
    bars = make_bars(seed, sessions=SESSIONS)
    bars[:, Bars._fields.index("volume")] = 0.0
    assert laws.always_finite_violations(GRAPH, bars) == ()
    assert laws.neutral_violations(GRAPH, bars, families=("volume",)) == ()


def test_no_lookback_claims_more_than_is_used(make_bars):
    assert laws.tightness_violations(GRAPH, make_bars(5, tickers=40, sessions=MAX_LOOKBACK)) == ()


def test_features_of_the_date_do_not_see_prices(make_bars):
    dated = FeatureGraph([feature for feature in CATALOGUE if feature.neutral is None])
    bars, others = make_bars(1), make_bars(2)
    others[:, -1] = bars[:, -1]
    assert {feature.family for feature in dated.features} == {"calendar"}
    assert torch.equal(dated(bars), dated(others))


def still_bars(price: float, volume: float, market: float, day: int, sessions: int = SESSIONS) -> Tensor:
    level = torch.tensor([price, price, price, price, volume, market, 0.0]).reshape(1, 7, 1).repeat(1, 1, sessions)
    level[:, 6] = day + torch.arange(sessions)
    return level


def plant(function: Callable[[Bars], Tensor], lookback: int = 2, bounds: tuple[float, float] = (-9.0, 9.0)):
    return FeatureGraph([Feature("trend", "planted", lookback, "planted", "this test", function, bounds=bounds)])


@pytest.mark.parametrize(
    "function",
    [
        lambda bars: torch.roll(bars.close, -1, -1) / bars.close,
        lambda bars: bars.close / bars.close.mean(-1, keepdim=True),
        lambda bars: bars.close / bars.close.amax(-1, keepdim=True),
        lambda bars: (bars.close - bars.close.mean(-1, keepdim=True)) / bars.close.std(-1, keepdim=True),
        lambda bars: (bars.close + bars.close.flip(-1)) / bars.close,
    ],
    ids=["tomorrow", "mean of all", "maximum of all", "standardised over all", "mirrored"],
)
def test_a_look_into_the_future_is_caught(make_bars, function):
    bars = make_bars(1, sessions=60)
    assert laws.causal_violations(plant(function), bars[..., :40], bars[..., 40:])


@pytest.mark.parametrize(
    ("function", "lookback"),
    [
        (lambda bars: torch.cumsum(bars.close, -1) / bars.close / 100.0, 60),
        (lambda bars: bars.close / bars.close[..., :1], 60),
        (lambda bars: rolling.mean(bars.close, 20) / bars.close, 19),
        (lambda bars: rolling.ema(bars.close, 0.94) / bars.close, 100),
        (lambda bars: rolling.log_ratio(bars.close, rolling.lag(bars.close, 1)), 1),
        (lambda bars: rolling.max_(bars.high, 60) / bars.close, 59),
    ],
    ids=["running total", "since the first bar", "20 bars as 19", "EMA cut too late", "return as one bar", "60 as 59"],
)
def test_a_longer_memory_than_declared_is_caught(make_bars, function, lookback):
    assert laws.fixed_lookback_violations(plant(function, lookback), make_bars(1, tickers=8, sessions=150))


def test_a_memory_shorter_than_declared_is_caught(make_bars):
    planted = plant(lambda bars: rolling.mean(bars.close, 20) / bars.close, 21)
    assert laws.tightness_violations(planted, make_bars(1, tickers=8))


@pytest.mark.parametrize(
    "function",
    [
        lambda bars: bars.close / 100.0,
        lambda bars: rolling.diff(torch.log(bars.close)),
        lambda bars: rolling.diff(bars.close) / (rolling.std(bars.close, 20) + 1e-4),
        lambda bars: bars.volume / 1e6,
        lambda bars: torch.log1p(bars.volume) / 10.0,
        lambda bars: bars.market / bars.close,
        lambda bars: torch.where(bars.close > 40.0, 1.0, 0.0),
    ],
    ids=["price", "difference of logs", "epsilon", "volume", "log volume", "market in prices", "price threshold"],
)
def test_a_unit_is_caught(make_bars, function):
    bars = make_bars(1)
    planted = plant(function, 20)
    assert laws.scale_violations(planted, bars, prices=0.25, volume=8.0, market=2.0)


@pytest.mark.parametrize(
    "function", [lambda bars: bars.close / 100.0, lambda bars: torch.where(bars.close > 40.0, 1.0, 0.0)]
)
def test_a_unit_is_caught_by_other_factors_too(make_bars, function):
    assert laws.scale_violations(plant(function), make_bars(1), prices=1.7)


@pytest.mark.parametrize(
    "function",
    [
        lambda bars: (bars.close - bars.low) / (bars.high - bars.low),
        lambda bars: bars.volume / rolling.mean(bars.volume, 20),
        lambda bars: torch.log(bars.volume),
        lambda bars: rolling.diff(bars.close) / rolling.std(bars.close, 20),
    ],
    ids=["no range", "no volume", "log of no volume", "no spread"],
)
def test_a_division_by_nothing_is_caught(make_bars, function):
    assert laws.always_finite_violations(plant(function, 20), make_bars(3, trouble=True))


def test_a_wrong_neutral_value_is_caught():
    planted = plant(lambda bars: rolling.relative_difference(bars.high, bars.low) + 0.5)
    (violation,) = laws.neutral_violations(planted, still_bars(10.0, 1.0, 1.0, 9000))
    assert violation.detail == "is 0.5, not 0"


def test_a_naive_variance_is_not_neutral_when_prices_stand_still():
    def naive(bars: Bars) -> Tensor:
        average = rolling.sum_(bars.close, 20) / 20.0
        return (rolling.sum_(bars.close * bars.close, 20) / 20.0 - average * average) / (bars.close * bars.close) * 1e6

    assert laws.neutral_violations(plant(naive, 20), still_bars(123.456, 1.0, 1.0, 9000))
