"""The window primitives against plain float64 loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from financial_assets.features import rolling

EXAMPLES = settings(max_examples=25, deadline=None)
windows = st.integers(1, 130)
seeds = st.integers(0, 2**32 - 1)


def series(seed: int, level: float = 0.0, sessions: int = 160) -> np.ndarray:
    return (level + np.random.default_rng(seed).normal(0, 1, sessions)).astype(np.float32)


def in_windows(x: np.ndarray, window: int) -> np.ndarray:
    """Every full window, oldest bar first, in float64."""
    return np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), window)


def full(values: torch.Tensor, window: int) -> np.ndarray:
    return values.numpy()[..., window - 1 :]


@EXAMPLES
@given(seed=seeds, window=windows, level=st.sampled_from([0.0, 100.0]))
def test_sums_averages_and_spreads(seed, window, level):
    x = series(seed, level)
    tensor, exact = torch.from_numpy(x), in_windows(x, window)
    np.testing.assert_allclose(full(rolling.sum_(tensor, window), window), exact.sum(1), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(full(rolling.mean(tensor, window), window), exact.mean(1), rtol=1e-5, atol=1e-6)
    # Even around a level of 100 the spread keeps its digits: a sum of squares would have lost four of them.
    np.testing.assert_allclose(full(rolling.std(tensor, window), window), exact.std(1), rtol=2e-5, atol=2e-6)


@EXAMPLES
@given(seed=seeds, window=windows)
def test_the_distance_from_the_average(seed, window):
    x = series(seed, 100.0)
    exact = in_windows(x, window)
    expected = np.abs(exact - exact.mean(1, keepdims=True)).mean(1)
    actual = full(rolling.mean_absolute_deviation(torch.from_numpy(x), window), window)
    np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-5)


@EXAMPLES
@given(seed=seeds, window=windows)
def test_the_profile_counts_weight_below_and_above(seed, window):
    level, middle, weight = (np.abs(series(seed + at, 100.0)) for at in range(3))
    half = np.abs(series(seed + 3)) + np.float32(0.01)
    low, high = middle - half, middle + half
    tensors = map(torch.from_numpy, (level, low, high, weight))
    actual = full(rolling.profile_position(*tensors, window), window)
    lows, highs, weights = (in_windows(x, window) for x in (low, high, weight))
    newest = level[window - 1 :].astype(np.float64)[:, None]
    below = np.clip((newest - lows) / (highs - lows), 0.0, 1.0)
    np.testing.assert_allclose(actual, 2 * (below * weights).sum(1) / weights.sum(1) - 1, atol=1e-3)


@EXAMPLES
@given(seed=seeds, window=windows)
def test_extremes_are_exact(seed, window):
    x = series(seed)
    tensor, exact = torch.from_numpy(x), in_windows(x, window)
    assert np.array_equal(full(rolling.max_(tensor, window), window), exact.max(1).astype(np.float32))
    assert np.array_equal(full(rolling.min_(tensor, window), window), exact.min(1).astype(np.float32))
    assert np.array_equal(full(rolling.age_of_max(tensor, window), window), np.argmax(exact[:, ::-1], axis=1))


def test_the_newest_of_equal_maxima_counts():
    x = torch.tensor([1.0, 3.0, 3.0, 2.0, 3.0, 0.0])
    assert rolling.age_of_max(x, 4).tolist()[3:] == [1.0, 0.0, 1.0]


@EXAMPLES
@given(seed=seeds, window=st.integers(2, 130))
def test_relations_between_two_series(seed, window):
    x, y = series(seed, 50.0), series(seed + 1)
    wx, wy = in_windows(x, window), in_windows(y, window)
    dx, dy = wx - wx.mean(1, keepdims=True), wy - wy.mean(1, keepdims=True)
    expected = (dx * dy).sum(1) / np.sqrt((dx * dx).sum(1) * (dy * dy).sum(1))
    actual = rolling.correlation(torch.from_numpy(x), torch.from_numpy(y), window)
    np.testing.assert_allclose(full(actual, window), expected, atol=2e-4)


@EXAMPLES
@given(seed=seeds, window=st.integers(2, 130))
def test_relations_with_time(seed, window):
    x = series(seed, 20.0)
    exact, time = in_windows(x, window), np.arange(window)
    expected = ((exact - exact.mean(1, keepdims=True)) * (time - time.mean())).sum(1)
    _, product = rolling.time_moment(torch.from_numpy(x), window)
    np.testing.assert_allclose(full(product, window), expected, rtol=1e-4, atol=1e-3 * window)


@EXAMPLES
@given(seed=seeds, decay=st.floats(0.3, 0.96))
def test_the_ema_is_the_truncated_one(seed, decay):
    x, bars = series(seed, 10.0, 300), rolling.ema_bars(decay)
    weights = decay ** np.arange(bars)[::-1]
    expected = (in_windows(x, bars) * weights).sum(1) / weights.sum()
    np.testing.assert_allclose(full(rolling.ema(torch.from_numpy(x), decay), bars), expected, rtol=2e-6)


@pytest.mark.parametrize("decay", [0.3, 0.5, 0.8, 0.94, 0.97])
def test_ema_bars_is_the_smallest_power_of_two_that_keeps_the_tail_out(decay):
    bars = rolling.ema_bars(decay)
    assert math.log2(bars).is_integer()
    assert decay**bars <= rolling.EMA_TAIL < decay ** (bars / 2)


@EXAMPLES
@given(seed=seeds, window=windows, period=st.floats(2.0, 60.0))
def test_fourier_sums(seed, window, period):
    x = series(seed)
    age = np.arange(window)[::-1]
    real, imaginary = rolling.fourier(torch.from_numpy(x), period, window)
    angle = 2 * math.pi * age / period
    np.testing.assert_allclose(full(real, window), (in_windows(x, window) * np.cos(angle)).sum(1), atol=1e-4)
    np.testing.assert_allclose(full(imaginary, window), (in_windows(x, window) * np.sin(angle)).sum(1), atol=1e-4)


@EXAMPLES
@given(value=st.floats(0.0009765625, 2**20, width=32), window=windows)
def test_a_constant_is_its_own_average_and_has_no_spread(value, window):
    x = torch.full((200,), value)
    assert torch.equal(rolling.mean(x, window), x)
    assert torch.equal(rolling.ema(x, 0.9), x)
    assert not rolling.std(x, window).any()
    assert not rolling.mean_absolute_deviation(x, window).any()
    assert not rolling.profile_position(x, x, x, x, window).any()
    assert not rolling.correlation(x, x, window).any()


@pytest.mark.parametrize("bars", [0, 1, 3, 9, 10, 25])
def test_lag_continues_the_first_value_backwards(bars):
    x = torch.arange(10.0)
    assert rolling.lag(x, bars).tolist() == [max(0.0, float(at - bars)) for at in range(10)]
    assert rolling.diff(x, bars).tolist() == [float(min(at, bars)) for at in range(10)]


@pytest.mark.parametrize("window", [2, 20, 64, 130])
def test_a_window_longer_than_the_series_is_filled_with_its_first_value(window):
    x = torch.tensor([2.0, 4.0])
    expected = (2.0 * (window - 1) + 4.0) / window
    assert rolling.mean(x, window)[1].item() == pytest.approx(expected)
    assert rolling.max_(x, window).tolist() == [2.0, 4.0]


def test_quotients_without_a_positive_denominator_are_neutral():
    zero = torch.zeros(3)
    one = torch.ones(3)
    assert rolling.ratio(one, zero, neutral=7.0).tolist() == [7.0] * 3
    assert rolling.ratio(one, -one).tolist() == [0.0] * 3
    assert rolling.relative_difference(zero, zero).tolist() == [0.0] * 3
    assert rolling.log_ratio(one, zero).tolist() == [0.0] * 3
    assert rolling.log_ratio(zero, one).tolist() == [0.0] * 3
    assert rolling.log_ratio(torch.tensor([math.nan]), torch.ones(1)).tolist() == [0.0]


def test_stacked_averages_are_cut_at_the_same_bar():
    with pytest.raises(ValueError, match=r"\[64, 128\]"):
        rolling.ema(torch.ones(2, 10), (0.93, 0.94))


def test_a_window_of_no_bars_is_refused():
    with pytest.raises(ValueError, match="at least one bar, not 0"):
        rolling.sum_(torch.ones(5), 0)


@pytest.mark.parametrize(
    "stacked",
    [
        lambda x: (rolling.ema(x, (0.92, 0.93)), [rolling.ema(x[:1], 0.92), rolling.ema(x[1:], 0.93)]),
        lambda x: (
            rolling.fourier(x, (5.0, 10.0), 20)[0],
            [rolling.fourier(x[:1], 5.0, 20)[0], rolling.fourier(x[1:], 10.0, 20)[0]],
        ),
    ],
    ids=["ema", "fourier"],
)
def test_stacked_calls_equal_single_ones_bit_for_bit(stacked):
    together, single = stacked(torch.from_numpy(np.stack([series(1), series(2)])))
    assert torch.equal(together, torch.cat(single))
