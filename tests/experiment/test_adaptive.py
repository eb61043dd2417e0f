"""Adaptive shares over a real log: bounded, kept step by step, made again from the log, and back to safe in trouble."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from decision_doubles import days, plan, policy
from experiment_doubles import CHALLENGER, CUTOFF

from financial_assets.errors import ExperimentError, LogError
from financial_assets.experiment.adaptive import adapt, is_adaptive
from financial_assets.experiment.evidence import PairedDays
from financial_assets.experiment.log import PredictionLog
from financial_assets.experiment.policy import RolloutPolicy
from financial_assets.experiment.verdict import Guardrail


def adaptive(mode: str = "hedge", **traffic: object) -> RolloutPolicy:
    rules = policy()
    return replace(rules, traffic=replace(rules.traffic, mode=mode, **traffic))  # type: ignore[arg-type]


def won(mean: float, count: int) -> PairedDays:
    return days(mean + 0.05 * np.random.default_rng(0).standard_normal(count))


def test_it_is_off_unless_asked_for() -> None:
    assert not is_adaptive(policy())
    assert not is_adaptive(adaptive("ladder"))
    assert is_adaptive(adaptive("thompson"))


@pytest.mark.parametrize("mode", ["hedge", "thompson"])
@pytest.mark.parametrize(("mean", "share"), [(0.2, 80), (-0.2, 20)])
def test_shares_follow_the_better_arm_within_their_bounds(
    log: PredictionLog, mode: str, mean: float, share: int
) -> None:
    registered, evidence = plan(), won(mean, 30)
    last = adapt(log, adaptive(mode, floor=20), registered, evidence, (), evidence.sessions[-1])
    assert last is not None
    assert last.after == (100 - share, share)
    steps = log.allocations(registered)
    assert [step.session for step in steps] == [session.date() for session in evidence.sessions]
    for before, after in itertools.pairwise([step.after for step in steps]):
        assert abs(after[1] - before[1]) <= 10
        assert 20 <= after[1] <= 80
    assert steps[-1].propensities == pytest.approx((1 - share / 100, share / 100))


def test_steps_are_taken_once_however_they_are_cut(log: PredictionLog, tmp_path: object) -> None:
    registered, evidence, rules = plan(), won(0.1, 25), adaptive()
    for count in (1, 7, 7, 25, 25):
        part = evidence.until(count)
        adapt(log, rules, registered, part, (), part.sessions[-1])
    at_once = PredictionLog(f"sqlite:///{tmp_path}/other.db")
    adapt(at_once, rules, registered, evidence, (), evidence.sessions[-1])
    assert log.allocations(registered) == at_once.allocations(registered)
    at_once.close()


def test_without_evidence_nothing_is_done(log: PredictionLog) -> None:
    assert adapt(log, adaptive(), plan(), won(0.1, 0), (), CUTOFF) is None


@pytest.mark.parametrize("rail", ["latency", "sample ratio"])
def test_in_trouble_the_policys_weights_are_in_force_at_once(log: PredictionLog, rail: str) -> None:
    registered, evidence = plan(), won(0.3, 20)
    fired = (Guardrail(rail, CHALLENGER, "hold", True, 0.5, 0.1, 9, "x"),)
    adapt(log, adaptive(), registered, evidence.until(19), (), evidence.sessions[18])
    assert log.allocations(registered)[-1].after == (10, 90)
    last = adapt(log, adaptive(), registered, evidence, fired, evidence.sessions[-1])
    assert last is not None
    assert (last.after, last.fallback) == ((70, 30), True)


def test_evidence_that_stops_coming_is_no_reason_to_move(log: PredictionLog) -> None:
    evidence = won(0.3, 20)
    last = adapt(log, adaptive(), plan(), evidence, (), evidence.sessions[-1] + pd.Timedelta(days=14))
    assert last is not None
    assert "sessions behind" in last.reason


def test_another_policy_does_not_go_on_where_this_one_stopped(log: PredictionLog) -> None:
    evidence = won(0.1, 20)
    adapt(log, adaptive("hedge"), plan(), evidence.until(10), (), evidence.sessions[9])
    with pytest.raises(ExperimentError, match="cannot be reproduced"):
        adapt(log, adaptive("thompson"), plan(), evidence, (), evidence.sessions[-1])


def test_two_processes_cannot_both_take_a_step(log: PredictionLog) -> None:
    evidence = won(0.1, 5)
    adapt(log, adaptive(), plan(), evidence, (), evidence.sessions[-1])
    with pytest.raises(LogError):
        log.record_allocations(plan(), log.allocations(plan()))
