"""Off-policy estimates against a world whose answer is known, and everything that must be refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from financial_assets.errors import ExperimentError
from financial_assets.experiment.statistics.off_policy import (
    LoggedRewards,
    doubly_robust,
    effective_sample_size,
    ips,
    past_means,
    snips,
)
from financial_assets.scoring.intervals import Interval

DAYS, TICKERS = 120, 10
MEANS = np.array([[0.50, 0.56], [0.53, 0.47]])  # [regime, arm]
TARGET = np.array([[0.1, 0.9], [0.9, 0.1]])  # [regime, arm]
TRUTH = float(np.mean(np.sum(MEANS * TARGET, axis=1)))


def world(seed: int, days: int = DAYS) -> tuple[LoggedRewards, np.ndarray, np.ndarray]:
    """A log of two arms in two regimes, the target policy that follows the regime, and the regimes' true rewards."""
    random = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), TICKERS)
    regime = (np.arange(days) % 2)[day]
    share = random.choice([0.1, 0.3, 0.5, 0.7], days)[day]
    propensity = np.column_stack([1 - share, share])
    arm = (random.random(day.size) < share).astype(np.intp)
    mood = random.uniform(-0.4, 0.4, days)[day]  # moves all tickers of a day
    reward = (random.random(day.size) < MEANS[regime, arm] + mood).astype(float)
    return LoggedRewards(day, arm, reward, propensity), TARGET[regime], MEANS[regime]


Estimate = Callable[[LoggedRewards, np.ndarray], Interval]
ESTIMATES: dict[str, Estimate] = {
    "ips": ips,
    "snips": snips,
    "dr": lambda log, target: doubly_robust(log, target, past_means(log, 0.5)),
}


@pytest.mark.parametrize("name", ESTIMATES)
@pytest.mark.parametrize(
    ("runs", "least", "most"), [(30, 0.8, 1.01), pytest.param(300, 0.905, 0.985, marks=pytest.mark.statistics)]
)
def test_estimates_are_unbiased_and_their_intervals_cover(name: str, runs: int, least: float, most: float) -> None:
    found = [ESTIMATES[name](*world(seed)[:2]) for seed in range(runs)]
    values = np.array([interval.estimate for interval in found])
    standard_error = values.std(ddof=1)
    assert abs(values.mean() - TRUTH) < 3.3 * standard_error / np.sqrt(len(values))
    covered = np.mean([interval.low <= TRUTH <= interval.high for interval in found])
    assert least < covered < most, covered


def test_the_mean_of_what_was_logged_is_another_question() -> None:
    """The naive control: rewards of the log's own allocation, or of rows that did what the target mostly does."""
    values = np.array([world(seed)[0].reward.mean() for seed in range(300)])
    assert abs(values.mean() - TRUTH) > 5 * values.std(ddof=1) / np.sqrt(len(values))


@pytest.mark.statistics
def test_rows_taken_one_by_one_promise_too_much() -> None:
    """Clustering matters: intervals that take rows for independent miss the truth too often."""
    missed = 0
    for seed in range(200):
        log, target, _ = world(seed)
        alone = LoggedRewards(np.arange(log.reward.size), log.arm, log.reward, log.propensity)
        interval = snips(alone, target)
        missed += not interval.low <= TRUTH <= interval.high
    assert missed / 200 > 0.09


@pytest.mark.statistics
def test_a_perfect_reward_model_sharpens_the_estimate_and_a_wrong_one_does_not_bias_it() -> None:
    perfect, wrong, plain = [], [], []
    for seed in range(200):
        log, target, means = world(seed)
        perfect.append(doubly_robust(log, target, means).estimate)
        wrong.append(doubly_robust(log, target, 1.5 - means).estimate)
        plain.append(ips(log, target).estimate)
    assert np.std(perfect) < 0.9 * np.std(plain)
    assert abs(np.mean(wrong) - TRUTH) < 3.3 * np.std(wrong) / np.sqrt(200)


@pytest.mark.statistics
def test_wrong_propensities_are_no_help() -> None:
    """A planted mistake: propensities of both arms exchanged."""
    values = []
    for seed in range(100):
        log, target, _ = world(seed)
        values.append(ips(LoggedRewards(log.session, log.arm, log.reward, log.propensity[:, ::-1]), target).estimate)
    assert abs(np.mean(values) - TRUTH) > 5 * np.std(values) / 10


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(-2, 2), st.floats(0.1, 3))
def test_laws(seed: int, shift: float, scale: float) -> None:
    log, target, _ = world(seed, 60)
    moved = LoggedRewards(log.session, log.arm, shift + scale * log.reward, log.propensity)
    assert snips(moved, target).estimate == pytest.approx(shift + scale * snips(log, target).estimate)
    for name in ("ips", "snips"):
        itself = ESTIMATES[name](log, log.propensity)
        assert itself.estimate == pytest.approx(log.reward.mean()), "the log's own policy earned its mean"
    model = past_means(log, 0.5)
    later = log.reward.copy()
    later[200:] = 1 - later[200:]
    assert np.array_equal(
        past_means(LoggedRewards(log.session, log.arm, later, log.propensity), 0.5)[:210], model[:210]
    )
    weights = log.taken(target) / log.taken(log.propensity)
    assert 1 <= effective_sample_size(weights) <= weights.size


