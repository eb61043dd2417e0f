"""Arms and weight epochs: who takes part in an experiment, with which share, and since when."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import pandas as pd

from financial_assets.errors import ExperimentError

Role = Literal["champion", "challenger", "shadow"]
ROUTED_ROLES: tuple[Role, ...] = ("champion", "challenger")
FOLLOWING_MODES = ("thompson", "hedge")
"""Modes of a policy's traffic in which weights follow scores."""

_FOLLOWING_REASONS = tuple(f"{mode}{sign}" for mode in FOLLOWING_MODES for sign in (":", " by "))


@dataclass(frozen=True, slots=True)
class Arm:
    """One immutable model version in a role.

    Attributes
    ----------
    model
        Served name, ``<variant>-predictor-v<version>``.
    variant
        Name of the model variant.
    version
        Version in the model registry; versions of all variants are numbered together, so a later one is larger.
    role
        ``champion`` and ``challenger`` get routed requests; a ``shadow`` is only scored in pairs.
    weight
        Relative share of the routed requests; 0 for a shadow.
    data_cutoff
        Last session (tz-naive) used for fitting, stopping or calibrating the model.
    """

    model: str
    variant: str
    version: int
    role: Role
    weight: int
    data_cutoff: pd.Timestamp

    def __post_init__(self) -> None:
        if not self.model or not self.variant:
            raise ExperimentError(f"arm without a model or variant name: {self!r}")
        if self.role not in get_args(Role):
            raise ExperimentError(f"arm {self.model}: role {self.role!r} is not one of {', '.join(get_args(Role))}")
        if type(self.weight) is not int or not 0 <= self.weight <= 1_000_000:
            raise ExperimentError(f"arm {self.model}: weight {self.weight!r} is not a whole number from 0 to 1000000")
        if self.role == "shadow" and self.weight:
            raise ExperimentError(f"arm {self.model}: a shadow gets no requests, but its weight is {self.weight}")
        if pd.isna(self.data_cutoff) or self.data_cutoff.tz is not None:
            raise ExperimentError(f"arm {self.model}: data cut-off {self.data_cutoff!r} is not a tz-naive session")


@dataclass(frozen=True, slots=True)
class WeightEpoch:
    """A period in which arms and weights of an experiment do not change.

    Attributes
    ----------
    experiment
        Name of the experiment.
    number
        1 for the first epoch, then counted up.
    opened_at
        UTC instant.
    arms
        All arms: one champion, any number of challengers and of shadows.
    reason
        Why the epoch was opened.
    regimes
        Regime label -> weights of the routed arms, for regimes whose requests are split by weights of their own.
    """

    experiment: str
    number: int
    opened_at: pd.Timestamp
    arms: tuple[Arm, ...]
    reason: str
    regimes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_arms(self.arms)
        check_regimes(self.regimes, self.weights)

    @property
    def champion(self) -> Arm:
        """The arm that serves by default."""
        return next(arm for arm in self.arms if arm.role == "champion")

    @property
    def challengers(self) -> tuple[Arm, ...]:
        """The arms that are tested against the champion, each by a plan of its own."""
        return tuple(arm for arm in self.arms if arm.role == "challenger")

    @property
    def shadows(self) -> tuple[Arm, ...]:
        """Arms that are scored in pairs only."""
        return tuple(arm for arm in self.arms if arm.role == "shadow")

    @property
    def weights(self) -> dict[str, int]:
        """Served model name -> weight, for the arms that get requests."""
        return {arm.model: arm.weight for arm in self.arms if arm.role in ROUTED_ROLES}

    def without(self, *challengers: str) -> dict[str, int]:
        """The weights if the champion took over the requests of ``challengers``."""
        kept = {model: weight for model, weight in self.weights.items() if model not in challengers}
        total = sum(self.weights.values())
        return {**kept, self.champion.model: total - sum(kept.values()) + self.champion.weight}

    def arm(self, model: str) -> Arm | None:
        """The arm served under ``model``, if it takes part in this epoch."""
        return next((arm for arm in self.arms if arm.model == model), None)

    @property
    def follows_scores(self) -> bool:
        """Whether its weights were set by an allocator: figures of its routed requests alone are biased."""
        return self.reason.startswith(_FOLLOWING_REASONS)

    def weights_in(self, regime: str | None) -> dict[str, int]:
        """The weights for requests of a regime: its own, or those of all others."""
        return self.weights if regime is None else dict(self.regimes.get(regime, self.weights))

    def propensity(self, model: str, regime: str | None = None) -> float:
        """Probability that a request of this epoch, in a regime, is routed to ``model``."""
        weights = self.weights_in(regime)
        return weights.get(model, 0) / sum(weights.values())

    @property
    def data_cutoff(self) -> pd.Timestamp:
        """The last session that any arm has learned from: evidence starts after it."""
        return max(arm.data_cutoff for arm in self.arms)


def check_arms(arms: tuple[Arm, ...]) -> None:
    """Raise ``ExperimentError`` unless ``arms`` can be an epoch: names unique, one champion, some weight."""
    names = [arm.model for arm in arms]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ExperimentError(f"arms named more than once: {', '.join(repeated)}")
    roles = [arm.role for arm in arms]
    if roles.count("champion") != 1:
        raise ExperimentError(f"an epoch needs one champion, not: {', '.join(roles) or 'no arm at all'}")
    copied = [arm.model for arm in arms if arm.role == "challenger" and arm.weight == 0]
    if len(copied) > 1:
        raise ExperimentError(
            f"{', '.join(copied)} have no weight: a gateway sends copies (a mirror) to one model only"
        )
    if sum(arm.weight for arm in arms) == 0:
        raise ExperimentError("the weights of all arms are zero: no request could be routed")


def check_regimes(regimes: Mapping[str, Mapping[str, int]], weights: Mapping[str, int]) -> None:
    """Raise ``ExperimentError`` unless each regime splits its requests among exactly the routed arms."""
    for label, own in regimes.items():
        if (
            not label
            or set(own) != set(weights)
            or any(type(weight) is not int or weight < 1 for weight in own.values())
        ):
            raise ExperimentError(
                f"regime {label!r} has the weights {dict(own)}; allowed: a whole number from 1 on for each of "
                f"{', '.join(weights)}"
            )


def arm_to_json(arm: Arm) -> dict[str, Any]:
    """``arm`` as plain JSON values."""
    return {**dataclasses.asdict(arm), "data_cutoff": arm.data_cutoff.date().isoformat()}


def arm_from_json(values: Mapping[str, Any]) -> Arm:
    """The arm written by :func:`arm_to_json`."""
    fields: dict[str, Any] = {**values, "data_cutoff": pd.Timestamp(values["data_cutoff"])}
    return Arm(**fields)
