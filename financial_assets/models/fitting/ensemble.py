"""Fits ``EnsembleNetwork``: the weights of trained members, from the stop block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from financial_assets.errors import TrainingError
from financial_assets.models.dataset import Batch, WindowDataset
from financial_assets.models.fitting.rows import sample
from financial_assets.models.heads import HeadOutputs, training_loss
from financial_assets.models.networks.ensemble import TERCILES, EnsembleNetwork
from financial_assets.models.training_data import TrainingData
from financial_assets.models.variants import Variant

__all__ = ["fit_ensemble"]

_MOST_WINDOWS = 16_384
"""Of the stop block; the weights are a few dozen numbers."""

_BATCH = 1024

_PRIOR_DEVIATION = 1.0
"""Standard deviation of the prior on the logarithm of a weight. Equal weights are hard to beat, and fitted ones lose to
them where they are free (Smith & Wallis 2009, "A simple explanation of the forecast combination puzzle")."""

_LEAST_GAP = 1e-3
"""Between the centres of two terciles, in log volatility: a market of constant volatility has but one."""


def fit_ensemble(network: EnsembleNetwork, variant: Variant, data: TrainingData, seed: int) -> Mapping[str, float]:
    """Fit the weights in place, on the stop block.

    Weights are ``softmax`` of numbers with a normal prior around zero, equal weights; the sessions of the block count
    once each, however many tickers traded. Members have used the block to choose their epoch or their regularisation,
    which is a few bits, and nothing has seen the calibrate block.

    Parameters
    ----------
    network, variant
        Its members are trained; the variant has no setting that matters here.
    data
        With scaled features, those of the members.
    seed
        Of the windows of a large block.

    Returns
    -------
    Mapping
        The weights of each member by head, at usual volatility, and how far the members' probabilities lie apart on the
        calibrate block.
    """
    network.eval()
    batch, outputs = _answers(network, data.stop, sample(len(data.stop), _MOST_WINDOWS, seed))
    network.centres.copy_(_centres(batch.volatility[:, 0]))
    sessions = len(np.unique(data.stop.sessions))
    shape = network.weights.shape

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        point = torch.from_numpy(flat).view(shape).requires_grad_()
        weights = torch.softmax(point, dim=-1)
        loss = sessions * training_loss(network.combine(outputs, batch.volatility, weights), batch)
        penalised = loss + (point**2).sum() / (2.0 * _PRIOR_DEVIATION**2)
        penalised.backward()
        assert point.grad is not None
        return penalised.item(), point.grad.numpy().ravel()

    found = minimize(objective, np.zeros(shape.numel()), jac=True, method="L-BFGS-B")
    if not np.isfinite(found.fun):
        raise TrainingError("the members of the ensemble give no finite loss on the stop block: look for absurd prices")
    network.weights.copy_(torch.softmax(torch.from_numpy(found.x).view(shape), dim=-1))
    return _details(network, data.calibrate, sample(len(data.calibrate), _MOST_WINDOWS, seed))


@torch.no_grad()
def _answers(network: EnsembleNetwork, windows: WindowDataset, chosen: Tensor) -> tuple[Batch, list[HeadOutputs]]:
    """Labels and volatility of the chosen windows, and what each member answers, in float64."""
    batches = list(windows.batches(_BATCH, chosen))
    answered = [network.outputs(batch.inputs, batch.volatility) for batch in batches]
    outputs = [HeadOutputs(*map(_joined, zip(*parts, strict=True))) for parts in zip(*answered, strict=True)]
    empty = torch.empty(len(chosen), 0)
    labels = (_joined(part) for part in list(zip(*batches, strict=True))[1:])
    return Batch(empty, *labels), outputs


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts)).double()


def _centres(volatility: Tensor) -> Tensor:
    """Median log volatility of each tercile, ascending."""
    shares = (2.0 * np.arange(TERCILES) + 1.0) / (2.0 * TERCILES)
    low, middle, high = np.quantile(np.log(volatility.numpy()), shares)
    return torch.tensor([min(low, middle - _LEAST_GAP), middle, max(high, middle + _LEAST_GAP)], dtype=torch.float32)


@torch.no_grad()
def _details(network: EnsembleNetwork, windows: WindowDataset, chosen: Tensor) -> Mapping[str, float]:
    _, outputs = _answers(network, windows, chosen)
    probabilities = torch.sigmoid(torch.cat([answers.logit for answers in outputs], dim=1))
    usual = network.weights[:, TERCILES // 2].tolist()
    weights = {
        f"weight of {member} in {head}": weight
        for head, by_member in zip(HeadOutputs._fields, usual, strict=True)
        for member, weight in zip(network.members, by_member, strict=True)
    }
    spread = float(probabilities.std(dim=1, correction=0).mean())
    return {**weights, "spread of the members' probabilities": spread}
