"""Ablation: the model is trained again without a family of features. It is the one question that costs trainings.

A permutation asks what *this* model makes of a family; an ablation asks what no other family could have replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from financial_assets.errors import TrainingError
from financial_assets.features.graph import FeaturePanel
from financial_assets.market.panel import PricePanel
from financial_assets.models.explanations.held_out import daily_means
from financial_assets.models.explanations.losses import COLUMNS, losses_of_answers
from financial_assets.models.training import Training, train
from financial_assets.scoring.autocorrelation import long_run_mean
from financial_assets.scoring.intervals import Interval


@dataclass(frozen=True)
class FamilyAblation:
    """What is lost without a family.

    Attributes
    ----------
    family
        Name.
    losses
        Head, and ``total`` -> held-out loss without the family minus that with it, mean over seeds and rows, with an
        interval that allows for days that move together.
    by_seed
        The rise of the total loss of each seed: how far two trainings differ by chance.
    """

    family: str
    losses: dict[str, Interval]
    by_seed: tuple[float, ...]


def ablate(
    training: Training,
    features: FeaturePanel,
    panel: PricePanel,
    families: Mapping[str, Sequence[int]],
    *,
    chosen: Sequence[str] = (),
    seeds: int = 1,
    device: str = "auto",
    level: float = 0.95,
    on_training: Callable[[str, int], None] = lambda family, seed: None,
) -> tuple[FamilyAblation, ...]:
    """Train without each family and compare on the same held-out windows; the largest rise of the total loss first.

    All else is the same: data, blocks, settings, seed and code of the training.

    Parameters
    ----------
    training
        The model with all families.
    features, panel
        What it was trained on.
    families
        Family -> places of its features.
    chosen
        Families to leave out, one at a time; default: each.
    seeds
        Trainings of each, the first one with the seed of ``training``; the model itself is trained anew for the others.
    device
        Where to train.
    level
        Confidence.
    on_training
        Told of every training that begins: family left out (empty: none) and seed.

    Raises
    ------
    TrainingError
        A family is unknown, or is all that there is.
    """
    unknown = sorted(set(chosen) - set(families))
    if unknown or seeds < 1:
        raise TrainingError(f"no family {', '.join(unknown) or 'at all'}; there are {', '.join(families)}; seeds >= 1")
    if len(families) < 2:
        raise TrainingError("a model of one family has nothing left without it")

    def losses(left_out: str, seed: int) -> np.ndarray:
        on_training(left_out, seed)
        masked = without(features, families[left_out]) if left_out else features
        return losses_of_answers(
            train(
                training.variant,
                masked,
                panel,
                cutoff=training.cutoff,
                sequence_length=training.sequence_length,
                seed=seed,
                device=device,
            ).held_out
        )

    used = [training.seed + number for number in range(seeds)]
    whole = [losses_of_answers(training.held_out), *(losses("", seed) for seed in used[1:])]
    found: list[FamilyAblation] = []
    for family in chosen or families:
        rises = [losses(family, seed) - base for seed, base in zip(used, whole, strict=True)]
        daily = daily_means(np.mean(rises, axis=0), training.held_out.session)
        means = {name: long_run_mean(daily[:, column], level).interval for column, name in enumerate(COLUMNS)}
        found.append(FamilyAblation(family, means, tuple(float(rise[:, -1].mean()) for rise in rises)))
    return tuple(sorted(found, key=lambda ablation: -ablation.losses["total"].estimate))


def without(features: FeaturePanel, places: Sequence[int]) -> FeaturePanel:
    """The panel with constant features at ``places``: the scaler makes zeros of them, which say nothing."""
    values = features.values.copy()
    values[:, list(places)] = 0.0
    return replace(features, values=values)
