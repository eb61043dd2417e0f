"""The catalogue: what it holds, and its values against TA-Lib, pandas and closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import talib
import torch
from write_features import ORIGINALS, counterparts, feature_table

from financial_assets.errors import FeatureError
from financial_assets.features.bars import (
    CAUSAL_VOLATILITY_LOOKBACK,
    VOLATILITY_FLOOR,
    causal_volatility,
    split_channels,
)
from financial_assets.features.catalogue import CATALOGUE, FEATURE_NAMES, MAX_LOOKBACK
from financial_assets.features.feature import FAMILIES, Feature

DOCS = Path(__file__).parents[2] / "docs"

SERVED_LOOKBACK = 256
LONGEST_SEQUENCE = 60


def test_the_catalogue_is_what_it_says():
    assert len(CATALOGUE) >= 60
    assert len(set(FEATURE_NAMES)) == len(CATALOGUE)
    assert {feature.family for feature in CATALOGUE} == set(FAMILIES) - {"covariates"}
    assert max(feature.lookback for feature in CATALOGUE) == MAX_LOOKBACK
    assert MAX_LOOKBACK + LONGEST_SEQUENCE <= SERVED_LOOKBACK
    assert all(feature.formula and feature.source and "\n" not in feature.formula for feature in CATALOGUE)


def test_every_indicator_of_the_original_has_a_counterpart():
    names = [original.name for original in ORIGINALS]
    basic = [original for original in ORIGINALS if original.group == "basic"]
    # 17 a ticker for two tickers, and the daily return that they shared.
    assert 2 * (len(basic) - 1) + 1 == 35
    assert len(names) - len(basic) == 32
    assert len(set(names)) == len(names)
    assert [name for name in names if not counterparts(name)] == []
    assert {name for feature in CATALOGUE for name in feature.replaces} == set(names)


def test_the_table_in_the_documentation_is_up_to_date():
    assert (DOCS / "features.md").read_text(encoding="utf-8") == feature_table(), (
        "run: python docs/write_features.py > docs/features.md"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "astrology"}, "not one of trend"),
        ({"lookback": 0}, "at least one bar"),
        ({"neutral": 2.0}, "outside bounds"),
        ({"bounds": (1.0, -1.0)}, "outside bounds"),
    ],
)
def test_a_contradictory_feature_is_refused(change, message):
    fields = {
        "name": "f",
        "family": "trend",
        "lookback": 1,
        "formula": "f",
        "source": "s",
        "function": lambda b: b.close,
    }
    with pytest.raises(FeatureError, match=message):
        Feature(**{**fields, **change})


@pytest.fixture(scope="module")
def bars(make_bars):
    return make_bars(11, tickers=1, sessions=600)


@pytest.fixture(scope="module")
def columns(bars):
    names = ("open", "high", "low", "close", "volume", "market", "day")
    return {name: bars[0, place].double().numpy() for place, name in enumerate(names)}


def value(bars, name: str) -> np.ndarray:
    (feature,) = (feature for feature in CATALOGUE if feature.name == name)
    return feature.compute(split_channels(bars))[0].double().numpy()


def scale(close: np.ndarray) -> np.ndarray:
    returns = pd.Series(close).apply(np.log).diff()
    return np.sqrt((returns**2).rolling(60).mean()).to_numpy()


TALIB = {
    # name: (TA-Lib's function of the columns, tolerance). Our EMAs are cut where 1 % of the weight is left.
    "rsi_14": (lambda c: talib.RSI(c["close"], 14) / 50 - 1, 0.02),
    "rsi_9": (lambda c: talib.RSI(c["close"], 9) / 50 - 1, 0.02),
    "adx_14": (lambda c: talib.ADX(c["high"], c["low"], c["close"], 14) / 100, 0.02),
    "average_true_range_14": (lambda c: talib.NATR(c["high"], c["low"], c["close"], 14), 0.1),
    "aroon_oscillator_25": (lambda c: talib.AROONOSC(c["high"], c["low"], 25) / 100, 1e-6),
    "money_flow_index_14": (
        lambda c: talib.MFI(c["high"], c["low"], c["close"], c["volume"], 14) / 50 - 1,
        1e-4,
    ),
    "stochastic_k_14": (
        lambda c: talib.STOCHF(c["high"], c["low"], c["close"], 14, 3)[0] / 50 - 1,
        1e-4,
    ),
    "stochastic_d_14_3": (
        lambda c: talib.STOCHF(c["high"], c["low"], c["close"], 14, 3)[1] / 50 - 1,
        1e-4,
    ),
    "williams_r_10": (lambda c: talib.WILLR(c["high"], c["low"], c["close"], 10) / 50 + 1, 1e-4),
    "commodity_channel_20": (lambda c: talib.CCI(c["high"], c["low"], c["close"], 20) / 100, 2e-3),
    "keltner_position_20": (
        lambda c: (c["close"] - talib.EMA(c["close"], 20)) / (2 * talib.ATR(c["high"], c["low"], c["close"], 10)),
        0.05,
    ),
    "trend_correlation_20": (
        lambda c: talib.CORREL(c["close"], np.arange(len(c["close"]), dtype=float), 20),
        1e-4,
    ),
    "market_correlation_20": (
        lambda c: talib.CORREL(
            *(np.diff(np.log(c[name]), prepend=np.log(c[name][0])) for name in ("close", "market")), 20
        ),
        1e-3,
    ),
    "volatility_20": (
        lambda c: np.sqrt(252) * talib.STDDEV(np.diff(np.log(c["close"]), prepend=np.log(c["close"][0])), 20),
        1e-3,
    ),
    "close_vs_sma_20": (
        lambda c: np.log(c["close"] / talib.SMA(c["close"], 20)) / (scale(c["close"]) * np.sqrt(20)),
        1e-3,
    ),
    "close_vs_ema_26": (
        lambda c: np.log(c["close"] / talib.EMA(c["close"], 26)) / (scale(c["close"]) * np.sqrt(26)),
        0.05,
    ),
    "macd": (
        lambda c: talib.MACD(c["close"])[0] / talib.EMA(c["close"], 26) / (scale(c["close"]) * np.sqrt(26)),
        0.05,
    ),
    "macd_histogram": (
        lambda c: talib.MACD(c["close"])[2] / talib.EMA(c["close"], 26) / (scale(c["close"]) * np.sqrt(26)),
        0.02,
    ),
    "bollinger_position_20": (
        lambda c: (c["close"] - talib.SMA(c["close"], 20)) / (2 * talib.STDDEV(c["close"], 20)),
        1e-3,
    ),
    "bollinger_upper_20": (
        lambda c: (talib.BBANDS(c["close"], 20)[0] / c["close"] - 1) / (scale(c["close"]) * np.sqrt(20)),
        1e-3,
    ),
    "momentum_10": (
        lambda c: np.log(talib.ROCR(c["close"], 10)) / (scale(c["close"]) * np.sqrt(10)),
        1e-3,
    ),
}


@pytest.mark.parametrize("name", TALIB)
def test_agrees_with_talib(bars, columns, name):
    function, tolerance = TALIB[name]
    expected, actual = function(columns), value(bars, name)
    # TA-Lib's recursive averages carry their start-up for some hundred bars.
    np.testing.assert_allclose(actual[300:], expected[300:], atol=tolerance)
    assert np.std(expected[300:]) > 2 * tolerance


def test_beta_and_residuals_are_those_of_a_regression(bars, columns):
    ticker, market = (np.diff(np.log(columns[name]))[-60:] for name in ("close", "market"))
    slope, intercept = np.polyfit(market, ticker, 1)
    residual = ticker - slope * market - intercept
    assert value(bars, "beta_60")[-1] == pytest.approx(slope, abs=1e-3)
    assert value(bars, "idiosyncratic_volatility_60")[-1] == pytest.approx(np.sqrt(252) * residual.std(), rel=1e-3)


def test_ewma_volatility_is_that_of_riskmetrics(bars, columns):
    squares = pd.Series(np.diff(np.log(columns["close"]))) ** 2
    expected = np.sqrt(squares.ewm(alpha=0.06, adjust=True).mean()).iloc[-1]
    estimated = causal_volatility(split_channels(bars))[0, -1].item()
    assert estimated == pytest.approx(expected, rel=0.01)
    assert CAUSAL_VOLATILITY_LOOKBACK <= MAX_LOOKBACK


def test_causal_volatility_has_a_floor():
    still = torch.full((2, 7, 200), 10.0)
    assert torch.equal(causal_volatility(split_channels(still)), torch.full((2, 200), VOLATILITY_FLOOR))


def test_the_scale_makes_momentum_of_a_random_walk_of_unit_size(make_bars):
    walk = make_bars(3, tickers=60, sessions=500)
    for name in ("momentum_1", "momentum_10", "momentum_60"):
        (feature,) = (feature for feature in CATALOGUE if feature.name == name)
        assert feature.compute(split_channels(walk))[:, 200:].std().item() == pytest.approx(1.0, abs=0.1)


def test_white_noise_has_no_preferred_horizon(make_bars):
    walk = split_channels(make_bars(4, tickers=80, sessions=500))
    expected = {"variance_ratio_5": 1.0, "haar_energy_share_2": 0.2, "haar_energy_share_16": 0.2, "cycle_power_10": 1.0}
    for name, level in expected.items():
        (feature,) = (feature for feature in CATALOGUE if feature.name == name)
        assert feature.compute(walk)[:, 200:].mean().item() == pytest.approx(level, rel=0.06)


def test_a_cycle_shows_at_its_period():
    close = 100 * torch.exp(0.05 * torch.sin(2 * torch.pi * torch.arange(300) / 10.0))
    bars = torch.ones(1, 7, 300)
    bars[0, :4] = close
    assert value(bars, "cycle_power_10")[-1] == 12.0
    assert value(bars, "cycle_power_5")[-1] < 1.0


def test_calendar_features_read_the_date():
    days = pd.bdate_range("1999-12-01", "2028-12-31")
    bars = torch.ones(1, 7, len(days))
    bars[0, 6] = torch.from_numpy((days - pd.Timestamp("1970-01-01")).days.to_numpy(np.float32))
    weekday = 2 * np.pi * days.dayofweek / 5
    np.testing.assert_allclose(value(bars, "weekday_sine"), np.sin(weekday), atol=1e-6)
    np.testing.assert_allclose(value(bars, "weekday_cosine"), np.cos(weekday), atol=1e-6)
    np.testing.assert_allclose(value(bars, "month_position"), (days.day - 1) / 15 - 1, atol=1e-6)
    quarter = (31 * ((days.month - 1) % 3) + days.day - 1) / 46 - 1
    np.testing.assert_allclose(value(bars, "quarter_position"), quarter, atol=1e-6)
    march = days.where(days.month >= 3, days - pd.DateOffset(years=1)).year
    since = (days - pd.to_datetime({"year": march, "month": 3, "day": 1}).to_numpy()).days
    np.testing.assert_allclose(value(bars, "season_sine"), np.sin(2 * np.pi * since / 366), atol=1e-5)
    gap = np.diff(days.to_numpy()).astype("timedelta64[D]").astype(int)
    np.testing.assert_allclose(value(bars, "session_gap")[1:], (gap - 1) / 3, atol=1e-6)


def test_the_volume_profile_spreads_each_bar_over_its_range(bars, columns):
    close, low, high, volume = (columns[name][-20:] for name in ("close", "low", "high", "volume"))
    below = np.clip((close[-1] - low) / (high - low), 0.0, 1.0)
    expected = 2 * (below * volume).sum() / volume.sum() - 1
    assert value(bars, "volume_profile_20")[-1] == pytest.approx(expected, abs=1e-5)
    assert abs(expected) > 0.01


def test_a_volume_profile_of_single_prices_counts_whole_bars():
    bars = torch.ones(1, 7, 40)
    bars[0, :4] = torch.tensor([1.0, 2.0, 3.0, 3.0]).repeat(10)
    # Of twenty closes half are below 3 and half at it, which is neither below nor above.
    assert value(bars, "volume_profile_20")[-1] == 0.5


def test_the_retracement_runs_from_the_end_of_the_swing_to_its_start():
    rise = torch.cat((torch.linspace(100, 200, 50), torch.linspace(200, 160, 10)))
    bars = torch.ones(1, 7, 60)
    bars[0, :4] = rise
    assert value(bars, "fibonacci_retracement_60")[-1] == pytest.approx(0.4, abs=1e-6)
    assert value(bars, "fibonacci_distance_60")[-1] == pytest.approx(4 * (0.4 - 0.382), abs=1e-5)
    bars[0, :4] = 300.0 - rise
    assert value(bars, "fibonacci_retracement_60")[-1] == pytest.approx(0.4, abs=1e-6)


def quoted_bars(spread: float, seed: int = 0, sessions: int = 4000, ticks: int = 390) -> torch.Tensor:
    """Daily bars of a random walk whose every trade is at the bid or the ask, ``spread`` apart, at random."""
    rng = np.random.default_rng(seed)
    middle = np.cumsum(rng.normal(0.0, 0.01 / np.sqrt(ticks), (sessions, ticks)).ravel()).reshape(sessions, ticks)
    traded = np.exp(middle + rng.choice([-0.5, 0.5], middle.shape) * spread)
    bars = torch.ones(1, 7, sessions)
    columns = (traded[:, 0], traded.max(1), traded.min(1), traded[:, -1])
    bars[0, :4] = torch.from_numpy(np.stack(columns).astype(np.float32))
    return bars


@pytest.mark.parametrize("spread", [0.01, 0.03])
def test_spread_estimators_find_the_spread_that_trades_pay(spread):
    bars = quoted_bars(spread)
    percent = 100 * spread
    assert np.mean(value(bars, "corwin_schultz_spread_20")[100:]) == pytest.approx(percent, rel=0.25)
    # Roll's estimate is squared noise of 60 days: its mean square, not its mean, is near the spread's.
    roll = value(bars, "roll_spread_60")[100:]
    assert np.sqrt(np.mean(roll**2)) == pytest.approx(percent, rel=0.35)


def test_without_a_spread_the_estimators_see_noise_only():
    bars = quoted_bars(0.0)
    assert np.mean(value(bars, "corwin_schultz_spread_20")[100:]) < 0.5
    assert np.mean(value(bars, "roll_spread_60")[100:]) < 0.6
