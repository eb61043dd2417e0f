"""The CUSUM's error rates and delays, by simulation; and detectors that must be seen to fail where it does not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import binom, ks_2samp

from financial_assets.errors import MonitoringError
from financial_assets.monitoring.cusum import fit_autoregression, run_cusum
from financial_assets.monitoring.divergence import kolmogorov_smirnov, population_stability
from financial_assets.monitoring.thresholds import false_alarm_probability, threshold, yearly_peaks

YEAR = 252


def streams(
    rng: np.random.Generator, worlds: int, sessions: int, coefficient: float = 0.0, shift: float = 0.0, at: int = 0
) -> np.ndarray:
    """AR(1) worlds; from ``at`` on the mean is ``shift`` of the streams' own standard deviations higher."""
    shocks = rng.standard_normal((worlds, sessions))
    shocks[:, 0] /= np.sqrt(1 - coefficient**2)
    values = np.asarray(lfilter([1.0], [1.0, -coefficient], shocks, axis=1))
    values[:, at:] += shift / np.sqrt(1 - coefficient**2)
    return values


def monitored(values: np.ndarray, reference: int) -> np.ndarray:
    """The larger sum ``[world, session]`` after the reference."""
    fitted = fit_autoregression(values[:, :reference])
    return run_cusum(fitted.innovations(values[:, reference:])).larger


def first_beyond(statistic: np.ndarray, bound: float) -> np.ndarray:
    """Sessions until the alarm, counted from 1; the span's length plus 1 without one."""
    beyond = statistic > bound
    return np.where(beyond.any(axis=1), beyond.argmax(axis=1), statistic.shape[1]) + 1


def plain_page(innovations: np.ndarray, allowance: float) -> tuple[np.ndarray, np.ndarray]:
    """Page's sums of one stream, number by number."""
    upper, lower, high, low = [], [], 0.0, 0.0
    for value in innovations:
        high, low = max(0.0, high + value - allowance), max(0.0, low - value - allowance)
        upper.append(high)
        lower.append(low)
    return np.array(upper), np.array(lower)


def test_the_sums_are_pages() -> None:
    steps = np.random.default_rng(0).standard_normal((3, 50))
    sums = run_cusum(steps, 0.3)
    for row in range(3):
        upper, lower = plain_page(steps[row], 0.3)
        np.testing.assert_allclose(sums.upper[row], upper)
        np.testing.assert_allclose(sums.lower[row], lower)


@pytest.mark.parametrize("coefficient", [0.0, 0.3, 0.9])
def test_the_autoregression_is_found(coefficient: float) -> None:
    fitted = fit_autoregression(5.0 + streams(np.random.default_rng(1), 400, 500, coefficient))
    assert np.mean(fitted.coefficient) == pytest.approx(coefficient, abs=0.01)  # uncorrected: 0.007 too low at 0.9
    assert np.mean(fitted.deviation) == pytest.approx(1.0, abs=0.01)
    assert np.mean(fitted.mean) == pytest.approx(5.0, abs=0.1)


def test_known_figures_with_an_estimated_reference() -> None:
    """k = .25, AR(1) .3, 250 sessions of reference: the figures that this design was chosen by."""
    peaks = yearly_peaks(250, 0.3, worlds=8000, seed=1)
    assert np.mean(peaks > 10.0) == pytest.approx(0.28, abs=0.025)
    assert np.mean(peaks > 14.0) == pytest.approx(0.09, abs=0.02)
    assert np.mean(yearly_peaks(1000, 0.3, worlds=4000, seed=1) > 10.0) == pytest.approx(0.21, abs=0.025)


def test_mean_time_to_a_false_alarm() -> None:
    statistic = monitored(streams(np.random.default_rng(2), 600, 250 + 6000, 0.3), 250)
    assert 900 <= np.mean(first_beyond(statistic, 10.0)) <= 1200  # 973 when the design was measured


@pytest.mark.parametrize(("shift", "sessions"), [(0.5, 69.7), (1.0, 20.6)])
def test_delay_after_a_planted_shift(shift: float, sessions: float) -> None:
    values = streams(np.random.default_rng(3), 2000, 250 + 1500, 0.3, shift=shift, at=250)
    assert np.mean(first_beyond(monitored(values, 250), 10.0)) == pytest.approx(sessions, rel=0.1)


@pytest.mark.parametrize(
    ("reference", "coefficient", "budget", "count"),
    [(250, 0.0, 0.1, 1), (250, 0.3, 0.5, 10), (400, 0.9, 0.1, 1), (90, 0.5, 0.2, 4), (500, 0.97, 0.2, 4)],
)
def test_the_budget_of_false_alarms_is_kept(reference: int, coefficient: float, budget: float, count: int) -> None:
    """Worlds drawn apart from those that set the threshold, each stream judged with its own estimated coefficient."""
    worlds = 4000
    values = streams(np.random.default_rng(4), worlds, reference + YEAR, coefficient)
    fitted = fit_autoregression(values[:, :reference])
    bounds = np.array([threshold(budget, count, reference, float(estimate)) for estimate in fitted.coefficient])
    alarms = int(np.sum(run_cusum(fitted.innovations(values[:, reference:])).peak() > bounds))
    allowed = false_alarm_probability(budget, count)
    assert alarms <= binom.ppf(0.999, worlds, 1.1 * allowed)
    assert alarms >= binom.ppf(0.001, worlds, 0.3 * allowed)  # not bought by never alarming


