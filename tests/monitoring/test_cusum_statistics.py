"""The CUSUM's error rates and delays, by simulation; and detectors that must be seen to fail where it does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import binom, ks_2samp, norm, rankdata

from financial_assets.errors import MonitoringError
from financial_assets.monitoring.drift.cusum import Autoregression, fit_autoregression, run_cusum
from financial_assets.monitoring.drift.samples import kolmogorov_smirnov, normal_scores, population_stability
from financial_assets.monitoring.drift.thresholds import drift_free_chance, false_alarm_probability, threshold

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


def known(worlds: int) -> Autoregression:
    """The parameters of white noise of deviation 1, as if known."""
    zero, one = np.zeros(worlds), np.ones(worlds)
    return Autoregression(zero, zero, one, one, one, np.full(worlds, 250), zero)


@pytest.mark.statistics
def test_known_figures_of_the_prewhitened_sum_alone() -> None:
    """Without the long-run variance, k = .25, AR(1) .3: figures of another program, which this design began with."""
    for reference, bound, share in ((250, 10.0, 0.28), (250, 14.0, 0.08), (1000, 10.0, 0.21)):
        values = streams(np.random.default_rng(1), 4000, reference + YEAR, 0.3)
        fitted = fit_autoregression(values[:, :reference])
        plain = replace(fitted, inflation=np.ones(len(values)))
        peaks = run_cusum(plain.innovations(values[:, reference:])).peak()
        assert np.mean(peaks > bound) == pytest.approx(share, abs=0.025)


@pytest.mark.statistics
def test_error_rate_and_delays_where_the_reference_is_known() -> None:
    quiet = streams(np.random.default_rng(2), 600, 8000)
    assert np.mean(first_beyond(run_cusum(known(600).innovations(quiet)).larger, 10.0)) >= 1000
    for shift, most in ((0.5, 40.0), (1.0, 15.0)):
        moved = streams(np.random.default_rng(3), 2000, 1000, shift=shift)
        assert np.mean(first_beyond(run_cusum(known(2000).innovations(moved)).larger, 10.0)) <= most


@pytest.mark.statistics
def test_error_rate_and_delays_with_an_estimated_reference() -> None:
    """AR(1) .3 and 250 sessions of reference. The long-run variance is estimated too, so a lower bound does."""
    bound = 8.75
    quiet = monitored(streams(np.random.default_rng(2), 1000, 250 + 6000, 0.3), 250)
    assert np.mean(first_beyond(quiet, bound)) >= 900
    for shift, most in ((0.5, 75.0), (1.0, 22.0)):
        moved = streams(np.random.default_rng(3), 2000, 250 + 1500, 0.3, shift=shift, at=250)
        assert np.mean(first_beyond(monitored(moved, 250), bound)) <= most
    raw = streams(np.random.default_rng(2), 1000, 250 + 2000, 0.3)
    unwhitened = run_cusum(known(1000).innovations(raw[:, 250:] * np.sqrt(1 - 0.3**2))).larger
    assert np.mean(first_beyond(unwhitened, bound)) < 400


CASES = [(250, 0.0, 0.1, 1), (250, 0.3, 0.5, 10), (400, 0.9, 0.1, 1), (90, 0.5, 0.2, 4), (500, 0.97, 0.2, 4)]


@pytest.mark.parametrize(
    ("worlds", "reference", "coefficient", "budget", "count"),
    [(400, 250, 0.3, 0.1, 1), *(pytest.param(4000, *case, marks=pytest.mark.statistics) for case in CASES)],
)
def test_the_budget_of_false_alarms_is_kept(
    worlds: int, reference: int, coefficient: float, budget: float, count: int
) -> None:
    """Worlds drawn apart from those that set the threshold, each stream judged with its own estimated coefficient."""
    values = streams(np.random.default_rng(4), worlds, reference + YEAR, coefficient)
    fitted = fit_autoregression(values[:, :reference])
    bounds = np.array([threshold(budget, count, reference, float(estimate)) for estimate in fitted.coefficient])
    alarms = int(np.sum(run_cusum(fitted.innovations(values[:, reference:])).peak() > bounds))
    allowed = false_alarm_probability(budget, count)
    assert alarms <= binom.ppf(0.999, worlds, 1.1 * allowed)
    assert alarms >= binom.ppf(0.001, worlds, 0.3 * allowed)  # not bought by never alarming


@pytest.mark.statistics
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


@pytest.mark.statistics
def test_without_whitening_an_autocorrelated_stream_alarms_far_too_often() -> None:
    values = streams(np.random.default_rng(6), 1000, 250 + YEAR, 0.6)
    bound = threshold(0.1, 1, 250, 0.6)
    reference = values[:, :250]
    raw = (values[:, 250:] - reference.mean(axis=1, keepdims=True)) / reference.std(axis=1, keepdims=True)
    assert np.mean(run_cusum(raw).peak() > bound) > 5 * np.mean(monitored(values, 250).max(axis=1) > bound)


@pytest.mark.statistics
def test_a_stream_that_wanders_over_months_keeps_its_budget() -> None:
    """White noise on a slow wave passes for AR(1) near 0. Without the long-run variance it alarms far too often."""
    rng, worlds, reference = np.random.default_rng(10), 1500, 1000
    slow = streams(rng, worlds, reference + YEAR, 0.98) * np.sqrt(1 - 0.98**2)
    values = rng.standard_normal(slow.shape) + 0.25 * slow
    fitted = fit_autoregression(values[:, :reference])
    assert np.median(fitted.coefficient) < 0.15
    assert np.median(fitted.inflation) > 1.5
    bound = threshold(0.1, 1, reference, 0.3)
    alarms, plain_alarms = (
        float(np.mean(run_cusum(one.innovations(values[:, reference:])).peak() > bound))
        for one in (fitted, replace(fitted, inflation=np.ones(worlds)))
    )
    assert alarms < 0.13
    assert plain_alarms > 0.3


def test_the_long_run_variance_passes_over_unknown_sessions() -> None:
    values = streams(np.random.default_rng(11), 300, 1000, 0.3)
    whole = fit_autoregression(values).inflation
    holes = values.copy()
    holes[:, ::7] = np.nan
    assert whole.min() == 1.0
    assert np.mean(whole) == pytest.approx(1.06, abs=0.03)
    assert np.mean(fit_autoregression(holes).inflation) == pytest.approx(np.mean(whole), abs=0.03)


def test_the_chance_is_the_inverse_of_the_threshold() -> None:
    for sides in (1, 2):
        for budget, count in ((0.1, 1), (0.5, 1), (0.1, 40)):
            bound = threshold(budget, count, 300, 0.2, sides=sides)
            chance = drift_free_chance(bound, count, 300, 0.2, sides=sides)
            assert chance == pytest.approx(budget, rel=0.35)
            assert drift_free_chance(bound + 3, count, 300, 0.2, sides=sides) < chance
    assert threshold(0.1, 1, 300, 0.2, sides=1) == threshold(0.2, 1, 300, 0.2)
    assert drift_free_chance(0.0, 9, 300, 0.2) == 1.0


def test_normal_scores_are_those_of_ranks() -> None:
    rng = np.random.default_rng(12)
    reference = np.exp(rng.standard_normal((2, 999)))
    reference[1, :400] = np.nan
    scores = normal_scores(reference, reference)
    assert np.isnan(scores[1, :400]).all()
    np.testing.assert_allclose(scores[0], norm.ppf(rankdata(reference[0]) / 1000.0))
    ties = normal_scores(np.array([[1.0, 2.0, 2.0, 3.0]]), np.array([[2.0, 0.0, 9.0, 1.0, np.nan]]))
    np.testing.assert_allclose(ties[0, :4], norm.ppf([0.5, 0.1, 0.9, 0.2]))
    assert np.isnan(ties[0, 4])


@pytest.mark.statistics
def test_a_skewed_stream_keeps_its_budget_by_its_scores() -> None:
    """Lognormal, as volumes and variances are; judged by their values they alarm too often, whatever the clipping."""
    reference, worlds = 500, 800
    values = np.exp(1.5 * streams(np.random.default_rng(13), worlds, reference + YEAR, 0.6))
    before, later = values[:, :reference], values[:, reference:]
    by_score, by_value = (
        float(np.mean(run_cusum(fitted.innovations(following)).peak() > threshold(0.1, 1, reference, 0.6)))
        for fitted, following in (
            (fit_autoregression(normal_scores(before, before)), normal_scores(before, later)),
            (replace(fit_autoregression(before), inflation=np.ones(worlds)), later),
        )
    )
    assert by_score < 0.13
    assert by_value > 0.14


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
