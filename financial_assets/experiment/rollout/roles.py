"""The arms of an experiment: first by the policy, later by what was retrained. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import Arm, Role, WeightEpoch
from financial_assets.experiment.decision.record import Guardrail
from financial_assets.experiment.plan.policy import RolloutPolicy, TrafficPolicy


@dataclass(frozen=True, slots=True)
class AvailableModel:
    """A deployed model version that can become an arm.

    Attributes
    ----------
    model
        Served name, ``<variant>-predictor-v<version>``.
    variant, version
        Its variant and its number; versions of all variants are numbered together.
    data_cutoff
        Last session (tz-naive) that it was trained on.
    """

    model: str
    variant: str
    version: int
    data_cutoff: pd.Timestamp


def ordered(available: Iterable[AvailableModel]) -> list[AvailableModel]:
    """The models by version.

    Raises
    ------
    ExperimentError
        Two have the same name or version.
    """
    models = sorted(available, key=lambda model: model.version)
    for field in ("model", "version"):
        values = [getattr(model, field) for model in models]
        if len(set(values)) != len(values):
            raise ExperimentError(f"available models have the same {field}: {', '.join(map(str, values))}")
    return models


def split_share(share: int, parts: int) -> tuple[int, ...]:
    """Whole numbers that add up to ``share``, equal except for the remainder, which goes to the first ones."""
    return tuple(share // parts + (part < share % parts) for part in range(parts))


def entry_shares(policy: RolloutPolicy) -> tuple[int, ...]:
    """The shares of the requests, in percent, that the policy's challengers start with; on a ladder, its first step."""
    if policy.traffic.mode == "ladder":
        return split_share(policy.traffic.steps[0], len(policy.challengers))
    return tuple(challenger.weight for challenger in policy.challengers)


def share_of(policy: RolloutPolicy, variant: str) -> int:
    """The share that the policy gives a challenger of ``variant``; variants that it does not name get its last one."""
    shares = dict(zip((challenger.variant for challenger in policy.challengers), entry_shares(policy), strict=True))
    return shares.get(variant, entry_shares(policy)[-1])


