"""The features of a panel's last sessions alone, from the bars that they depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from financial_assets.errors import FeatureError
from financial_assets.features.graph import FeatureGraph, program_of, require_finite
from financial_assets.features.panels.recent import RecentProgram

if TYPE_CHECKING:
    from financial_assets.market.panel import PricePanel

_MOST = 1024
"""Tickers computed together: with so few sessions each, more than for a whole panel."""


def compute_recent(panel: PricePanel, graph: FeatureGraph, sessions: int) -> np.ndarray:
    """Features of the last sessions of a panel: float32 ``[ticker, feature, sessions]``.

    They are those of the whole panel, bit for bit; NaN where a ticker has fewer bars than the graph's lookback.

    Raises
    ------
    FeatureError
        The panel has too few sessions, or a value that should be known is not finite.
    """
    depth = graph.lookback + sessions - 1
    if len(panel.sessions) < depth:
        raise FeatureError(f"{sessions} sessions of features need {depth} bars, not {len(panel.sessions)}")
    count = len(panel.tickers)
    bars = np.ascontiguousarray(panel.recent(depth), dtype=np.float32)
    values = np.empty((count, len(graph.names), sessions), dtype=np.float32)
    program = program_of(graph)
    if program is None:
        with torch.inference_mode():
            for first in range(0, count, _MOST):
                block = torch.from_numpy(bars[first : first + _MOST])
                np.copyto(values[first : first + _MOST], graph(block)[..., -sessions:].numpy())
    elif count:
        together = -(-count // -(-count // _MOST))
        recent = RecentProgram(program, graph.bounds, (together, sessions))
        for start in range(0, count, together):
            # As many again, some of them twice: the program has memory for that number of tickers.
            first = min(start, count - together)
            recent.run(bars[first : first + together, :, depth - recent.depth :], values[first : first + together])
    complete = panel.has_bars(graph.lookback, sessions)[:, None]
    require_finite(graph.names, panel.tickers, panel.sessions[-sessions:], values, complete)
    np.copyto(values, np.float32(np.nan), where=~complete)
    return values
