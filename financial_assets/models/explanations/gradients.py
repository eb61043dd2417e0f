"""Integrated gradients: how much each input of a window moved an answer away from that of an average window.

Sundararajan, Taly & Yan (2017), Axiomatic attribution for deep networks. The path begins at the window whose features
all lie at their median in the fit block (zero, once scaled) and ends at the window that is explained. Attributions are
in the unit of the answer and add up to the difference of the two answers; how well they do is the completeness error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from financial_assets.models.explanations.held_out import HeldOut
from financial_assets.models.heads import HeadOutputs
from financial_assets.scoring.intervals import Interval, day_clustered_mean

ANSWERS: Mapping[str, Callable[[HeadOutputs], Tensor]] = MappingProxyType(
    {
        "direction": lambda outputs: outputs.logit[:, 0],
        "median": lambda outputs: outputs.multiples[:, 2],
        "spread": lambda outputs: outputs.multiples[:, 3] - outputs.multiples[:, 1],
        "median_5d": lambda outputs: outputs.multiples_5d[:, 2],
        "spread_5d": lambda outputs: outputs.multiples_5d[:, 3] - outputs.multiples_5d[:, 1],
        "score": lambda outputs: outputs.score[:, 0],
    }
)
"""Answers that are explained, each a number per window: the logit; median and 5-to-95-% spread of the return over one
session and over five, in units of volatility; the score."""

_STEPS = 64
_TOGETHER = 2048
_TOP = 12


@dataclass(frozen=True)
class FamilyAttribution:
    """What the features of a family moved.

    Attributes
    ----------
    family
        Name.
    magnitude
        Sum over its features of the absolute attribution, mean over windows, with day-clustered interval.
    share
        Of the magnitudes of all families.
    """

    family: str
    magnitude: Interval
    share: float


@dataclass(frozen=True)
class FeatureAttribution:
    """What one feature moved: mean absolute and mean signed attribution over windows, steps added up."""

    feature: str
    family: str
    magnitude: float
    mean: float


@dataclass(frozen=True)
class AnswerAttribution:
    """What moved one answer.

    Attributes
    ----------
    answer
        Key of ``ANSWERS``.
    families
        Largest first.
    features
        The largest ones.
    steps
        Mean absolute attribution of each step of the window, oldest first.
    completeness_error
        Largest difference between the sum of a window's attributions and what it explains, over the mean size of what
        is explained; 0 where nothing moves.
    windows
        How many were explained.
    """

    answer: str
    families: tuple[FamilyAttribution, ...]
    features: tuple[FeatureAttribution, ...]
    steps: tuple[float, ...]
    completeness_error: float
    windows: int


def integrated_gradients(held_out: HeldOut, *, most: int, level: float = 0.95) -> tuple[AnswerAttribution, ...]:
    """Attributions of every answer on about ``most`` windows of evenly spaced days.

    The volatility forecast beside the inputs keeps its value: it is no feature of the network's.
    """
    from captum.attr import IntegratedGradients  # whoever only reads a stored explanation need not wait for it

    positions = held_out.days(most)
    batch, dates = held_out.batch(positions), held_out.dates[positions]

    def answer(inputs: Tensor, volatility: Tensor) -> Tensor:
        outputs = held_out.network(inputs, volatility)
        return torch.stack([pick(outputs) for pick in ANSWERS.values()], dim=1)

    method = IntegratedGradients(answer)
    found: list[AnswerAttribution] = []
    for place, name in enumerate(ANSWERS):
        parts = [
            method.attribute(
                inputs,
                torch.zeros_like(inputs),
                target=place,
                additional_forward_args=(volatility,),
                n_steps=_STEPS,
                internal_batch_size=max(_TOGETHER, len(inputs)),
            )
            for inputs, volatility in zip(
                batch.inputs.split(_TOGETHER // 8), batch.volatility.split(_TOGETHER // 8), strict=True
            )
        ]
        attributions = torch.cat(parts).detach().double().numpy()
        with torch.no_grad():
            explained = answer(batch.inputs, batch.volatility) - answer(
                torch.zeros_like(batch.inputs), batch.volatility
            )
        error = _completeness_error(attributions, explained[:, place].double().numpy())
        found.append(_aggregated(held_out, name, attributions, dates, error, level))
    return tuple(found)


def _completeness_error(attributions: np.ndarray, explained: np.ndarray) -> float:
    size = float(np.abs(explained).mean())
    return float(np.abs(attributions.sum(axis=(1, 2)) - explained).max()) / size if size else 0.0


def _aggregated(
    held_out: HeldOut, answer: str, attributions: np.ndarray, dates: np.ndarray, error: float, level: float
) -> AnswerAttribution:
    """Attributions ``[window, step, feature]`` by family, feature and step."""
    by_feature = attributions.sum(axis=1)
    size = np.abs(by_feature)
    total = float(size.sum(axis=1).mean())
    families = [
        FamilyAttribution(
            family,
            day_clustered_mean(size[:, list(places)].sum(axis=1), dates, level),
            float(size[:, list(places)].sum(axis=1).mean()) / total if total else 0.0,
        )
        for family, places in held_out.families.items()
    ]
    family_of = {place: family for family, places in held_out.families.items() for place in places}
    largest = np.argsort(-size.mean(axis=0), kind="stable")[:_TOP]
    return AnswerAttribution(
        answer=answer,
        families=tuple(sorted(families, key=lambda family: -family.magnitude.estimate)),
        features=tuple(
            FeatureAttribution(
                held_out.feature_names[place],
                family_of[place],
                float(size[:, place].mean()),
                float(by_feature[:, place].mean()),
            )
            for place in largest
        ),
        steps=tuple(float(value) for value in np.abs(attributions).sum(axis=2).mean(axis=0)),
        completeness_error=error,
        windows=len(attributions),
    )
