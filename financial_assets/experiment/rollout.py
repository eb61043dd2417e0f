"""Rollout state: which models take part in the experiment, with which weights. The only source of weights.

The state is the latest weight epoch in the prediction log. It is reconciled with the models that exist, never reset:
weights belong to the roles, and only :meth:`Rollout.change_weights` changes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import Arm, Role, WeightEpoch
from financial_assets.experiment.log import PredictionLog
from financial_assets.experiment.policy import RolloutPolicy
from financial_assets.experiment.verdict import Decision

__all__ = ["AvailableModel", "Rollout"]


@dataclass(frozen=True, slots=True)
class AvailableModel:
    """A deployed model version that can take part.

    Attributes
    ----------
    model
        Served name, ``<variant>-predictor-v<version>``.
    variant, version
        What it is a version of; versions of all variants are numbered together.
    data_cutoff
        Last session (tz-naive) that it has learned from.
    """

    model: str
    variant: str
    version: int
    data_cutoff: pd.Timestamp


@dataclass(frozen=True, slots=True)
class Rollout:
    """The rollout state of one experiment.

    Parameters
    ----------
    log
        Where weight epochs are kept.
    policy
        Who takes part at the start.
    """

    log: PredictionLog
    policy: RolloutPolicy

    def current(self) -> WeightEpoch | None:
        """The weight epoch in force, ``None`` before the start."""
        return self.log.current_epoch(self.policy.experiment)

    def reconcile(self, available: Iterable[AvailableModel]) -> WeightEpoch:
        """The weight epoch that fits the available models; opened only if arms differ from those in force.

        The champion stays. A version newer than every arm of the current epoch replaces the challenger; if several
        variants were retrained, that of the policy's challenger variant does. Shadows are the newest versions of all
        the policy's variants that have no routed role.

        Raises
        ------
        ExperimentError
            If a model that the rollout needs is not available.
        """
        models = sorted(available, key=lambda model: model.version)
        _refuse_repeats(models)
        current = self.current()
        if current is None:
            return self.bootstrap(models)
        arms = self._arms(current, models)
        if set(arms) == set(current.arms):  # their order says nothing
            return current
        return self.log.open_epoch(self.policy.experiment, arms, _describe(current.arms, arms), after=current.number)

    def bootstrap(self, available: Iterable[AvailableModel]) -> WeightEpoch:
        """Open the first epoch from the policy; the current epoch if there is one already.

        Raises
        ------
        ExperimentError
            If the champion's or the challenger's variant, or a shadow's, is not available.
        """
        current = self.current()
        if current is not None:
            return current
        newest = _newest(available)
        champion, challenger = self.policy.champion, self.policy.challenger
        arms = [
            _arm(_need(newest, champion.variant), "champion", 100 - self.entry_share),
            _arm(_need(newest, challenger.variant), "challenger", self.entry_share),
            *(_arm(_need(newest, variant), "shadow", 0) for variant in self.policy.shadow),
        ]
        return self.log.open_epoch(self.policy.experiment, arms, "start of the experiment", after=0)

    @property
    def entry_share(self) -> int:
        """The share of the requests, in percent, that a new challenger begins with."""
        return self.policy.traffic.steps[0] if self.policy.traffic.mode == "ladder" else self.policy.challenger.weight

    def carry_out(self, decision: Decision) -> WeightEpoch:
        """Open the epoch that follows from a decision; the current one if it does already, or nothing follows.

        Promoted: the challenger is champion and answers everything, the old champion is scored in pairs. Rolled back:
        the champion answers everything, the challenger is scored in pairs. An epoch has one champion by construction,
        so that a crash leaves either the old one or the new one.

        Raises
        ------
        ExperimentError
            The decision is about other arms than those in force.
        """
        current = self.started()
        winner, loser = decision.champion, decision.challenger
        if decision.action == "promote":
            winner, loser = loser, winner
        if decision.action == "hold" or _is_settled(current, winner, loser):
            return current
        if decision.epoch != current.number or {winner, loser} != set(current.weights):
            raise ExperimentError(
                f"the decision of {decision.as_of} is about {decision.challenger} against {decision.champion} in "
                f"weight epoch {decision.epoch}, but epoch {current.number} with {', '.join(current.weights)} is in "
                "force: decide again"
            )
        arms = (
            *(replace(arm, role="champion", weight=100) for arm in current.arms if arm.model == winner),
            *(replace(arm, role="shadow", weight=0) for arm in current.arms if arm.model != winner),
        )
        reason = f"{decision.action}: {decision.reasons[0]}"
        return self.log.open_epoch(self.policy.experiment, arms, reason, after=current.number)

    def take_step(self, share: int, reason: str) -> WeightEpoch:
        """Give the challenger another share of the requests, in percent."""
        current = self.started()
        if current.challenger is None:
            raise ExperimentError(f"{current.champion.model} serves alone: there is no challenger to route to")
        return self.change_weights({current.champion.model: 100 - share, current.challenger.model: share}, reason)

    def started(self) -> WeightEpoch:
        """The weight epoch in force.

        Raises
        ------
        ExperimentError
            There is none.
        """
        current = self.current()
        if current is None:
            raise ExperimentError(
                f"experiment {self.policy.experiment} has not started: materialize `experiment` first"
            )
        return current

    def change_weights(self, weights: Mapping[str, int], reason: str) -> WeightEpoch:
        """Open an epoch with other weights for the routed arms; the current one if they are in force already.

        Parameters
        ----------
        weights
            Served model name -> weight, for exactly the routed arms.
        reason
            Why.

        Raises
        ------
        ExperimentError
            If the experiment has not started or ``weights`` names other models than the routed arms.
        """
        current = self.started()
        if set(weights) != set(current.weights):
            raise ExperimentError(
                f"weights are for {', '.join(sorted(weights))}, but the routed arms of epoch {current.number} are "
                f"{', '.join(sorted(current.weights))}"
            )
        arms = tuple(replace(arm, weight=weights.get(arm.model, arm.weight)) for arm in current.arms)
        if arms == current.arms:
            return current
        return self.log.open_epoch(self.policy.experiment, arms, reason, after=current.number)

    def _arms(self, current: WeightEpoch, models: Sequence[AvailableModel]) -> tuple[Arm, ...]:
        deployed = {model.model: model for model in models}
        newest = _newest(models)
        challenger = self._challenger(current, newest)
        champion = current.champion
        if challenger is not None and challenger != current.challenger:
            champion = replace(champion, weight=100 - challenger.weight)
        routed = [champion] + ([challenger] if challenger else [])
        for arm in routed:
            if arm.model not in deployed:
                raise ExperimentError(
                    f"{arm.role} {arm.model} of weight epoch {current.number} is not among the deployed models "
                    f"({', '.join(deployed) or 'none'}): deploy it again by materializing predictors/{arm.variant}"
                )
        taken = {arm.model for arm in routed}
        planned = (self.policy.champion.variant, self.policy.challenger.variant)
        variants = dict.fromkeys((*self.policy.shadow, *planned, *(arm.variant for arm in routed)))
        oldest = {arm.variant: arm.version for arm in routed}
        candidates = [newest[variant] for variant in variants if variant in newest]
        shadows = [m for m in candidates if m.model not in taken and m.version > oldest.get(m.variant, 0)]
        return (*routed, *(_arm(model, "shadow", 0) for model in shadows))

    def _challenger(self, current: WeightEpoch, newest: Mapping[str, AvailableModel]) -> Arm | None:
        present = current.challenger
        known = max(arm.version for arm in current.arms)
        others = (present.variant,) if present else ()
        for variant in (self.policy.challenger.variant, *others, current.champion.variant):
            model = newest.get(variant)
            if model is not None and model.version > known and model.model != current.champion.model:
                return _arm(model, "challenger", self._share_of_newcomer(present))
        return present

    def _share_of_newcomer(self, present: Arm | None) -> int:
        """On a ladder everybody begins at the bottom; with fixed weights the newcomer takes over its forerunner's."""
        return present.weight if present and self.policy.traffic.mode == "fixed" else self.entry_share


