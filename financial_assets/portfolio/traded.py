"""What the market lets a book do: returns between opens, which names can be traded, what ends a position.

A decision is taken after the close of session t; the position is entered at the open of t+1 and left at the open of
t+2. Where a name did not open there is no trade: a position stays, at its last price, until the name opens again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from financial_assets.portfolio.arguments import Floats, Mask, broadcast, finite_matrix, gappy_matrix, mask
from financial_assets.scoring.arguments import same_shape


@dataclass(frozen=True)
class TradedReturns:
    """What positions earn, by the session t of their decision; see :func:`traded_returns`.

    Attributes
    ----------
    returns
        Simple returns from the open of t+1 to that of t+2, finite ``[ticker, session]``, at least -1.
    tradable
        Whether the position can be changed at the open of t+1 ``[ticker, session]``.
    closed
        Whether a position is sold between the two opens, at the price that ``returns`` leads to: by a stop.
    delisted
        Whether a position becomes cash between the two opens, without a trade.
    """

    returns: Floats
    tradable: Mask
    closed: Mask
    delisted: Mask

    def __post_init__(self) -> None:
        returns = finite_matrix("returns", self.returns)
        if np.any(returns < -1):
            raise ValueError(f"returns must be at least -1 (simple returns), found {returns.min():g}")
        object.__setattr__(self, "returns", returns)
        for name in ("tradable", "closed", "delisted"):
            object.__setattr__(self, name, mask(name, getattr(self, name), returns.shape))

    @property
    def ended(self) -> Mask:
        """Whether no position is left at the open of t+2 ``[ticker, session]``."""
        return self.closed | self.delisted


def traded_returns(opens: ArrayLike, *, delisting_return: ArrayLike = 0.0) -> TradedReturns:
    """Returns between opens for the decisions of all sessions but the last two.

    Parameters
    ----------
    opens
        Adjusted opening prices ``[ticker, session]``, three sessions at least; NaN where the name did not open.
    delisting_return
        What holders get who could not sell at a last open: one number, or one for each ticker, at least -1. Shumway
        (1997, The delisting bias in CRSP data) finds about -0.3 for delistings for performance reasons, and little for
        mergers. A name whose opens end before the panel does counts as delisted.

    Returns
    -------
    TradedReturns
        ``[ticker, session - 2]``.
    """
    prices = gappy_matrix("opens", opens)
    if prices.shape[1] < 3:
        raise ValueError("opens must have three sessions or more: a position is entered at one and left at the next")
    if np.any(prices <= 0):
        raise ValueError("opens must be above 0 (or NaN)")
    known = ~np.isnan(prices)
    place = np.broadcast_to(np.arange(prices.shape[1]), prices.shape)
    last_known = np.maximum.accumulate(np.where(known, place, 0), axis=1)
    mark = np.take_along_axis(prices, last_known, axis=1)
    returns = np.nan_to_num(mark[:, 2:] / mark[:, 1:-1] - 1, nan=0.0)  # before the first open
    try:
        final = np.broadcast_to(np.asarray(delisting_return, dtype=np.float64), (len(prices),))
    except (TypeError, ValueError):
        raise ValueError(f"delisting_return must be one number or one for each of {len(prices)} tickers") from None
    if not np.all(final >= -1) or np.isinf(final).any():
        raise ValueError("delisting_return must be finite and at least -1")
    end = np.where(known.any(axis=1), last_known[:, -1], prices.shape[1])
    delisted = (place[:, :-2] == end[:, None] - 1) & (end[:, None] < prices.shape[1] - 1)
    returns = np.where(delisted, final[:, None], returns)
    return TradedReturns(returns, known[:, 1:-1], np.zeros_like(delisted), delisted)


@dataclass(frozen=True)
class StoppedBook:
    """A book with stops: the ``weights`` that are left, and the returns ``traded`` with stopped positions closed."""

    weights: Floats
    traded: TradedReturns


def stop_loss(
    weights: ArrayLike, opens: ArrayLike, highs: ArrayLike, lows: ArrayLike, distance: ArrayLike, traded: TradedReturns
) -> StoppedBook:
    """Leave a position once the price has gone against it by a share of its entry price.

    Daily bars do not tell in which order prices came. The conservative assumption is made throughout: a session whose
    low (high) touches the stop of a long (short) position closes it; it is filled at the stop, or at the open of a
    session that opens beyond it, never better; and what the price does later in the session is not earned. A stopped
    name is entered again only after the book has wanted another side of it, or none.

    Parameters
    ----------
    weights
        What the book wants ``[ticker, session]``, finite.
    opens, highs, lows
        Adjusted prices ``[ticker, session + 2]``: NaN in a session without trade.
    distance
        Above 0 (and below 1 for long positions), as a share of the price of entry: one number, or ``[ticker, session]``
        as known when the entry is decided. A position that is only resized keeps its entry price.
    traded
        From :func:`traded_returns` of ``opens``.
    """
    book = finite_matrix("weights", weights)
    same_shape(weights=book, returns=traded.returns)
    first, high, low = _bars(opens, highs, lows, book.shape)
    gap = broadcast("distance", distance, (len(book), book.shape[1]))
    if not np.all(gap > 0):
        raise ValueError("distance must be above 0, and known")
    kept, returns, closed = book.copy(), traded.returns.copy(), traded.closed.copy()
    held, stopped, stop = np.zeros(len(book)), np.zeros(len(book)), np.full(len(book), np.nan)
    for t in range(book.shape[1]):
        bar, side = t + 1, np.sign(book[:, t])
        can = traded.tradable[:, t]
        stopped = np.where(side == stopped, stopped, 0.0)
        # A gap: the stop order waits at the open, before anything else is done there.
        beyond = can & (held != 0) & (held * (first[:, bar] - stop) <= 0)
        stopped = np.where(beyond & (side == held), held, stopped)
        out = can & (side == stopped)
        kept[out, t] = 0.0
        wanted = np.where(out, 0.0, side)
        enters = can & (wanted != 0) & (wanted != held)
        stop = np.where(enters, first[:, bar] * (1 - wanted * gap[:, t]), stop)
        held = np.where(can, wanted, held)
        reached = np.where(held > 0, low[:, bar], -high[:, bar]) <= held * stop
        hit = can & (held != 0) & reached
        returns[hit, t] = stop[hit] / first[hit, bar] - 1
        closed[hit, t] = True
        stopped = np.where(hit, held, stopped)
        held = np.where(hit | traded.delisted[:, t], 0.0, held)
    # A position that was stopped did not live to see the delisting.
    return StoppedBook(kept, replace(traded, returns=returns, closed=closed, delisted=traded.delisted & ~closed))


def _bars(opens: ArrayLike, highs: ArrayLike, lows: ArrayLike, shape: tuple[int, ...]) -> tuple[Floats, Floats, Floats]:
    first, high, low = (gappy_matrix(n, v) for n, v in (("opens", opens), ("highs", highs), ("lows", lows)))
    same_shape(opens=first, highs=high, lows=low)
    if first.shape != (shape[0], shape[1] + 2):
        raise ValueError(f"opens must have two sessions more than weights {shape}, not {first.shape}")
    if not np.array_equal(np.isnan(first), np.isnan(high) | np.isnan(low)):
        raise ValueError("highs and lows must be known where opens are, and only there")
    if np.any((low > first) | (first > high)):
        raise ValueError("opens must lie between lows and highs")
    return first, high, low
