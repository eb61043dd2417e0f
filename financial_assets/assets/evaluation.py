"""Group evaluation: predictions through the gateway, session by session, and what they are worth."""

import math
from collections.abc import Mapping, Sequence

import dagster as dg
import pandas as pd

from financial_assets.assets.rollout import decisions_metadata
from financial_assets.assets.serving import experiment
from financial_assets.assets.training import baselines
from financial_assets.atomic import atomic_path
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.evaluation.evaluate import DIRECT_COLUMNS, ROUTED_COLUMNS, evaluate
from financial_assets.experiment.evaluation.evaluation import Evaluation
from financial_assets.experiment.evaluation.leak_check import leak_checks
from financial_assets.experiment.evaluation.var_backtest import TailBackTest, summary
from financial_assets.experiment.report.decision_case import DecisionCase, case_of
from financial_assets.experiment.report.html import Provenance, leading_decision, plots, write_report
from financial_assets.market.panel import PricePanel
from financial_assets.metadata import link, plot, table
from financial_assets.models.leak import LeakCheck
from financial_assets.resources import ABTest, Market, Models, Serving
from financial_assets.tracking import REGISTERED_MODEL
from financial_assets.workflows.decisions import BaselinePredictions, decide_now
from financial_assets.workflows.replay import run_replay

__all__ = ["PredictionsConfig", "ab_evaluation", "predictions"]

GROUP = "evaluation"
OWNERS = ["team:quant-research"]


class PredictionsConfig(dg.Config):
    """Which sessions are predicted."""

    replay: bool = True
    """Replay historical sessions up to REPLAY_SESSIONS, moving the market clock; otherwise stop at the clock."""


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"sql"}, code_version="1", deps=[experiment], pool="serving")
def predictions(
    context: dg.AssetExecutionContext,
    config: PredictionsConfig,
    market: Market,
    serving: Serving,
    ab_test: ABTest,
) -> dg.MaterializeResult:
    """Out-of-sample sessions through the gateway under the market clock: routed by the split, and scored in pairs.

    Resumable and idempotent: what has a result in the prediction log is never sent again.
    """
    report = run_replay(market, serving, ab_test, sessions=ab_test.replay_sessions if config.replay else None)
    context.log.info(
        f"{report.sessions} sessions, {report.sent:,} routed requests and {report.direct:,} paired scorings sent in "
        f"{report.wall_s:.1f} s; failed {report.failed}, unattributed {report.unattributed}"
    )
    with ab_test.log() as log:
        epoch = ab_test.current_epoch(log)
        routed, direct = log.routed(epoch.experiment), log.direct()
    return dg.MaterializeResult(
        data_version=dg.DataVersion(f"{len(routed)}-{len(direct)}"),
        metadata={
            "dagster/row_count": len(routed) + len(direct),
            "routed predictions": len(routed),
            "paired predictions": len(direct),
            "this run": dg.MetadataValue.json({name: getattr(report, name) for name in report.__dataclass_fields__}),
            "market clock": f"{market.clock().now():%Y-%m-%d}",
            "latest": table(routed.tail(10)),
        },
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "matplotlib"},
    code_version="1",
    deps=[predictions, baselines],
    check_specs=[
        dg.AssetCheckSpec("sample_ratio", asset="ab_evaluation", description="Traffic was split as the weights say"),
        dg.AssetCheckSpec("attribution", asset="ab_evaluation", description="Every answer names its arm"),
        dg.AssetCheckSpec("no_leak_alarm", asset="ab_evaluation", description="No arm is too good to be true"),
        dg.AssetCheckSpec(
            "var_backtest", asset="ab_evaluation", description="The champion's value at risk holds on every ticker"
        ),
    ],
)
def ab_evaluation(
    context: dg.AssetExecutionContext, market: Market, models: Models, ab_test: ABTest
) -> dg.MaterializeResult:
    """Each arm with day-clustered intervals beside majority class, logistic regression and a coin; and what follows."""
    panel = market.panel()
    with ab_test.log() as log:
        epoch = ab_test.current_epoch(log)
        routed = log.routed(epoch.experiment, columns=ROUTED_COLUMNS)
        direct, epochs = log.direct(columns=DIRECT_COLUMNS), log.epochs(epoch.experiment)
    rivals = BaselinePredictions(models, panel)
    with atomic_path(ab_test.rivals_path) as temporary:
        rivals.of(epoch).to_parquet(temporary, index=False)
    decisions = decide_now(market, models, ab_test, panel=panel, rivals=rivals)
    leading = leading_decision(decisions)
    evaluation = evaluate(
        routed=routed,
        direct=direct,
        epochs=epochs,
        panel=panel,
        baselines=rivals.of(epoch),
        plan=ab_test.evaluation_plan(),
        leading=None if leading is None else leading.challenger,
    )
    cases = [_case(ab_test, decision, direct, rivals, panel) for decision in decisions]
    path = ab_test.report_path
    made_by = Provenance(context.run.run_id, REGISTERED_MODEL, models.tracking_uri, ab_test.workers)
    write_report(evaluation, path, cases, market.clock_gap().sentence, made_by)
    context.log.info(evaluation.conclusion.sentence)
    context.log.info(f"report: {path}")
    return dg.MaterializeResult(
        check_results=[
            *_checks(evaluation),
            _var_check([one for one in evaluation.backtests if one.role == "champion"]),
            _leak_check(leak_checks(direct, epoch.arms, panel, bayes_accuracy=market.bayes_accuracy)),
        ],
        metadata={
            "conclusion": evaluation.conclusion.sentence,
            "verdict": evaluation.conclusion.verdict,
            "remarks": "\n".join(evaluation.conclusion.remarks),
            **decisions_metadata([(case.decision, case.plan) for case in cases]),
            "report": link(path),
            "daily predictions of the baselines": link(ab_test.rivals_path),
            "arms": table(_skills_table(evaluation)),
            "traffic": table(_traffic_table(evaluation)),
            **{title: plot(png, title) for title, png in plots(evaluation, cases).items()},
            **_flat(evaluation),
        },
    )


