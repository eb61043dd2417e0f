"""Group evaluation: predictions through the gateway, session by session, and what they are worth."""

from typing import Any

import dagster as dg
from pydantic import Field

from financial_assets.assets.checks.checkable import checkable_asset
from financial_assets.assets.checks.evaluation import CHECK_SPECS, evaluation_checks, logged_evaluation_checks
from financial_assets.assets.evaluation_tables import (
    coverage_table,
    economics_table,
    plotted_numbers,
    ranking_table,
    skills_table,
    traffic_table,
)
from financial_assets.assets.rollout import decisions_metadata
from financial_assets.assets.training import lineage_tags, reference_models
from financial_assets.experiment.decision.evidence import leading_decision
from financial_assets.experiment.evaluation.evaluate import DIRECT_COLUMNS, ROUTED_COLUMNS, evaluate
from financial_assets.experiment.outcomes import KnownPrices
from financial_assets.experiment.plan.criteria import Criteria
from financial_assets.experiment.prediction_log.kept_predictions import KeptPredictions
from financial_assets.experiment.report.decision_case import case_of
from financial_assets.experiment.report.html import Provenance, html, plots, write_report
from financial_assets.experiment.report.questions import question_lines
from financial_assets.experiment.report.style import standalone
from financial_assets.market.panel import PricePanel
from financial_assets.metadata import link, plot, table
from financial_assets.resources import ABTest, Market, Models, Serving
from financial_assets.tracking import REGISTERED_MODEL
from financial_assets.workflows.decisions import (
    BaselinePredictions,
    decide_as_of,
    reads_of_evaluation,
    unasked_questions,
    update_allocation,
)
from financial_assets.workflows.replay import run_replay

GROUP = "evaluation"
_MOST_DOUBTS = 20
"""Sentences about doubtful prices that have room in the report's head."""
OWNERS = ["team:quant-research"]


class PredictionsConfig(dg.Config):
    """Which sessions are predicted."""

    replay: bool = Field(
        default=True, description="Replay historical sessions, moving the market clock; otherwise stop at the clock."
    )
    sessions: int | None = Field(
        default=None,
        ge=0,
        description="How many sessions after the first data cut-off a replay goes to, 0 for all; default: "
        "REPLAY_SESSIONS.",
    )


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"sql"}, code_version="1", deps=["experiment"], pool="serving")
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
    wanted = ab_test.replay_sessions if config.sessions is None else config.sessions
    report = run_replay(market, serving, ab_test, sessions=wanted if config.replay else None)
    context.log.info(
        f"{report.sessions} sessions, {report.sent:,} routed requests and {report.direct:,} paired scorings sent in "
        f"{report.wall_s:.1f} s; failed {report.failed}, unattributed {report.unattributed}"
    )
    with ab_test.log() as log:
        epoch = ab_test.current_epoch(log)
        routed, direct = log.counts(epoch.experiment)
        latest = log.routed(epoch.experiment, since=log.last_routed(epoch.experiment, before=epoch.number + 1))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(f"{routed}-{direct}"),
        metadata={
            "dagster/row_count": routed + direct,
            "routed predictions": routed,
            "paired predictions": direct,
            "this run": dg.MetadataValue.json({name: getattr(report, name) for name in report.__dataclass_fields__}),
            "market clock": f"{market.clock().now():%Y-%m-%d}",
            "latest": table(latest.tail(10)),
        },
    )


