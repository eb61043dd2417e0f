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


def advance_regimes(
    policy: AllocationPolicy,
    states: Mapping[str, AllocationState],
    session: dt.date,
    scores: Mapping[str, Sequence[float]],
    health: Health,
) -> tuple[dict[str, AllocationState], dict[str, AllocationRecord]]:
    """One step in every experiment; only those with scores learn, but trouble takes all back to the default.

    Parameters
    ----------
    policy
        What was agreed.
    states, scores
        By name of an experiment: that of a regime, or the only one.
    session, health
        As for :func:`.daily.advance`.

    Raises
    ------
    ExperimentError
        For scores of an unknown experiment, and as :func:`.daily.advance`.
    """
    unknown = sorted(set(scores) - set(states))
    if unknown:
        raise ExperimentError(f"experiment {', '.join(unknown)} is not one of {', '.join(states)}")
    steps = {name: advance(policy, before, session, scores.get(name), health) for name, before in states.items()}
    return {name: state for name, (state, _) in steps.items()}, {name: made for name, (_, made) in steps.items()}


def common_session(states: Mapping[str, AllocationState]) -> dt.date | None:
    """The session of the latest step, which all experiments take together; ``None`` before the first.

    Raises
    ------
    ExperimentError
        They have not all taken the same steps.
    """
    sessions = {state.session for state in states.values()}
    if len(sessions) > 1:
        shown = ", ".join(f"{name} until {state.session}" for name, state in states.items())
        raise ExperimentError(f"the regimes have not taken the same allocation steps ({shown}): the log was changed")
    return sessions.pop()
