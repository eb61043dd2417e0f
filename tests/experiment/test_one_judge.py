"""One set of rules judges an experiment: decision, page, check and alert go by the registered plan."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from financial_assets.assets.checks.evaluation import traffic_checks
from financial_assets.experiment.decision.evidence import Judgement, gather
from financial_assets.experiment.decision.guardrails import watch_traffic
from financial_assets.experiment.decision.rule import decide
from financial_assets.experiment.evaluation.evaluate import Evaluation
from financial_assets.experiment.outcomes import outcome_frame
from financial_assets.experiment.plan.criteria import Criteria
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.prediction_log.schema import QUANTILE_COLUMNS
from financial_assets.scoring.quantiles import QUANTILE_LEVELS
from tests.experiment.builders import CHALLENGER, CHAMPION, CUTOFF, panel
from tests.experiment.decision.builders import EPOCH, evaluated, plan

PRICES = panel(sessions=100, tickers=10)
OUTCOMES = outcome_frame(PRICES, scaled=True)
ROWS = OUTCOMES.loc[OUTCOMES["session"] > CUTOFF, ["session", "ticker"]].reset_index(drop=True)
QUANTILES = {name: 0.02 * (level - 0.5) for name, level in zip(QUANTILE_COLUMNS, QUANTILE_LEVELS, strict=True)}


def answers(model: str, seed: int) -> pd.DataFrame:
    drawn = np.random.default_rng(seed).uniform(0.3, 0.7, len(ROWS))
    return ROWS.assign(model=model, status="ok", probability_up=drawn, latency_s=0.002, **QUANTILES)


def requests(share: float) -> pd.DataFrame:
    """The first 500 requests, evenly mixed, of which the challenger gets ``share`` where the weights say 30 %."""
    rows = answers("", 0).head(500)
    to_challenger = np.floor(np.arange(1, 501) * share) > np.floor(np.arange(500) * share)
    return rows.assign(
        experiment=EPOCH.experiment,
        epoch=1,
        regime=None,
        attempts=1,
        model=np.where(to_challenger, CHALLENGER, CHAMPION).astype(object),
    )


def with_alpha(alpha: float) -> ExperimentPlan:
    rules = plan()
    return replace(rules, guardrails=replace(rules.guardrails, srm_alpha=alpha))


def judged(rules: ExperimentPlan, share: float) -> tuple[Judgement, Evaluation]:
    direct = pd.concat([answers(CHAMPION, 1), answers(CHALLENGER, 2)], ignore_index=True)
    names = ("majority", "logistic")
    baselines = pd.concat([answers(name, 3) for name in names]).rename(columns={"session": "date"})
    found, routed = gather(rules, direct, baselines, OUTCOMES), requests(share)
    traffic = watch_traffic(rules, [EPOCH], routed, direct)
    decision = decide(rules, EPOCH, found, traffic, as_of="2010-06-01", deflated_sharpe=lambda: None)
    judgement = Judgement(decision, rules, found)
    return judgement, evaluated(
        routed=routed, direct=direct, epochs=[EPOCH], panel=PRICES, baselines=baselines, judgements=[judgement]
    )


@pytest.mark.parametrize(("alpha", "broken"), [(0.001, False), (0.01, True)])
def test_the_sample_ratio_is_judged_at_the_plans_level_by_decision_page_and_check(alpha: float, broken: bool) -> None:
    judgement, evaluation = judged(with_alpha(alpha), 0.386)
    assert 0.001 < evaluation.epochs[0].p_value < 0.01, "a split that only the level decides about"
    (rail,) = [rail for rail in judgement.decision.guardrails if rail.name == "sample ratio"]
    assert rail.fired is broken
    assert ("traffic is not split" in judgement.decision.reasons[0]) is broken
    assert evaluation.sample_ratio == {CHALLENGER: rail}
    assert (evaluation.conclusion.verdict == "refused") is broken
    assert evaluation.epochs[0].passed is not broken
    check = traffic_checks(evaluation)[0]
    assert check.passed is not broken
    assert check.metadata["fails at an anytime-valid p-value of"].value == alpha
    assert "registered plan" in str(check.metadata["as fixed by"].value)


def test_the_check_is_not_the_fixed_sample_test_that_repeated_looks_would_break() -> None:
    """34.2 % of 500 for 30 %: a chi-square test is below 5 % at this look, and would be at some look of most splits."""
    _, evaluation = judged(with_alpha(0.05), 0.342)
    assert stats.chisquare([329, 171], [350, 150]).pvalue < 0.05
    assert evaluation.epochs[0].observed == {CHAMPION: 329, CHALLENGER: 171}
    assert evaluation.epochs[0].p_value > 0.2
    assert not evaluation.sample_ratio[CHALLENGER].fired
    assert traffic_checks(evaluation)[0].passed


def test_level_power_and_worthwhile_effect_are_the_plans() -> None:
    rules = plan(plausible_effect=0.035, power=0.9, alpha_planned=0.08, alpha_always=0.02)
    _, evaluation = judged(rules, 0.3)
    assert math.isclose(evaluation.level, 0.90)
    main = evaluation.comparisons[0]
    assert (main.power, main.worthwhile, main.difference.level) == (0.9, 0.035, evaluation.level)
    assert evaluation.plan["worthwhile"] == 0.035
    brier = next(one for one in evaluation.comparisons if one.score == "brier")
    assert brier.worthwhile is None, "the plausible effect is in accuracy"


def test_without_a_registered_test_the_policy_is_said_to_be_the_basis() -> None:
    criteria = Criteria.of_policy()
    assert (criteria.level, criteria.power, criteria.plausible_effect, criteria.srm_alpha) == (0.95, 0.8, 0.02, 0.001)
    assert criteria.basis == "the rollout policy, because no test is registered"
