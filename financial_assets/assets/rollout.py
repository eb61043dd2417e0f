"""The asset ``rollout``: decisions are applied."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import dagster as dg
import pandas as pd
from pydantic import Field

from financial_assets.assets.checks.checkable import checkable_asset
from financial_assets.experiment.decision.guardrail_words import guardrail_lines, guardrail_sentence
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.decision.series import question_of
from financial_assets.experiment.decision.words import first_reason, reasons_in_words
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.report.questions import question_lines
from financial_assets.experiment.rollout.controller import ExperimentController
from financial_assets.experiment.rollout.state import Rollout
from financial_assets.experiment.rollout.steps import is_approved
from financial_assets.metadata import table
from financial_assets.resources import ABTest, Models, Serving
from financial_assets.workflows.decisions import take_step

GROUP = "evaluation"
OWNERS = ["team:quant-research"]
_NOTHING = "There is no challenger: nothing to decide."


class RolloutConfig(dg.Config):
    """Whether a person approves a promotion by launching this run (``traffic.approval: manual`` of the policy)."""

    approve: str = Field(
        default="",
        description="The promotion's record: the first characters of its digest, as the check approval names it.",
    )
    by: str = Field(default="", description="Who approves.")


def _judge(ab_test: ABTest) -> list[dg.AssetCheckResult]:
    with ab_test.log() as log:
        controller = ExperimentController(Rollout(log, ab_test.policy(), ab_test.switch))
        judged = [(decision, controller.plan_of(decision)) for decision in controller.latest()]
        return _checks(controller.rollout, judged)


@checkable_asset(
    judge=_judge,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"kubernetes"},
    code_version="1",
    deps=["ab_evaluation"],
    pool="serving",
    check_specs=[
        dg.AssetCheckSpec("guardrails", asset="rollout", description="The challenger harms nobody"),
        dg.AssetCheckSpec("approval", asset="rollout", description="No promotion waits for a person"),
    ],
)
def rollout(
    context: dg.AssetExecutionContext, config: RolloutConfig, models: Models, serving: Serving, ab_test: ABTest
) -> dg.MaterializeResult:
    """The latest decisions applied: promoted, held or rolled back; routes first, aliases last. Under a halt: none."""
    with ab_test.log() as log:
        controller = ExperimentController(Rollout(log, ab_test.policy(), ab_test.switch))
        decisions = controller.latest()
        if config.approve:
            _approve(log, decisions, config, context.run.run_id)
        judged = [(decision, controller.plan_of(decision)) for decision in decisions]
        checks = _checks(controller.rollout, judged)
        questions = question_lines(judged, controller.unasked())
    step = take_step(decisions, models, serving, ab_test)
    halted = ab_test.switch.halt_in_force()
    if halted is not None:
        context.log.warning(halted.sentence)
    moving = [(decision, plan) for decision, plan in judged if plan.moves_traffic]
    summary = "\n".join(f"{decision.action}: {first_reason(decision, plan)}" for decision, plan in moving) or _NOTHING
    context.log.info(summary + (f"; weight epoch {step.epoch.number}" if step.moved else ""))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(f"{step.epoch.experiment}-{step.epoch.number}"),
        check_results=checks,
        metadata={
            "decision": summary,
            "questions": "\n".join(line.sentence for line in questions),
            "weight epoch": step.epoch.number,
            "epoch opened because": step.epoch.reason,
            "halted": "no" if halted is None else halted.sentence,
            **decisions_metadata(judged),
            **{f"share/{model}": float(weight) for model, weight in step.epoch.weights.items()},
        },
    )


def _checks(rollout: Rollout, judged: Sequence[tuple[Decision, ExperimentPlan]]) -> list[dg.AssetCheckResult]:
    """Of the latest decisions, each with its plan."""
    fired = dict.fromkeys(
        guardrail_sentence(rail, decision, plan)
        for decision, plan in judged
        for rail in decision.guardrails
        if rail.fired
    )
    promotions = [decision for decision, _ in judged if decision.action == "promote" and decision.moves_traffic]
    waiting = [decision for decision in promotions if not is_approved(rollout, decision)]
    return [
        dg.AssetCheckResult(
            check_name="guardrails",
            passed=not fired,
            severity=dg.AssetCheckSeverity.WARN,
            description=" ".join(fired) or "none has fired",
        ),
        dg.AssetCheckResult(
            check_name="approval",
            passed=not waiting,
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join(map(_how_to_approve, waiting)) or "no promotion waits",
        ),
    ]


def _approve(log: PredictionLog, decisions: Sequence[Decision], config: RolloutConfig, run_id: str) -> None:
    """Record the approval of one of the latest promotions."""
    promotions = [one.digest for one in decisions if one.action == "promote" and one.moves_traffic]
    matching = [digest for digest in promotions if digest.startswith(config.approve)]
    if len(matching) != 1:
        waiting = ", ".join(digest[:12] for digest in promotions) or "none"
        raise dg.Failure(
            f"approve: {len(matching)} of the promotions that wait begin with {config.approve!r}; they are: {waiting}"
        )
    log.approve(matching[0], f"{config.by or 'somebody'}, by Dagster run {run_id}")


def _how_to_approve(decision: Decision) -> str:
    record = decision.digest[:12]
    return (
        f"{decision.challenger} is to replace {decision.champion}: launch this asset with the configuration "
        f"approve: {record}, or run `financial-assets approve {record}`"
    )


def decisions_metadata(judged: Sequence[tuple[Decision, ExperimentPlan]]) -> dict[str, Any]:
    """Decisions as Dagster shows them; with several of them each name of a figure says which one it is of."""
    metadata: dict[str, Any] = {}
    for place, (decision, plan) in enumerate(judged, start=1):
        further = "" if plan.moves_traffic else f", {question_of(plan)}"
        of = "" if place == 1 else f", {plan.challenger}{further}"
        lines = [dataclasses.asdict(line) for line in guardrail_lines(decision, plan)]
        metadata |= {
            f"action{of}": decision.action,
            f"reasons{of}": "\n".join(reasons_in_words(decision, plan)),
            f"evaluated days{of}": decision.days,
            f"alpha spent{of}": decision.alpha_spent,
            f"guardrails{of}": table(pd.DataFrame(lines)),
            f"record{of}": dg.MetadataValue.json(decision.to_dict()),
        }
    return metadata
