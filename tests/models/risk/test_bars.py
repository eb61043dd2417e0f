"""Returns, variances and outcomes of the bars, on worlds whose variance is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from financial_assets.errors import TrainingError
from financial_assets.market.outcomes import next_session_return
from financial_assets.models.risk.bars import RiskBars, following_sums, trailing_mean
from tests.models.risk.worlds import constant, heterogeneous


def test_the_range_variance_is_right_on_average_and_less_noisy_than_the_squared_return() -> None:
    bars = constant(20, 300).bars
    known = np.isfinite(bars.variance)
    assert known.sum() == 20 * 299, "the first session has no gap"
    # A path of 48 steps does not reach its extremes: the range is some 15 % too low.
    assert 0.8 < np.nanmean(bars.variance) / 4e-4 < 1.0
    assert np.nanstd(bars.variance) < 0.6 * np.nanstd(bars.returns**2)


def test_outcomes_are_those_of_the_market_and_their_sums() -> None:
    world = constant(3, 200)
    bars = world.bars
    assert np.array_equal(bars.outcomes(1), next_session_return(world.panel), equal_nan=True)
    assert bars.outcomes(5)[1, 20] == pytest.approx(bars.returns[1, 21:26].sum())
    assert bars.following_variance(5)[1, 20] == pytest.approx(bars.variance[1, 21:26].sum())
    assert np.isnan(bars.outcomes(5)[:, -5:]).all()
    assert np.isfinite(bars.outcomes(5)[:, :-5]).all()


def test_a_halted_ticker_has_no_return_and_no_outcome_there() -> None:
    world = constant(2, 200)
    valid = world.panel.valid.copy()
    valid[0, 100] = False
    bars = RiskBars.of(replace(world.panel, valid=valid))
    assert np.isnan([bars.returns[0, 100], bars.variance[0, 100]]).all()
    assert np.flatnonzero(np.isnan(bars.outcomes(5)[0])).tolist() == [*range(95, 101), *range(195, 200)]
    assert np.isfinite(bars.returns[1, 1:]).all()


def test_riskmetrics_counts_once_it_is_warm() -> None:
    bars = heterogeneous(2, 300).bars
    warm = int(np.isfinite(bars.ewma[0]).argmax())
    assert 100 < warm < 150
    reference = pd.DataFrame(bars.returns.T**2).ewm(alpha=0.06).mean().to_numpy().T ** 0.5
    assert bars.ewma[:, warm:] == pytest.approx(reference[:, warm:], rel=2e-3)


def test_until_hides_the_outcome_of_its_last_session() -> None:
    bars = constant(2, 200).bars
    past = bars.until(bars.sessions[120])
    assert past.sessions[-1] == bars.sessions[120]
    assert np.isnan(past.next_return[:, -1]).all()
    assert np.isfinite(bars.next_return[:, 120]).all(), "the whole is left as it was"
    with pytest.raises(TrainingError, match="cut-off 2000-01-01 is not a session"):
        bars.until(pd.Timestamp("2000-01-01"))


def test_sums_and_means_of_neighbours() -> None:
    values = np.array([[1.0, 2.0, np.nan, 4.0, 5.0]])
    assert following_sums(values, 2)[0].tolist() == pytest.approx([3, np.nan, np.nan, 9, np.nan], nan_ok=True)
    assert trailing_mean(values, 2)[0].tolist() == pytest.approx([np.nan, 1.5, 2, 3, 4.5], nan_ok=True)
