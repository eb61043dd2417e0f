"""Bars that a market cannot produce are named; those that it can produce, however wild, never are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from financial_assets.features.catalogue import CATALOGUE
from financial_assets.features.graph import FeatureGraph
from financial_assets.market import quality
from financial_assets.market.calendar import sessions
from financial_assets.market.panel import CHANNELS as PANEL_CHANNELS
from financial_assets.market.panel import PricePanel, build_panel
from financial_assets.market.schemas import check_prices
from financial_assets.market.sources.sample import SamplePrices
from financial_assets.models.heads import HORIZONS, ServedAnswer
from financial_assets.models.onnx.export import INPUT_NAME, OUTPUT_NAMES
from financial_assets.serving import bar_rules
from financial_assets.serving.bar_rules import CHANNELS, bar_fault, neutral_bars

OPEN, HIGH, LOW, CLOSE, VOLUME, MARKET, DAY = range(7)
ROW, BAR = 70, 200  # in the second part of the rows, which are looked at 64 at a time
FIRST = np.datetime64("2013-01-01").astype(int)

Change = Callable[[np.ndarray], object]


def test_the_served_contract_is_that_of_the_models() -> None:
    """Written twice, because the runtime's copy in a bare image knows no models."""
    assert bar_rules.OUTPUTS == OUTPUT_NAMES == ServedAnswer._fields
    assert HORIZONS == (1, bar_rules.SESSIONS_5D)
    assert INPUT_NAME == bar_rules.INPUT


def window(rows: int = 80) -> np.ndarray:
    """Rows of unlike prices around 100; the bar ``BAR`` is of 2013-07-20."""
    rng = np.random.default_rng(5)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, (rows, 256)), axis=1))
    volume = rng.lognormal(14, 1, (rows, 256))
    day = np.broadcast_to(FIRST + np.arange(256), (rows, 256))
    market = np.broadcast_to(close[0], (rows, 256))
    return np.stack([close, close * 1.01, close * 0.99, close, volume, market, day], axis=-1).astype(np.float32)


def put(channel: int, value: float, bars: slice | int = BAR) -> Change:
    return lambda row: row.__setitem__((bars, channel), value)


def scale(channels: slice | int, factor: float, bars: slice | int = BAR) -> Change:
    def change(row: np.ndarray) -> None:
        row[bars, channels] *= np.float32(factor)

    return change


def newest_first(row: np.ndarray) -> None:
    row[:] = row[::-1].copy()


PRICES, LATER = slice(OPEN, CLOSE + 1), slice(BAR, None)


@pytest.mark.parametrize(
    ("change", "place", "rule"),
    [
        (scale(HIGH, 0.5), (BAR, "high"), "high is below low"),
        (scale(OPEN, 1.02), (BAR, "open"), "open is above high"),
        (scale(OPEN, 0.98), (BAR, "open"), "open is below low"),
        (scale(CLOSE, 1.02), (BAR, "close"), "close is above high"),
        (scale(CLOSE, 0.98), (BAR, "close"), "close is below low"),
        (put(DAY, FIRST + BAR - 1), (BAR, "day"), "is not later than the day of the bar before"),
        (newest_first, (1, "day"), "send the oldest bar first"),
        (scale(DAY, 0.0, slice(None)), (1, "day"), "is not later"),
        (put(DAY, FIRST + BAR - 0.5), (BAR, "day"), "is not a whole number of days"),
        (put(DAY, 1.3e9), (BAR, "day"), "is not a day from 1800-01-01 to 2200-01-01"),
        (put(DAY, -65_000), (BAR, "day"), "is not a day from 1800-01-01 to 2200-01-01"),
        (scale(PRICES, 1e8, LATER), (BAR, "close"), "moves by more than a factor of 10000"),
        (scale(PRICES, 1e-8, LATER), (BAR, "close"), "moves by more than a factor of 10000"),
        (scale(MARKET, 1e8, LATER), (BAR, "market"), "moves by more than a factor of 10000"),
        (scale(HIGH, 2e4), (BAR, "high"), "high is more than 10000 times low"),
        (put(CLOSE, 1e37), (BAR, "close"), "is above 1e+15"),
        (put(LOW, 1e-38), (BAR, "low"), "is not positive, or below 1e-13"),
        (put(OPEN, 0.0), (BAR, "open"), "is not positive"),
        (put(MARKET, -0.0), (BAR, "market"), "is not positive"),
        (put(MARKET, 1e37), (BAR, "market"), "is above 1e+30"),
        (put(VOLUME, 1e19), (BAR, "volume"), "is above 1e+18"),
        (put(VOLUME, -1.0), (BAR, "volume"), "is negative"),
        (put(HIGH, np.nan), (BAR, "high"), "is not finite"),
        (put(DAY, np.inf), (BAR, "day"), "is not finite"),
    ],
)
def test_a_refusal_names_row_bar_rule_value_and_date(change: Change, place: tuple[int, str], rule: str) -> None:
    bars = window()
    assert bar_fault(bars) is None
    change(bars[ROW])
    fault = bar_fault(bars)
    assert fault is not None
    bar, channel = place
    assert fault.startswith(f"bars[{ROW}, {bar}, {channel}] ")
    assert rule in fault
    assert f"({bars[ROW, bar, CHANNELS.index(channel)]:.8g}" in fault
    day = bars[ROW, bar, DAY]
    if 10_000 < day < 20_000:
        assert f"the bar is of {np.datetime64(int(day), 'D')}" in fault
    # The whole batch is refused wherever its one bad row stands.
    assert bar_fault(bars[ROW : ROW + 1]) is not None
    assert bar_fault(np.delete(bars, ROW, axis=0)) is None


