from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.ab.rivals import naive_difference
from financial_assets.errors import ExperimentError
from financial_assets.experiment.allocation.inference import (
    inverse_propensity_differences,
    ipw_log_e_process,
)
from financial_assets.experiment.statistics.capital import log_e_process
from financial_assets.experiment.statistics.off_policy import LoggedRewards


def two_arms(day: np.ndarray, challenger: np.ndarray, score: np.ndarray, share: np.ndarray) -> LoggedRewards:
    """Rows that went to the challenger with the probability ``share``."""
    return LoggedRewards(day, challenger.astype(np.intp), score, np.column_stack([1 - share, share]))


def routed(seed: int, weights: np.ndarray, edge: float, tickers: int = 10) -> LoggedRewards:
    random = np.random.default_rng(seed)
    day = np.repeat(np.arange(len(weights)), tickers)
    challenger = random.random(day.size) < weights[day]
    score = (random.random(day.size) < 0.52 + edge * challenger).astype(float)
    return two_arms(day, challenger, score, weights[day])


def test_naive_inference_is_refused_by_flag_and_by_data() -> None:
    fixed, moving = routed(0, np.full(100, 0.3), 0.0), routed(0, np.linspace(0.2, 0.4, 100), 0.0)
    assert abs(naive_difference(fixed, "fixed").estimate) < 0.1
    for rows, allocation in ((fixed, "adaptive"), (moving, "fixed")):
        with pytest.raises(ExperimentError, match="refused"):
            naive_difference(rows, allocation)


def test_the_daily_differences_are_unbiased_whatever_the_weights() -> None:
    weights = np.random.default_rng(1).uniform(0.1, 0.9, 20_000)
    daily = inverse_propensity_differences(routed(1, weights, 0.05), floor=0.1)
    error = daily.value.std() / np.sqrt(daily.value.size)
    assert abs(daily.value.mean() - 0.05) < 3 * error
    assert error < 0.01
    assert np.all(np.abs(daily.value) <= daily.bound)
    assert daily.bound == pytest.approx(0.5 / np.minimum(weights, 1 - weights))


def test_the_e_process_finds_an_edge_and_only_an_edge() -> None:
    weights = np.full(1500, 0.5)
    assert ipw_log_e_process(routed(2, weights, 0.08)).max() > np.log(20)
    assert ipw_log_e_process(routed(3, weights, 0.0), 0.1).max() < np.log(20)
    assert ipw_log_e_process(routed(2, weights, 0.08), 0.1, margin=0.15).max() < np.log(20)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_the_e_process_is_that_of_the_daily_numbers(seed: int) -> None:
    rows = routed(seed, np.random.default_rng(seed).uniform(0.2, 0.8, 30), 0.0)
    daily = inverse_propensity_differences(rows, 0.2)
    by_hand = [
        np.mean(
            (rows.reward[rows.session == day] - 0.5)
            * np.where(rows.arm[rows.session == day] == 1, 1, -1)
            / rows.taken(rows.propensity)[rows.session == day]
        )
        for day in range(30)
    ]
    assert daily.value == pytest.approx(by_hand)
    even = routed(seed, np.full(30, 0.3), 0.0)
    values = inverse_propensity_differences(even).value
    assert ipw_log_e_process(even) == pytest.approx(log_e_process(values, bound=0.5 / 0.3), abs=1e-9)
    assert (
        ipw_log_e_process(even, margin=-0.1)[-1] > ipw_log_e_process(even)[-1] > ipw_log_e_process(even, margin=0.1)[-1]
    )


@pytest.mark.parametrize("runs", [20, pytest.param(200, marks=pytest.mark.statistics)])
def test_weights_that_move_with_the_market_mislead_the_naive_test_only(runs: int) -> None:
    """Equal arms; the challenger's weight rises while the market gets harder, so that its rows look worse."""
    naive, anytime = 0, 0
    for seed in range(runs):
        random = np.random.default_rng(seed)
        weights, level = np.repeat(np.linspace(0.1, 0.9, 250), 10), np.repeat(np.linspace(0.6, 0.45, 250), 10)
        champion = random.random(2500) >= weights
        score = (random.random(2500) < level).astype(float)
        day = np.repeat(np.arange(250), 10)
        rows = two_arms(day, champion, score, 1 - weights)  # the champion's rows look better
        fixed = two_arms(day, champion, score, np.full(2500, 0.5))  # the planted lie
        naive += naive_difference(fixed, "fixed", level=0.9).low > 0
        anytime += ipw_log_e_process(rows).max() >= np.log(20)
    assert naive / runs > 0.5
    assert anytime / runs <= 0.05


def test_rows_that_cannot_be_used_are_refused() -> None:
    good = routed(0, np.full(10, 0.3), 0.0)
    with pytest.raises(ExperimentError, match="margin of scores is 1"):
        ipw_log_e_process(good, margin=1)
    with pytest.raises(ExperimentError, match=r"below the allocation's floor 0\.4"):
        inverse_propensity_differences(good, 0.4)
    with pytest.raises(ExperimentError, match=r"allowed: above 0, at most 0\.5"):
        inverse_propensity_differences(good, 0.6)
    for change, message in (
        ({"propensity": np.tile([1.0, 0.0], (100, 1))}, "propensity is zero"),
        ({"propensity": np.full((100, 2), np.nan)}, "add up to 1"),
        ({"reward": np.full(100, 1.5)}, r"lie in \[0, 1\]"),
        ({"session": np.arange(3)}, "must match 100 rewards"),
        ({"reward": np.zeros(0)}, "at least one row"),
        ({"propensity": np.full((100, 3), 1 / 3)}, "two arms"),
    ):
        with pytest.raises(ExperimentError, match=message):
            inverse_propensity_differences(replace(good, **change))  # type: ignore[arg-type]
