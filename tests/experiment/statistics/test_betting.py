from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
import ville
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.ab.many_tests import two_sided_log_e
from financial_assets.errors import ExperimentError
from financial_assets.experiment.statistics.betting import BettingSequence
from financial_assets.experiment.statistics.capital import STAKES, log_e_process, margin_grid, planned_stakes


def test_the_process_is_that_of_ville_when_both_stake_the_same() -> None:
    """With a tiny alpha ville's plug-in bet is always cut at its cap, the fraction c of the most that may be staked."""
    days = np.random.default_rng(1).uniform(-0.6, 0.8, 300)
    for side, margin in itertools.product(("greater", "less"), (0.0, 0.03, -0.2)):
        theirs = [
            ville.BettingTest(margin, bounds=(-1, 1), alternative=side, alpha=1e-300, c=stake).fit(days).log_e_values_
            for stake in STAKES
        ]
        mixture = np.logaddexp.reduce(theirs, axis=0) - math.log(len(STAKES))
        sign = 1 if side == "greater" else -1
        assert np.abs(log_e_process(sign * days, sign * margin) - mixture).max() < 1e-8
    both = ville.BettingTest(0.0, bounds=(-1, 1), alpha=1e-300, c=0.2).fit(days).log_e_values_
    assert np.abs(two_sided_log_e(days, stakes=(0.2,)) - both).max() < 1e-8


Process = Callable[[np.ndarray, float], np.ndarray]


def less(days: np.ndarray, margin: float) -> np.ndarray:
    """Evidence that the mean falls short of the margin."""
    return log_e_process(-days, -margin)


def expectation(outcomes: dict[float, float], margin: float, process: Process = log_e_process, days: int = 4) -> float:
    """Exact mean of the e-value after some days: every path with its probability."""
    paths = list(itertools.product(outcomes, repeat=days))
    weights = [math.prod(outcomes[x] for x in path) for path in paths]
    log_e = process(np.array(paths), margin)[:, -1]
    return float(np.dot(weights, np.exp(log_e)))


def test_no_stake_can_be_expected_to_gain_under_the_null() -> None:
    at_margin = {1.0: 0.3, 0.0: 0.5, -0.5: 0.2}  # mean .2
    for process in (log_e_process, less, two_sided_log_e):
        assert expectation(at_margin, 0.2, process) == pytest.approx(1.0, abs=1e-12)
    assert expectation(at_margin, 0.25) < 1 < expectation(at_margin, 0.25, less)
    assert expectation(at_margin, 0.15) > 1  # the mean is above: a gain is to be expected


@pytest.mark.parametrize("worlds", [400, pytest.param(1500, marks=pytest.mark.statistics)])
def test_looking_every_day_refutes_equal_models_seldom_and_the_peeking_t_test_does_often(worlds: int) -> None:
    rng = np.random.default_rng(2)
    tickers, shape = 10, (worlds, 250)
    shock = rng.choice((-1.0, 1.0), size=(*shape, 1))  # of the day: tickers correlate by .25
    rows = np.where(rng.random((*shape, tickers)) < 0.5 + 0.25 * shock, 1.0, -1.0) * (
        rng.random((*shape, tickers)) < 0.3
    )
    days, limit = rows.mean(axis=2), math.log(1 / 0.05)
    false = np.mean((two_sided_log_e(days) >= limit).any(axis=1))
    n = np.arange(1, 251)
    mean = np.cumsum(days, axis=1) / n
    error = np.sqrt(np.maximum(np.cumsum(days**2, axis=1) / n - mean**2, 0) / n)[:, 19:]
    assert false <= 0.03  # the promise is .05
    assert np.mean((np.abs(mean[:, 19:]) > 1.96 * error).any(axis=1)) > 0.25
    pooled = two_sided_log_e(rows.reshape(shape[0], -1))
    assert np.mean((pooled >= limit).any(axis=1)) > 0.1  # rows of one day as if they were days: the promise is broken


def test_a_planned_effect_is_found_sooner_with_planned_stakes() -> None:
    rng = np.random.default_rng(4)
    days = np.where(rng.random((400, 1200)) < 0.3, np.where(rng.random((400, 1200)) < 0.5 + 0.25 / 3, 1.0, -1.0), 0.0)
    limit = math.log(2 / 0.05)
    planned = np.mean((log_e_process(days, stakes=planned_stakes(0.05, math.sqrt(0.3))) >= limit).any(axis=1))
    plain = np.mean((log_e_process(days) >= limit).any(axis=1))
    assert planned > plain + 0.05
    assert 0.6 < planned < 0.85


def test_planned_stakes_surround_the_growth_optimal_one() -> None:
    """Mean over variance, in units of the bound (Kelly); cut where a stake would be all or nothing."""
    assert planned_stakes(0.05, 0.5) == pytest.approx([0.2 * part for part in (0.35, 0.5, 0.7, 1.0, 1.4, 2.0)])
    assert planned_stakes(0.0005, 0.005, bound=0.01) == pytest.approx(planned_stakes(0.05, 0.5))
    assert planned_stakes(0.3, 0.1) == (0.9,)


