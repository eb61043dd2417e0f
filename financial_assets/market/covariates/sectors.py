"""The index of each ticker's sector, from the sectors of a universe file."""

from __future__ import annotations

import numpy as np

from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.market.panels.layout import MARKET_BASE
from financial_assets.market.universe import Universe

_CLOSE, _MARKET = CHANNELS.index("close"), CHANNELS.index("market")


def sector_levels(panel: PricePanel, universe: Universe) -> np.ndarray:
    """Level of an index of the ticker's peers: float64 ``[ticker, session]``, ``MARKET_BASE`` in the first session.

    A session's return is the mean simple return of the other members of its sector that traded on it and had traded
    before; it uses nothing later. The ticker itself does not count: beside an index of itself alone, its relative
    return would be rounding errors. A ticker without a sector, and one of whose peers none traded, has the return of
    the market's index. A ticker that left the universe keeps its last sector.
    """
    close = panel.values[:, _CLOSE].astype(np.float64)
    market = panel.values[:, _MARKET].astype(np.float64)
    traded = panel.valid[:, 1:] & ~np.isnan(close[:, :-1])
    returns = np.where(traded, close[:, 1:] / np.where(traded, close[:, :-1], 1.0) - 1.0, 0.0)
    places = _sector_places(panel, universe)[:, 1:]
    own = market[:, 1:] / market[:, :-1] - 1.0
    for place in range(int(places.max(initial=-1)) + 1):
        members = traded & (places == place)
        peers = members.sum(axis=0) - members
        total = np.where(members, returns, 0.0).sum(axis=0)
        mean = (total - np.where(members, returns, 0.0)) / np.maximum(peers, 1)
        own = np.where((places == place) & (peers > 0), mean, own)
    first = np.ones((len(panel.tickers), 1))
    return MARKET_BASE * np.concatenate((first, np.cumprod(1.0 + own, axis=1)), axis=1)


def _sector_places(panel: PricePanel, universe: Universe) -> np.ndarray:
    """Number of the sector of each ticker and session, -1 where it has none."""
    rows = {ticker: row for row, ticker in enumerate(panel.tickers)}
    numbers: dict[str, int] = {}
    places = np.full((len(panel.tickers), len(panel.sessions)), -1)
    for membership in universe.memberships:  # of one ticker in order of time
        if membership.ticker in rows:
            number = numbers.setdefault(membership.sector, len(numbers)) if membership.sector else -1
            inside = membership.covers(panel.sessions)
            if inside.any():
                places[rows[membership.ticker], int(inside.argmax()) :] = number
    return places
