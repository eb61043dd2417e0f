"""The asset ``rollout``: what was decided is carried out."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import dagster as dg
import pandas as pd

from financial_assets.experiment.decision.guardrail_words import guardrail_lines, guardrail_sentence
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.decision.words import first_reason, reasons_in_words
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.rollout.controller import ExperimentController
from financial_assets.experiment.rollout.state import Rollout
from financial_assets.metadata import table
from financial_assets.resources import ABTest, Models, Serving
from financial_assets.workflows.decisions import take_step

__all__ = ["RolloutConfig", "decisions_metadata", "rollout"]

GROUP = "evaluation"
OWNERS = ["team:quant-research"]
_NOTHING = "There is no challenger: nothing to decide."


class RolloutConfig(dg.Config):
    """Whether a person approves a promotion by launching this run (``traffic.approval: manual`` of the policy)."""

    approve: str = ""
    """The promotion's record: the first characters of its digest, as the check ``approval`` names it."""
    by: str = ""
    """Who approves."""


@dg.asset(
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
    """The latest decisions carried out: promoted, held or rolled back; routes first, aliases last."""
    with ab_test.log() as log:
        conduct = ExperimentController(Rollout(log, ab_test.policy()))
        decisions = conduct.latest()
        if config.approve:
            _approve(log, decisions, config, context.run.run_id)
        waiting = [one for one in decisions if one.action == "promote" and not conduct.is_approved(one)]
        plans = [log.plan(one.experiment, one.champion, one.challenger) for one in decisions]
    step = take_step(decisions, models, serving, ab_test)
    judged = [(one, plan) for one, plan in zip(decisions, plans, strict=True) if plan is not None]
    said = "\n".join(f"{one.action}: {first_reason(one, plan)}" for one, plan in judged) or _NOTHING
    context.log.info(said + (f"; weight epoch {step.epoch.number}" if step.moved else ""))
    fired = dict.fromkeys(
        guardrail_sentence(rail, one, plan) for one, plan in judged for rail in one.guardrails if rail.fired
    )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(f"{step.epoch.experiment}-{step.epoch.number}"),
        check_results=[
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
                description="; ".join(_how_to_approve(one) for one in waiting) or "nothing waits for one",
            ),
        ],
        metadata={
            "decision": said,
            "weight epoch": step.epoch.number,
            "epoch opened because": step.epoch.reason,
            **decisions_metadata(judged),
            **{f"share/{model}": float(weight) for model, weight in step.epoch.weights.items()},
        },
    )


def _approve(log: PredictionLog, decisions: Sequence[Decision], config: RolloutConfig, run_id: str) -> None:
    """Record the approval of one of the latest promotions."""
    found = [one for one in decisions if one.digest.startswith(config.approve) and one.action == "promote"]
    if len(found) != 1:
        known = ", ".join(one.digest[:12] for one in decisions if one.action == "promote") or "none"
        raise dg.Failure(
            f"approve: {len(found)} of the promotions that wait begin with {config.approve!r}; they are: {known}"
        )
    log.approve(found[0].digest, f"{config.by or 'somebody'}, by Dagster run {run_id}")


def _how_to_approve(decision: Decision) -> str:
    record = decision.digest[:12]
    return (
        f"{decision.challenger} is to replace {decision.champion}: launch this asset with the configuration "
        f"approve: {record}, or run `financial-assets approve {record}`"
    )


def decisions_metadata(judged: Sequence[tuple[Decision, ExperimentPlan]]) -> dict[str, Any]:
    """Decisions as Dagster shows them; with several challengers each name of a figure says whose it is."""
    found: dict[str, Any] = {}
    for place, (decision, plan) in enumerate(judged, start=1):
        of = "" if place == 1 else f", {decision.challenger}"
        lines = [dataclasses.asdict(line) for line in guardrail_lines(decision, plan)]
        found |= {
            f"action{of}": decision.action,
            f"reasons{of}": "\n".join(reasons_in_words(decision, plan)),
            f"evaluated days{of}": decision.days,
            f"alpha spent{of}": decision.alpha_spent,
            f"guardrails{of}": table(pd.DataFrame(lines)),
            f"record{of}": dg.MetadataValue.json(json.loads(decision.to_json())),
        }
    return found
