"""Allocation by regime: one Experiment per regime, each with a state of its own.

A client asks the experiment of the regime that the request is in; the gateway splits it by that regime's weights.
These experiments have no ``default``, because a model may be the default of one experiment only; the experiment that
has one stays beside them and takes requests whose regime is not known.

It pays only if arms change places between regimes by more than can be learned from a regime's days: six regimes share
a year of 252 days, 42 each. Where arms keep their order, every regime learns the same thing more slowly.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from financial_assets.errors import ExperimentError
from financial_assets.experiment.allocation.daily import AllocationPolicy, AllocationState, advance
from financial_assets.experiment.allocation.record import AllocationRecord, Health
from financial_assets.experiment.allocation.regimes import Regime

__all__ = ["advance_regimes", "common_session"]


def advance_regimes(
    policy: AllocationPolicy,
    states: Mapping[Regime, AllocationState],
    session: dt.date,
    scores: Mapping[Regime, Sequence[float]],
    health: Health,
) -> tuple[dict[Regime, AllocationState], dict[Regime, AllocationRecord]]:
    """One step in every regime; only those with scores learn, but trouble takes all back to the default.

    Raises
    ------
    ExperimentError
        For scores of an unknown regime, and as :func:`.daily.advance`.
    """
    unknown = [regime.label for regime in scores if regime not in states]
    if unknown:
        known = ", ".join(regime.label for regime in states)
        raise ExperimentError(f"regime {', '.join(unknown)} is not one of {known}")
    steps = {regime: advance(policy, before, session, scores.get(regime), health) for regime, before in states.items()}
    return {regime: state for regime, (state, _) in steps.items()}, {
        regime: made for regime, (_, made) in steps.items()
    }


def common_session(states: Mapping[Regime, AllocationState]) -> dt.date | None:
    """The session of the latest step, which all regimes take together; ``None`` before the first.

    Raises
    ------
    ExperimentError
        Without regimes, with two of one label (their experiments would have one name), or if the regimes have not all
        taken the same steps.
    """
    labels = [regime.label for regime in states]
    if not labels or len(set(labels)) != len(labels):
        raise ExperimentError(
            f"regimes must be at least one, with different labels, not: {', '.join(labels) or 'none'}"
        )
    sessions = {state.session for state in states.values()}
    if len(sessions) > 1:
        shown = ", ".join(f"{regime.label} until {state.session}" for regime, state in states.items())
        raise ExperimentError(f"the regimes have not taken the same allocation steps ({shown}): the log was changed")
    return sessions.pop()