def test_what_float32_rounds_is_no_fault() -> None:
    bars = window()
    for times in range(4):
        high, low = bars[..., HIGH], bars[..., LOW]
        bars[..., OPEN], bars[..., CLOSE] = high, low
        for _ in range(times):
            bars[..., OPEN] = np.nextafter(bars[..., OPEN], np.float32(np.inf))
            bars[..., CLOSE] = np.nextafter(bars[..., CLOSE], np.float32(0))
        assert bar_fault(bars) is None, times
    assert bar_fault(neutral_bars(3, 256)) is None
    bars[..., VOLUME] = -0.0  # equal to zero
    assert bar_fault(bars) is None


def test_fewer_channels_than_a_bar_has_need_only_be_finite() -> None:
    bars = -np.ones((2, 10, 5), dtype=np.float32)
    assert bar_fault(bars) is None
    bars[1, 4, 3] = np.nan
    assert str(bar_fault(bars)).startswith("bars[1, 4, 3] is not finite")


def test_covariates_may_be_anything_that_features_can_square() -> None:
    covariates = np.random.default_rng(1).normal(0, 1e6, (80, 256, 2)).astype(np.float32)
    bars = np.concatenate([window(), covariates], axis=-1)
    assert bar_fault(bars) is None
    assert bar_fault(neutral_bars(2, 256, channels=9)) is None
    bars[ROW, BAR, 8] = -2e16
    assert str(bar_fault(bars)).startswith(f"bars[{ROW}, {BAR}, covariate 2] is beyond 1e+16 (-2")
    bars[ROW, BAR, 8] = np.nan
    assert str(bar_fault(bars)).startswith(f"bars[{ROW}, {BAR}, covariate 2] is not finite")
    bars[ROW, BAR, 8] = 0.0
    bars[ROW, BAR, HIGH] = 1.0
    assert str(bar_fault(bars)).startswith(f"bars[{ROW}, {BAR}, high] high is below low"), "the bars' own rules hold"


def faults(panel: PricePanel, every: int = 1) -> list[str | None]:
    """Of every window of a panel, as it would be served."""
    found = []
    for at in range(255, len(panel.sessions), every):
        names, bars = panel.windows(panel.sessions[at], 256)
        found += [bar_fault(bars)] * len(names)
    return found


def test_no_window_of_the_bundled_prices_is_refused() -> None:
    prices = SamplePrices().fetch(["AAPL", "GOOG", "IBM", "MSFT"]).prices
    whole = faults(build_panel(prices), every=11)
    assert len(whole) > 900
    assert set(whole) == {None}
    # Sessions without a bar are carried forward with zero volume.
    holes = build_panel(prices[np.random.default_rng(1).random(len(prices)) > 0.2])
    assert not holes.valid[:, -1000:].all()
    assert set(faults(holes, every=61)) == {None}


