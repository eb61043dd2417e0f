"""The whole explanation of a trained model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from financial_assets.features.graph import FeatureGraph, FeaturePanel
from financial_assets.market.panel import PricePanel
from financial_assets.market.universe import Universe
from financial_assets.models.answers import Answers
from financial_assets.models.devices import reproducible
from financial_assets.models.explanations.ablation import ablate
from financial_assets.models.explanations.explanation import Explanation
from financial_assets.models.explanations.gradients import integrated_gradients
from financial_assets.models.explanations.held_out import HeldOut, is_differentiable
from financial_assets.models.explanations.permutation import permutation_importance
from financial_assets.models.explanations.segments import group_labels, view_segments
from financial_assets.models.heads import HeadOutputs
from financial_assets.models.training import Training
from financial_assets.scoring.quantiles import QUANTILE_LEVELS


@dataclass(frozen=True)
class ExplanationPlan:
    """How much work an explanation is.

    Attributes
    ----------
    gradient_windows, permutation_windows
        Held-out windows at most, about; whole days are left out beyond.
    repeats
        Exchanges of a family that are averaged.
    ablation
        Whether to train without each family: as many trainings as there are families.
    families
        Only these are left out; default: each.
    seeds
        Trainings of each.
    """

    gradient_windows: int = 512
    permutation_windows: int = 4096
    repeats: int = 5
    ablation: bool = False
    families: tuple[str, ...] = ()
    seeds: int = 1


def explain(
    training: Training,
    fingerprint: str,
    graph: FeatureGraph,
    features: FeaturePanel,
    panel: PricePanel,
    *,
    universe: Universe | None = None,
    plan: ExplanationPlan | None = None,
    device: str = "auto",
    on_step: Callable[[str], None] = lambda step: None,
) -> Explanation:
    """Explain a model on its calibrate block, which its weights never saw. Nothing later is read.

    Parameters
    ----------
    training, fingerprint
        The model.
    graph, features, panel
        What it was trained on.
    universe
        Sectors.
    plan
        How much to do.
    device
        Where ablations are trained; all else is computed on the CPU.
    on_step
        Told of every part that begins.

    Raises
    ------
    TrainingError
        The features are others than those of the training, or there are too few held-out days.
    """
    plan = plan or ExplanationPlan()
    held_out = HeldOut.of(training, features, panel, {feature.name: feature.family for feature in graph.features})
    with reproducible(training.seed, torch.device("cpu"), torch.get_num_threads()):
        has_gradients = is_differentiable(held_out.network, held_out.batch(np.arange(1)))
        on_step("integrated gradients" if has_gradients else "a model without gradients: permutation only")
        gradients = integrated_gradients(held_out, most=plan.gradient_windows) if has_gradients else ()
        on_step("permutation importance")
        permutation = permutation_importance(
            held_out, repeats=plan.repeats, most=plan.permutation_windows, seed=training.seed
        )
    ablation = ()
    if plan.ablation:
        ablation = ablate(
            training,
            features,
            panel,
            held_out.families,
            chosen=plan.families,
            seeds=plan.seeds,
            device=device,
            on_training=lambda family, seed: on_step(f"training without {family or 'nothing'}, seed {seed}"),
        )
    on_step("errors by group")
    rows = calibrated_rows(training, training.held_out)
    segments = view_segments(rows, group_labels(rows, panel, universe))
    first, last = (f"{day:%Y-%m-%d}" for day in training.spans["calibrate"])
    return Explanation(training.variant.name, fingerprint, first, last, gradients, permutation, ablation, segments)


@torch.no_grad()
def calibrated_rows(training: Training, answers: Answers) -> pd.DataFrame:
    """Calibrated answers as rows of a forecast table: date, ticker, probability, quantiles, volatility, outcome."""

    def column(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.asarray(values, dtype=np.float32).reshape(len(answers), -1))

    outputs = HeadOutputs(*map(column, (answers.logit, answers.multiples, answers.multiples_5d, answers.score)))
    answer = training.calibration(outputs, column(answers.volatility))
    quantiles: Sequence[str] = [f"q{100 * level:02.0f}" for level in QUANTILE_LEVELS]
    rows = pd.DataFrame(answer.return_quantiles.double().numpy(), columns=list(quantiles))
    return rows.assign(
        date=answers.session,
        ticker=answers.ticker,
        probability_up=answer.probability_up[:, 0].double().numpy(),
        volatility=answers.volatility[:, 0],
        outcome=answers.outcome,
    )
