"""The rule: what is promoted, held and rolled back, and what can never be promoted. Simulated, with naive controls."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from decision_doubles import EPOCH, QUIET, SPREAD, days, evidence, plan, requests
from experiment_doubles import CHALLENGER, CHAMPION
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from financial_assets.errors import ExperimentError
from financial_assets.experiment.decision import decide, due_looks, watch
from financial_assets.experiment.evidence import Evidence
from financial_assets.experiment.guardrails import watch_traffic
from financial_assets.experiment.plan import ExperimentPlan
from financial_assets.experiment.statistics.capital import log_e_process, planned_stakes
from financial_assets.experiment.verdict import Decision, Guardrail, Traffic, decision_from_json


def judged(
    registered: ExperimentPlan, seen: Evidence, traffic: Traffic = QUIET, sharpe: float | None = 0.99
) -> Decision:
    return decide(registered, EPOCH, seen, traffic, as_of="2011-02-01", deflated_sharpe=lambda: sharpe)


def test_a_clearly_better_challenger_is_promoted_at_a_planned_look() -> None:
    decision = judged(plan(), evidence(0.04))
    assert decision.action == "promote"
    assert decision.weights == {CHALLENGER: 100}
    assert decision.looks[-1].crossed
    assert not any(look.crossed for look in decision.looks[:-1])
    assert f"the planned look on day {decision.looks[-1].day}" in decision.reasons[0]
    assert decision.ended


def test_an_overwhelming_one_need_not_wait_for_a_look() -> None:
    decision = judged(plan(), evidence(0.15, 60))
    assert decision.action == "promote"
    assert not decision.looks
    assert "always-on" in decision.reasons[0]


def test_a_worse_one_is_rolled_back_before_the_first_look() -> None:
    decision = judged(plan(), evidence(-0.25, 60))
    assert (decision.action, decision.weights) == ("rollback", {CHAMPION: 100})
    assert "is worse than" in decision.reasons[0]


@pytest.mark.parametrize(
    ("seen", "test", "sharpe", "reason"),
    [
        (evidence(0.0, 0), {}, 0.99, "no evidence yet"),
        (evidence(0.0, 30), {}, 0.99, "too early: the first planned look is on day 63"),
        (evidence(0.0, 200), {}, 0.99, "inconclusive so far"),
        (evidence(0.0, 252), {}, 0.99, "inconclusive at the horizon of 252 days"),
        (evidence(0.04), {"plausible_effect": 0.01}, 0.99, "the plan cannot promote"),
        (evidence(0.0), {"plausible_effect": 0.01}, 0.99, "underpowered"),
        (evidence(0.04, beats=0.0), {}, 0.99, "inconclusive at the horizon"),
        (evidence(0.04, missing=400), {}, 0.99, "nothing can be concluded: 400 of 2,520 due predictions"),
        (evidence(0.04), {}, 0.90, "deflated Sharpe ratio is 0.90"),
        (evidence(0.04), {}, None, "deflated Sharpe ratio is not defined"),
        (evidence(0.04), {"margin": 0.03, "plausible_effect": 0.06}, 0.99, "inconclusive"),
    ],
)
def test_everything_else_is_held_with_its_reason(
    seen: Evidence, test: dict[str, float], sharpe: float | None, reason: str
) -> None:
    decision = judged(plan(**test), seen, sharpe=sharpe)
    assert decision.action == "hold"
    assert reason in decision.reasons[0]
    assert decision.weights == EPOCH.weights


def test_a_better_brier_score_with_fewer_right_directions_is_no_improvement() -> None:
    better, worse = evidence(0.04), evidence(-0.01, seed=5)
    mixed = replace(better, accuracy=worse.main)
    decision = judged(plan(metric="brier"), mixed)
    assert decision.action == "hold"
    assert "not the share of right directions" in decision.reasons[0]


def test_the_deflated_sharpe_ratio_is_asked_for_only_when_a_promotion_hangs_on_it() -> None:
    def never() -> float:
        raise AssertionError("not needed")

    assert decide(plan(), EPOCH, evidence(0.0), QUIET, as_of="2011-02-01", deflated_sharpe=never).action == "hold"


def rail(action: str) -> Traffic:
    return Traffic((Guardrail("latency", CHALLENGER, action, True, 0.5, 0.01, 99, "too slow"),), "x")  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(
    mean=st.floats(-0.2, 0.2),
    count=st.integers(0, 260),
    missing=st.integers(0, 800),
    plausible=st.floats(0.005, 0.1),
    fired=st.sampled_from(["", "hold", "rollback"]),
    sharpe=st.one_of(st.none(), st.floats(0, 1)),
)
def test_no_promotion_without_every_condition(
    mean: float, count: int, missing: int, plausible: float, fired: str, sharpe: float | None
) -> None:
    registered, seen = plan(plausible_effect=plausible), evidence(mean, count, missing=missing)
    traffic = rail(fired) if fired else QUIET
    decision = judged(registered, seen, traffic, sharpe)
    if decision.action == "promote":
        assert registered.can_promote
        assert not fired
        assert seen.missing_share <= registered.guardrails.missing_share
        assert sharpe is not None
        assert sharpe >= registered.test.deflated_sharpe
        assert (decision.looks and decision.looks[-1].crossed) or decision.always_on.clears(0.0)
    if fired == "rollback":
        assert decision.action == "rollback"
    assert decision_from_json(decision.to_json()) == decision
    assert judged(registered, seen, traffic, sharpe).digest == decision.digest
    assert sum(decision.weights.values()) == 100


def test_an_edited_record_is_no_decision() -> None:
    with pytest.raises(ExperimentError, match="no decision"):
        decision_from_json(judged(plan(), evidence(0.0)).to_json().replace('"looks"', '"books"'))


def test_equal_models_are_hardly_ever_promoted_or_rolled_back_and_peeking_would() -> None:
    """Looked at every day, in 2,000 worlds; a naive t test every day is the control that must fail."""
    registered, runs, day = plan(), 2000, np.arange(30, 253)
    worlds = np.clip(SPREAD * np.random.default_rng(1).standard_normal((runs, 252)), -1, 1)
    level = math.log(2 / registered.test.alpha_always)
    stakes = planned_stakes(registered.test.plausible_effect, SPREAD)
    sure, worse = (
        (log_e_process(worlds, side=side, stakes=stakes) >= level).any(axis=1) for side in ("greater", "less")
    )
    looks = [due_looks(registered, Evidence(series, series, {}, 0, 0, "")) for series in map(days, worlds)]
    planned = np.array([found[-1].crossed for found in looks])
    mean, square = (np.cumsum(power, axis=1)[:, 29:] / day for power in (worlds, worlds**2))
    naive = (np.abs(mean / np.sqrt(square - mean**2) * np.sqrt(day)) > 1.96).any(axis=1)
    assert upper(int((planned | sure).sum()), runs) <= 0.035
    assert upper(int(worse.sum()), runs) <= 0.01
    assert naive.mean() > 0.25


def test_the_day_by_day_watch_is_the_same_process() -> None:
    registered, seen = plan(), evidence(0.02, 120)
    found = watch(registered, seen)
    stakes = planned_stakes(registered.test.plausible_effect, SPREAD)
    assert found.log_e == pytest.approx(log_e_process(seen.main.differences, stakes=stakes)[-1], abs=1e-9)
    assert found.low < float(seen.main.differences.mean()) < found.high


def test_a_harmful_challenger_is_never_promoted_and_mostly_rolled_back() -> None:
    """Five points worse."""
    registered, runs = plan(), 60
    outcomes = [judged(registered, evidence(-0.05, seed=seed)).action for seed in range(runs)]
    assert outcomes.count("promote") == 0
    assert outcomes.count("rollback") >= 0.85 * runs


def upper(count: int, runs: int) -> float:
    """One-sided 99 % Clopper-Pearson bound."""
    return float(stats.beta.ppf(0.99, count + 1, runs - count))


def test_the_originals_published_numbers_are_refused_and_underpowered() -> None:
    """1,851 requests to one arm and 649 to the other under 70/30: not a split of 70/30."""
    rows = requests(2500)
    rows["model"] = np.random.default_rng(0).permutation([CHAMPION] * 1851 + [CHALLENGER] * 649)
    refused = judged(plan(), evidence(0.04), watch_traffic(plan(), [EPOCH], rows))
    assert refused.action == "hold"
    assert "traffic is not split as the weights say" in refused.reasons[0]
    assert "26.0% of 2,500 requests instead of 30.0%" in refused.reasons[0]
    split = judged(plan(), evidence(0.04), watch_traffic(plan(), [EPOCH], requests(2500)))
    assert split.action == "promote"
