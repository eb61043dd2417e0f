"""Losses of each row and head, as ``models.heads.head_losses`` averages them."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss

from financial_assets.models.answers import Answers
from financial_assets.models.dataset import Batch
from financial_assets.models.heads import HEADS, HeadOutputs
from financial_assets.scoring.quantiles import QUANTILE_LEVELS

TOTAL = "total"
COLUMNS = (*HEADS, TOTAL)
"""Columns of the losses: each head, and their sum, which is what training minimises."""


def row_losses(outputs: HeadOutputs, batch: Batch) -> np.ndarray:
    """Losses ``[n, 5]``, float64: columns as in ``COLUMNS``."""
    heads = torch.stack(
        [
            binary_cross_entropy_with_logits(outputs.logit, batch.up, reduction="none")[:, 0],
            _pinball(outputs.multiples, batch.scaled_return),
            _pinball(outputs.multiples_5d, batch.scaled_return_5d),
            huber_loss(outputs.score, batch.excess, reduction="none")[:, 0],
        ],
        dim=1,
    )
    found = heads.double().numpy()
    return np.column_stack([found, found.sum(axis=1)])


def losses_of_answers(answers: Answers) -> np.ndarray:
    """The same of answers that are kept."""

    def column(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.asarray(values, dtype=np.float64).reshape(len(answers), -1))

    outputs = HeadOutputs(
        *(column(part) for part in (answers.logit, answers.multiples, answers.multiples_5d, answers.score))
    )
    batch = Batch(
        torch.empty(0),
        column(answers.up),
        column(answers.scaled_return),
        column(answers.scaled_return_5d),
        column(answers.excess),
        column(answers.volatility),
    )
    return row_losses(outputs, batch)


def _pinball(multiples: torch.Tensor, scaled_return: torch.Tensor) -> torch.Tensor:
    error = scaled_return - multiples
    levels = torch.tensor(QUANTILE_LEVELS, dtype=error.dtype)
    return torch.maximum(levels * error, (levels - 1.0) * error).mean(dim=1)