def _is_settled(epoch: WeightEpoch, winner: str, loser: str) -> bool:
    """Whether ``winner`` is champion alone and ``loser`` no longer gets requests."""
    beaten = epoch.arm(loser)
    return epoch.champion.model == winner and epoch.challenger is None and (beaten is None or beaten.role == "shadow")


def _arm(model: AvailableModel, role: Role, weight: int) -> Arm:
    return Arm(model.model, model.variant, model.version, role, weight, model.data_cutoff)


def _newest(models: Iterable[AvailableModel]) -> dict[str, AvailableModel]:
    return {model.variant: model for model in sorted(models, key=lambda model: model.version)}


def _need(newest: Mapping[str, AvailableModel], variant: str) -> AvailableModel:
    if variant not in newest:
        raise ExperimentError(
            f"the rollout policy names the variant {variant!r}, but only {', '.join(sorted(newest)) or 'none'} is "
            f"deployed: materialize predictors/{variant}, or change the policy"
        )
    return newest[variant]


def _refuse_repeats(models: Sequence[AvailableModel]) -> None:
    for field in ("model", "version"):
        values = [getattr(model, field) for model in models]
        if len(set(values)) != len(values):
            raise ExperimentError(f"available models do not differ in their {field}: {', '.join(map(str, values))}")


def _describe(before: Sequence[Arm], after: Sequence[Arm]) -> str:
    roles = {arm.model: arm.role for arm in before}
    entered = [f"{arm.model} enters as {arm.role}" for arm in after if roles.get(arm.model) != arm.role]
    left = [f"{arm.model} leaves" for arm in before if arm.model not in {other.model for other in after}]
    return "; ".join(entered + left)
