"""The rule: what is promoted, held and rolled back, and what can never be promoted. Simulated, with naive controls."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from financial_assets.errors import ExperimentError
from financial_assets.experiment.decision.evidence import Evidence
from financial_assets.experiment.decision.guardrails import watch_traffic
from financial_assets.experiment.decision.looks import due_looks, watch
from financial_assets.experiment.decision.record import Decision, Guardrail, TrafficEvidence
from financial_assets.experiment.decision.rule import decide
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.statistics.capital import log_e_process, planned_stakes
from tests.experiment.builders import CHALLENGER, CHAMPION
from tests.experiment.decision.builders import EPOCH, QUIET, SPREAD, days, evidence, requests
from tests.experiment.decision.builders import first_plan as plan


def judged(
    registered: ExperimentPlan, seen: Evidence, traffic: TrafficEvidence = QUIET, sharpe: float | None = 0.99
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


def rail(action: str) -> TrafficEvidence:
    return TrafficEvidence((Guardrail("latency", CHALLENGER, action, True, 0.5, 0.01, 99, "too slow"),), "x")  # type: ignore[arg-type]


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
    assert Decision.from_json(decision.to_json()) == decision
    assert judged(registered, seen, traffic, sharpe).digest == decision.digest
    assert sum(decision.weights.values()) == 100


def test_an_edited_record_is_no_decision() -> None:
    with pytest.raises(ExperimentError, match="no decision"):
        Decision.from_json(judged(plan(), evidence(0.0)).to_json().replace('"looks"', '"books"'))


@pytest.mark.parametrize(
    ("runs", "promoted", "rolled_back"),
    [(60, 0.14, 0.08), pytest.param(2000, 0.035, 0.01, marks=pytest.mark.statistics)],
)
def test_equal_models_are_hardly_ever_promoted_or_rolled_back_and_peeking_would(
    runs: int, promoted: float, rolled_back: float
) -> None:
    """Looked at every day; a naive t test every day is the control that must fail."""
    registered, day = plan(), np.arange(30, 253)
    worlds = np.clip(SPREAD * np.random.default_rng(1).standard_normal((runs, 252)), -1, 1)
    level = math.log(2 / registered.test.alpha_always)
    stakes = planned_stakes(registered.test.plausible_effect, SPREAD)
    sure, worse = ((log_e_process(sign * worlds, stakes=stakes) >= level).any(axis=1) for sign in (1, -1))
    looks = [due_looks(registered, Evidence(series, series, {}, 0, 0, "")) for series in map(days, worlds)]
    planned = np.array([found[-1].crossed for found in looks])
    mean, square = (np.cumsum(power, axis=1)[:, 29:] / day for power in (worlds, worlds**2))
    naive = (np.abs(mean / np.sqrt(square - mean**2) * np.sqrt(day)) > 1.96).any(axis=1)
    assert upper(int((planned | sure).sum()), runs) <= promoted
    assert upper(int(worse.sum()), runs) <= rolled_back
    assert naive.mean() > 0.25


def test_the_day_by_day_watch_is_the_same_process() -> None:
    registered, seen = plan(), evidence(0.02, 120)
    found = watch(registered, seen)
    stakes = planned_stakes(registered.test.plausible_effect, SPREAD)
    assert found.log_e == pytest.approx(log_e_process(seen.main.differences, stakes=stakes)[-1], abs=1e-9)
    assert found.low < float(seen.main.differences.mean()) < found.high


@pytest.mark.parametrize("runs", [10, pytest.param(60, marks=pytest.mark.statistics)])
def test_a_harmful_challenger_is_never_promoted_and_mostly_rolled_back(runs: int) -> None:
    """Five points worse."""
    registered = plan()
    outcomes = [judged(registered, evidence(-0.05, seed=seed)).action for seed in range(runs)]
    assert outcomes.count("promote") == 0
    assert outcomes.count("rollback") >= 0.85 * runs


@pytest.mark.parametrize("margin", [0.0, 0.02])
@pytest.mark.parametrize("metric", ["accuracy", "brier"])
def test_a_plan_with_a_margin_promotes_and_rolls_back_beyond_it_only(metric: str, margin: float) -> None:
    registered = plan(metric=metric, margin=margin, plausible_effect=margin + 0.03)
    assert judged(registered, evidence(margin + 0.06)).action == "promote"
    assert judged(registered, evidence(-margin - 0.1)).action == "rollback"
    assert judged(registered, evidence(margin - 0.005)).action == "hold"
    assert judged(registered, evidence(-margin / 2)).action == "hold"


@pytest.mark.parametrize("metric", ["accuracy", "brier"])
@pytest.mark.parametrize(("runs", "most"), [(60, 0.11), pytest.param(600, 0.05, marks=pytest.mark.statistics)])
def test_equals_at_the_margin_are_hardly_ever_promoted(metric: str, runs: int, most: float) -> None:
    """The null hypothesis is the margin, not 0: truly better by exactly the margin is not enough."""
    registered = plan(metric=metric, margin=0.02, plausible_effect=0.05, horizon_sessions=60)
    worlds = np.clip(0.02 + SPREAD * np.random.default_rng(7).standard_normal((runs, 60)), -1, 1)
    looks = [due_looks(registered, Evidence(series, series, {}, 0, 0, "")) for series in map(days, worlds)]
    stakes = planned_stakes(0.03, SPREAD, registered.bound)
    clipped = np.clip(worlds, -registered.bound, registered.bound)
    sure = log_e_process(clipped, 0.02, bound=registered.bound, stakes=stakes) >= math.log(2 / 0.01)
    found = np.array([one[-1].crossed for one in looks]) | sure.any(axis=1)
    assert upper(int(found.sum()), runs) <= most
    assert watch(registered, Evidence(days(worlds[0]), days(worlds[0]), {}, 0, 0, "")).log_e == pytest.approx(
        log_e_process(clipped[0], 0.02, bound=registered.bound, stakes=stakes)[-1], abs=1e-9
    )


@pytest.mark.parametrize("disagreement", [0.02, 0.3])
@pytest.mark.parametrize("horizon", [20, 120])
@pytest.mark.parametrize(("runs", "most"), [(60, 0.14), pytest.param(600, 0.05, marks=pytest.mark.statistics)])
def test_one_ticker_and_few_disagreements_do_not_fool_the_looks(
    disagreement: float, horizon: int, runs: int, most: float
) -> None:
    registered = plan(horizon_sessions=horizon, plausible_effect=0.4)
    rng = np.random.default_rng(horizon)
    worlds = rng.choice((-1.0, 1.0), (runs, horizon)) * (rng.random((runs, horizon)) < disagreement)
    crossed = [
        due_looks(registered, Evidence(series, series, {}, 0, 0, ""))[-1].crossed for series in map(days, worlds)
    ]
    assert upper(sum(crossed), runs) <= most


@pytest.mark.parametrize(
    "values", [np.zeros(252), np.full(252, 0.1), 0.1 + 1e-16 * np.arange(252), np.r_[np.zeros(251), 1e-13]]
)
def test_days_without_variation_are_no_evidence_at_a_look(values: np.ndarray) -> None:
    series = days(values)
    found = due_looks(plan(), Evidence(series, series, {}, 0, 0, ""))
    assert [look.z for look in found] == [0.0] * 4


def test_a_record_can_be_written_however_strong_the_evidence() -> None:
    """One ticker, always won by the same tiny-noised amount: the tail of the t distribution is no double any more."""
    series = days(0.5 + 1e-9 * np.random.default_rng(0).standard_normal(252))
    seen = Evidence(series, series, {"majority": series, "logistic": series}, 252, 0, "x")
    decision = judged(plan(), seen)
    assert decision.action == "promote"
    assert Decision.from_json(decision.to_json()) == decision


def test_a_horizon_of_twenty_days_decides() -> None:
    registered = plan(horizon_sessions=20, plausible_effect=0.2)
    assert [look.day for look in judged(registered, evidence(0.0, 20)).looks] == [5, 10, 15, 20]
    assert judged(registered, evidence(0.12, 20)).action == "promote"
    assert judged(registered, evidence(0.0, 20)).ended


def test_evidence_without_a_baseline_that_must_be_beaten_decides_nothing() -> None:
    seen = evidence(0.04)
    with pytest.raises(ExperimentError, match="wants logistic to be beaten"):
        judged(plan(), replace(seen, against={"majority": seen.main}))


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
