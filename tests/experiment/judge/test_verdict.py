"""The verdict: reached on some prefix, and kept on every longer one; with the engine's own evidence."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from financial_assets.experiment.judge.plan import JudgePlan
from financial_assets.experiment.judge.units import Units
from financial_assets.experiment.judge.verdict import Judgement, judge, judge_nothing, running_dependence
from financial_assets.experiment.statistics.betting import BettingSequence
from financial_assets.experiment.statistics.capital import margin_grid
from financial_assets.experiment.statistics.long_run import long_run_deviation
from tests.experiment.judge.builders import incident_plan, plan, requests_plan


def of(differences: np.ndarray, requests: np.ndarray | None = None) -> Units:
    days = np.clip(differences, -0.4, 0.4)
    labels = tuple(f"unit {number}" for number in range(1, len(days) + 1))
    return Units(days, labels, clipped=0, control=len(days), candidate=len(days), requests=requests)


def noisy(count: int, edge: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(edge, 0.05, count)


def test_a_better_candidate_is_promoted_and_a_worse_one_rolled_back() -> None:
    better, worse, equal = (judge(plan(), of(noisy(300, edge))) for edge in (0.03, -0.03, 0.0))
    assert (better.verdict, worse.verdict, equal.verdict) == ("promote", "rollback", "hold")
    assert better.low >= 0
    assert better.better.p_value <= 0.01
    assert better.decided_by == f"unit {better.units}"
    assert worse.high <= 0
    assert worse.worse.p_value <= 0.01
    assert equal.low < 0 < equal.high
    assert not equal.final
    assert equal.units == 300
    for found in (better, worse, equal):
        assert found.reason.endswith(".")
        assert found.level == 0.98


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-0.05, 0.05), st.sampled_from([1, 10, 100]))
def test_a_verdict_is_kept_on_every_longer_series(seed: int, edge: float, least: int) -> None:
    days, made = noisy(400, edge, seed), plan(least_units=least)
    found = [judge(made, of(days[:count])) for count in (5, 30, 77, 150, 256, 257, 400)]
    for before, after in pairwise(found):
        assert not before.final or facts(after) == facts(before)
        assert after.low >= before.low  # what was refuted once stays refuted
        assert after.high <= before.high
        assert after.better.p_value <= before.better.p_value


def facts(found: Judgement) -> tuple[object, ...]:
    return found.verdict, found.decided_by, found.estimate, found.low, found.high, found.better, found.worse


def test_the_evidence_is_the_engines_own() -> None:
    """Played unit by unit with the betting sequence, and held against what dependence asks for."""
    made, days = plan(), np.clip(noisy(120, 0.03, 5), -0.4, 0.4)
    state = BettingSequence.start(margin_grid(0.4 / 500, 0.08, 0.4), bound=0.4, stakes=made.stakes)
    crossed, low, inflation = None, -0.4, 1.0
    for count, difference in enumerate(days.tolist(), 1):
        state = state.update(difference)
        seen = days[:count]
        inflation = max(1.0, (long_run_deviation(seen)[0] / seen.std(ddof=1)) ** 2) if count > 1 else 1.0
        limit = inflation * math.log(2 / made.alpha)
        refuted = [m for m in state.margins if state.log_e(m) >= limit]
        low = max(low, *refuted) if refuted else low
        if count >= 10 and state.log_e(0.0) >= limit:
            crossed = count
            break
    found = judge(made, of(days))
    assert crossed is not None
    assert found.units == crossed
    assert found.low == low
    assert math.log(found.better.e_value) == pytest.approx(state.log_e(0.0))
    assert found.dependence == pytest.approx(inflation)


def test_margins_are_asked_for() -> None:
    days = noisy(600, 0.03)
    assert judge(plan(effect=0.06, least_gain=0.05), of(days)).verdict == "hold"
    assert judge(plan(effect=0.04, least_gain=0.01), of(days)).verdict == "promote"
    assert judge(plan(tolerated_loss=0.05), of(-days)).verdict == "hold"
    assert judge(plan(tolerated_loss=0.01), of(-days)).verdict == "rollback"


def test_nothing_is_decided_too_early_or_after_the_end() -> None:
    days = noisy(300, 0.05)
    early = judge(plan(), of(days)).units
    assert judge(plan(least_units=200), of(days)).units == 200
    assert "200 or more" in judge(plan(least_units=200), of(days[:199])).reason
    late = judge(plan(horizon=early), of(days))
    assert late.verdict == "promote"
    over = judge(plan(horizon=early - 1), of(days))
    assert (over.verdict, over.final, over.units) == ("hold", True, early - 1)
    assert facts(judge(plan(horizon=early - 1), of(days[: early - 1]))) == facts(over)
    assert not judge(plan(horizon=early - 1), of(days[: early - 2])).final


def test_a_split_that_is_not_the_registered_one_decides_nothing_for_good() -> None:
    days = noisy(300, 0.05)
    made = requests_plan(control_share=0.5)
    honest = np.cumsum(np.full((300, 2), 100), axis=0)
    skewed = np.cumsum(np.tile([130, 70], (300, 1)), axis=0)
    assert judge(made, of(days, honest)).verdict == "promote"
    found = judge(made, of(days, skewed))
    assert (found.verdict, found.final) == ("hold", True)
    assert "not split as registered" in found.reason
    assert found.split_p_value is not None
    assert found.split_p_value <= 0.001
    promoted = judge(made, of(days, honest)).units
    late = np.cumsum(np.vstack([np.full((promoted, 2), 100), np.tile([200, 0], (300 - promoted, 1))]), axis=0)
    assert judge(made, of(days, late)).verdict == "promote"  # it was reached before the split broke


def test_dependent_units_need_more_evidence() -> None:
    alone = noisy(150, 0.04, 2)
    together = np.repeat(noisy(75, 0.04, 2), 2)
    assert judge(plan(), of(together)).dependence > 1.5
    assert judge(plan(), of(alone)).units < judge(plan(), of(together)).units
    walked = running_dependence(np.stack([alone, together]))
    assert walked.shape == (2, 150)
    assert walked.min() >= 1
    assert np.all(running_dependence(np.full(50, 0.1)) == 1)  # what does not vary does not depend


def test_before_the_first_unit_everything_is_open() -> None:
    for made in (plan(), incident_plan(), requests_plan(unit="request"), requests_plan(control_share=0.3)):
        found = judge_nothing(made)
        assert (found.verdict, found.final, found.units, found.estimate) == ("hold", False, 0, None)
        assert (found.low, found.high) == (-made.bound, made.bound)
        assert "complete yet" in found.reason


@pytest.mark.parametrize("unit", ["incident", "request"])
def test_many_units_are_judged_as_few_are(unit: str) -> None:
    made = incident_plan() if unit == "incident" else requests_plan(unit="request")
    rng = np.random.default_rng(1)
    days = rng.choice([-0.5, 0.5], 3000, p=[0.6, 0.4]) if unit == "incident" else rng.normal(-0.01, 0.05, 3000)
    found = judge(made, Units(days, tuple(map(str, range(3000))), clipped=0, control=3000, candidate=3000))
    assert found.verdict == "rollback"
    assert found.high <= 0


def test_certainty_overflows_nothing() -> None:
    found = judge(JudgePlan.model_validate(plan().model_dump() | {"least_units": 2000}), of(np.full(3000, 0.4)))
    assert found.verdict == "promote"
    assert math.isfinite(found.better.e_value)
    assert found.units == 2000
