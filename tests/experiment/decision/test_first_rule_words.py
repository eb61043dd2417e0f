"""Decisions in plain words; the reasons inside records stay as they are."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from financial_assets.experiment.decision.evidence import Evidence
from financial_assets.experiment.decision.guardrail_words import guardrail_lines
from financial_assets.experiment.decision.record import Decision, Guardrail, TrafficEvidence
from financial_assets.experiment.decision.rule import decide
from financial_assets.experiment.decision.words import (
    amount,
    first_reason,
    progress,
    reasons_in_words,
    signed_amount,
)
from financial_assets.experiment.metrics.registry import METRICS
from financial_assets.experiment.plan.plan import ExperimentPlan
from tests.experiment.builders import CHALLENGER, CHAMPION
from tests.experiment.decision.builders import EPOCH, QUIET, evidence
from tests.experiment.decision.builders import first_plan as plan

SLOW = Guardrail("latency", CHALLENGER, "rollback", True, 0.3, 0.01, 500, "as the record says it")
UNLUCKY = Guardrail("errors", CHALLENGER, "rollback", False, 0.025, 0.01, 40, "")
UNEVEN = Guardrail("sample ratio", "", "hold", False, 0.319, 0.3, 1000, "")
SPLIT = replace(UNEVEN, fired=True, observed=0.26, count=2500, reason="... of 2,500 (anytime-valid p = 2e-05)")
SHARED = replace(SLOW, model="", action="hold")


def judged(
    seen: Evidence, *rails: Guardrail, sharpe: float | None = 0.99, **test: object
) -> tuple[Decision, ExperimentPlan]:
    rules = plan(**test)
    made = decide(rules, EPOCH, seen, TrafficEvidence(rails, "x"), as_of="2011-02-01", deflated_sharpe=lambda: sharpe)
    return made, rules


CASES = {
    "promoted at a look": (
        judged(evidence(0.04)),
        f"{CHALLENGER} is better than {CHAMPION}, majority and logistic: at the planned look on day 126 the evidence "
        "reached z = 5.25; 3.09 was needed.",
    ),
    "promoted on any day": (
        judged(evidence(0.15, 60)),
        "its advantage in accuracy is at least 4.7 points with 99 % confidence, valid on every day; more than 0 points "
        "was needed.",
    ),
    "worse": (
        judged(evidence(-0.25, 60)),
        f"{CHALLENGER} is worse than {CHAMPION} by at least 12.4 points in accuracy, with 99 % confidence, valid on "
        "every day.",
    ),
    "nothing yet": (judged(evidence(0.0, 0)), "No evidence yet: no session after 2010-01-29 has a known outcome."),
    "early": (
        judged(evidence(0.0, 30)),
        "Too early to decide: the first planned look is on day 63; 30 have been seen.",
    ),
    "so far": (
        judged(evidence(0.0, 200)),
        "No winner yet: at the planned look on day 189 the evidence reached z = 0.47 of 2.46 needed. The next look "
        "is on day 252.",
    ),
    "ended": (
        judged(evidence(0.0, 300)),
        f"The planned test of 252 days ended on 2011-01-18 without a winner; {CHAMPION} stays champion. Only the "
        "interval that is valid on every day and the guardrails are still monitored.",
    ),
    "underpowered": (
        judged(evidence(0.0, 30), plausible_effect=0.01),
        "Not enough days to tell. A test of 252 days can only see differences of 1.8 points or more in accuracy; 1 "
        "point is the most one can expect here, and that would take about 853 trading days (3 years).",
    ),
    "lucky": (
        judged(evidence(0.04), sharpe=0.9),
        "Its deflated Sharpe ratio is 0.90; at least 0.95 is needed. The profit",
    ),
    "no ratio": (judged(evidence(0.04), sharpe=None), "Its deflated Sharpe ratio is not defined"),
    "slow": (
        judged(evidence(0.0, 60), SLOW),
        f"30.0 % of 500 requests to {CHALLENGER} took over 0.2 s (allowed: at most 1.0 %).",
    ),
    "slow together": (
        judged(evidence(0.0, 60), SHARED),
        f"{CHAMPION} breaches the limit too, so the challenger is not at fault.",
    ),
    "split": (
        judged(evidence(0.0, 60), SPLIT),
        f"Nothing can be concluded. Traffic is not split by the weights: {CHALLENGER} got 26.0 % of 2,500 requests; "
        "its weight is 30.0 % (p = 2e-05, alarm at p = 0.001 or below).",
    ),
    "missing": (
        judged(evidence(0.04, missing=400)),
        "Nothing can be concluded. 400 of 2,520 due predictions of the two arms are missing, 15.9 % (allowed: at most "
        "5.0 %).",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_reason_is_a_sentence_with_units(name: str) -> None:
    (decision, rules), expected = CASES[name]
    reasons = reasons_in_words(decision, rules)
    assert expected in " ".join(reasons)
    assert expected in reasons[0]
    assert first_reason(decision, rules) == reasons[0]
    for reason in reasons:
        assert reason.endswith(".")
        assert not re.search(r"(?<![p=z] )\b0\.0\d\d\b", reason), "a difference without its unit"


@pytest.mark.parametrize("metric", ["brier", "log_loss", "pinball"])
def test_other_metrics_have_units_of_their_own(metric: str) -> None:
    decision, rules = judged(evidence(0.0, 30), metric=metric, plausible_effect=0.01)
    unit = {"brier": "0.0100 is the most one can", "log_loss": "0.0100 nats", "pinball": "100.00 basis points"}[metric]
    assert unit in reasons_in_words(decision, rules)[0]


def test_a_share_beside_its_limit_says_why_it_is_no_alarm() -> None:
    rails = replace(UNEVEN, p_value=0.19), UNLUCKY, replace(UNLUCKY, observed=0.004)
    decision, rules = judged(evidence(0.0, 60), *rails)
    uneven, unlucky, calm, complete = guardrail_lines(decision, rules)
    assert (uneven.state, uneven.seen, uneven.expected) == ("fine, within chance", "31.9 %", "weights 30.0 %")
    assert (uneven.p_value, uneven.alarm) == ("0.19", "alarm at p = 0.001 or below")
    assert "The difference is within chance" in uneven.sentence
    assert (unlucky.expected, unlucky.alarm) == ("at most 1.0 %", "alarm at p = 0.01 or below")
    assert (complete.p_value, complete.alarm) == ("–", "alarm above 5.0 %")
    assert unlucky.state == "fine, within chance"
    assert "2.5 % of 40 requests" in unlucky.sentence
    assert "So few requests do not prove a breach." in unlucky.sentence
    assert (calm.state, complete.state) == ("fine", "fine")
    fired, rules = judged(evidence(0.0, 60), SLOW)
    assert guardrail_lines(fired, rules)[0].state == "FIRED"


def test_p_values_are_shown_beside_a_decision_and_are_no_part_of_its_record() -> None:
    plain, rules = judged(evidence(0.0, 60), UNEVEN)
    shown, _ = judged(evidence(0.0, 60), replace(UNEVEN, p_value=0.19))
    assert shown.digest == plain.digest
    assert shown == Decision.from_json(shown.to_json()) == plain
    split, _ = judged(evidence(0.0, 60), SPLIT)
    assert guardrail_lines(split, rules)[0].p_value == "2e-05", "the stored reason has it"


def test_amounts_have_units_and_no_needless_digits() -> None:
    sizes = (0.07, 0.01, 0.0149, -0.0001)
    assert [amount(size, METRICS["accuracy"]) for size in sizes] == ["7 points", "1 point", "1.5 points", "0 points"]
    assert [signed_amount(size, METRICS["accuracy"]) for size in (-0.01, -0.0001)] == ["-1 point", "+0 points"]


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (30, ("30 of 252 planned days seen", "0 of 4 planned looks have taken place")),
        (300, ("300 days seen", "the planned test ended on day 252 (2011-01-18)")),
    ],
)
def test_progress_never_counts_more_days_than_planned(days: int, said: tuple[str, str]) -> None:
    assert progress(*judged(evidence(0.0, days))) == said


def test_a_record_that_these_figures_do_not_explain_keeps_its_own_words() -> None:
    decision, rules = judged(evidence(0.0, 30))
    other = replace(decision, action="rollback", reasons=("a rule of another time: 0.070",))
    assert reasons_in_words(other, rules) == ("A rule of another time: 0.070.",)
    assert first_reason(other, None) == "A rule of another time: 0.070."


def test_reasons_in_records_are_never_reworded() -> None:
    """They are part of the digest: with other words no earlier record could be computed anew."""
    stored = {
        "promoted at a look": f"{CHALLENGER} is better than {CHAMPION}, majority and logistic: at the planned look on "
        "day 126 z = 5.25 crossed the boundary 3.09",
        "worse": f"{CHALLENGER} is worse than {CHAMPION}: the difference in accuracy is at most -0.124, on every day "
        "with 99% confidence",
        "early": "too early: the first planned look is on day 63, this is day 30",
        "so far": "inconclusive so far: z = 0.47 at day 189, boundary 2.46; next look on day 252",
        "ended": f"inconclusive at the horizon of 252 days: {CHAMPION} stays",
        "underpowered": "underpowered: the plan cannot promote: by its horizon of 252 days it detects 0.018, more than "
        "the plausible 0.01; about 853 days would do",
        "missing": "nothing can be concluded: 400 of 2,520 due predictions of the pair are missing (15.9%; allowed "
        "5.0%)",
    }
    assert {name: CASES[name][0][0].reasons[0] for name in stored} == stored
    record = json.loads(judged(evidence(0.0, 30))[0].to_json())
    assert set(record) == {
        "action", "alpha_spent", "always_on", "as_of", "challenger", "champion", "days", "deflated_sharpe",
        "detectable", "ended", "epoch", "estimate", "evidence_digest", "experiment", "guardrails", "looks",
        "plan_digest", "reasons", "traffic_digest", "weights",
    }  # fmt: skip
    assert set(record["guardrails"][0]) == {
        "name", "model", "action", "fired", "observed", "objective", "count", "reason",
    }  # fmt: skip
    assert QUIET.guardrails == ()
