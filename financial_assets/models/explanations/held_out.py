"""The windows on which a model is explained: those of its calibrate block, which its weights never saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from financial_assets.errors import TrainingError
from financial_assets.features.graph import FeaturePanel
from financial_assets.market.panel import PricePanel
from financial_assets.models.dataset import Batch, WindowDataset
from financial_assets.models.training import Training
from financial_assets.models.training_data import TrainingData


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A network and the windows that it is asked about.

    Attributes
    ----------
    network
        On the CPU, in evaluation mode.
    windows
        With scaled features, chronological.
    dates
        datetime64 ``[n]``: decision session of each window.
    families
        Feature family -> places of its features.
    feature_names
        In the order of the inputs.
    """

    network: nn.Module
    windows: WindowDataset
    dates: np.ndarray
    families: Mapping[str, tuple[int, ...]]
    feature_names: tuple[str, ...]

    @classmethod
    def of(cls, training: Training, features: FeaturePanel, panel: PricePanel, family_of: Mapping[str, str]) -> HeldOut:
        """The calibrate block of a training.

        Parameters
        ----------
        training
            The model.
        features, panel
            What it was trained on.
        family_of
            Feature -> family.

        Raises
        ------
        TrainingError
            The features are not those of the training.
        """
        if tuple(features.names) != training.feature_names or not set(features.names) <= set(family_of):
            raise TrainingError(
                f"variant {training.variant.name!r} was trained on {len(training.feature_names)} other features than "
                f"the {len(features.names)} of now: materialize models/{training.variant.name}"
            )
        data = TrainingData.until(training.cutoff, features, panel, sequence_length=training.sequence_length)
        data = data.scaled(training.scaler)
        return cls(
            network=training.network.eval(),
            windows=data.calibrate,
            dates=data.sessions.to_numpy()[data.calibrate.sessions],
            families=families_in(training.feature_names, family_of),
            feature_names=training.feature_names,
        )

    def __len__(self) -> int:
        return len(self.windows)

    def days(self, most: int) -> np.ndarray:
        """Positions of all windows of evenly spaced days, at most about ``most`` windows: whole days, in order."""
        days = np.unique(self.dates)
        kept = max(int(len(days) * min(most / len(self), 1.0)), min(len(days), 2))
        chosen = days[np.unique(np.linspace(0, len(days) - 1, kept).round().astype(int))]
        return np.flatnonzero(np.isin(self.dates, chosen))

    def batch(self, positions: np.ndarray) -> Batch:
        """The windows at ``positions``."""
        return self.windows.gather(torch.from_numpy(positions))


def families_in(names: tuple[str, ...], family_of: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """Family -> places of its features among ``names``, in the order in which families first appear."""
    found: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        found.setdefault(family_of[name], []).append(place)
    return {family: tuple(places) for family, places in found.items()}


def daily_means(values: np.ndarray, dates: np.ndarray) -> np.ndarray:
    """Mean of the rows of each day ``[day, ...]``, in order of time, of rows ``[n, ...]``."""
    frame = pd.DataFrame(values.reshape(len(values), -1))
    return frame.groupby(dates, sort=True).mean().to_numpy().reshape(-1, *values.shape[1:])


def is_differentiable(network: nn.Module, batch: Batch) -> bool:
    """Whether an answer depends on the inputs through gradients: not so for trees."""
    inputs = batch.inputs[:1].detach().clone().requires_grad_()
    with torch.enable_grad():
        outputs: tuple[Tensor, ...] = network(inputs, batch.volatility[:1])
    return any(output.requires_grad for output in outputs)
