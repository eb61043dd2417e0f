"""The second rule: what is promoted, held and rolled back, when what was seen counts, and what can never happen."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from financial_assets.errors import ExperimentError
from financial_assets.experiment.decision.conditions import conditional_power, dependence, sequence_limit
from financial_assets.experiment.decision.evidence import Evidence
from financial_assets.experiment.decision.record import Decision, Guardrail, TrafficEvidence
from financial_assets.experiment.decision.rule import decide
from financial_assets.experiment.decision.words import first_reason, power_in_words, progress, reasons_in_words
from financial_assets.experiment.plan.daily_deviation import DailyDeviation
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.plan.planning import make_plan
from financial_assets.experiment.statistics.long_run import robust_z, skewness
from tests.experiment.builders import CHALLENGER, CHAMPION, CUTOFF
from tests.experiment.decision.builders import EPOCH, QUIET, SPREAD, days, evidence, first_plan, plan, policy

FIRST_PLAN = (
    '{"bound":1.0,"boundaries":[4.507730611396007,3.089985182603684,2.4623077900701826,2.102675117060597],"challeng'
    'er":"enhanced-predictor-v2","champion":"baseline-predictor-v1","days_for_plausible":95,"detectable":0.01839783'
    '130307786,"experiment":"ab-experiment","guardrails":{"alpha":0.01,"error_share":0.01,"latency_objective_s":0.2'
    ',"missing_share":0.05,"slow_share":0.01,"srm_alpha":0.001},"looks":[63,126,189,252],"must_beat":["majority","l'
    'ogistic"],"registered_as_of":"2010-01-29","spent":[6.5524695674186754e-06,0.00200408440740337,0.01445244275780'
    '8874,0.04],"spread":{"basis":"the test","deviation":0.1},"starts_after":"2010-01-29","test":{"alpha_always":0.'
    '01,"alpha_planned":0.04,"deflated_sharpe":0.95,"horizon_sessions":252,"looks":4,"margin":0.0,"metric":"accurac'
    'y","plausible_effect":0.03,"power":0.8}}'
)
"""A plan as the version before the second rule wrote it."""

GOLDEN: dict[str, Any] = {
    "plan": "d9b4342788f7b78ba4f706e1a1b5c0ea27a1a0fb9c7be1cdf651ba2503644154",
    "decisions": {
        (0.04, 252): "d370466e80aa4b99b92d1375957014283efaee15d3b3f4baa28adbf644a1a8e1",
        (0.15, 60): "6cb9c3a6ae11ae222b842b19fedae5beb0b8c63ee58d8d5bcb01325a09000ca6",
        (-0.25, 60): "4cb4f9dcc1bebb099b477a10e1edd1f9f0d700e1c2081dbd9f16e135231ae234",
        (0.0, 0): "41dfa45ca54c6c544ad08103228b57aec9c9b9835d80b90d7ac416d052236653",
        (0.0, 200): "859c2f63257373c8e0be8e5f881b9e69d61666a2de059b32735d9a43b7a0b18b",
        (0.04, 300): "4587283b0ebdb3fe5732e87d166a1951ce7103a5cd92692fb77694e14cf86e5d",
        (-0.02, 252): "958a7130e092f2b016b14b764cd1d39a3dc3626053b222efeb14dc6eb71bb8b4",
    },
}


def judged(
    registered: ExperimentPlan, seen: Evidence, traffic: TrafficEvidence = QUIET, sharpe: float | None = None
) -> Decision:
    return decide(registered, EPOCH, seen, traffic, as_of="2011-02-01", deflated_sharpe=lambda: sharpe)


def outcomes(decision: Decision) -> list[str]:
    return [look.outcome for look in decision.looks]


def wide(metric: str, seen: Evidence, **guards: float) -> Evidence:
    """Evidence with guards: days of the given means."""
    rng = np.random.default_rng(9)
    count = len(seen.main)
    series = {name: days(mean + SPREAD * rng.standard_normal(count)) for name, mean in guards.items()}
    return replace(seen, guards=series)


def test_a_better_challenger_is_promoted_at_a_look_whatever_its_profit() -> None:
    decision = judged(plan(), evidence(0.04, 130))
    assert (decision.action, decision.weights) == ("promote", {CHALLENGER: 100})
    assert outcomes(decision) == ["open", "promote"]
    assert decision.deflated_sharpe is None, "reported, and no condition"
    assert decision.ended


def test_one_that_is_as_good_as_a_baseline_is_promoted_and_one_that_is_worse_is_not() -> None:
    equal, worse = evidence(0.04, beats=0.0, seed=3), evidence(0.04, beats=-0.02)
    assert judged(plan(), equal).action == "promote", "baselines need not be beaten"
    decision = judged(plan(), worse)
    assert decision.action == "hold"
    assert decision.looks[-1].outcome == "held"
    between = judged(plan(), evidence(0.04, 200, beats=-0.02))
    assert "not yet shown to be no worse than majority and logistic by 1.5 points" in between.reasons[0]
    assert "The next look is on day 252, in 52 sessions" in " ".join(between.reasons)


def test_a_baseline_that_answers_alike_is_no_obstacle() -> None:
    """Equal directions are no worse: a better risk head could never be promoted while equality counted as defeat."""
    seen, alike = evidence(0.04), days(np.zeros(252))
    registered = plan(metric="pinball", plausible_effect=0.03)
    same = replace(seen, accuracy=alike, against=dict.fromkeys(registered.must_beat, alike))
    assert judged(registered, same).action == "promote"


@pytest.mark.parametrize("guard", ["profit", "tail", "accuracy"])
def test_a_challenger_that_is_shown_to_do_harm_is_not_promoted(guard: str) -> None:
    seen = evidence(0.04, 200)
    harmful, unlucky = wide("x", seen, **{guard: -0.04}), wide("x", seen, **{guard: -0.005})
    decision = judged(plan(), harmful)
    name = {"profit": "profit after costs", "tail": "large losses", "accuracy": "right directions"}[guard]
    assert decision.action == "hold"
    assert f"it is shown to do worse in {name}" in decision.reasons[0]
    assert judged(plan(), replace(unlucky, main=unlucky.main)).looks[-1].outcome == "promote"
    assert judged(plan(guard_margins={guard: 0.04}), harmful).looks[-1].outcome == "promote", "the margin is registered"


def test_other_metrics_are_guarded_by_right_directions() -> None:
    seen = replace(evidence(0.04, 252), accuracy=evidence(-0.03, seed=5).main)
    decision = judged(plan(metric="brier"), seen)
    assert (decision.action, decision.looks[-1].outcome) == ("hold", "held")
    assert decision.looks[-1].guards["accuracy"] < -1.645


def test_a_look_counts_for_some_sessions_and_never_again() -> None:
    """Crossed on day 126, and the days after it are bad: once promoted on day 300 all the same."""
    good = evidence(0.045, 126).main.differences
    bad = -0.046 + SPREAD * np.random.default_rng(2).standard_normal(174)
    path = np.concatenate([good, bad])

    def at(count: int) -> Decision:
        series = days(path[:count])
        against = {"majority": series, "logistic": series}
        return judged(plan(futility=0.0), Evidence(series, series, against, 0, 0, "x"))

    assert at(126).action == at(136).action == "promote"
    late = at(137)
    assert (late.action, late.ended) == ("hold", False)
    assert "was not acted on within 10 sessions" in late.reasons[0]
    assert at(252).action == at(300).action == "hold"
    assert at(300).ended


def test_nobody_is_promoted_after_the_end() -> None:
    late = judged(plan(), evidence(0.04, 263))
    assert late.looks[-1].outcome == "promote"
    assert (late.action, late.ended) == ("hold", True)
    seen = np.concatenate([evidence(0.0, 252).main.differences, np.full(300, 0.3) + evidence(0, 300).main.differences])
    series = days(seen)
    found = judged(plan(), Evidence(series, series, {"majority": series, "logistic": series}, 0, 0, "x"))
    assert found.always_on.low > 0, "the always-on interval is not asked any more"
    assert (found.action, found.ended) == ("hold", True)


def test_the_sequence_promotes_between_looks_and_only_by_what_it_shows_now() -> None:
    registered = plan(plausible_effect=0.1)
    decision = judged(registered, evidence(0.15, 60, seed=3))
    assert decision.action == "promote"
    assert not decision.looks
    assert "valid on every day" in decision.reasons[0]
    path = np.concatenate([evidence(0.15, 60, seed=3).main.differences, np.full(50, -0.13)])
    series = days(path)
    later = judged(registered, Evidence(series, series, {"majority": series, "logistic": series}, 0, 0, "x"))
    assert later.always_on.low > 0, "it was shown once"
    assert later.action == "hold"


def test_a_worse_one_is_rolled_back_at_a_look_or_on_any_day() -> None:
    registered = plan(plausible_effect=0.03, alpha_always=0.0001)
    at_a_look = judged(registered, evidence(-0.05, 130))
    assert (at_a_look.action, at_a_look.looks[-1].outcome, at_a_look.weights) == ("rollback", "harm", {CHAMPION: 100})
    assert "at the planned look on day 126 the evidence against it passed" in at_a_look.reasons[0]
    any_day = judged(plan(), evidence(-0.25, 60))
    assert any_day.action == "rollback"
    assert "worse than baseline-predictor-v1 by at least" in any_day.reasons[0]


def test_a_hopeless_test_ends_at_a_look() -> None:
    decision = judged(plan(), evidence(-0.01, 200))
    assert outcomes(decision)[-1] == "futile"
    assert (decision.action, decision.ended, decision.weights) == ("hold", True, EPOCH.weights)
    assert "Little hope of a winner" in decision.reasons[0]
    assert progress(decision, plan())[1].startswith("the test ended at the look on day")
    released = judged(plan(at_horizon="release"), evidence(-0.01, 200))
    assert released.weights == {CHAMPION: 100}
    assert "gets no more requests" in released.reasons[0]
    assert not judged(plan(futility=0.0), evidence(-0.01, 200)).ended


def test_the_hope_is_that_of_a_brownian_motion() -> None:
    registered = plan()
    rng = np.random.default_rng(4)
    for place, mean in ((1, 0.002), (2, 0.01)):
        rest = registered.looks[-1] - registered.looks[place]
        ends = registered.looks[place] * mean + rest * 0.03 + 0.1 * np.sqrt(rest) * rng.standard_normal(40_000)
        simulated = float(np.mean(ends / (0.1 * np.sqrt(252)) >= registered.boundaries[-1]))
        assert conditional_power(registered, place, mean, 0.1) == pytest.approx(simulated, abs=0.015)


def test_rare_large_losses_leave_the_decision_to_the_sequence() -> None:
    lossy = np.full(252, 0.02) + 0.001 * np.random.default_rng(0).standard_normal(252)
    lossy[::25] = -0.15
    series = days(lossy)
    found = judged(plan(futility=0.0), Evidence(series, series, {"majority": series, "logistic": series}, 0, 0, "x"))
    assert found.looks[-1].outcome == "uneven"
    registered = make_plan(
        policy(plausible_effect=0.03), EPOCH, EPOCH.challengers[0], DailyDeviation(SPREAD, "x", skewness=-3.5), CUTOFF
    )
    assert registered.uneven
    assert registered.alpha_always == pytest.approx(0.05), "all of the error probability"
    assert judged(registered, evidence(0.035)).looks[-1].outcome == "uneven"
    assert judged(registered, evidence(0.06, 200)).action == "promote"


def test_large_losses_take_from_a_look_what_they_add_to_t_and_an_earlier_plan_calls_them_uneven() -> None:
    rng = np.random.default_rng(7)
    series = days(0.035 + 0.1 * (1 - rng.exponential(1.0, 252)))
    seen = Evidence(series, series, {"majority": series, "logistic": series}, 0, 0, "x")
    registered = plan(futility=0.0)
    found = judged(registered, seen).looks[-1]
    assert found.skewness == pytest.approx(float(skewness(series.differences)))
    assert found.skewness is not None
    assert found.skewness < -1.5
    assert 0 < found.z < robust_z(series.differences)
    assert found.outcome == "promote"
    earlier = judged(replace(registered, most_skewness=0.0), seen).looks[-1]
    assert (earlier.outcome, earlier.skewness) == ("uneven", None)
    assert earlier.z == robust_z(series.differences)


def test_plans_of_before_the_correction_keep_their_digest_and_read_back() -> None:
    earlier = replace(plan(), most_skewness=0.0)
    assert "most_skewness" not in earlier.to_json()
    assert "horizons" not in earlier.to_json()
    assert ExperimentPlan.from_json(earlier.to_json()) == earlier
    assert not earlier.corrects_skewness
    assert earlier.skewness_limit == 1.5
    decision = judged(earlier, evidence(0.035))
    assert '"skewness"' not in decision.to_json()
    assert Decision.from_json(decision.to_json()) == decision


def test_large_gains_keep_no_look_from_promoting() -> None:
    spread = DailyDeviation(SPREAD, "x", skewness=5.0)
    registered = make_plan(policy(plausible_effect=0.03), EPOCH, EPOCH.challengers[0], spread, CUTOFF)
    assert not registered.uneven
    rng = np.random.default_rng(5)
    series = days(0.03 + 0.1 * (rng.exponential(1.0, 252) - 1))
    seen = Evidence(series, series, {"majority": series, "logistic": series}, 0, 0, "x")
    look = judged(registered, seen).looks[-1]
    assert (look.outcome, look.z) == ("promote", robust_z(series.differences))


def test_dependent_days_raise_what_looks_and_sequence_need() -> None:
    rng = np.random.default_rng(6)
    noise = rng.standard_normal(252)
    for day in range(1, 252):
        noise[day] += 0.5 * noise[day - 1]
    assert dependence(noise, 0) > 2
    assert sequence_limit(plan(), 2.0) == 2 * sequence_limit(plan(), 1.0)
    series = days(0.03 + SPREAD * noise)
    dependent = judged(plan(futility=0.0), Evidence(series, series, {"majority": series, "logistic": series}, 0, 0, ""))
    naive = np.sqrt(252) * series.differences.mean() / series.differences.std(ddof=1)
    assert dependent.looks[-1].z < 0.8 * naive
    spread = DailyDeviation(SPREAD, "x", autocorrelation=2.0)
    registered = make_plan(policy(plausible_effect=0.03), EPOCH, EPOCH.challengers[0], spread, CUTOFF)
    assert registered.autocorrelated
    held = judged(registered, evidence(0.15, 60, seed=3))
    assert held.action == "hold"


def test_equal_answers_prove_nothing_and_end_nothing_early() -> None:
    series = days(np.zeros(252))
    found = judged(plan(), Evidence(series, series, {"majority": series, "logistic": series}, 0, 0, "x"))
    assert [look.z for look in found.looks] == [0.0] * 4
    assert found.action == "hold"


@pytest.mark.parametrize("values", [np.full(252, 0.1), 0.1 + 1e-16 * np.arange(252)])
def test_days_without_variation_are_no_evidence_at_a_look(values: np.ndarray) -> None:
    series = days(values)
    found = judged(
        plan(alpha_always=0.0001), Evidence(series, series, {"majority": series, "logistic": series}, 0, 0, "")
    )
    assert [look.z for look in found.looks] == [0.0] * len(found.looks)


def test_an_underpowered_plan_says_how_many_sessions_would_do() -> None:
    decision = judged(plan(plausible_effect=0.01), evidence(0.0, 30))
    assert decision.action == "hold"
    assert "Not enough sessions to tell" in decision.reasons[0]
    assert "About 853 sessions (3.4 years) would do" in decision.reasons[0]
    sooner = judged(plan(plausible_effect=0.016), evidence(0.0, 30)).reasons[0]
    assert "About 334 sessions (1.3 years) would do" in sooner
    earlier = judged(replace(plan(plausible_effect=0.01), most_skewness=0.0), evidence(0.0, 30))
    assert "About 853 sessions (3 years) would do" in earlier.reasons[0], "as their records say"
    assert judged(plan(plausible_effect=0.01), evidence(0.06, 200)).action == "hold", "even when it wins"


def test_a_deflated_sharpe_ratio_is_a_condition_only_where_the_policy_says_so() -> None:
    strict = plan(deflated_sharpe=0.95)
    assert judged(strict, evidence(0.04, 130), sharpe=0.9).action == "hold"
    assert judged(strict, evidence(0.04, 130), sharpe=0.96).action == "promote"
    assert judged(plan(), evidence(0.04, 130), sharpe=0.2).deflated_sharpe == 0.2


def test_a_baseline_without_evidence_decides_nothing() -> None:
    seen = evidence(0.04)
    with pytest.raises(ExperimentError, match="wants logistic to be compared with"):
        judged(plan(), replace(seen, against={"majority": seen.main}))


def rail(action: str) -> TrafficEvidence:
    return TrafficEvidence((Guardrail("latency", CHALLENGER, action, True, 0.5, 0.01, 99, "too slow"),), "x")  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(
    mean=st.floats(-0.2, 0.2),
    count=st.integers(0, 280),
    missing=st.integers(0, 800),
    plausible=st.floats(0.005, 0.1),
    fired=st.sampled_from(["", "hold", "rollback"]),
)
def test_no_promotion_without_every_condition(
    mean: float, count: int, missing: int, plausible: float, fired: str
) -> None:
    registered, seen = plan(plausible_effect=plausible), evidence(mean, count, missing=missing)
    traffic = rail(fired) if fired else QUIET
    decision = judged(registered, seen, traffic)
    standing = decision.standing
    assert standing is not None
    if decision.action == "promote":
        assert registered.can_promote
        assert not fired
        assert seen.missing_share <= registered.guardrails.missing_share
        look = decision.looks[-1] if decision.looks else None
        at_look = look is not None and look.crossed and count <= look.day + registered.act_within
        assert at_look or (standing.sequence and count < 252)
        assert not any(one.outcome in ("harm", "futile") for one in decision.looks)
    if fired == "rollback":
        assert decision.action == "rollback"
    assert Decision.from_json(decision.to_json()) == decision
    assert judged(registered, seen, traffic).digest == decision.digest
    assert sum(decision.weights.values()) == 100
    for reason in reasons_in_words(decision, registered):
        assert reason.endswith(".")
        assert not re.search(r"(?<![p=z] )\b0\.0\d\d\b", reason), "a difference without its unit"


def test_decisions_of_the_first_rule_keep_their_digests() -> None:
    """As the version before the second rule wrote them: they are computed again bit for bit, and read."""
    registered = ExperimentPlan.from_json(FIRST_PLAN)
    assert registered.digest == GOLDEN["plan"]
    assert registered.to_json() == FIRST_PLAN
    # The last digit of a power is the processor's; what is registered stays as it was written.
    assert replace(first_plan(), detectable=registered.detectable) == registered
    assert first_plan().detectable == pytest.approx(registered.detectable, rel=1e-12)
    for (mean, count), digest in GOLDEN["decisions"].items():
        decision = judged(registered, evidence(mean, count), sharpe=0.99)
        assert decision.digest == digest, (mean, count)
        assert Decision.from_json(decision.to_json()) == decision
    assert first_reason(judged(registered, evidence(0.04), sharpe=0.99), registered).endswith("was needed.")


def test_the_power_of_the_whole_rule_is_told_only_where_it_was_simulated() -> None:
    assert power_in_words(plan()) == ()
