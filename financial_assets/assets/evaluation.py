"""Group evaluation: predictions through the gateway, session by session, and what they are worth."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pandas as pd

from financial_assets.assets.serving import experiment
from financial_assets.assets.training import baselines
from financial_assets.errors import ExperimentError
from financial_assets.experiment.alarm import leak_checks
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.evaluation import DIRECT_COLUMNS, ROUTED_COLUMNS, EvaluationPlan, evaluate
from financial_assets.experiment.log import PredictionLog
from financial_assets.experiment.replay import ReplayReport, replay
from financial_assets.experiment.report import plots, write_report
from financial_assets.experiment.results import Evaluation
from financial_assets.experiment.schedule import due_sessions, replay_horizon, routed_before
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.market.clock import HistoricalClock
from financial_assets.metadata import link, plot, table
from financial_assets.models.baselines import Baselines
from financial_assets.models.leak import LeakCheck
from financial_assets.models.predictor import SERVED_LOOKBACK
from financial_assets.resources import Experiment, Market, Serving, Workshop

__all__ = ["PredictionsConfig", "ab_evaluation", "predictions", "run_replay"]

GROUP = "evaluation"
OWNERS = ["team:quant-research"]


class PredictionsConfig(dg.Config):
    """Which sessions are predicted."""

    replay: bool = True
    """Replay historical sessions up to REPLAY_SESSIONS, moving the market clock; otherwise stop at the clock."""


def current_epoch(log: PredictionLog, ab_test: Experiment) -> WeightEpoch:
    """The weight epoch in force.

    Raises
    ------
    ExperimentError
        There is none.
    """
    epoch = log.current_epoch(ab_test.policy().experiment)
    if epoch is None:
        raise ExperimentError("the experiment has not started: materialize the asset `experiment` first")
    return epoch


def run_replay(
    market: Market, serving: Serving, ab_test: Experiment, *, sessions: int | None, workers: int | None = None
) -> ReplayReport:
    """Predict what is due through the gateway.

    Parameters
    ----------
    market, serving, ab_test
        Where prices come from, where predictions come from, where they go.
    sessions
        Sessions after the first data cut-off to replay, 0 for all; ``None`` to stop at the market clock.
    workers
        Concurrent requests; default: the setting.
    """
    clock, panel = market.clock(), market.whole_panel()
    horizon = now = clock.now()
    cutoff = market.first_cutoff().get()
    if sessions is not None and isinstance(clock, HistoricalClock) and cutoff is not None:
        horizon = replay_horizon(panel.sessions, cutoff, now, sessions)
    with ab_test.log() as log:
        epoch = current_epoch(log, ab_test)
        return replay(
            log=log,
            epoch=epoch,
            panel=panel,
            sessions=due_sessions(panel.sessions, horizon, epoch),
            routed_after=routed_before(log.routed(epoch.experiment, columns=("epoch", "session")), epoch),
            connect=serving.connect,
            lookback=SERVED_LOOKBACK,
            workers=workers or ab_test.workers,
            on_session=lambda session: _move(clock, session),
            progress=ab_test.progress,
        )


def _move(clock: Any, session: pd.Timestamp) -> None:
    if isinstance(clock, HistoricalClock) and session > clock.now():
        clock.advance_to(session)


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"sql"}, code_version="1", deps=[experiment], pool="serving")
def predictions(
    context: dg.AssetExecutionContext,
    config: PredictionsConfig,
    market: Market,
    serving: Serving,
    ab_test: Experiment,
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
        epoch = current_epoch(log, ab_test)
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
    ],
)
def ab_evaluation(
    context: dg.AssetExecutionContext, market: Market, workshop: Workshop, ab_test: Experiment
) -> dg.MaterializeResult:
    """Each arm with day-clustered intervals beside majority class, logistic regression and a coin; and what follows."""
    panel = market.panel()
    with ab_test.log() as log:
        epoch = current_epoch(log, ab_test)
        routed = log.routed(epoch.experiment, columns=ROUTED_COLUMNS)
        direct, epochs = log.direct(columns=DIRECT_COLUMNS), log.epochs(epoch.experiment)
    features = compute_panel(panel, FeatureGraph())
    fitted = Baselines.load(workshop.baselines_path)
    evaluation = evaluate(
        routed=routed,
        direct=direct,
        epochs=epochs,
        panel=panel,
        baselines=fitted.predict(features, panel, panel.sessions[panel.sessions > pd.Timestamp(fitted.cutoff)]),
        plan=EvaluationPlan(cost_bps=ab_test.cost_bps),
    )
    path = ab_test.report_path
    write_report(evaluation, path)
    context.log.info(evaluation.conclusion.sentence)
    context.log.info(f"report: {path}")
    return dg.MaterializeResult(
        check_results=[
            *_checks(evaluation),
            _leak_check(leak_checks(direct, epoch.arms, panel, bayes_accuracy=market.bayes_accuracy)),
        ],
        metadata={
            "conclusion": evaluation.conclusion.sentence,
            "verdict": evaluation.conclusion.verdict,
            "report": link(path),
            "arms": table(_skills_table(evaluation)),
            "traffic": table(_traffic_table(evaluation)),
            **{title: plot(png, title) for title, png in plots(evaluation).items()},
            **_flat(evaluation),
        },
    )


def _checks(evaluation: Evaluation) -> list[dg.AssetCheckResult]:
    broken = [epoch for epoch in evaluation.epochs if not epoch.passed]
    unattributed = sum(epoch.unattributed for epoch in evaluation.epochs)
    return [
        dg.AssetCheckResult(
            check_name="sample_ratio",
            passed=not broken,
            metadata={f"epoch {epoch.number}: p-value": float(epoch.p_value) for epoch in evaluation.epochs},
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
                "Sharpe": "" if pnl is None else f"{pnl.sharpe:.2f}",
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