def next_share(
    policy: TrafficPolicy, share: int, sessions: int, guardrails: Sequence[Guardrail] = ()
) -> tuple[int, str] | None:
    """The challengers' next joint share on a ladder and the reason for it, ``None`` while the share stays.

    The share is exposure, not evidence: the models are judged by the pairs, which need no traffic at all. Small steps
    limit the harm that a slow or failing challenger can do to users.

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


def first_arms(policy: RolloutPolicy, available: Iterable[AvailableModel]) -> tuple[Arm, ...]:
    """The arms at the start: those of the policy, and every other variant that is available as a shadow.

    Raises
    ------
    ExperimentError
        A variant that the policy names is not available.
    """
    newest, shares = _newest(available), entry_shares(policy)
    routed = {policy.champion.variant, *(challenger.variant for challenger in policy.challengers)}
    shadows = dict.fromkeys((*policy.shadow, *(variant for variant in newest if variant not in routed)))
    return (
        _arm(_required(newest, policy.champion.variant), "champion", 100 - sum(shares)),
        *(
            _arm(_required(newest, challenger.variant), "challenger", share)
            for challenger, share in zip(policy.challengers, shares, strict=True)
        ),
        *(_arm(_required(newest, variant), "shadow", 0) for variant in shadows),
    )


def next_arms(policy: RolloutPolicy, current: WeightEpoch, models: Sequence[AvailableModel]) -> tuple[Arm, ...]:
    """The arms that fit the deployed models.

    The champion stays. A version newer than every arm of the current epoch becomes a challenger: it replaces the
    challenger of its variant, or takes a free slot, or replaces the last challenger. If more variants were retrained
    than the policy has challengers, those of its challengers' variants come first, in its order, then those of the
    other arms. Shadows are the newest versions of all variants, the policy's first, that have no routed role.

    Parameters
    ----------
    policy
        The arms at the start, and the mode of the traffic.
    current
        Current epoch.
    models
        Deployed models, by version.

    Raises
    ------
    ExperimentError
        A routed arm is not deployed.
    """
    deployed, newest = {model.model for model in models}, _newest(models)
    challengers = _challengers(policy, current, newest)
    champion = current.champion
    if challengers != current.challengers:
        champion = replace(champion, weight=100 - sum(challenger.weight for challenger in challengers))
    routed = [champion, *challengers]
    for arm in routed:
        if arm.model not in deployed:
            raise ExperimentError(
                f"{arm.role} {arm.model} of weight epoch {current.number} is not among the deployed models "
                f"({', '.join(model.model for model in models) or 'none'}): deploy it again by materializing "
                f"predictors/{arm.variant}"
            )
    routed_models = {arm.model for arm in routed}
    planned = (policy.champion.variant, *(arm.variant for arm in policy.challengers))
    variants = dict.fromkeys((*policy.shadow, *planned, *(arm.variant for arm in routed), *newest))
    # A variant with a routed arm gets a shadow only for a version newer than that arm.
    oldest = {arm.variant: arm.version for arm in routed}
    candidates = [newest[variant] for variant in variants if variant in newest]
    shadows = [m for m in candidates if m.model not in routed_models and m.version > oldest.get(m.variant, 0)]
    return (*routed, *(_arm(model, "shadow", 0) for model in shadows))


def _challengers(policy: RolloutPolicy, current: WeightEpoch, newest: Mapping[str, AvailableModel]) -> tuple[Arm, ...]:
    latest_tested, shares = max(arm.version for arm in current.arms), entry_shares(policy)
    variants = dict.fromkeys(
        (*(arm.variant for arm in (*policy.challengers, *current.challengers)), current.champion.variant)
    )
    # Versions number all variants together, so anything newer was trained after this epoch began.
    retrained = [newest[name] for name in variants if name in newest and newest[name].version > latest_tested]
    slots: list[Arm | None] = [*current.challengers]
    slots += [None] * (len(shares) - len(slots))
    for model in retrained[: len(slots)]:
        slot = _slot_for(model, slots, latest_tested)
        replaced = slots[slot]
        # On a ladder everybody starts at the bottom; otherwise a model takes over the requests of the one it replaces.
        takes_over = replaced is not None and policy.traffic.mode == "fixed"
        share = replaced.weight if replaced and takes_over else shares[min(slot, len(shares) - 1)]
        slots[slot] = _arm(model, "challenger", share)
    challengers = tuple(arm for arm in slots if arm is not None)
    if retrained and sum(arm.weight for arm in challengers) > 100 - len(challengers):  # too little for the champion
        parts = split_share(sum(shares), len(challengers))
        return tuple(replace(arm, weight=part) for arm, part in zip(challengers, parts, strict=True))
    return challengers


def _slot_for(model: AvailableModel, slots: Sequence[Arm | None], latest_tested: int) -> int:
    """The slot of a retrained model: that of its variant, a free one, or the last one without a retrained model."""
    tested = {slot: arm for slot, arm in enumerate(slots) if arm is not None and arm.version <= latest_tested}
    same_variant = [slot for slot, arm in tested.items() if arm.variant == model.variant]
    free = [slot for slot, arm in enumerate(slots) if arm is None]
    return next(iter((*same_variant, *free, *reversed(tested))))


def _arm(model: AvailableModel, role: Role, weight: int) -> Arm:
    return Arm(model.model, model.variant, model.version, role, weight, model.data_cutoff)


def _newest(models: Iterable[AvailableModel]) -> dict[str, AvailableModel]:
    return {model.variant: model for model in sorted(models, key=lambda model: model.version)}


def _required(newest: Mapping[str, AvailableModel], variant: str) -> AvailableModel:
    if variant not in newest:
        raise ExperimentError(
            f"the rollout policy names the variant {variant!r}, but only {', '.join(sorted(newest)) or 'none'} is "
            f"deployed: materialize predictors/{variant}, or change the policy"
        )
    return newest[variant]
