"""Shares that follow the daily scores: one allocation step a session of evidence, kept in the log, replayed from it.

Off unless the policy's ``traffic.mode`` is ``thompson`` or ``hedge``. What it may do is bounded: a floor for each arm,
at most ten points a session, a session's hold, hysteresis, and the policy's own weights at once when a guardrail fires,
the split is wrong or evidence stops coming. Decisions are not touched by it: they rest on the paired scores. Figures of
routed requests alone are biased after adaptive weights; :mod:`.allocation.inference` refuses the naive ones.
"""

from __future__ import annotations

import pandas as pd

from financial_assets.experiment.allocation.allocators import Allocator, Hedge, ThompsonGaussian
from financial_assets.experiment.allocation.daily import AllocationPolicy, advance, replay
from financial_assets.experiment.allocation.limits import TOTAL, Limits
from financial_assets.experiment.allocation.record import AllocationRecord, Health
from financial_assets.experiment.evidence import PairedDays
from financial_assets.experiment.log import PredictionLog
from financial_assets.experiment.plan import ExperimentPlan
from financial_assets.experiment.policy import RolloutPolicy
from financial_assets.experiment.verdict import Guardrail

__all__ = ["adapt", "allocation_policy", "is_adaptive"]


def is_adaptive(policy: RolloutPolicy) -> bool:
    """Whether shares follow the scores."""
    return policy.traffic.mode in ("thompson", "hedge")


def allocation_policy(policy: RolloutPolicy, plan: ExperimentPlan) -> AllocationPolicy:
    """What was agreed before the first step: allocator, limits, and the policy's weights for times of trouble."""
    traffic = policy.traffic
    allocator: Allocator = Hedge() if traffic.mode == "hedge" else ThompsonGaussian(prior_sd=plan.spread.deviation)
    limits = Limits(
        floor=traffic.floor,
        cap=TOTAL - traffic.floor,
        step=min(traffic.maximum_step, 10),
        hysteresis=traffic.hysteresis,
    )
    share = min(max(policy.challengers[0].weight, limits.floor), limits.cap)
    return AllocationPolicy(allocator, default=(TOTAL - share, share), limits=limits)


def adapt(
    log: PredictionLog,
    policy: RolloutPolicy,
    plan: ExperimentPlan,
    days: PairedDays,
    guardrails: tuple[Guardrail, ...],
    as_of: pd.Timestamp,
) -> AllocationRecord | None:
    """Take the steps that are due, keep them in the log, and say where the weights stand; ``None`` before any.

    A day's scores are the challenger's advantage and the champion's zero: only the difference matters to an allocator.

    Parameters
    ----------
    log
        Keeps the steps.
    policy, plan
        What was agreed.
    days
        The evidence; sessions that have their step already are not taken again.
    guardrails
        As of now: the newest session is judged by them.
    as_of
        The market clock.

    Raises
    ------
    ExperimentError
        The steps in the log are not what this policy would have made.
    """
    agreed = allocation_policy(policy, plan)
    known = log.allocations(plan)
    state = replay(agreed, known)
    records: list[AllocationRecord] = []
    fresh = [place for place, day in enumerate(days.sessions) if state.session is None or day.date() > state.session]
    for place in fresh:
        last = place == len(days) - 1
        scores = (0.0, float(days.differences[place]))
        health = _health(guardrails, days.sessions[place], as_of) if last else Health()
        state, record = advance(agreed, state, days.sessions[place].date(), scores, health)
        records.append(record)
    log.record_allocations(plan, records)
    taken = (*known, *records)
    return taken[-1] if taken else None


def _health(guardrails: tuple[Guardrail, ...], newest: pd.Timestamp, as_of: pd.Timestamp) -> Health:
    fired = {rail.name for rail in guardrails if rail.fired}
    behind = max(0, len(pd.bdate_range(newest, as_of)) - 2)  # a label is due the session after
    return Health(
        sessions_behind=behind, srm_passed="sample ratio" not in fired, guardrails_passed=not fired - {"sample ratio"}
    )
