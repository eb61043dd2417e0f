"""Checks of ab_evaluation: of an evaluation, and by themselves of what prediction log and prices say now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import dagster as dg
import pandas as pd

from financial_assets.experiment.decision.record import Guardrail
from financial_assets.experiment.evaluation import comparison
from financial_assets.experiment.evaluation.evaluate import DIRECT_COLUMNS, ROUTED_COLUMNS, criteria_of, split_tests
from financial_assets.experiment.evaluation.evaluation import Evaluation
from financial_assets.experiment.evaluation.skill import leak_checks
from financial_assets.experiment.evaluation.traffic import EpochTraffic, epoch_traffic
from financial_assets.experiment.evaluation.var_backtest import TailBackTest, backtest_arms, summary
from financial_assets.experiment.outcomes import KnownPrices
from financial_assets.experiment.plan.criteria import Criteria
from financial_assets.experiment.rollout.controller import ExperimentController
from financial_assets.experiment.rollout.state import Rollout
from financial_assets.metadata import table
from financial_assets.models.scores.leaks import LeakCheck
from financial_assets.resources import ABTest, Market

_AB_EVALUATION = dg.AssetKey("ab_evaluation")
_DESCRIPTIONS = {
    "sample_ratio": "Traffic was split as the weights say",
    "attribution": "Every answer names its arm",
    "no_leak_alarm": "No arm is too good to be true",
    "var_backtest": "The champion's value at risk holds on every ticker",
}
CHECK_SPECS = [
    dg.AssetCheckSpec(name, asset=_AB_EVALUATION, description=description)
    for name, description in _DESCRIPTIONS.items()
]


def evaluation_checks(evaluation: Evaluation) -> list[dg.AssetCheckResult]:
    """All checks of an evaluation."""
    return [*traffic_checks(evaluation), *_answer_checks(evaluation.backtests, evaluation.leaks)]


def traffic_checks(evaluation: Evaluation) -> list[dg.AssetCheckResult]:
    """The checks of the routed requests; the split fails if and only if the decision's guardrail has fired."""
    plan = evaluation.plan
    return _traffic_checks(evaluation.sample_ratio, evaluation.epochs, plan["srm_alpha"], plan["basis"])


def logged_evaluation_checks(market: Market, ab_test: ABTest) -> list[dg.AssetCheckResult]:
    """The same checks of what the log holds now, by the registered plans; nothing is decided, drawn or written."""
    policy = ab_test.policy()
    with ab_test.log() as log:
        controller = ExperimentController(Rollout(log, policy, ab_test.switch))
        epoch, epochs = ab_test.current_epoch(log), log.epochs(policy.experiment)
        decisions = [decision for decision in controller.latest() if decision.moves_traffic]
        plans = [controller.plan_of(decision) for decision in decisions]
        routed = log.routed(policy.experiment, columns=ROUTED_COLUMNS)
        direct = log.direct([arm.model for arm in epoch.arms], columns=DIRECT_COLUMNS)
    criteria = criteria_of(epoch, plans, Criteria.of_policy(policy.test, policy.guardrails))
    main = criteria[epoch.champion.model]
    traffic = tuple(epoch_traffic(routed, epochs, main.srm_alpha))
    outcomes = KnownPrices.of(market.panel(), market.clock().now()).outcomes
    due = comparison.due_rows(comparison.answered_rows(direct, epoch.arms), outcomes)
    return [
        *_traffic_checks(split_tests(epoch, epochs, routed, criteria, {}), traffic, main.srm_alpha, main.basis),
        *_answer_checks(
            backtest_arms(due, {arm.model: arm.role for arm in epoch.arms}),
            leak_checks(due, bayes_accuracy=market.bayes_accuracy),
        ),
    ]


def _traffic_checks(
    splits: Mapping[str, Guardrail], epochs: Sequence[EpochTraffic], alpha: float, basis: str
) -> list[dg.AssetCheckResult]:
    unattributed = sum(epoch.unattributed for epoch in epochs)
    return [
        dg.AssetCheckResult(
            check_name="sample_ratio",
            passed=not any(split.fired for split in splits.values()),
            description=" ".join(f"{split.reason}." for split in splits.values()),
            metadata={
                "fails at an anytime-valid p-value of": alpha,
                "as fixed by": basis,
                **{f"epoch {epoch.label}: p-value": float(epoch.p_value) for epoch in epochs},
            },
        ),
        dg.AssetCheckResult(
            check_name="attribution", passed=unattributed == 0, metadata={"unattributed requests": unattributed}
        ),
    ]


def _answer_checks(backtests: Iterable[TailBackTest], leaks: Mapping[str, LeakCheck]) -> list[dg.AssetCheckResult]:
    return [
        _var_check([tail for tail in backtests if tail.role == "champion"]),
        dg.AssetCheckResult(
            check_name="no_leak_alarm",
            passed=not any(leak.alarm for leak in leaks.values()),
            metadata={model: str(leak) for model, leak in leaks.items()},
        ),
    ]


def _var_check(tails: Sequence[TailBackTest]) -> dg.AssetCheckResult:
    """It warns: how often a value at risk was exceeded is known only afterwards, and blocks nothing."""
    columns = ("ticker", "side", "level", "sessions", "beyond", "expected", "kupiec", "independence", "verdict")
    rows = pd.DataFrame([{name: getattr(tail, name) for name in columns} for tail in tails], columns=list(columns))
    return dg.AssetCheckResult(
        check_name="var_backtest",
        passed=not any(tail.failed for tail in tails),
        severity=dg.AssetCheckSeverity.WARN,
        description=summary(tails),
        metadata={"tails": table(rows), "rejected tails": sum(tail.failed for tail in tails)},
    )
