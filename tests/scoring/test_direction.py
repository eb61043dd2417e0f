"""Pesaran and Timmermann's tests against statsmodels, brute force and simulation."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.diagnostic import pesaran_timmermann as reference

from financial_assets.scoring.direction import pesaran_timmermann, pesaran_timmermann_serial, timing_by_day
from financial_assets.scoring.intervals import day_jackknife


@given(st.integers(0, 2**32 - 1), st.floats(0.3, 0.7), st.floats(0.3, 0.7))
def test_agrees_with_statsmodels_but_for_the_term_in_the_squared_sample(seed: int, said: float, rose: float) -> None:
    random = np.random.default_rng(seed)
    forecasts, outcomes = random.uniform(size=2000) < said, random.uniform(size=2000) < rose
    found = pesaran_timmermann(forecasts, outcomes)
    expected = reference(outcomes - 0.5, forecasts - 0.5, alternative="larger")
    assert found.statistic == pytest.approx(expected.statistic, rel=2e-3, abs=1e-9)
    assert found.p_value == pytest.approx(expected.pvalue, abs=2e-3)


def persistent(random: np.random.Generator, shape: tuple[int, int], stay: float) -> np.ndarray:
    """Booleans ``[run, day]`` that repeat themselves with probability ``stay``."""
    change = random.uniform(size=shape) > stay
    change[:, 0] = random.uniform(size=shape[0]) < 0.5
    return np.logical_xor.accumulate(change, axis=1)


def test_the_serial_test_is_the_partial_correlation_of_least_squares() -> None:
    random = np.random.default_rng(1)
    said, up = persistent(random, (2, 300), 0.8)
    past = np.stack([said[:-1], up[:-1], said[1:]], axis=1).astype(float)
    t = sm.OLS(up[1:].astype(float), sm.add_constant(past)).fit().tvalues[-1]
    degrees = 299 - 4
    assert pesaran_timmermann_serial(said, up).statistic == pytest.approx(299 * t**2 / (t**2 + degrees))


def rejections(test, said: np.ndarray, up: np.ndarray) -> float:
    return float(np.mean([test(one, other).p_value < 0.05 for one, other in zip(said, up, strict=True)]))


@pytest.mark.parametrize("runs", [200, pytest.param(3000, marks=pytest.mark.statistics)])
def test_persistent_days_fool_the_first_test_and_not_the_second(runs: int) -> None:
    """Five-session ups that start every session persist, and so do forecasts of them."""
    random = np.random.default_rng(2)
    said, up = persistent(random, (runs, 400), 0.9), persistent(random, (runs, 400), 0.9)
    band = 4 * (0.05 * 0.95 / runs) ** 0.5
    assert rejections(pesaran_timmermann, said, up) > 0.20
    assert rejections(pesaran_timmermann_serial, said, up) < 0.05 + band
    independent = random.uniform(size=(2, runs, 400)) < 0.55
    assert rejections(pesaran_timmermann, *independent) < 0.05 + band


def test_skill_is_found() -> None:
    random = np.random.default_rng(3)
    up = persistent(random, (100, 500), 0.7)
    said = np.where(random.uniform(size=up.shape) < 0.6, up, ~up)
    assert rejections(pesaran_timmermann, said, up) > 0.9
    assert rejections(pesaran_timmermann_serial, said, up) > 0.9
    assert pesaran_timmermann(~said[0], up[0]).p_value > 0.5, "the opposite of skill is not skill"


def test_timing_by_day_is_the_hit_rate_beyond_chance() -> None:
    random = np.random.default_rng(4)
    day = np.repeat(np.arange(40), 5)
    said, up = random.uniform(size=(2, 200)) < 0.6

    def excess(said: np.ndarray, up: np.ndarray) -> float:
        return float(np.mean(said == up) - (said.mean() * up.mean() + (1 - said.mean()) * (1 - up.mean())))

    assert str(timing_by_day(said, up, day)) == str(day_jackknife(excess, [said, up], day))
    always = timing_by_day(np.ones(200), up, day)
    assert (always.estimate, always.spans_zero) == (pytest.approx(0), True)


def common_days(random: np.random.Generator, days: int = 120, tickers: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Forecasts and outcomes without skill that both move with a factor of the day ``[day, ticker]``."""
    factors, own = random.normal(size=(2, days, 1)), random.normal(size=(2, days, tickers))
    said, up = np.sqrt(0.6) * factors + np.sqrt(0.4) * own > 0
    return said, up


@pytest.mark.parametrize("runs", [100, pytest.param(1000, marks=pytest.mark.statistics)])
def test_pooled_tickers_reject_far_too_often_and_days_do_not(runs: int) -> None:
    random = np.random.default_rng(5)
    day = np.repeat(np.arange(120), 30)
    worlds = [common_days(random) for _ in range(runs)]
    by_day = np.mean([not timing_by_day(said.ravel(), up.ravel(), day).spans_zero for said, up in worlds])
    pooled = np.mean([pesaran_timmermann(said.ravel(), up.ravel()).p_value < 0.05 for said, up in worlds])
    assert by_day < 0.05 + 4 * (0.05 * 0.95 / runs) ** 0.5, by_day
    assert pooled > 0.2, pooled


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: pesaran_timmermann([1, 1], [0, 1]), "said_up never changes"),
        (lambda: pesaran_timmermann_serial([1, 0], [1, 1]), "went_up never changes"),
        (lambda: pesaran_timmermann_serial([1, 0] * 3, [1, 0, 0] * 2), "lags must be"),
        (lambda: pesaran_timmermann_serial([1, 0] * 30, [1, 0, 0] * 20), "the last days say all"),
        (lambda: timing_by_day([1, 0], [1, 0, 1], [1, 2]), "shapes differ"),
        (lambda: timing_by_day([1, 0], [1, 0], [1, 1]), "at least two days"),
    ],
)
def test_bad_arguments_are_named(call, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call()
