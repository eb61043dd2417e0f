"""Who takes part in an experiment: at its start by the policy, afterwards by what was retrained. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import Arm, Role, WeightEpoch
from financial_assets.experiment.plan.policy import RolloutPolicy

__all__ = ["AvailableModel", "entry_shares", "first_arms", "next_arms", "ordered", "share_of", "split_share"]


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


def ordered(available: Iterable[AvailableModel]) -> list[AvailableModel]:
    """The models by version.

    Raises
    ------
    ExperimentError
        Two do not differ in name or version.
    """
    models = sorted(available, key=lambda model: model.version)
    for field in ("model", "version"):
        values = [getattr(model, field) for model in models]
        if len(set(values)) != len(values):
            raise ExperimentError(f"available models do not differ in their {field}: {', '.join(map(str, values))}")
    return models


def split_share(share: int, parts: int) -> tuple[int, ...]:
    """Whole numbers that add up to ``share``, equal but for the remainder, which the first ones get."""
    return tuple(share // parts + (place < share % parts) for place in range(parts))


def entry_shares(policy: RolloutPolicy) -> tuple[int, ...]:
    """The shares of the requests, in percent, that the policy's challengers begin with: a ladder's first step."""
    if policy.traffic.mode == "ladder":
        return split_share(policy.traffic.steps[0], len(policy.challengers))
    return tuple(challenger.weight for challenger in policy.challengers)


def share_of(policy: RolloutPolicy, variant: str) -> int:
    """The share that the policy gives a challenger of a variant; of one that it does not name, that of its last."""
    shares = dict(zip((challenger.variant for challenger in policy.challengers), entry_shares(policy), strict=True))
    return shares.get(variant, entry_shares(policy)[-1])


def first_arms(policy: RolloutPolicy, available: Iterable[AvailableModel]) -> tuple[Arm, ...]:
    """The arms at the start.

    Raises
    ------
    ExperimentError
        A variant that the policy names is not available.
    """
    newest, shares = _newest(available), entry_shares(policy)
    return (
        _arm(_need(newest, policy.champion.variant), "champion", 100 - sum(shares)),
        *(
            _arm(_need(newest, challenger.variant), "challenger", share)
            for challenger, share in zip(policy.challengers, shares, strict=True)
        ),
        *(_arm(_need(newest, variant), "shadow", 0) for variant in policy.shadow),
    )


def next_arms(policy: RolloutPolicy, current: WeightEpoch, models: Sequence[AvailableModel]) -> tuple[Arm, ...]:
    """The arms that fit the models now.

    The champion stays. A version newer than every arm of the current epoch becomes a challenger: in the place of the
    challenger of its variant, in a free one, or in the last. If more variants were retrained than the policy has
    challengers, those of its challengers' variants come first, in its order, then those of the other arms. Shadows are
    the newest versions of all the policy's variants that have no routed role.

    Parameters
    ----------
    policy
        Who took part at the start.
    current
        Epoch in force.
    models
        What is deployed, by version.

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
    taken = {arm.model for arm in routed}
    planned = (policy.champion.variant, *(arm.variant for arm in policy.challengers))
    variants = dict.fromkeys((*policy.shadow, *planned, *(arm.variant for arm in routed)))
    oldest = {arm.variant: arm.version for arm in routed}
    candidates = [newest[variant] for variant in variants if variant in newest]
    shadows = [m for m in candidates if m.model not in taken and m.version > oldest.get(m.variant, 0)]
    return (*routed, *(_arm(model, "shadow", 0) for model in shadows))


def _challengers(policy: RolloutPolicy, current: WeightEpoch, newest: Mapping[str, AvailableModel]) -> tuple[Arm, ...]:
    known, shares = max(arm.version for arm in current.arms), entry_shares(policy)
    variants = dict.fromkeys(
        (*(arm.variant for arm in (*policy.challengers, *current.challengers)), current.champion.variant)
    )
    newcomers = [newest[name] for name in variants if name in newest and newest[name].version > known]
    places: list[Arm | None] = [*current.challengers]
    places += [None] * (len(shares) - len(places))
    for newcomer in newcomers[: len(places)]:
        place = _place(places, newcomer, known)
        forerunner = places[place]
        # On a ladder everybody begins at the bottom; otherwise the newcomer takes over its forerunner's requests.
        takes_over = forerunner is not None and policy.traffic.mode == "fixed"
        share = forerunner.weight if forerunner and takes_over else shares[min(place, len(shares) - 1)]
        places[place] = _arm(newcomer, "challenger", share)
    challengers = tuple(arm for arm in places if arm is not None)
    if newcomers and sum(arm.weight for arm in challengers) > 100 - len(challengers):  # too little for the champion
        parts = split_share(sum(shares), len(challengers))
        return tuple(replace(arm, weight=part) for arm, part in zip(challengers, parts, strict=True))
    return challengers


def _place(places: Sequence[Arm | None], newcomer: AvailableModel, known: int) -> int:
    """Where a newcomer goes: its variant's place, a free one, or the last that no other newcomer has."""
    old = {place: arm for place, arm in enumerate(places) if arm is not None and arm.version <= known}
    own = [place for place, arm in old.items() if arm.variant == newcomer.variant]
    free = [place for place, arm in enumerate(places) if arm is None]
    return next(iter((*own, *free, *reversed(old))))


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
