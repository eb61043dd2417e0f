"""The challenger's way up: a mirror first, then growing shares of the requests, as long as no guardrail has fired.

The share is exposure, not evidence: what the models are worth is read from the pairs, which need no traffic at all.
Going up slowly limits what a slow or failing challenger can do to the users.
"""

from __future__ import annotations

from collections.abc import Sequence

from financial_assets.experiment.decision.record import Guardrail
from financial_assets.experiment.plan.sections import TrafficPolicy

__all__ = ["next_share"]


def next_share(
    policy: TrafficPolicy, share: int, sessions: int, guardrails: Sequence[Guardrail] = ()
) -> tuple[int, str] | None:
    """The next share of the challenger and why, ``None`` while it stays.

    Parameters
    ----------
    policy
        Steps, dwell, largest step.
    share
        The present share in percent.
    sessions
        Sessions routed since it is in force.
    guardrails
        None may have fired.
    """
    if policy.mode != "ladder" or sessions < policy.dwell_sessions or any(rail.fired for rail in guardrails):
        return None
    higher = [step for step in policy.steps if step > share]
    if not higher:
        return None
    step = min(higher[0], share + policy.maximum_step)
    return step, f"ladder: {sessions} sessions at {share} % without a guardrail firing"
