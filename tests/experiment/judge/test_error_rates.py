"""Polls of equal arms: how often the judge is wrong, by the benchmark's copy of it, which is checked against it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "ab"))  # as `python benchmarks/ab` does

from benchmarks.ab.judge import DAYS, NEVER, SPREAD, WORLDS, decisions, plan_of, wrong_share
from financial_assets.experiment.judge.series import Outcome
from financial_assets.experiment.judge.units import Units
from financial_assets.experiment.judge.verdict import judge
from tests.experiment.judge.builders import at, both, first_of, requests_plan, units


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("edge", [-0.5, 0.0, 0.3])
def test_the_benchmarks_rule_is_the_judges(world: str, edge: float) -> None:
    made, rng = plan_of("day"), np.random.default_rng(3)
    days = np.clip(SPREAD * (edge + WORLDS[world](rng, (4, DAYS))), -made.bound, made.bound)
    promoted, rolled_back = decisions(made, days)
    for test in range(4):
        found = judge(made, Units(days[test], tuple(map(str, range(1, DAYS + 1))), clipped=0, control=0, candidate=0))
        expected = {"promote": promoted[test], "rollback": rolled_back[test], "hold": NEVER}[found.verdict]
        assert expected == (found.units if found.final else NEVER)
        assert (min(promoted[test], rolled_back[test]) < NEVER) == found.final


def test_polls_between_midnights_say_what_the_last_midnight_said() -> None:
    rng = np.random.default_rng(1)
    seconds = np.sort(rng.integers(0, 20 * 86_400, 1500))
    arms = [[Outcome(at(int(s)), float(v)) for s, v in zip(seconds, rng.random(1500), strict=True)] for _ in range(2)]
    made, outcomes = requests_plan(least_units=1), both(*arms)
    whole = units(made, outcomes)
    by_units = {count: judge(made, units(made, first_of(outcomes, first))) for count, first in _midnights(seconds)}
    for first in range(1, 1500, 97):
        seen = units(made, first_of(outcomes, first))
        assert seen.labels == whole.labels[: len(seen.labels)]
        if len(seen.labels) in by_units:
            found = judge(made, seen)
            at_midnight = by_units[len(seen.labels)]
            assert (found.verdict, found.low, found.better) == (
                at_midnight.verdict,
                at_midnight.low,
                at_midnight.better,
            )


def _midnights(seconds: np.ndarray) -> list[tuple[int, int]]:
    """Complete days, and the first poll at which they are."""
    first = np.flatnonzero(np.diff(seconds // 86_400)) + 2
    return [(int(seconds[place - 1] // 86_400), int(place)) for place in first]


@pytest.mark.statistics
@pytest.mark.parametrize("world", WORLDS)
def test_equal_arms_polled_for_a_year_get_a_verdict_in_few_cases(world: str) -> None:
    days = SPREAD * WORLDS[world](np.random.default_rng(11), (3000, DAYS))
    _, _, bound = wrong_share(plan_of("day"), days)
    assert bound <= 0.025
    better, worse = decisions(plan_of("day", 0.5), days + 0.5 * SPREAD)
    assert np.mean(better < NEVER) > 0.95
    assert np.mean(worse < NEVER) == 0


@pytest.mark.statistics
def test_a_rule_without_the_correction_for_dependence_is_wrong_too_often() -> None:
    rng = np.random.default_rng(12)
    days = np.repeat(rng.standard_normal((1000, DAYS // 5)), 5, axis=1) * SPREAD
    corrected, plain = (
        np.mean(np.minimum(*decisions(plan_of("day"), days, factor)) < NEVER) for factor in (None, np.ones_like(days))
    )
    assert corrected < plain
    assert plain > 0.05
