"""A network's uncalibrated answers beside what happened."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from financial_assets.models.dataset import WindowDataset
from financial_assets.models.training_data import TrainingData

_BATCH = 1024


@dataclass(frozen=True, eq=False)
class Answers:
    """Uncalibrated answers on windows with known outcomes, chronological; all numbers are float64.

    Attributes
    ----------
    session
        datetime64 ``[n]``: the decision sessions.
    ticker
        str ``[n]``.
    logit
        ``[n]``.
    multiples, multiples_5d
        ``[n, 5]``: quantiles over the next session and over five, in units of the columns of ``volatility``.
    score
        ``[n]``, see ``HeadOutputs``.
    outcome, outcome_5d
        ``[n]``: the log returns that followed over the next session and over five.
    excess
        ``[n]``: next session's log return minus the market's, in units of the stock's causal volatility.
    volatility
        ``[n, 2]``: forecast standard deviations of ``outcome`` and ``outcome_5d``.
    """

    session: np.ndarray
    ticker: np.ndarray
    logit: np.ndarray
    multiples: np.ndarray
    multiples_5d: np.ndarray
    score: np.ndarray
    outcome: np.ndarray
    outcome_5d: np.ndarray
    excess: np.ndarray
    volatility: np.ndarray

    def __len__(self) -> int:
        return len(self.logit)

    @property
    def up(self) -> np.ndarray:
        """Whether the next close was higher, bool ``[n]``."""
        return self.outcome > 0

    @property
    def scaled_return(self) -> np.ndarray:
        """The outcome in units of the volatility forecast for it ``[n]``."""
        return self.outcome / self.volatility[:, 0]

    @property
    def scaled_return_5d(self) -> np.ndarray:
        """The outcome over five sessions in units of the volatility forecast for it ``[n]``."""
        return self.outcome_5d / self.volatility[:, 1]

    @property
    def correct(self) -> np.ndarray:
        """Whether the sign of the uncalibrated logit was right, bool ``[n]``."""
        return (self.logit > 0) == self.up

    @property
    def majority_rate(self) -> float:
        """Share of the commoner direction: the accuracy of the best constant answer in hindsight."""
        share = float(self.up.mean())
        return max(share, 1.0 - share)


@torch.no_grad()
def answer_windows(network: nn.Module, data: TrainingData, windows: WindowDataset) -> Answers:
    """Answers of ``network`` (evaluation mode, CPU) on ``windows`` of ``data``, whose features are scaled."""
    network.eval()
    outputs = [network(batch.inputs, batch.volatility) for batch in windows.batches(_BATCH)]
    logit, multiples, multiples_5d, score = (torch.cat(parts).double().numpy() for parts in zip(*outputs, strict=True))
    outcome, outcome_5d, excess, volatility = (label.double().numpy() for label in windows.labels)
    return Answers(
        session=data.sessions.to_numpy()[windows.sessions],
        ticker=np.asarray(data.tickers, dtype=str)[windows.tickers],
        logit=logit[:, 0],
        multiples=multiples,
        multiples_5d=multiples_5d,
        score=score[:, 0],
        outcome=outcome[:, 0],
        outcome_5d=outcome_5d[:, 0],
        excess=excess[:, 0],
        volatility=volatility,
    )
