"""A decision with its plan and its evidence, day by day: what a page needs to show it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from financial_assets.experiment.decision.evidence import gather
from financial_assets.experiment.decision.record import Decision, Look
from financial_assets.experiment.decision.rule import always_on_path
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.market.panel import PricePanel

__all__ = ["DecisionCase", "LookLine", "case_of"]

_NEVER = 90.0
_FEWEST_DAYS = 20


@dataclass(frozen=True, slots=True)
class LookLine:
    """One planned look: what it requires and, once it took place, its result.

    ``needed`` is the mean daily difference that reaches the boundary, computed from the variation seen up to a look
    that took place, and from the plan's for one to come; ``None`` for a look so early that no error may be spent.
    """

    day: int
    boundary: float
    spent: float
    needed: float | None
    found: Look | None

    @property
    def impossible(self) -> bool:
        """Whether no evidence reaches the boundary."""
        return self.boundary >= _NEVER


@dataclass(frozen=True, slots=True, eq=False)
class DecisionCase:
    """What a decision was taken on.

    Attributes
    ----------
    decision, plan
        Record and pre-registration.
    sessions
        Evaluated days ``[day]``.
    differences
        Daily paired differences ``[day]``.
    low, high
        Always-on bounds after each day ``[day]``.
    lines
        The planned looks.
    same_evidence
        Whether the days are those of the record; not so if predictions came in between.
    """

    decision: Decision
    plan: ExperimentPlan
    sessions: pd.DatetimeIndex
    differences: np.ndarray
    low: np.ndarray
    high: np.ndarray
    lines: tuple[LookLine, ...]
    same_evidence: bool

    @property
    def running_mean(self) -> np.ndarray:
        """Mean of all days so far ``[day]``."""
        return np.cumsum(self.differences) / np.arange(1, len(self.differences) + 1)


def case_of(
    decision: Decision, plan: ExperimentPlan, direct: pd.DataFrame, baselines: pd.DataFrame, panel: PricePanel
) -> DecisionCase:
    """The case of a decision.

    Parameters
    ----------
    decision, plan
        Record and the plan that it was taken under.
    direct
        The log's paired predictions, of the pair at least.
    baselines
        Daily predictions of the baselines.
    panel
        Prices up to the decision's session or later.
    """
    later = direct[direct["session"] > pd.Timestamp(plan.starts_after)]
    evidence = gather(plan, later, baselines, panel, as_of=pd.Timestamp(decision.as_of))
    differences = evidence.main.differences
    bounds = np.array(always_on_path(plan, differences)).reshape(-1, 2)
    found = {look.day: look for look in decision.looks}
    return DecisionCase(
        decision=decision,
        plan=plan,
        sessions=evidence.main.sessions,
        differences=differences,
        low=bounds[:, 0],
        high=bounds[:, 1],
        lines=tuple(
            LookLine(day, boundary, spent, _needed(plan, differences, day, boundary), found.get(day))
            for day, boundary, spent in zip(plan.looks, plan.boundaries, plan.spent, strict=True)
        ),
        same_evidence=evidence.digest == decision.evidence_digest,
    )


def _needed(plan: ExperimentPlan, differences: np.ndarray, day: int, boundary: float) -> float | None:
    """The mean at which the look's z-value is the boundary; z has the p-value of Student's t, as the decision's."""
    if boundary >= _NEVER:
        return None
    seen = float(differences[:day].std(ddof=1)) if len(differences) >= max(day, _FEWEST_DAYS) else 0.0
    deviation = seen if seen > 0 else plan.spread.deviation
    t = -float(special.stdtrit(day - 1, special.ndtr(-boundary)))
    needed = plan.test.margin + t * deviation / math.sqrt(day)
    return needed if math.isfinite(needed) else None
