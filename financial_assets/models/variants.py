"""The model variants: one frozen line each.

``baseline`` and ``enhanced`` keep the sizes, epochs and rates of the system this project replaces, so that the two can
be compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType

from financial_assets.errors import TrainingError

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
        Stacked recurrent layers and units in each.
    dropout
        Probability of dropping a unit after each recurrent layer, in ``[0, 1)``.
    epochs, patience
        Upper limit of epochs; epochs without a better stop-block loss before training ends. An epoch is a pass over the
        fit block, or over ``EPOCH_WINDOWS`` windows of a larger one.
    learning_rate, weight_decay
        Of AdamW; ``schedule`` raises the rate on large panels.
    batch_size
        Windows in one gradient step on a small panel; ``schedule`` has those of large ones.
    network
        Key of ``networks.NETWORKS``.
    """

    name: str
    layers: int
    hidden: int
    dropout: float
    epochs: int
    learning_rate: float
    batch_size: int = 64
    weight_decay: float = 1e-4
    patience: int = 6
    network: str = "lstm"

    def __post_init__(self) -> None:
        for field in ("layers", "hidden", "epochs", "batch_size", "patience"):
            if getattr(self, field) < 1:
                raise TrainingError(f"variant {self.name!r}: {field} must be at least 1, not {getattr(self, field)}")
        if not 0.0 <= self.dropout < 1.0:
            raise TrainingError(f"variant {self.name!r}: dropout must lie in [0, 1), not {self.dropout}")
        if not self.learning_rate > 0.0 or not self.weight_decay >= 0.0:
            raise TrainingError(f"variant {self.name!r}: learning_rate must be positive and weight_decay not negative")

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

    def hyperparameters(self) -> dict[str, str | int | float]:
        """The settings as a flat, JSON-serialisable mapping."""
        return asdict(self)


VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        variant.name: variant
        for variant in (
            Variant("baseline", layers=1, hidden=24, dropout=0.05, epochs=12, learning_rate=3e-3),
            Variant("enhanced", layers=2, hidden=64, dropout=0.2, epochs=25, learning_rate=5e-4),
            Variant("lightweight", layers=1, hidden=32, dropout=0.1, epochs=15, learning_rate=1e-3),
        )
    }
)
"""All variants by name. A line in the tuple adds one, with its assets, checks and served model; another architecture
also needs a constructor in ``networks.NETWORKS``."""
