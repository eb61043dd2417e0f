"""The laws that every feature keeps, as checkers: property tests run them over the catalogue, the ``features`` asset on real bars.

A checker returns what breaks the law, as a frame with one row a feature (empty: the law holds).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from financial_assets.features.graph import FeatureGraph

if TYPE_CHECKING:
    from financial_assets.market.panel import PricePanel

__all__ = ["causality_violations"]


def causality_violations(graph: FeatureGraph, panel: PricePanel, *, cuts: int = 3, seed: int = 0) -> pd.DataFrame:
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

    Returns
    -------
    pandas.DataFrame
        One row a feature, ticker and cut: ``date``, ``ticker``, ``feature``, ``whole``, ``cut_short``, ``problem``; empty when all
        agree bit for bit.
    """
    sessions = len(panel.sessions)
    drawn = np.random.default_rng(seed).choice(sessions, size=min(cuts, sessions), replace=False)
    bars = torch.from_numpy(panel.values)
    rows: list[dict[str, object]] = []
    with torch.inference_mode():
        whole = graph(bars).numpy()
        for cut in sorted(int(at) for at in drawn):
            short = graph(bars[..., : cut + 1]).numpy()[..., -1]
            differs = (short != whole[..., cut]) & ~(np.isnan(short) & np.isnan(whole[..., cut]))
            rows += [
                {
                    "date": panel.sessions[cut],
                    "ticker": panel.tickers[ticker],
                    "feature": graph.names[feature],
                    "whole": float(whole[ticker, feature, cut]),
                    "cut_short": float(short[ticker, feature]),
                    "problem": "later bars change the value",
                }
                for ticker, feature in np.argwhere(differs)
            ]
    return pd.DataFrame(rows, columns=["date", "ticker", "feature", "whole", "cut_short", "problem"])