def extreme_prices(ticker: str, factor: float, rng: np.random.Generator) -> pd.DataFrame:
    """Bars at the borders of what the price checks let pass: moves and ranges of almost 1,000, far from any real one.

    ``factor`` is ``adj_close / close``.
    """
    days = sessions("2012-01-03", "2013-04-10")[:300]
    count, largest = len(days), np.log(999.0)
    # Every other step, since a move that the next bar takes back is refused as a slip of the decimal point.
    steps = np.where(np.arange(count) % 2, rng.choice([-1, 1], count) * largest, 0.0)
    highest = np.log(min(1e7, 1e7 * factor))
    adjusted = np.empty(count)
    last = rng.uniform(np.log(1e-9), highest)
    for at in range(count):
        last = last + steps[at] if np.log(1e-9) <= last + steps[at] <= highest else last
        adjusted[at] = last
    close = np.exp(adjusted) / factor
    high = np.minimum(close * rng.choice([1.0, 999.0], count), 1e7)
    low = np.where(high > close, high / 999.0, close / rng.choice([1.0, 999.0], count))
    slack = 1 + 0.99 * quality.ROUNDING
    opening = np.where(rng.random(count) < 0.5, low / slack, high * slack)
    volume = np.minimum(rng.choice([0.0, 1.0, 1e12], count), 0.99e18 * factor)
    columns = {"open": np.minimum(opening, 1e7), "high": high, "low": np.minimum(low, close), "close": close}
    return pd.DataFrame({"date": days, "ticker": ticker, **columns, "adj_close": close * factor, "volume": volume})


def test_whatever_the_price_checks_let_into_a_panel_is_served() -> None:
    assert PANEL_CHANNELS == CHANNELS
    rng = np.random.default_rng(11)
    frames = [extreme_prices(f"T{at}", 10.0**power, rng) for at, power in enumerate((-9, -6, -3, 0, 3, 6))]
    broken = [result.failures for result in check_prices(pd.concat(frames)) if result.blocking and not result.passed]
    assert broken == [], "these markets must pass, or nothing is shown"
    panels = [build_panel(frame) for frame in frames]  # one by one: an index of them all would leave float64
    assert max(panel.values[:, :4].max() for panel in panels) > 1e9
    assert min(panel.values[:, :4].min() for panel in panels) < 1e-11
    assert {fault for panel in panels for fault in faults(panel)} == {None}


def test_features_of_all_that_is_served_are_finite() -> None:
    """At the corners of the limits: any larger, and a square or a sum overflows float32."""
    rng = np.random.default_rng(3)
    rows, graph = 24, FeatureGraph(CATALOGUE)
    largest = np.log(0.999 * bar_rules.LARGEST_MOVE)
    lowest, highest = np.log(bar_rules.LOWEST_PRICE * 1.001), np.log(bar_rules.HIGHEST_PRICE * 0.999)
    steps = rng.choice([-1, 0, 1], (rows, 256)) * largest
    close = np.empty((rows, 256))
    last = rng.choice([lowest, 0.0, highest], rows)
    for bar in range(256):
        close[:, bar] = last = np.clip(last + steps[:, bar], lowest, highest)
    up = rng.choice([0, 1], (rows, 256)) * largest
    high, low = np.minimum(close + up, highest), np.maximum(close + up - largest, lowest)
    volume = rng.choice([0.0, 1.0, bar_rules.LARGEST_VOLUME], (rows, 256))
    extremes = np.log([1.001 * bar_rules.LOWEST_LEVEL, 0.999 * bar_rules.HIGHEST_LEVEL])
    market = np.clip(np.cumsum(steps[::-1], axis=1), *extremes)
    day = np.broadcast_to(FIRST + np.arange(256), (rows, 256))
    levels = [np.exp(part) for part in (low, high, low, close)]
    bars = np.stack([*levels, volume, np.exp(market), day], axis=-1).astype(np.float32)
    assert bar_fault(bars) is None
    assert torch.isfinite(graph.unclipped(torch.from_numpy(bars.transpose(0, 2, 1).copy()))).all()
    beyond = bars.copy()
    beyond[..., :4] *= np.float32(1e5)
    assert not torch.isfinite(graph.unclipped(torch.from_numpy(beyond.transpose(0, 2, 1).copy()))).all()


@settings(max_examples=300, deadline=None)
@given(
    channel=st.integers(0, 6),
    bar=st.integers(0, 255),
    value=st.floats(width=32) | st.sampled_from([0.0, 1e-14, 1e4, 9.9e3, 1e16, float(FIRST), FIRST + 0.5, 1e31]),
    is_factor=st.booleans(),
)
def test_the_coarse_tests_pass_nothing_that_a_rule_refuses(
    channel: int, bar: int, value: float, is_factor: bool
) -> None:
    bars = window(1)
    with np.errstate(over="ignore", invalid="ignore"):
        bars[0, bar, channel] = bars[0, bar, channel] * np.float32(value) if is_factor else value
        series = np.ascontiguousarray(bars.transpose(2, 0, 1))
        broken = any(rule.broken.any() for rule in bar_rules._rules(series))
        assert not (broken and bar_rules._is_unremarkable(series))


def test_ordinary_bars_need_the_coarse_tests_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(bar_rules, "_rules")
    assert bar_fault(window()) is None
    assert bar_fault(neutral_bars(3, 256)) is None
