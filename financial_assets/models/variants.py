"""The model variants: one frozen line each, and which of them an installation makes.

``baseline`` and ``enhanced`` keep the sizes, epochs and rates of the system this project replaces, so that the two can
be compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from financial_assets.errors import SettingsError, TrainingError

SMALL_PANEL = 8192
"""Windows of the fit block up to which a variant trains at its own ``batch_size`` and ``learning_rate``."""

MOST_GROWTH = 4
"""Limit of the growth of a batch: a processor core computes a window of 256 in little more time than one of more."""

EPOCH_WINDOWS = 12_288
"""Most windows in one epoch: 48 gradient steps of the largest batch, about as many as in a pass over two tickers."""

STOP_WINDOWS = 16_384
"""Most windows of the stop block that are looked at after an epoch: the same ones each time, drawn at random."""


@dataclass(frozen=True)
class Schedule:
    """Gradient steps on a fit block of some size.

    Attributes
    ----------
    batch_size, learning_rate
        Of one gradient step.
    epoch_windows
        Windows that are drawn between two looks at the stop block.
    """

    batch_size: int
    learning_rate: float
    epoch_windows: int


@dataclass(frozen=True)
class Variant:
    """Architecture and optimiser settings of one model.

    Attributes
    ----------
    name
        Key of the variant in asset, model and registry names.
    layers, hidden
        Stacked layers and units in each; of trees, the most leaves.
    dropout
        Probability of dropping a unit after each layer, in ``[0, 1)``.
    epochs, patience
        Upper limit of epochs; epochs without a better stop-block loss before training ends. An epoch is a pass over the
        fit block, or over ``EPOCH_WINDOWS`` windows of a larger one; of trees, a boosting round.
    learning_rate, weight_decay
        Of AdamW; ``schedule`` raises the rate on large panels. Of trees, the shrinkage and the penalty of a leaf.
    batch_size
        Windows in one gradient step on a small panel; ``schedule`` has those of large ones.
    network
        Key of ``networks.build.NETWORKS``. One that is fitted in closed form leaves what it does not need at its
        default.
    steps
        Feature vectors in a window; ``None``: the setting ``SEQUENCE_LENGTH``.
    members
        The variants that an ensemble combines.
    """

    name: str
    layers: int = 1
    hidden: int = 1
    dropout: float = 0.0
    epochs: int = 1
    learning_rate: float = 1e-3
    batch_size: int = 64
    weight_decay: float = 1e-4
    patience: int = 6
    network: str = "lstm"
    steps: int | None = None
    members: tuple[Variant, ...] = ()

    def __post_init__(self) -> None:
        # Read from JSON, a member is a mapping.
        members: Iterable[Variant | Mapping[str, Any]] = self.members
        object.__setattr__(self, "members", tuple(Variant(**m) if isinstance(m, Mapping) else m for m in members))
        for field in ("layers", "hidden", "epochs", "batch_size", "patience"):
            if getattr(self, field) < 1:
                raise TrainingError(f"variant {self.name!r}: {field} must be at least 1, not {getattr(self, field)}")
        if not 0.0 <= self.dropout < 1.0:
            raise TrainingError(f"variant {self.name!r}: dropout must lie in [0, 1), not {self.dropout}")
        if not self.learning_rate > 0.0 or not self.weight_decay >= 0.0:
            raise TrainingError(f"variant {self.name!r}: learning_rate must be positive and weight_decay not negative")
        if self.steps is not None and self.steps < 1:
            raise TrainingError(f"variant {self.name!r}: steps must be at least 1, not {self.steps}")
        for member in self.members:
            if member.steps != self.steps or member.members:
                raise TrainingError(
                    f"variant {self.name!r}: its member {member.name!r} must read windows of the same steps and be no "
                    "ensemble itself: members share scaler and blocks"
                )

    def schedule(self, windows: int) -> Schedule:
        """How to train on a fit block of ``windows`` windows; up to ``SMALL_PANEL`` with the variant's own settings.

        The batch grows in proportion to the fit block, in powers of two: at a given learning rate the ratio of the two
        sets the noise of the steps, and its best value stays the same (Smith & Le 2018, "A Bayesian perspective on
        generalization and stochastic gradient descent"). The learning rate grows with the square root of the batch,
        which keeps the path of an adaptive optimiser the same (Malladi et al. 2022, "On the SDEs and scaling rules for
        adaptive gradient algorithms"). An epoch is limited, so that early stopping looks at the stop block every 48
        gradient steps or so, as on a small panel, however large the universe. ``benchmarks/training.py --compare``
        holds this against full passes in small batches.
        """
        growth = min(2 ** int(math.log2(max(windows / SMALL_PANEL, 1.0))), MOST_GROWTH)
        return Schedule(
            batch_size=self.batch_size * growth,
            learning_rate=self.learning_rate * math.sqrt(growth),
            epoch_windows=min(windows, EPOCH_WINDOWS),
        )

    def window(self, sequence_length: int) -> int:
        """Feature vectors in a window, where ``SEQUENCE_LENGTH`` is ``sequence_length``."""
        return sequence_length if self.steps is None else self.steps

    def limited(self, epochs: int | None) -> Variant:
        """The same with at most so many epochs, as its members; ``None``: no other limit than its own."""
        if epochs is None:
            return self
        members = tuple(member.limited(epochs) for member in self.members)
        return replace(self, epochs=min(self.epochs, epochs), members=members)

    def hyperparameters(self) -> dict[str, Any]:
        """The settings as a JSON-serialisable mapping, from which ``Variant(**...)`` makes the same variant."""
        return {**asdict(self), "members": [member.hyperparameters() for member in self.members]}


_SINGLE = (
    Variant("baseline", layers=1, hidden=24, dropout=0.05, epochs=12, learning_rate=3e-3),
    Variant("enhanced", layers=2, hidden=64, dropout=0.2, epochs=25, learning_rate=5e-4),
    Variant("lightweight", layers=1, hidden=32, dropout=0.1, epochs=15, learning_rate=1e-3),
    Variant("advanced", network="multiscale", steps=48, hidden=96, dropout=0.3, epochs=40, patience=15),
    Variant("attention", network="attention", layers=3, hidden=128, dropout=0.2, epochs=25, learning_rate=5e-4),
    Variant("transformer", network="transformer", steps=60, layers=2, hidden=64, dropout=0.2, epochs=15, patience=4),
    Variant("linear", network="linear"),
    Variant("boosted", network="boosted", hidden=15, epochs=150, learning_rate=0.05, weight_decay=1.0, patience=10),
)

_MEMBERS = ("baseline", "enhanced", "lightweight", "linear")
"""What the ensemble combines, as far as it is made: networks and regressions that read windows of one length."""

VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        variant.name: variant
        for variant in (
            *_SINGLE,
            Variant("ensemble", network="ensemble", members=tuple(v for v in _SINGLE if v.name in _MEMBERS)),
        )
    }
)
"""All variants by name. A line in the tuple adds one, with its assets, checks and served model; another architecture
also needs a constructor in ``networks.build.NETWORKS``."""

_FEWEST_MEMBERS = 2


def choose_variants(names: Iterable[str]) -> tuple[Variant, ...]:
    """The variants of these names in the order of ``VARIANTS``, ensembles of those members that are chosen, too.

    Raises
    ------
    SettingsError
        A name is unknown, or an ensemble has not two members among the others.
    """
    names = tuple(names)
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        raise SettingsError(f"VARIANTS: got {', '.join(unknown)}; allowed are {', '.join(VARIANTS)}")
    return tuple(_of_chosen(variant, names) for name, variant in VARIANTS.items() if name in names)


def _of_chosen(variant: Variant, names: tuple[str, ...]) -> Variant:
    members = tuple(member for member in variant.members if member.name in names)
    if variant.members and len(members) < _FEWEST_MEMBERS:
        candidates = ", ".join(member.name for member in variant.members)
        raise SettingsError(
            f"VARIANTS: {variant.name} combines others: name at least {_FEWEST_MEMBERS} of {candidates}, too"
        )
    return replace(variant, members=members)
