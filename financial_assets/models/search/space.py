"""Search spaces: which settings of a variant may vary, and within which limits; one space for each kind of network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from financial_assets.errors import TrainingError
from financial_assets.models.variants import Variant

if TYPE_CHECKING:
    import optuna

Value = str | int | float


@dataclass(frozen=True)
class Real:
    """A real number between two limits; ``log``: drawn evenly over its orders of magnitude."""

    low: float
    high: float
    log: bool = False

    def suggest(self, trial: optuna.Trial, name: str) -> Value:
        """The value that the sampler proposes."""
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def contains(self, value: object) -> bool:
        """Whether the sampler could propose it."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    @property
    def first(self) -> Value:
        """A value inside."""
        return self.low


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[Value, ...]

    def suggest(self, trial: optuna.Trial, name: str) -> Value:
        """The value that the sampler proposes."""
        chosen = trial.suggest_categorical(name, self.values)
        return next(value for value in self.values if value == chosen)

    def contains(self, value: object) -> bool:
        """Whether the sampler could propose it."""
        return value in self.values

    @property
    def first(self) -> Value:
        """A value inside."""
        return self.values[0]


Dimension = Real | Choice
SearchSpace = Mapping[str, Dimension]
"""Field of ``Variant`` -> what it may be."""

_OPTIMISER: SearchSpace = {
    "learning_rate": Real(1e-4, 1e-2, log=True),
    "weight_decay": Real(1e-6, 1e-2, log=True),
    "batch_size": Choice((32, 64, 128, 256)),
    "dropout": Real(0.0, 0.5),
}
"""Of everything that gradients train."""

SPACES: Mapping[str, SearchSpace] = MappingProxyType(
    {
        "lstm": {**_OPTIMISER, "hidden": Choice((16, 24, 32, 48, 64, 96)), "layers": Choice((1, 2))},
        "multiscale": {**_OPTIMISER, "hidden": Choice((32, 64, 96, 128))},
        "attention": {**_OPTIMISER, "hidden": Choice((32, 64, 128)), "layers": Choice((1, 2, 3))},
        "transformer": {**_OPTIMISER, "hidden": Choice((32, 64, 128)), "layers": Choice((1, 2, 3))},
        "boosted": {
            "learning_rate": Real(0.01, 0.3, log=True),
            "weight_decay": Real(0.01, 100.0, log=True),
            "hidden": Choice((3, 7, 15, 31)),
        },
    }
)
"""The space of each kind of network, by the name that a variant gives it.

Epochs and patience are not searched: they are the budget of one training, and early stopping chooses the epoch.
"""

NOT_SEARCHED: Mapping[str, str] = MappingProxyType(
    {
        "linear": "it is fitted in closed form and chooses its one penalty itself",
        "ensemble": "its members are searched, and their weights are fitted",
    }
)
"""Kinds of network without a space, and why."""

_FIXED = ("name", "network", "steps", "members")
"""Fields that say which model it is: changing them would make another variant."""


def space_of(variant: Variant) -> SearchSpace:
    """The search space of a variant.

    Raises
    ------
    TrainingError
        Its kind of network has none.
    """
    space = SPACES.get(variant.network)
    if space is None:
        why = NOT_SEARCHED.get(variant.network)
        if why is not None:
            raise TrainingError(f"variant {variant.name!r} has nothing to search: {why}")
        raise TrainingError(
            f"variant {variant.name!r} is a {variant.network!r} network, which has no search space; there are spaces "
            f"for {', '.join(SPACES)} (models/search/space.py)"
        )
    return space


def values_of(variant: Variant, space: SearchSpace) -> dict[str, Value]:
    """What the searched settings of a variant are."""
    return {name: getattr(variant, name) for name in space}


def with_values(variant: Variant, values: Mapping[str, Any]) -> Variant:
    """The variant with other settings.

    Raises
    ------
    TrainingError
        A setting does not exist, is not of its type, says which model it is, or its value is impossible.
    """
    kinds = {field.name: type(getattr(variant, field.name)) for field in fields(variant) if field.name not in _FIXED}
    for name, value in values.items():
        if name not in kinds:
            raise TrainingError(f"variant {variant.name!r} has no setting {name!r}; there are {', '.join(kinds)}")
        fits = isinstance(value, int | float) if kinds[name] is float else isinstance(value, kinds[name])
        if not fits or isinstance(value, bool):
            raise TrainingError(
                f"variant {variant.name!r}: {name} is {value!r}, it must be of type {kinds[name].__name__}"
            )
    return replace(variant, **{name: kinds[name](value) for name, value in values.items()})