def same(first: BettingSequence, second: BettingSequence) -> bool:
    """Equal to the last bit."""
    return all(np.array_equal(getattr(first, field.name), getattr(second, field.name)) for field in fields(first))


def test_the_state_is_the_process_bit_for_bit_and_sees_the_last_bit_of_a_day() -> None:
    days = np.random.default_rng(5).uniform(-0.5, 0.6, 60)
    state = BettingSequence.start(stakes=planned_stakes(0.03, 0.2)).extend(days)
    assert state.log_e(0.0) == log_e_process(days, stakes=state.stakes)[-1]
    assert state.log_e(0.02) == log_e_process(days, 0.02, stakes=state.stakes)[-1]
    changed = days.copy()
    changed[7] = np.nextafter(changed[7], 1)
    assert not same(BettingSequence.start(stakes=state.stakes).extend(changed), state)


# A binomial with 5 % exceeds 2 of 10 with probability .01 and 4 of 40 with .05; a mean of .3 instead of .06 misses all.
@pytest.mark.parametrize(("worlds", "most"), [(10, 2), pytest.param(40, 4, marks=pytest.mark.statistics)])
def test_the_sequence_covers_the_mean_on_all_days_and_narrows(worlds: int, most: int) -> None:
    rng = np.random.default_rng(6)
    missed, widths = 0, []
    for _ in range(worlds):
        state = BettingSequence.start(margin_grid(0.01, 0.5))
        for day in rng.choice((-1.0, 0.0, 1.0), p=(0.12, 0.7, 0.18), size=400):
            state = state.update(day)
            low, high = state.interval(0.05)
            missed += not low <= 0.06 <= high
            if missed:
                break
        widths.append(high - low)
    assert missed <= most
    assert max(widths) < 0.4


def test_bounds_are_those_refuted_at_some_look() -> None:
    state = BettingSequence.start().extend(np.random.default_rng(7).normal(0.05, 0.1, 250).clip(-1, 1))
    low, high = state.interval(0.1)
    assert 0 < low < state.total / state.days < high
    at = int(np.searchsorted(state.margins, low))
    assert 1 / state.peak_up[at] <= 0.05 < 1 / state.peak_up[at + 1]
    at = int(np.searchsorted(state.margins, high))
    assert 1 / state.peak_down[at] <= 0.05 < 1 / state.peak_down[at - 1]
    after = state.extend([-1.0] * 3)
    assert after.log_e(0.0) < state.log_e(0.0)
    assert after.interval(0.1)[0] == low  # what was refuted stays refuted


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_capital_falls_as_the_margin_rises_and_order_does_not_matter(days: list[float]) -> None:
    grid = margin_grid(0.05, 0.95)
    state = BettingSequence.start(grid).extend(days)
    capital = state.up.mean(axis=0)
    assert np.all(np.diff(capital) <= 1e-9 * capital[:-1])
    backwards = BettingSequence.start(grid).extend(days[::-1])
    np.testing.assert_allclose(backwards.up, state.up, rtol=1e-10, atol=1e-300)


def test_a_bound_is_only_a_unit() -> None:
    days = np.random.default_rng(8).uniform(-0.02, 0.03, 100)
    np.testing.assert_allclose(log_e_process(days, 0.001, bound=0.05), log_e_process(days * 20, 0.02), rtol=1e-9)


def test_extreme_evidence_stays_finite() -> None:
    certain = log_e_process(np.ones(5000))
    assert 600 < certain[-1] < 700
    assert np.isfinite(log_e_process(-np.ones(5000))).all()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: log_e_process([0.1, np.nan]),
        lambda: log_e_process([0.1, 1.1]),
        lambda: log_e_process(0.1),
        lambda: log_e_process([0.1], 1.0),
        lambda: log_e_process([0.1], stakes=(1.0,)),
        lambda: BettingSequence.start().update(float("inf")),
        lambda: BettingSequence.start([0.1, 0.0]),
        lambda: BettingSequence.start(bound=0.0),
        lambda: BettingSequence.start().log_e(0.0123456),
        lambda: BettingSequence.start().interval(0.0),
        lambda: planned_stakes(0.0, 0.1),
        lambda: margin_grid(0.1, 1.0),
    ],
)
def test_what_cannot_be_bet_on_is_refused(wrong: object) -> None:
    with pytest.raises(ExperimentError):
        wrong()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("start", "days"),
    [
        (BettingSequence.start(), np.random.default_rng(0).uniform(-0.2, 0.2, 600)),
        (BettingSequence.start([0.0]), np.random.default_rng(1).uniform(-1, 1, 300)),
        (BettingSequence.start([-0.1, 0.0, 0.01], bound=0.3, stakes=(0.2, 0.5)), np.linspace(-0.3, 0.3, 40)),
        (BettingSequence.start([0.0, 0.1]), np.full(1500, 0.99)),  # reaches the most that capital may be
        (BettingSequence.start([0.0]), np.array([])),
    ],
)
def test_many_days_at_once_are_those_days_one_by_one_to_the_last_bit(start: BettingSequence, days: np.ndarray) -> None:
    one_by_one = start
    for day in days:
        one_by_one = one_by_one.update(float(day))
    assert same(start.extend(days), one_by_one)
    assert same(start.extend(days[:7]).extend(days[7:]), one_by_one)
