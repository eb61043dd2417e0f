"""A network's uncalibrated answers beside what happened."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from financial_assets.models.dataset import WindowDataset
from financial_assets.models.training_data import TrainingData

_BATCH = 1024


@dataclass(frozen=True, eq=False)
class Answers:
    """Uncalibrated answers on windows with known outcomes, chronological.

    Attributes
    ----------
    session
        datetime64 ``[n]``: the decision sessions.
    ticker
        str ``[n]``.
    logit
        float64 ``[n]``.
    multiples
        float64 ``[n, 5]``, in units of ``volatility``.
    outcome, volatility
        float64 ``[n]``: the log return that followed, and the causal daily volatility at the decision.
    """

    session: np.ndarray
    ticker: np.ndarray
    logit: np.ndarray
    multiples: np.ndarray
    outcome: np.ndarray
    volatility: np.ndarray

    def __len__(self) -> int:
        return len(self.logit)

    @property
    def up(self) -> np.ndarray:
        """Whether the next close was higher, bool ``[n]``."""
        return self.outcome > 0

    @property
    def scaled_return(self) -> np.ndarray:
        """The outcome in units of volatility, float64 ``[n]``."""
        return self.outcome / self.volatility

    @property
    def correct(self) -> np.ndarray:
        """Whether the sign of the uncalibrated logit was right, bool ``[n]``."""
        return (self.logit > 0) == self.up

    @property
    def majority_rate(self) -> float:
        """Share of the commoner direction: the accuracy of the best constant answer in hindsight."""
        share = float(self.up.mean())
        return max(share, 1.0 - share)

    def to_frame(self) -> pd.DataFrame:
        """Tidy table: date, ticker, logit, outcome, volatility, m1 ... m5."""
        frame = pd.DataFrame({name: getattr(self, name) for name in ("ticker", "logit", "outcome", "volatility")})
        frame.insert(0, "date", self.session)
        for column in range(self.multiples.shape[1]):
            frame[f"m{column + 1}"] = self.multiples[:, column]
        return frame


@torch.no_grad()
def answer_windows(network: nn.Module, data: TrainingData, windows: WindowDataset) -> Answers:
    """Answers of ``network`` (evaluation mode, CPU) on ``windows`` of ``data``, whose features are scaled."""
    network.eval()
    logits, multiples, volatility = [], [], []
    for batch in windows.batches(_BATCH):
        logit, multiple = network(batch.inputs)
        logits.append(logit[:, 0].double().numpy())
        multiples.append(multiple.double().numpy())
        volatility.append(batch.volatility[:, 0].double().numpy())
    return Answers(
        session=data.sessions.to_numpy()[windows.sessions],
        ticker=np.asarray(data.tickers, dtype=str)[windows.tickers],
        logit=np.concatenate(logits),
        multiples=np.concatenate(multiples),
        outcome=windows.outcome[:, 0].double().numpy(),
        volatility=np.concatenate(volatility),
    )
