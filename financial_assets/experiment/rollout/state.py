"""Rollout state: the arms of the experiment and their weights. The only source of weights.

The state is the latest weight epoch in the prediction log. It is reconciled with the models that exist, never reset:
weights belong to the roles, and only :meth:`Rollout.change_weights` changes them.

Under a halt (``financial_assets.halt``) nothing changes: no arm enters, nobody is promoted, rolled back or given other
weights. A rollback is withheld, too: orders are stopped already, so that a harmful challenger can cost no money, and a
person who looks for the reason finds what was there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from financial_assets.errors import ExperimentError, HaltedError
from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.decision.words import first_reason
from financial_assets.experiment.plan.policy import RolloutPolicy
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.rollout.roles import AvailableModel, first_arms, next_arms, ordered, split_share
from financial_assets.halt import KillSwitch

__all__ = ["AvailableModel", "Rollout"]


@dataclass(frozen=True, slots=True)
class Rollout:
    """The rollout state of one experiment.

    Parameters
    ----------
    log
        Where weight epochs are kept.
    policy
        The arms at the start.
    switch
        The kill switch, asked before each change; ``None``: there is none, as in simulations.
    """

    log: PredictionLog
    policy: RolloutPolicy
    switch: KillSwitch | None = None

    @property
    def is_frozen(self) -> bool:
        """Whether the kill switch is on: all methods then leave the current epoch as it is."""
        return self.switch is not None and self.switch.halt_in_force() is not None

    def current(self) -> WeightEpoch | None:
        """The current weight epoch, ``None`` before the start."""
        return self.log.current_epoch(self.policy.experiment)

    def reconcile(self, available: Iterable[AvailableModel]) -> WeightEpoch:
        """The weight epoch that fits the available models; opened only if its arms differ from the current ones.

        The first epoch follows the policy, later ones :func:`~financial_assets.experiment.rollout.roles.next_arms`.

        Raises
        ------
        ExperimentError
            If a model that the rollout needs is not available.
        HaltedError
            The experiment would start now, and the kill switch is on.
        """
        models = ordered(available)
        current = self.current()
        if self.is_frozen:
            if current is None:
                raise HaltedError("no experiment is started under a halt: `financial-assets resume` lifts it")
            return current
        if current is None:
            arms = first_arms(self.policy, models)
            return self.log.open_epoch(self.policy.experiment, arms, "start of the experiment", after=0)
        arms = next_arms(self.policy, current, models)
        is_same = set(arms) == set(current.arms)  # their order has no meaning
        if is_same and (self.policy.traffic.regimes or not current.regimes):
            return current
        reason = "all requests are split alike again" if is_same else _describe(current.arms, arms)
        return self.log.open_epoch(self.policy.experiment, arms, reason, after=current.number)

    def former_regimes(self) -> set[str]:
        """Labels of regimes that had weights of their own and no longer do."""
        epochs = self.log.epochs(self.policy.experiment)
        return {label for epoch in epochs for label in epoch.regimes} - set(epochs[-1].regimes if epochs else ())

    def promote(self, decision: Decision) -> WeightEpoch:
        """The challenger becomes champion and answers all requests; all other arms are scored in pairs.

        An epoch has one champion by construction, so a crash leaves either the old one or the new one. Returns the
        current epoch if the challenger is champion already.

        Raises
        ------
        ExperimentError
            The decision is about other arms than the current ones.
        """
        current = self.started()
        if current.champion.model == decision.challenger or self.is_frozen:
            return current
        _check_is_current(decision, current)
        arms = (
            *(replace(arm, role="champion", weight=100) for arm in current.arms if arm.model == decision.challenger),
            *(replace(arm, role="shadow", weight=0) for arm in current.arms if arm.model != decision.challenger),
        )
        return self._follow(arms, [decision], current)

    def withdraw(self, decisions: Sequence[Decision]) -> WeightEpoch:
        """Challengers are scored in pairs only and the champion takes over their requests; the others keep theirs.

        Returns the current epoch if none of them has requests.

        Raises
        ------
        ExperimentError
            A decision is about other arms than the current ones.
        """
        current = self.started()
        # One whose challenger has no requests any more was applied already, before a crash.
        pending = [d for d in decisions if d.champion != current.champion.model or d.challenger in current.weights]
        if not pending or self.is_frozen:
            return current
        for decision in pending:
            _check_is_current(decision, current)
        withdrawn = {decision.challenger for decision in pending}
        weights = current.without(*withdrawn)
        arms = tuple(
            replace(arm, role="shadow", weight=0)
            if arm.model in withdrawn
            else replace(arm, weight=weights.get(arm.model, 0))
            for arm in current.arms
        )
        return self._follow(arms, pending, current)

    def _follow(self, arms: Sequence[Arm], decisions: Sequence[Decision], current: WeightEpoch) -> WeightEpoch:
        """Open the epoch that follows from decisions; its seal names them."""
        digests = [decision.digest for decision in decisions]
        reason, name = _reason(self.log, decisions), self.policy.experiment
        return self.log.open_epoch(name, arms, reason, after=current.number, decisions=digests)

    def take_step(self, share: int, reason: str) -> WeightEpoch:
        """Change the challengers' joint share of the requests, in percent; it is divided equally."""
        current = self.started()
        if not current.challengers:
            raise ExperimentError(f"{current.champion.model} serves alone: there is no challenger to route to")
        shares = split_share(share, len(current.challengers))
        weights = {arm.model: part for arm, part in zip(current.challengers, shares, strict=True)}
        return self.change_weights({current.champion.model: 100 - share, **weights}, reason)

    def started(self) -> WeightEpoch:
        """The current weight epoch.

        Raises
        ------
        ExperimentError
            The experiment has not started.
        """
        current = self.current()
        if current is None:
            raise ExperimentError(f"experiment {self.policy.experiment} has not started; run `financial-assets run`")
        return current

    def change_weights(
        self, weights: Mapping[str, int], reason: str, *, regimes: Mapping[str, Mapping[str, int]] | None = None
    ) -> WeightEpoch:
        """Open an epoch with other weights for the routed arms; returns the current one if it has them already.

        Parameters
        ----------
        weights
            Served model name -> weight, for exactly the routed arms.
        reason
            Why.
        regimes
            Weights of their own for requests of some regimes, by label; ``weights`` apply to all others.

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
        by_regime = {label: dict(own_weights) for label, own_weights in (regimes or {}).items()}
        if (arms == current.arms and by_regime == current.regimes) or self.is_frozen:
            return current
        return self.log.open_epoch(self.policy.experiment, arms, reason, after=current.number, regimes=by_regime)


def _reason(log: PredictionLog, decisions: Sequence[Decision]) -> str:
    plans = [log.plan_of(made) for made in decisions]
    return " ".join(f"{made.action}: {first_reason(made, plan)}" for made, plan in zip(decisions, plans, strict=True))


def _check_is_current(decision: Decision, current: WeightEpoch) -> None:
    pair = {decision.champion, decision.challenger}
    if decision.epoch != current.number or decision.champion != current.champion.model or pair - set(current.weights):
        raise ExperimentError(
            f"the decision of {decision.as_of} is about {decision.challenger} against {decision.champion} in weight "
            f"epoch {decision.epoch}, but the current epoch is {current.number} with {', '.join(current.weights)}: "
            "decide again"
        )


def _describe(before: Sequence[Arm], after: Sequence[Arm]) -> str:
    roles = {arm.model: arm.role for arm in before}
    entered = [f"{arm.model} enters as {arm.role}" for arm in after if roles.get(arm.model) != arm.role]
    left = [f"{arm.model} leaves" for arm in before if arm.model not in {other.model for other in after}]
    return "; ".join(entered + left)
