"""Exposure of a challenger in steps: a mirror first, then growing shares of the requests, while no guardrail fires.

The share is exposure, not evidence: the models are judged by the pairs, which need no traffic at all. Small steps limit
the harm that a slow or failing challenger can do to users.
"""

from __future__ import annotations

from collections.abc import Sequence

from financial_assets.experiment.decision.record import Guardrail
from financial_assets.experiment.plan.sections import TrafficPolicy

__all__ = ["next_share"]


def next_share(
    policy: TrafficPolicy, share: int, sessions: int, guardrails: Sequence[Guardrail] = ()
) -> tuple[int, str] | None:
    """The challenger's next share and the reason for it, ``None`` while the share stays.

    Parameters
    ----------
    policy
        Steps, sessions per step, largest step.
    share
        The current share in percent.
    sessions
        Sessions routed with this share.
    guardrails
        The share stays if one of them has fired.
    """
    if policy.mode != "ladder" or sessions < policy.dwell_sessions or any(rail.fired for rail in guardrails):
        return None
    higher = [step for step in policy.steps if step > share]
    if not higher:
        return None
    step = min(higher[0], share + policy.maximum_step)
    return step, f"ladder: {sessions} sessions at {share} % without a guardrail firing"
