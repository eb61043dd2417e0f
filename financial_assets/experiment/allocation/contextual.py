"""Allocation by regime: one Experiment a regime, each with a state of its own.

A client asks the experiment of the regime that the request is in; the gateway splits it by that regime's weights.
These experiments have no ``default``, because a model may be the default of one experiment only; the experiment that
has one stays beside them and takes requests whose regime is not known.

It pays only if arms change places between regimes by more than can be learned from a regime's days: six regimes share
a year of 252 days, 42 each. Where arms keep their order, every regime learns the same thing more slowly.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
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
from financial_assets.serving.manifests import NAMESPACE, Manifest, experiment_manifest

__all__ = ["ContextualState", "advance_regimes", "regime_experiment", "regime_manifests", "start_regimes"]

_SUFFIX = "-experiment"
_LONGEST = 63


@dataclass(frozen=True, slots=True)
class ContextualState:
    """Where allocation stands in every regime.

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
    labels = [regime.label for regime in regimes]
    if not labels or len(set(labels)) != len(labels):
        raise ExperimentError(
            f"regimes must be at least one, with different labels, not: {', '.join(labels) or 'none'}"
        )
    ordered = tuple(sorted(regimes))
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


def regime_experiment(experiment: str, regime: Regime | None) -> str:
    """Name of the experiment that takes the requests of a regime; of an unknown one, ``experiment`` itself.

    ``financial-ab-test-experiment`` in the regime high-up is ``financial-ab-test-high-up-experiment``.

    Raises
    ------
    ExperimentError
        If ``experiment`` does not end in ``-experiment``, or the name gets longer than Kubernetes allows.
    """
    if not experiment.endswith(_SUFFIX):
        raise ExperimentError(f"experiment {experiment!r} must end in {_SUFFIX}")
    if regime is None:
        return experiment
    name = f"{experiment.removesuffix(_SUFFIX)}-{regime.label}{_SUFFIX}"
    if len(name) > _LONGEST:
        raise ExperimentError(f"the experiment name {name} is longer than {_LONGEST}: use a shorter experiment name")
    return name


def regime_manifests(
    experiment: str, models: Sequence[str], state: ContextualState, namespace: str = NAMESPACE
) -> list[Manifest]:
    """One Experiment a regime, without a default, with its weights in force.

    Parameters
    ----------
    experiment
        Name of the experiment that has the default and stays beside them.
    models
        Served name of every arm, in the order of the weights.
    state
        Where allocation stands.
    namespace
        That of the experiment.

    Raises
    ------
    ExperimentError
        For another number of models than of weights, and as :func:`regime_experiment`.
    """
    manifests: list[Manifest] = []
    for regime, one in zip(state.regimes, state.states, strict=True):
        if len(models) != len(one.weights) or len(set(models)) != len(models):
            raise ExperimentError(f"{len(one.weights)} weights need as many different models, not {', '.join(models)}")
        weights = dict(zip(models, one.weights, strict=True))
        name = regime_experiment(experiment, regime)
        manifests.append(experiment_manifest(name, default=None, weights=weights, namespace=namespace))
    return manifests
