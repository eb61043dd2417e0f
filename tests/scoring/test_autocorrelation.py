"""The long-run variance of a mean of days: known processes, statsmodels, and what independence would get wrong."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy import stats

from financial_assets.scoring.autocorrelation import autocorrelation_effect, automatic_lags, hac_mean


def moving(days: int, memory: float, rng: np.random.Generator, runs: int = 1) -> np.ndarray:
    """Days of mean zero that remember yesterday ``[run, day]``."""
    noise = rng.standard_t(5, (runs, days + 50))
    for day in range(1, days + 50):
        noise[:, day] += memory * noise[:, day - 1]
    return noise[:, 50:]


def test_the_autocorrelation_factor_is_that_of_an_ar_process() -> None:
    """AR(1) with phi .3: Bartlett's weights and the estimated mean shrink the true factor (1 + phi) / (1 - phi)."""
    rng = np.random.default_rng(5)
    phi, days = 0.3, 200
    daily = rng.standard_normal((400, days))
    for day in range(1, days):
        daily[:, day] = phi * daily[:, day - 1] + np.sqrt(1 - phi**2) * daily[:, day]
    estimated = float(np.mean([autocorrelation_effect(run, 10) for run in daily]))
    assert 1.4 < estimated < (1 + phi) / (1 - phi)
    assert np.std(daily.mean(axis=1)) * np.sqrt(days) == pytest.approx(np.sqrt((1 + phi) / (1 - phi)), rel=0.1)


def test_the_interval_is_newey_and_wests() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # statsmodels' own imports
        import statsmodels.api as sm

    daily = moving(300, 0.3, np.random.default_rng(3))[0]
    found, lags = hac_mean(daily)
    oracle = sm.OLS(daily, np.ones(300)).fit(
        cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": True}, use_t=True
    )
    assert lags == 5
    assert found.estimate == pytest.approx(daily.mean())
    np.testing.assert_allclose((found.low, found.high), oracle.conf_int()[0])


def test_days_that_move_together_are_covered_where_independence_would_not() -> None:
    series = moving(250, 0.4, np.random.default_rng(1), runs=1000)
    hac = np.mean([hac_mean(days)[0].spans_zero for days in series])
    half = stats.t.ppf(0.975, 249) * series.std(axis=1, ddof=1) / math.sqrt(250)
    naive = np.mean(np.abs(series.mean(axis=1)) <= half)
    assert naive < 0.85
    assert hac > 0.90
    narrow = moving(250, -0.5, np.random.default_rng(2))[0]
    independent = stats.t.ppf(0.975, 249) * narrow.std(ddof=1) / math.sqrt(250)
    found, _ = hac_mean(narrow)
    assert (found.high - found.low) / 2 == pytest.approx(independent)  # luck is not believed


@pytest.mark.parametrize(("daily", "lags"), [(np.zeros(50), 2), (np.arange(3.0), 5), (np.arange(9.0), -1)])
def test_what_cannot_be_estimated_is_refused(daily: np.ndarray, lags: int) -> None:
    with pytest.raises(ValueError, match=f"{daily.size} days up to lag {lags}"):
        autocorrelation_effect(daily, lags)


def test_one_day_has_no_interval() -> None:
    with pytest.raises(ValueError, match="two days"):
        hac_mean([0.1])
    assert [automatic_lags(days) for days in (1, 2, 3, 100, 2500)] == [0, 0, 1, 4, 8]
