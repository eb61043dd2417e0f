"""A decision together with what it was taken on, so that nothing has to be gathered again to show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from financial_assets.experiment.decision.evidence import Evidence
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.plan.plan import ExperimentPlan

__all__ = ["Judgement", "leading_decision"]


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """One challenger's decision, the plan that it was taken under, and its evidence."""

    decision: Decision
    plan: ExperimentPlan
    evidence: Evidence


def leading_decision(decisions: Sequence[Decision]) -> Decision | None:
    """The decision that a report is about first: one that changes the traffic before one that holds."""
    order = {"promote": 0, "rollback": 1, "hold": 2}
    return min(decisions, key=lambda one: (order[one.action], -(one.estimate or 0.0)), default=None)
