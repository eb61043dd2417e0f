"""A stored panel brought up to date: only what has changed in the price store since is laid out.

Most days bring one more session, corrections of the last ones, and dividends that rescale the past of some tickers.
The sessions from the first changed one on are laid out again for everybody, and tickers with older changes over all
sessions. Whatever else has changed, the panel is laid out as a whole. The result is the same bit for bit.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from financial_assets.market import calendar
from financial_assets.market.log.replay import BAR
from financial_assets.market.panels.building import Members, belonging, require_sessions
from financial_assets.market.panels.layout import CHANNELS, Layout, extended, with_rows
from financial_assets.market.panels.stored import Basis, StoredPanel
from financial_assets.market.quality.shapes import not_traded, stands_still
from financial_assets.market.quality.values import require_possible
from financial_assets.market.store import PriceStore

_RECENT = pd.Timedelta(days=30)
"""Changes of the last sessions concern everybody; tickers with older ones are laid out apart."""

_BEFORE = pd.Timedelta(days=20)
"""Days read before the first changed session, for the bar that its first one follows."""

_MOST_APART = 0.1
"""Share of tickers up to which some are laid out apart; beyond, laying out everything is quicker."""

_COMPLAINT = "a price panel cannot be built"

Read = Callable[[Sequence[str] | None, dt.date | None, dt.date | None], pd.DataFrame]
"""Prices of tickers (``None``: all) from one day to another, both included, as the panel uses them."""


def continued(
    stored: StoredPanel, store: PriceStore, basis: Basis, read: Read, members: Members | None, now: pd.Timestamp
) -> StoredPanel | None:
    """The panel up to the session ``now``.

    Parameters
    ----------
    stored
        Where tickers are laid out apart, its arrays are changed in place.
    basis
        What it is to be made of.

    Returns
    -------
    StoredPanel or None
        ``None``: what has changed asks for a panel that is laid out as a whole.

    Raises
    ------
    PriceDataError
        New bars break a rule without which no panel can be laid out; see ``build_panel``.
    """
    layout, known = stored.layout, len(stored.layout.sessions)
    changed = _changed(stored.basis, basis, store)
    if changed is None or now < layout.sessions[-1]:
        return None
    apart = _others_left_out(stored.basis, basis)
    is_bar, is_recent = changed["kind"] == BAR, changed["date"] >= layout.sessions[-1] - _RECENT
    apart |= set(changed.loc[~(is_bar & is_recent), "ticker"])
    # A dividend restates the last bars of its ticker, too; nobody else's sessions have changed.
    moved = changed.loc[is_bar & is_recent & ~changed["ticker"].isin(list(apart)), "date"]
    if not ({*apart, *changed["ticker"]} <= set(layout.tickers)) or (changed["date"] <= layout.sessions[0]).any():
        return None
    count = min(known, int(layout.sessions.searchsorted(moved.min()))) if len(moved) else known
    first = layout.sessions[count] if count < known else calendar.next_session(layout.sessions[-1])
    tail = read(None, (first - _BEFORE).date(), now.date())
    if tail.empty:
        return None
    last = _last(tail, read, now)
    if last < layout.sessions[-1]:
        return None
    sessions = calendar.sessions(layout.sessions[0], last)
    belongs = belonging(members, layout.tickers, sessions)
    if (belongs[:, :count] != layout.belongs[:, :count]).any():
        return None
    require_possible(tail, _COMPLAINT)
    require_sessions(tail)
    codes = pd.Index(layout.tickers).get_indexer(pd.Index(tail["ticker"]))
    apart |= {layout.tickers[code] for code in _doubtful(tail, codes, layout, count, first)}
    if (codes < 0).any() or len(apart) > max(1, _MOST_APART * len(layout.tickers)):
        return None
    rows = (tail["date"] >= first).to_numpy() & ~np.isin(codes, [layout.tickers.index(name) for name in apart])
    market = _market(layout, count)
    longer = extended(layout, count, tail[rows], codes[rows], sessions, belongs)
    if apart:
        longer = _lay_out_apart(longer, sorted(apart), read)
    if longer is None:
        return None
    is_same = count == known == len(sessions) and not apart
    kept = _kept(market, _market(longer, count))
    lineage = stored.lineage if is_same else stored.lineage.continued(kept, tuple(sorted(apart)))
    restated = {*stored.rows, *(layout.tickers.index(name) for name in apart)}
    return StoredPanel(longer, basis, lineage, stored.whole, min(stored.unchanged, kept), tuple(sorted(restated)))


def _changed(before: Basis, now: Basis, store: PriceStore) -> pd.DataFrame | None:
    """Rows of all changes of the store since; ``None`` if it is not the same store, or is read otherwise."""
    history = store.history()
    is_same = (
        before.settings == now.settings
        and 0 < before.changes <= len(history)
        and history[before.changes - 1].new_hash == before.content_hash
    )
    return store.changed_since(before.changes) if is_same else None


def _others_left_out(before: Basis, now: Basis) -> set[str]:
    tickers = {*before.left_out, *now.left_out}
    return {ticker for ticker in tickers if before.left_out.get(ticker) != now.left_out.get(ticker)}


def _last(tail: pd.DataFrame, read: Read, now: pd.Timestamp) -> pd.Timestamp:
    """The last session of the panel: the clock's where bars go on, that of the last bar where they end before."""
    newest = pd.Timestamp(tail["date"].max())
    if newest < now and len(read(None, (now + pd.Timedelta(days=1)).date(), None)):
        return now
    return newest


def _doubtful(tail: pd.DataFrame, codes: np.ndarray, layout: Layout, count: int, first: pd.Timestamp) -> set[int]:
    """Tickers whose earlier bars decide about the new ones: possible padding, and a bar after a long silence."""
    is_new = (tail["date"] >= first).to_numpy()
    follows = np.zeros(len(tail), dtype=bool)
    follows[1:] = codes[1:] == codes[:-1]
    silent = np.unique(codes[is_new & ~follows])
    doubtful = {*codes[is_new & stands_still(tail)], *silent[layout.has_traded(silent, count)]}
    return set(map(int, doubtful))


def _market(layout: Layout, count: int) -> np.ndarray:
    """The market's index of the first ``count`` sessions, which a dividend changes in its last digits."""
    return layout.sections.between(0, count).take(slice(0, 1), CHANNELS.index("market"))[0]


def _kept(before: np.ndarray, after: np.ndarray) -> int:
    """How many of the first sessions have the same market index."""
    differs = np.flatnonzero(before != after)
    return int(differs[0]) if len(differs) else len(before)


def _lay_out_apart(layout: Layout, tickers: Sequence[str], read: Read) -> Layout | None:
    """The layout with all bars of ``tickers`` laid out anew, in place; ``None`` where they do not lie within it."""
    prices = read(tickers, None, layout.sessions[-1].date())
    require_possible(prices, _COMPLAINT)
    require_sessions(prices)
    if set(prices["ticker"].unique()) != set(tickers) or prices["date"].min() < layout.sessions[0]:
        return None
    prices = prices[~not_traded(prices)]
    codes = pd.Index(tickers).get_indexer(pd.Index(prices["ticker"]))
    return with_rows(layout, np.array([layout.tickers.index(name) for name in tickers]), prices, codes)
