"""Worlds whose law is known: one family of features carries all there is to know."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from financial_assets.features.graph import FeaturePanel
from financial_assets.market.panel import PricePanel
from financial_assets.models.dataset import Labels, WindowDataset
from financial_assets.models.explanations.held_out import HeldOut, families_in
from financial_assets.models.heads import HeadOutputs
from tests.models.conftest import panel_from_returns

NAMES = ("noise_a", "noise_b", "signal_a", "signal_b", "constant_a", "date_a")
FAMILY_OF = {name: name.split("_")[0] for name in NAMES}
NORMAL = torch.tensor([-2.3263, -1.6449, 0.0, 1.6449, 2.3263])


def planted(seed: int = 0, tickers: int = 4, sessions: int = 700) -> tuple[FeaturePanel, PricePanel]:
    """Prices whose next return follows ``signal_a``; all else is noise, constant, or a function of the date."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0.0, 1.0, (tickers, len(NAMES), sessions)).astype(np.float32)
    values[:, NAMES.index("constant_a")] = 0.3
    values[:, NAMES.index("date_a")] = np.sin(2 * np.pi * np.arange(sessions) / 5)
    returns = 0.01 * 0.6 * rng.normal(0.0, 1.0, (tickers, sessions))
    returns[:, 1:] += 0.01 * 0.8 * values[:, NAMES.index("signal_a"), :-1]
    panel = panel_from_returns(returns, seed)
    valid = np.zeros((tickers, sessions), dtype=bool)
    valid[:, 70:] = True  # volatilities are warm
    return FeaturePanel(NAMES, panel.tickers, panel.sessions, values, valid), panel


class Linear(nn.Module):
    """Answers that are linear in the last step: attributions are known to the last digit."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, inputs: Tensor, volatility: Tensor) -> HeadOutputs:
        logit = inputs[:, -1] @ self.weights[:, None]
        return HeadOutputs(logit, NORMAL + 0.1 * logit, NORMAL - 0.1 * logit, 0.5 * logit)


class Steps(nn.Module):
    """A stump: no gradient leads to its inputs."""

    def forward(self, inputs: Tensor, volatility: Tensor) -> HeadOutputs:
        logit = torch.where(inputs[:, -1, 2:3] > 0, 1.0, -1.0)
        return HeadOutputs(logit, NORMAL + 0 * logit, NORMAL + 0 * logit, logit)


def asked(
    network: nn.Module,
    seed: int,
    *,
    days: int,
    tickers: int = 3,
    missing: Callable[[np.ndarray], np.ndarray] | None = None,
) -> HeldOut:
    """Held-out windows of one step; outcomes follow the signal, which moves all stocks of a day alike in part."""
    rng = np.random.default_rng(seed)
    features = rng.normal(0.0, 1.0, (tickers, days, len(NAMES)))
    features[:, :, 2] = 0.6 * rng.normal(0.0, 1.0, (1, days)) + 0.8 * features[:, :, 2]
    features[:, :, 4] = 0.0
    features[:, :, 5] = rng.normal(0.0, 1.0, (1, days))
    scaled = 0.8 * features[:, :, 2] + 0.6 * rng.normal(0.0, 1.0, (tickers, days))
    usable = np.ones((tickers, days), dtype=bool) if missing is None else missing(np.ones((tickers, days), dtype=bool))
    outcome = torch.from_numpy((0.01 * scaled).astype(np.float32))
    labels = Labels(outcome, outcome, torch.from_numpy(scaled.astype(np.float32)), torch.full((tickers, days, 2), 0.01))
    windows = WindowDataset(torch.from_numpy(features.astype(np.float32)), labels, usable, range(days), 1)
    sessions = pd.bdate_range("2001-01-01", periods=days).to_numpy()
    return HeldOut(network.eval(), windows, sessions[windows.sessions], families_in(NAMES, FAMILY_OF), NAMES)