@checkable_asset(
    judge=logged_evaluation_checks,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "matplotlib"},
    code_version="1",
    deps=[predictions, reference_models],
    check_specs=CHECK_SPECS,
)
def ab_evaluation(
    context: dg.AssetExecutionContext,
    market: Market,
    models: Models,
    ab_test: ABTest,
    mlflow: dg.ResourceParam[Any],
) -> dg.MaterializeResult:
    """Each arm with day-clustered intervals beside majority class, logistic regression and a coin; and what follows."""
    baselines = BaselinePredictions.current(models, market)
    panel = baselines.panel
    known = KnownPrices.of(panel, market.clock().now())
    policy = ab_test.policy()
    with ab_test.log() as log:
        reads = reads_of_evaluation(log)
        routed = reads.routed(policy.experiment, columns=ROUTED_COLUMNS)
        direct = KeptPredictions(ab_test.predictions_folder).direct(reads, DIRECT_COLUMNS)
        judgements = decide_as_of(known, baselines, models, ab_test, lineage_tags(context, models), reads)
        update_allocation(judgements, known, ab_test)
        epoch, epochs = ab_test.current_epoch(log), log.epochs(policy.experiment)
    unasked = unasked_questions(ab_test)
    baselines.write(ab_test.rivals_path, epoch)
    leading = leading_decision([judgement.decision for judgement in judgements])
    evaluation = evaluate(
        routed=routed,
        direct=direct,
        epochs=epochs,
        panel=panel,
        outcomes=known.outcomes,
        baselines=baselines.of(epoch),
        judgements=[judgement for judgement in judgements if judgement.plan.moves_traffic],
        default=Criteria.of_policy(policy.test, policy.guardrails),
        leading=None if leading is None else leading.challenger,
        cost_bps=ab_test.cost_bps,
        business=ab_test.business_case(),
        assumptions=ab_test.assumptions(),
        trials=models.trials().trials(),
        bayes_accuracy=market.bayes_accuracy,
    )
    cases = [case_of(judgement) for judgement in judgements]
    path = ab_test.report_path
    made_by = Provenance(context.run.run_id, REGISTERED_MODEL, models.tracking_uri, ab_test.replay_workers)
    drawn = plots(evaluation, cases)
    halted = ab_test.switch.halt_in_force()
    page = html(
        evaluation,
        cases,
        market.clock_gap().sentence,
        made_by,
        _doubts(market, panel),
        models.stored_explanations(),
        drawn,
        unasked,
        "" if halted is None else halted.sentence,
    )
    write_report(path, page, evaluation)
    judged = [(judgement.decision, judgement.plan) for judgement in judgements]
    questions = [line.sentence for line in question_lines(judged, unasked)]
    context.log.info("\n".join([*questions, evaluation.conclusion.sentence]))
    context.log.info(f"report: {path}")
    figures = plotted_numbers(evaluation)
    mlflow.log_metrics(figures)
    mlflow.log_artifact(str(path))
    mlflow.set_tags({"ab.verdict": evaluation.conclusion.verdict, "ab.conclusion": evaluation.conclusion.sentence})
    return dg.MaterializeResult(
        check_results=evaluation_checks(evaluation),
        metadata={
            "conclusion": evaluation.conclusion.sentence,
            "verdict": evaluation.conclusion.verdict,
            "remarks": "\n".join(evaluation.conclusion.remarks),
            "questions": "\n".join(questions),
            **decisions_metadata(judged),
            "report": link(path),
            "daily predictions of the reference models": link(ab_test.rivals_path),
            "arms": table(skills_table(evaluation)),
            "economics": table(economics_table(evaluation)),
            "economics in a sentence": "" if evaluation.economics is None else evaluation.economics.sentence,
            "traffic": table(traffic_table(evaluation)),
            "value at risk of all tickers": table(coverage_table(evaluation)),
            **({"ranking": table(ranking_table(evaluation))} if evaluation.rankings else {}),
            **{title: plot(standalone(element), title) for title, element in drawn.items()},
            **figures,
        },
    )


def _doubts(market: Market, panel: PricePanel) -> list[str]:
    """What is wrong with the prices up to the clock, for the report's head."""
    sentences = [note.sentence for note in market.quality_notes(panel.sessions)]
    more = [f"{len(sentences) - _MOST_DOUBTS} more: see the asset raw_prices"] if len(sentences) > _MOST_DOUBTS else []
    return sentences[:_MOST_DOUBTS] + more
