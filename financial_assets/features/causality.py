"""The causality check of the ``features`` asset on real bars: cutting a panel short changes nothing before the cut.

A panel that was computed as a whole is checked as a whole. Where sessions were appended to one that has passed, its
cost would be that of all the past each day; then spots are checked, others each day, each within as many bars as a
feature may look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from financial_assets.features.graph import FeatureGraph, FeaturePanel

if TYPE_CHECKING:
    from financial_assets.market.panel import PricePanel


_COLUMNS = ("date", "ticker", "feature", "whole", "cut_short", "problem")

_NEWEST = 4
"""One in so many spots lies on the last session that has a later one."""


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
            spots = [(int(row), cut) for row in rows]
            failures += _differences(graph, panel, spots, expected, short, "later bars change the value")
    return pd.DataFrame(failures, columns=list(_COLUMNS))


def stored_violations(
    stored: FeaturePanel, graph: FeatureGraph, panel: PricePanel, *, cuts: int = 3, seed: int = 0, most: int = 32
) -> pd.DataFrame:
    """Where stored features differ from those of the panel cut short at their session.

    Parameters
    ----------
    stored
        Features of the panel's tickers and sessions; only their valid values are looked at.
    graph, panel, cuts, seed, most
        As of ``causality_violations``. The last session is always among the cuts.

    Returns
    -------
    pandas.DataFrame
        As from ``causality_violations``; ``whole`` is what is stored.
    """
    draw, sessions = np.random.default_rng(seed), len(panel.sessions)
    drawn = {int(at) for at in draw.choice(sessions, size=min(cuts, sessions), replace=False)} | {sessions - 1}
    rows = np.arange(len(panel.tickers))
    if len(rows) > most:
        rows = np.sort(draw.choice(rows, size=most, replace=False))
    failures: list[dict[str, Any]] = []
    with torch.inference_mode():
        for cut in sorted(drawn):
            known = rows[stored.valid[rows, cut]]
            if not len(known):
                continue
            short = graph(torch.from_numpy(panel.values[known, :, : cut + 1]))[..., -1]
            expected = torch.from_numpy(stored.values[known, :, cut])
            spots = [(int(row), cut) for row in known]
            failures += _differences(graph, panel, spots, expected, short, "differs from what its bars give")
    return pd.DataFrame(failures, columns=list(_COLUMNS))


def spot_violations(graph: FeatureGraph, panel: PricePanel, *, spots: int = 32, seed: int = 0) -> pd.DataFrame:
    """Where features of the last ``lookback`` bars differ from those of more bars, before and after, at single spots.

    Parameters
    ----------
    graph
        The features.
    panel
        Real bars, of at least ``lookback + 1`` sessions.
    spots
        Pairs of ticker and session, drawn at random: a part of them on the newest session that can be checked, the
        others anywhere. Each lies among as many bars as two lookbacks, where the panel has them.
    seed
        Of that draw, with the number of the panel's sessions: another day, other spots.

    Returns
    -------
    pandas.DataFrame
        As from ``causality_violations``, one row per feature and spot.
    """
    sessions, lookback = len(panel.sessions), graph.lookback
    draw = np.random.default_rng((seed, sessions))
    rows = draw.integers(len(panel.tickers), size=spots)
    cuts = draw.integers(lookback - 1, sessions - 1, size=spots)
    cuts[: -(-spots // _NEWEST)] = sessions - 2
    length = min(sessions, 2 * lookback)
    ends = np.clip(cuts + 1 + (length - lookback), length, sessions)
    places = cuts - (ends - length)
    bars = np.stack([panel.stretch(row, end - length, end) for row, end in zip(rows, ends, strict=True)])
    windows = np.stack([spot[:, at + 1 - lookback : at + 1] for spot, at in zip(bars, places, strict=True)])
    with torch.inference_mode():
        longer = graph(torch.from_numpy(bars))[torch.arange(spots), :, torch.from_numpy(places)]
        alone = graph(torch.from_numpy(windows))[..., -1]
    drawn = [(int(row), int(cut)) for row, cut in zip(rows, cuts, strict=True)]
    failures = _differences(graph, panel, drawn, longer, alone, "bars outside the lookback change the value")
    return pd.DataFrame(failures, columns=list(_COLUMNS))


def _differences(
    graph: FeatureGraph,
    panel: PricePanel,
    spots: Sequence[tuple[int, int]],
    whole: Tensor,
    cut_short: Tensor,
    problem: str,
) -> list[dict[str, Any]]:
    """One row per value ``[spot, feature]`` that is not the same; a spot is a ticker and a session."""
    return [
        {
            "date": panel.sessions[spots[spot][1]],
            "ticker": panel.tickers[spots[spot][0]],
            "feature": graph.names[feature],
            "whole": float(whole[spot, feature]),
            "cut_short": float(cut_short[spot, feature]),
            "problem": problem,
        }
        for spot, feature in torch.nonzero(~same_bits(cut_short, whole)).tolist()
    ]
