"""The model variants: one frozen line each.

``baseline`` and ``enhanced`` keep the sizes, epochs and rates of the system this project replaces, so that the two can
be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType

from financial_assets.errors import TrainingError


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
        Upper limit of passes over the fit block; passes without a better stop-block loss before training ends.
    learning_rate, weight_decay
        Of AdamW.
    batch_size
        Windows in one gradient step.
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