def test_effective_sample_size() -> None:
    assert effective_sample_size(np.ones(7)) == 7
    assert effective_sample_size(np.array([1.0, 0.0, 0.0])) == 1
    assert effective_sample_size(np.zeros(3)) == 0


@pytest.mark.parametrize("name", ESTIMATES)
def test_what_the_log_cannot_answer_is_refused(name: str) -> None:
    estimate = ESTIMATES[name]
    log, target, _ = world(0)
    always_first = np.tile([1.0, 0.0], (log.reward.size, 1))
    sure = LoggedRewards(log.session, np.zeros_like(log.arm), log.reward, always_first)
    with pytest.raises(ExperimentError, match="whose propensity was zero"):
        estimate(sure, target)
    rare = np.tile([0.95, 0.05], (log.reward.size, 1))
    with pytest.raises(ExperimentError, match=r"weights of up to 18 exceed 10 \(max_weight\)"):
        estimate(LoggedRewards(log.session, log.arm, log.reward, rare), target)
    few = slice(0, 60)
    short = LoggedRewards(log.session[few], log.arm[few], log.reward[few], log.propensity[few])
    with pytest.raises(ExperimentError, match="min_effective"):
        estimate(short, target[few])
    one_day = LoggedRewards(log.session // 100, log.arm, log.reward, log.propensity)
    with pytest.raises(ExperimentError, match="min_days"):
        estimate(one_day, target)
    with pytest.raises(ExperimentError, match="add up to 1"):
        estimate(log, 2 * target)
    with pytest.raises(ExperimentError, match="the target has 3 arms"):
        estimate(log, np.full((log.reward.size, 3), 1 / 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward": np.array([0.5, np.nan])}, "NaN"),
        ({"propensity": np.array([[1.0, 0.0], [1.0, 0.0]])}, "logged propensity is zero"),
        ({"propensity": np.array([[0.5, 0.4], [0.5, 0.5]])}, "add up to 1"),
        ({"propensity": np.array([[np.nan, 0.4], [0.5, 0.5]])}, "add up to 1"),
        ({"arm": np.array([0, 2])}, "0 to 1"),
        ({"session": np.array([1])}, "must match 2 rewards"),
        ({"reward": np.array([])}, "at least one row"),
    ],
)
def test_a_log_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    values = {
        "session": np.array([1, 2]),
        "arm": np.array([0, 1]),
        "reward": np.array([0.5, 1.0]),
        "propensity": np.full((2, 2), 0.5),
    }
    with pytest.raises(ExperimentError, match=message):
        LoggedRewards(**{**values, **change})


def test_a_reward_model_of_another_shape_is_refused() -> None:
    log, target, means = world(0)
    with pytest.raises(ExperimentError, match="reward model"):
        doubly_robust(log, target, means[:, :1])
    with pytest.raises(ExperimentError, match="reward model"):
        doubly_robust(log, target, np.full_like(means, np.nan))


@pytest.mark.parametrize("name", ESTIMATES)
def test_a_sampled_request_stands_for_those_that_were_not_sent(name: str) -> None:
    """Half of the days have all of few tickers, the others a sample of many, on which the arms do better."""
    days, asked = 400, 10
    universe = np.where(np.arange(days) % 2, 100, asked)
    mean = np.where(np.arange(days) % 2, 0.7, 0.4)
    truth = float(np.sum(universe * mean) / np.sum(universe))
    unweighted: list[float] = []
    weighted: list[float] = []
    covered = 0
    for seed in range(12):
        random = np.random.default_rng(seed)
        day = np.repeat(np.arange(days), asked)
        log = LoggedRewards(
            day,
            random.integers(0, 2, day.size).astype(np.intp),
            (random.random(day.size) < mean[day]).astype(float),
            np.full((day.size, 2), 0.5),
        )
        target = np.tile([0.0, 1.0], (day.size, 1))
        unweighted.append(ESTIMATES[name](log, target).estimate)
        sampled = ESTIMATES[name](replace(log, inclusion=(asked / universe)[day]), target)
        covered += sampled.low < truth < sampled.high
        weighted.append(sampled.estimate)
        alike = replace(log, inclusion=np.full(day.size, 0.25))
        assert ESTIMATES[name](alike, target) == ESTIMATES[name](log, target)
    assert covered >= 9, "of 12, by intervals of 95 %"
    assert abs(np.mean(weighted) - truth) < 0.02
    assert abs(np.mean(unweighted) - truth) > 0.1, "without the inclusion probabilities another question is answered"


@pytest.mark.parametrize("inclusion", [0.0, 1.5, np.nan])
def test_an_impossible_inclusion_is_refused(inclusion: float) -> None:
    log, _, _ = world(0)
    with pytest.raises(ExperimentError, match="inclusion must hold a probability"):
        replace(log, inclusion=np.full(log.reward.size, inclusion))
