"""The causality check of the ``features`` asset on real bars: cutting a panel short changes nothing before the cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from financial_assets.features.graph import FeatureGraph

if TYPE_CHECKING:
    from financial_assets.market.panel import PricePanel


def same_bits(a: Tensor, b: Tensor) -> Tensor:
    """Where two tensors hold the same value, NaN included."""
    return (a == b) | (torch.isnan(a) & torch.isnan(b))


def causality_violations(
    graph: FeatureGraph, panel: PricePanel, *, cuts: int = 3, seed: int = 0, most: int = 32
) -> pd.DataFrame:
    """Where features of a panel cut short differ from those of the whole panel.

    Parameters
    ----------
    graph
        The features.
    panel
        Real bars.
    cuts
        Sessions, drawn at random, at which the panel is cut.
    seed
        Of that draw.
    most
        Tickers that are tried, drawn at random where there are more: each cut computes all of their past again.

    Returns
    -------
    pandas.DataFrame
        One row per feature, ticker and cut: ``date``, ``ticker``, ``feature``, ``whole``, ``cut_short``, ``problem``;
        empty when all agree bit for bit.
    """
    sessions = len(panel.sessions)
    drawn = np.random.default_rng(seed).choice(sessions, size=min(cuts, sessions), replace=False)
    rows = np.arange(len(panel.tickers))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, size=most, replace=False))
    bars = torch.from_numpy(panel.values[rows])
    failures: list[dict[str, Any]] = []
    with torch.inference_mode():
        whole = graph(bars)
        for cut in sorted(int(at) for at in drawn):
            short = graph(bars[..., : cut + 1])[..., -1]
            expected = whole[..., cut]
            failures += [
                {
                    "date": panel.sessions[cut],
                    "ticker": panel.tickers[rows[ticker]],
                    "feature": graph.names[feature],
                    "whole": float(expected[ticker, feature]),
                    "cut_short": float(short[ticker, feature]),
                    "problem": "later bars change the value",
                }
                for ticker, feature in torch.nonzero(~same_bits(short, expected)).tolist()
            ]
    return pd.DataFrame(failures, columns=["date", "ticker", "feature", "whole", "cut_short", "problem"])
