"""Adaptive shares over a real log: bounded, kept step by step, made again from the log, and back to safe in trouble."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from financial_assets.errors import ExperimentError, LogError
from financial_assets.experiment.allocation.record import AllocationRecord
from financial_assets.experiment.decision.record import Guardrail
from financial_assets.experiment.plan.policy import RolloutPolicy
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.rollout.adaptive import PairedScores, _health, adapt, is_adaptive
from tests.experiment.builders import CHALLENGER, CUTOFF
from tests.experiment.decision.builders import EPOCH, SPREAD, policy


def adaptive(mode: str = "hedge", **traffic: object) -> RolloutPolicy:
    rules = policy()
    return replace(rules, traffic=replace(rules.traffic, mode=mode, **traffic))  # type: ignore[arg-type]


def won(mean: float, count: int, *more: float) -> PairedScores:
    """Days on which the challenger (and further ones) wins by so much, of one ticker."""
    rng, sessions = np.random.default_rng(0), pd.bdate_range(CUTOFF + pd.Timedelta(days=3), periods=count)
    rows = {
        f"challenger-{place}": pd.DataFrame(
            {"session": sessions, "ticker": "T", "difference": by + 0.05 * rng.standard_normal(count)}
        )
        for place, by in enumerate((mean, *more))
    }
    return PairedScores(rows, SPREAD)


def until(scores: PairedScores, count: int) -> PairedScores:
    return PairedScores({name: rows.head(count) for name, rows in scores.rows.items()}, scores.deviation)


def taken(
    log: PredictionLog,
    rules: RolloutPolicy,
    scores: PairedScores,
    guardrails: tuple[Guardrail, ...] = (),
    as_of: pd.Timestamp | None = None,
) -> tuple[int, ...]:
    """The weights after the steps that are due."""
    days = scores.daily()
    shares = adapt(log, rules, EPOCH, scores, guardrails, as_of or days.index[-1])
    assert shares is not None
    assert list(shares.weights) == list(EPOCH.weights)
    return tuple(shares.weights.values())


def steps_of(log: PredictionLog) -> tuple[AllocationRecord, ...]:
    return log.allocations(EPOCH.experiment, EPOCH)


def test_it_is_off_unless_asked_for() -> None:
    assert not is_adaptive(policy())
    assert not is_adaptive(adaptive("ladder"))
    assert is_adaptive(adaptive("thompson"))


@pytest.mark.parametrize("mode", ["hedge", "thompson"])
@pytest.mark.parametrize(("mean", "share"), [(0.2, 80), (-0.2, 20)])
def test_shares_follow_the_better_arm_within_their_bounds(
    log: PredictionLog, mode: str, mean: float, share: int
) -> None:
    evidence = won(mean, 30)
    assert taken(log, adaptive(mode, floor=20), evidence) == (100 - share, share)
    steps = steps_of(log)
    assert [step.session for step in steps] == [session.date() for session in evidence.daily().index]
    for before, after in itertools.pairwise([step.after for step in steps]):
        assert abs(after[1] - before[1]) <= 10
        assert 20 <= after[1] <= 80
    assert steps[-1].propensities == pytest.approx((1 - share / 100, share / 100))


def test_steps_are_taken_once_however_they_are_cut(log: PredictionLog, tmp_path: object) -> None:
    evidence, rules = won(0.1, 25), adaptive()
    for count in (1, 7, 7, 25, 25):
        taken(log, rules, until(evidence, count))
    with PredictionLog(f"sqlite:///{tmp_path}/other.db") as at_once:
        taken(at_once, rules, evidence)
        assert steps_of(log) == steps_of(at_once)


def test_without_evidence_nothing_is_done(log: PredictionLog) -> None:
    assert adapt(log, adaptive(), EPOCH, won(0.1, 0), (), CUTOFF) is None


@pytest.mark.parametrize("rail", ["latency", "sample ratio"])
def test_in_trouble_the_policys_weights_are_in_force_at_once(log: PredictionLog, rail: str) -> None:
    evidence = won(0.3, 20)
    fired = (Guardrail(rail, CHALLENGER, "hold", True, 0.5, 0.1, 9, "x"),)
    assert taken(log, adaptive(), until(evidence, 19)) == (10, 90)
    assert taken(log, adaptive(), evidence, fired) == (70, 30)
    assert steps_of(log)[-1].fallback


def test_evidence_that_stops_coming_is_no_reason_to_move(log: PredictionLog) -> None:
    evidence = won(0.3, 20)
    taken(log, adaptive(), evidence, as_of=evidence.daily().index[-1] + pd.Timedelta(days=14))
    assert "sessions behind" in steps_of(log)[-1].reason


def test_another_policy_does_not_go_on_where_this_one_stopped(log: PredictionLog) -> None:
    evidence = won(0.1, 20)
    taken(log, adaptive("hedge"), until(evidence, 10))
    with pytest.raises(ExperimentError, match="cannot be reproduced"):
        taken(log, adaptive("thompson"), evidence)


def test_two_processes_cannot_both_take_a_step(log: PredictionLog) -> None:
    evidence = won(0.1, 5)
    taken(log, adaptive(), evidence)
    with pytest.raises(LogError):
        log.record_allocations(EPOCH, {EPOCH.experiment: steps_of(log)})


def test_several_challengers_share_the_requests_by_what_each_gains(log: PredictionLog) -> None:
    arms = (EPOCH.champion, replace(EPOCH.arms[1], weight=20), replace(EPOCH.arms[2], role="challenger", weight=10))
    epoch, evidence = replace(EPOCH, arms=arms), won(0.3, 20, -0.3)
    shares = adapt(log, adaptive(), epoch, evidence, (), evidence.daily().index[-1])
    assert shares is not None
    assert list(shares.weights.values()) == [10, 80, 10]
    for step in log.allocations(epoch.experiment, epoch):
        assert sum(step.after) == 100
        assert min(step.after) >= 10
    assert log.allocations(epoch.experiment, EPOCH) == (), "other arms have a memory of their own"


def test_a_day_on_which_one_has_no_score_is_no_step() -> None:
    scores = won(0.1, 5, 0.2)
    rows = dict(scores.rows)
    rows["challenger-1"] = rows["challenger-1"].drop(index=2)
    assert len(PairedScores(rows, SPREAD).daily()) == 4


@pytest.mark.parametrize(
    ("newest", "as_of", "behind"),
    [
        ("2001-09-10", "2001-09-17", 0),  # closed after the attacks
        ("2012-10-26", "2012-10-31", 0),  # Sandy
        ("2020-12-24", "2020-12-28", 0),  # Christmas
        ("2020-11-25", "2020-11-30", 1),  # the early close after Thanksgiving is a session
        ("2012-10-26", "2012-10-26", 0),
        ("2012-07-16", "2012-07-20", 3),
    ],
)
def test_evidence_is_behind_by_sessions_not_weekdays(newest: str, as_of: str, behind: int) -> None:
    assert _health((), pd.Timestamp(newest), pd.Timestamp(as_of)).sessions_behind == behind
