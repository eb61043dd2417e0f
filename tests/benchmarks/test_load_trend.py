"""The verdict on the memory of a loaded plane: no trend is seen in what only wanders, and a leak is."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import statsmodels.api as sm

from benchmarks.serving.pace import growth, paced
from benchmarks.serving.trend import trend

LENGTH, SERIES = 96, 300  # half minutes of an hour after its first fifth


def wandering(likeness: float) -> np.ndarray:
    """Series ``[series, time]`` whose errors each keep a share of the one before."""
    new = np.random.default_rng(5).normal(size=(SERIES, LENGTH + 200))
    values = np.zeros_like(new)
    for step in range(1, values.shape[1]):
        values[:, step] = likeness * values[:, step - 1] + new[:, step]
    return values[:, 200:]


def share_that_misses_zero(series: np.ndarray) -> float:
    return float(np.mean([not found.low <= 0 <= found.high for found in map(trend, series)]))


@pytest.mark.parametrize("likeness", [0.0, 0.5, 0.8, 0.9, 0.95, 1.0])
def test_a_slope_of_nothing_is_rarely_missed_however_alike_neighbours_are(likeness: float) -> None:
    # 5 %, for a random walk 9 %, of 1,500 series; the rest is what 300 may differ by.
    assert share_that_misses_zero(wandering(likeness)) <= (0.13 if likeness == 1.0 else 0.09)


def test_the_usual_interval_would_miss_it_often() -> None:
    hours, missed = sm.add_constant(np.arange(float(LENGTH))), 0
    for values in wandering(1.0)[:60]:
        low, high = sm.GLSAR(values, hours, rho=1).iterative_fit(50).conf_int()[1]
        missed += not low <= 0 <= high
    assert missed / 60 > 0.3


@pytest.mark.parametrize(("likeness", "slope"), [(0.0, 0.02), (0.8, 0.2), (1.0, 0.5)])
def test_a_leak_is_found(likeness: float, slope: float) -> None:
    leaking = wandering(likeness) + slope * np.arange(LENGTH)
    assert share_that_misses_zero(leaking) >= 0.7


def test_a_line_is_its_own_slope() -> None:
    found = trend(3.0 + 0.25 * np.arange(20.0))
    assert found.slope == pytest.approx(0.25)
    assert found.high - found.low < 1e-6


def test_it_turns_with_its_series_and_scales_with_it() -> None:
    values = wandering(0.8)[0] + 0.1 * np.arange(LENGTH)
    found, opposite = trend(values), trend(7.0 - 3.0 * values)
    assert opposite.slope == pytest.approx(-3.0 * found.slope)
    assert opposite.low == pytest.approx(-3.0 * found.high)


def test_memory_grows_by_the_hour_and_a_flat_one_has_no_error() -> None:
    seconds = np.arange(1800.0)
    leaking = growth(100 + 12 * seconds / 3600 + np.random.default_rng(3).normal(0, 0.05, len(seconds)))
    assert leaking.slope == pytest.approx(12, abs=0.5)
    assert 0 < leaking.error < 1
    assert leaking.low > 0
    assert "not 0" in str(leaking)
    flat = growth(np.full(60, 7.0))
    assert (flat.slope, flat.error, flat.low) == (0, 0, 0)
    assert "no change" in str(flat)


def test_an_open_loop_sends_all_at_their_instants_and_counts_what_fails() -> None:
    class Sender:
        def __init__(self) -> None:
            self.sent: list[int] = []

        async def send(self, number: int) -> None:
            self.sent.append(number)
            await asyncio.sleep(0.2)  # longer than the instants are apart: it waits for nobody
            if number % 4 == 0:
                raise OSError("refused")

    one, other = Sender(), Sender()
    load = asyncio.run(paced([one, other], rate=200.0, count=10))
    assert (one.sent, other.sent) == ([0, 2, 4, 6, 8], [1, 3, 5, 7, 9])
    assert dict(load.errors) == {"OSError: refused": 3}
    assert len(load.latencies) == 10
    assert min(load.latencies) >= 0.19
