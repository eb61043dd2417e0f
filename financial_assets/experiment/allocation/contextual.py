"""Allocation by regime: one Experiment a regime, each with a state of its own.

A client asks the experiment of the regime that the request is in; the gateway splits it by that regime's weights.
These experiments have no ``default``, because a model may be the default of one experiment only; the experiment that
has one stays beside them and takes requests whose regime is not known.

It pays only if arms change places between regimes by more than can be learned from a regime's days: six regimes share
a year of 252 days, 42 each. Where arms keep their order, every regime learns the same thing more slowly.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from financial_assets.errors import ExperimentError
from financial_assets.experiment.allocation.daily import (
    AllocationPolicy,
    AllocationState,
    advance,
    start,
)
from financial_assets.experiment.allocation.record import AllocationRecord, Health
from financial_assets.experiment.allocation.regimes import Regime

__all__ = ["ContextualState", "advance_regimes", "join_regimes", "start_regimes"]


@dataclass(frozen=True, slots=True)
class ContextualState:
    """The state of allocation in every regime.

    Attributes
    ----------
    regimes
        The regimes, each once, in order.
    states
        Their states.
    """

    regimes: tuple[Regime, ...]
    states: tuple[AllocationState, ...]

    def of(self, regime: Regime) -> AllocationState:
        """The state of one regime."""
        if regime not in self.regimes:
            raise ExperimentError(f"regime {regime.label} is not one of {', '.join(r.label for r in self.regimes)}")
        return self.states[self.regimes.index(regime)]


def start_regimes(policy: AllocationPolicy, regimes: Sequence[Regime]) -> ContextualState:
    """Default weights in every regime.

    Raises
    ------
    ExperimentError
        Without regimes, or with two of one label (their experiments would have one name).
    """
    ordered = _ordered(regimes)
    return ContextualState(ordered, tuple(start(policy) for _ in ordered))


def advance_regimes(
    policy: AllocationPolicy,
    state: ContextualState,
    session: dt.date,
    scores: Mapping[Regime, Sequence[float]],
    health: Health,
) -> tuple[ContextualState, dict[Regime, AllocationRecord]]:
    """One step in every regime; only those with scores learn, but trouble takes all back to the default.

    Raises
    ------
    ExperimentError
        For scores of an unknown regime, and as :func:`.daily.advance`.
    """
    for regime in scores:
        state.of(regime)
    steps = [
        advance(policy, before, session, scores.get(regime), health)
        for regime, before in zip(state.regimes, state.states, strict=True)
    ]
    records = {regime: record for regime, (_, record) in zip(state.regimes, steps, strict=True)}
    return ContextualState(state.regimes, tuple(after for after, _ in steps)), records


def join_regimes(states: Mapping[Regime, AllocationState]) -> ContextualState:
    """The state of all regimes, each from its own log.

    Raises
    ------
    ExperimentError
        As :func:`start_regimes`; or the regimes have not all taken the same steps.
    """
    if len({state.session for state in states.values()}) > 1:
        shown = ", ".join(f"{regime.label} until {state.session}" for regime, state in states.items())
        raise ExperimentError(f"the regimes have not taken the same allocation steps ({shown}): the log was changed")
    ordered = _ordered(states)
    return ContextualState(ordered, tuple(states[regime] for regime in ordered))


def _ordered(regimes: Collection[Regime]) -> tuple[Regime, ...]:
    labels = [regime.label for regime in regimes]
    if not labels or len(set(labels)) != len(labels):
        raise ExperimentError(
            f"regimes must be at least one, with different labels, not: {', '.join(labels) or 'none'}"
        )
    return tuple(sorted(regimes))