def test_customary_alarms_break_the_budget() -> None:
    """Negative control on the same drift-free worlds: rolling KS at p < .05 and PSI > .2, looked at daily."""
    worlds, reference, window = 60, 250, 60
    values = streams(np.random.default_rng(5), worlds, reference + YEAR)
    bound = threshold(0.1, 1, reference, 0.0)
    ours = np.mean(monitored(values, reference).max(axis=1) > bound)
    before, later = values[:, :reference], values[:, reference:]
    spans = [slice(end - window, end) for end in range(window, YEAR + 1, 3)]
    pairs = list(zip(before, later, strict=True))
    by_ks = np.mean([any(ks_2samp(b, x[span]).pvalue < 0.05 for span in spans) for b, x in pairs])
    by_psi = np.mean([any(population_stability(b, x[span]) > 0.2 for span in spans) for b, x in pairs])
    assert ours <= 0.2
    assert by_ks > 0.45
    assert by_psi > 0.45


def test_without_whitening_an_autocorrelated_stream_alarms_far_too_often() -> None:
    values = streams(np.random.default_rng(6), 1000, 250 + YEAR, 0.6)
    bound = threshold(0.1, 1, 250, 0.6)
    reference = values[:, :250]
    raw = (values[:, 250:] - reference.mean(axis=1, keepdims=True)) / reference.std(axis=1, keepdims=True)
    assert np.mean(run_cusum(raw).peak() > bound) > 5 * np.mean(monitored(values, 250).max(axis=1) > bound)


def test_the_threshold_rises_with_what_makes_errors_likelier() -> None:
    usual = threshold(0.1, 1, 250, 0.3)
    assert threshold(0.1, 100, 250, 0.3) > usual
    assert threshold(0.01, 1, 250, 0.3) > usual
    assert threshold(0.1, 1, 60, 0.3) > usual
    assert threshold(0.1, 1, 250, 0.98) > usual
    assert threshold(1.0, 1, 250, 0.3) < usual
    assert threshold(0.1, 1, 250, 0.3) == usual  # seeded
    assert threshold(0.1, 1, 250, 1.7) == threshold(0.1, 1, 250, 0.99)
    assert threshold(0.02, 1, 250, 0.3) < threshold(0.0199, 1, 250, 0.3) < threshold(0.02, 1, 250, 0.3) + 0.1


@pytest.mark.parametrize(("budget", "count"), [(0.0, 1), (-1.0, 1), (float("nan"), 1), (float("inf"), 1), (0.1, 0)])
def test_an_impossible_budget_is_refused(budget: float, count: int) -> None:
    with pytest.raises(MonitoringError, match="must be positive"):
        threshold(budget, count, 250, 0.0)


def test_a_short_reference_is_refused() -> None:
    with pytest.raises(MonitoringError, match="59 sessions is too short, 60 are needed"):
        fit_autoregression(np.random.default_rng(0).standard_normal((2, 59)))
    with pytest.raises(MonitoringError, match="59 sessions is too short"):
        threshold(0.1, 1, 59, 0.0)
    with pytest.raises(MonitoringError, match="0 sessions"):
        fit_autoregression(np.empty((2, 0)))
    holes = np.random.default_rng(0).standard_normal((2, 80))
    holes[1, ::3] = np.nan
    with pytest.raises(MonitoringError, match="53 sessions"):
        fit_autoregression(holes)


def test_an_infinite_reference_is_refused() -> None:
    values = np.random.default_rng(0).standard_normal((1, 80))
    values[0, 5] = np.inf
    with pytest.raises(MonitoringError, match="infinite"):
        fit_autoregression(values)


def test_unknown_sessions_say_nothing() -> None:
    rng = np.random.default_rng(7)
    fitted = fit_autoregression(rng.standard_normal((1, 200)))
    later = rng.standard_normal((1, 30))
    later[0, 10:13] = np.nan
    innovations = fitted.innovations(later)
    assert not innovations[0, 10:14].any()  # the session after a hole has nothing before it either
    assert innovations[0, 14:].all()


def test_a_single_wild_day_is_no_drift() -> None:
    rng = np.random.default_rng(8)
    values = np.asarray(lfilter([1.0], [1.0, -0.2], rng.standard_normal((200, 350)), axis=1))
    fitted = fit_autoregression(values[:, :250])
    calm = run_cusum(fitted.innovations(values[:, 250:])).peak()
    values[:, 300] = 1e6
    wild = run_cusum(fitted.innovations(values[:, 250:])).peak()
    assert np.max(wild - calm) < 9.0
    assert np.mean(wild > threshold(0.1, 1, 250, 0.3)) < 0.15


def test_display_measures_agree_with_others() -> None:
    rng = np.random.default_rng(9)
    before, after = rng.standard_normal(300), 0.4 + rng.standard_normal(120)
    assert kolmogorov_smirnov(before, after) == pytest.approx(ks_2samp(before, after).statistic)
    assert population_stability(before, before) == 0.0
    assert population_stability(before, after) > population_stability(before, rng.standard_normal(120))
    edges = [-np.inf, *np.quantile(before, np.arange(1, 10) / 10), np.inf]
    p, q = (np.histogram(x, edges)[0] / len(x) for x in (before, after))
    assert population_stability(before, after) == pytest.approx(float(np.sum((q - p) * np.log(q / p))))
    assert np.isnan(population_stability(before, np.array([])))
    assert np.isnan(kolmogorov_smirnov(np.array([]), after))