def _case(
    ab_test: ABTest, decision: Decision, direct: pd.DataFrame, rivals: BaselinePredictions, panel: PricePanel
) -> DecisionCase:
    with ab_test.log() as log:
        plan = log.plan(decision.experiment, decision.champion, decision.challenger)
    assert plan is not None  # nothing is decided without one
    return case_of(decision, plan, direct, rivals(plan), panel)


def _checks(evaluation: Evaluation) -> list[dg.AssetCheckResult]:
    broken = [epoch for epoch in evaluation.epochs if not epoch.passed]
    unattributed = sum(epoch.unattributed for epoch in evaluation.epochs)
    return [
        dg.AssetCheckResult(
            check_name="sample_ratio",
            passed=not broken,
            metadata={f"epoch {epoch.label}: p-value": float(epoch.p_value) for epoch in evaluation.epochs},
        ),
        dg.AssetCheckResult(
            check_name="attribution", passed=unattributed == 0, metadata={"unattributed requests": unattributed}
        ),
    ]


def _leak_check(verdicts: Mapping[str, LeakCheck]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name="no_leak_alarm",
        passed=not any(verdict.alarm for verdict in verdicts.values()),
        metadata={name: str(verdict) for name, verdict in verdicts.items()},
    )


def _var_check(tails: Sequence[TailBackTest]) -> dg.AssetCheckResult:
    """It warns: how often a value at risk was exceeded is known only afterwards, and blocks nothing."""
    columns = ("ticker", "side", "level", "sessions", "beyond", "expected", "kupiec", "independence", "verdict")
    rows = pd.DataFrame([{name: getattr(one, name) for name in columns} for one in tails], columns=list(columns))
    return dg.AssetCheckResult(
        check_name="var_backtest",
        passed=not any(one.failed for one in tails),
        severity=dg.AssetCheckSeverity.WARN,
        description=summary(tails),
        metadata={"tails": table(rows), "rejected tails": sum(one.failed for one in tails)},
    )


def _skills_table(evaluation: Evaluation) -> pd.DataFrame:
    rows = []
    for skill in evaluation.skills:
        accuracy, brier, pnl = skill.accuracy, skill.brier, skill.pnl
        rows.append(
            {
                "forecaster": skill.name,
                "role": skill.role,
                "accuracy": ""
                if accuracy is None
                else f"{accuracy.estimate:.1%} [{accuracy.low:.1%}, {accuracy.high:.1%}]",
                "Brier": "" if brier is None else f"{brier.estimate:.4f}",
                "share up": "" if skill.share_up is None else f"{skill.share_up:.1%}",
                "return after costs": "" if pnl is None else f"{pnl.total_return:.1%}",
                "Sharpe": "" if pnl is None else "not defined" if math.isnan(pnl.sharpe) else f"{pnl.sharpe:.2f}",
                "wiped out": "" if pnl is None else pnl.wiped_out or "no",
            }
        )
    return pd.DataFrame(rows)


def _traffic_table(evaluation: Evaluation) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "model": arm.model,
                "requests": arm.requests,
                "failed": arm.failed + arm.rejected + arm.timeout,
                "p50 ms": f"{1000 * arm.latency_p50:.2f}",
                "p95 ms": f"{1000 * arm.latency_p95:.2f}",
                "p99 ms": f"{1000 * arm.latency_p99:.2f}",
            }
            for arm in evaluation.traffic
        ]
    )


def _flat(evaluation: Evaluation) -> dict[str, float]:
    """Numbers that Dagster plots over time."""
    numbers: dict[str, float] = {}
    for skill in evaluation.skills:
        if skill.accuracy is not None:
            numbers[f"{skill.role}/{skill.name}/accuracy"] = skill.accuracy.estimate
        if skill.brier is not None:
            numbers[f"{skill.role}/{skill.name}/brier"] = skill.brier.estimate
    return numbers
