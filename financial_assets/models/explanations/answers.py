"""What moved single answers: integrated gradients of the windows that were served, by feature family.

The same method as for a whole model (``explanations.gradients``), for the answers that somebody is about to trade by.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from financial_assets.features.graph import FeatureGraph
from financial_assets.models.devices import reproducible
from financial_assets.models.explanations.gradients import ANSWERS
from financial_assets.models.explanations.held_out import families_in
from financial_assets.models.predictor import build_predictor
from financial_assets.models.training import Training

_STEPS = 128


@dataclass(frozen=True)
class Contribution:
    """What a family, or one feature of it, moved an answer by; ``share`` of the absolute contributions of all."""

    name: str
    contribution: float
    share: float


@dataclass(frozen=True)
class AnswerExplanation:
    """Why one answer is what it is.

    Attributes
    ----------
    answer
        Key of ``gradients.ANSWERS``.
    value, baseline
        The network's answer, and its answer where every feature lies at its median of the fit block. Uncalibrated: the
        logit of up; quantiles in units of the volatility; the score.
    families, features
        Contributions, largest first; those of all families add up to ``value - baseline``.
    completeness_error
        How far they do not.
    """

    answer: str
    value: float
    baseline: float
    families: tuple[Contribution, ...]
    features: tuple[Contribution, ...]
    completeness_error: float


def explain_answers(
    training: Training, graph: FeatureGraph, bars: np.ndarray, *, most_features: int = 12
) -> tuple[AnswerExplanation, ...]:
    """Explanations of all answers for one window; empty for a model without gradients (trees).

    Parameters
    ----------
    training
        The model behind the served version.
    graph
        The feature graph that it was trained with.
    bars
        The request: float32 ``[SERVED_LOOKBACK, channel]``, oldest first.
    most_features
        Single features that are named.

    Raises
    ------
    ExportError
        ``graph`` does not compute the features that the training used.
    """
    from captum.attr import IntegratedGradients  # seconds

    predictor = build_predictor(training, graph)
    families = families_in(training.feature_names, {feature.name: feature.family for feature in graph.features})
    with torch.no_grad():
        features, volatility = predictor.prepare(torch.from_numpy(np.ascontiguousarray(bars))[None])
        inputs = predictor.scaler(features)

    def answer(batch: Tensor, forecast: Tensor) -> Tensor:
        outputs = predictor.network(batch, forecast)
        return torch.stack([pick(outputs) for pick in ANSWERS.values()], dim=1)

    with reproducible(training.seed, torch.device("cpu"), torch.get_num_threads()):
        if not _has_gradients(predictor.network, inputs, volatility):
            return ()
        method = IntegratedGradients(answer)
        with torch.no_grad():
            value = answer(inputs, volatility)[0].double().numpy()
            baseline = answer(torch.zeros_like(inputs), volatility)[0].double().numpy()
        found: list[AnswerExplanation] = []
        for place, name in enumerate(ANSWERS):
            attributed = method.attribute(
                inputs, torch.zeros_like(inputs), target=place, additional_forward_args=(volatility,), n_steps=_STEPS
            )
            by_feature = attributed.detach().double().numpy()[0].sum(axis=0)
            by_family = {family: float(by_feature[list(places)].sum()) for family, places in families.items()}
            found.append(
                AnswerExplanation(
                    answer=name,
                    value=float(value[place]),
                    baseline=float(baseline[place]),
                    families=_largest(by_family, len(by_family)),
                    features=_largest(
                        dict(zip(training.feature_names, by_feature.tolist(), strict=True)), most_features
                    ),
                    completeness_error=abs(float(by_feature.sum() - (value[place] - baseline[place]))),
                )
            )
    return tuple(found)


def _has_gradients(network: torch.nn.Module, inputs: Tensor, volatility: Tensor) -> bool:
    with torch.enable_grad():
        outputs: tuple[Tensor, ...] = network(inputs.detach().clone().requires_grad_(), volatility)
    return any(output.requires_grad for output in outputs)


def _largest(contributions: dict[str, float], most: int) -> tuple[Contribution, ...]:
    size = sum(abs(value) for value in contributions.values())
    order = sorted(contributions, key=lambda name: (-abs(contributions[name]), name))[:most]
    return tuple(
        Contribution(name, contributions[name], abs(contributions[name]) / size if size else 0.0) for name in order
    )
