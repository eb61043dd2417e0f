"""What changed at the source: delivered bars beside stored ones, ticker by ticker."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.market.frames import VALUE_COLUMNS, of_tickers, places_in, ticker_codes

RESTATED = 1e-5
"""Relative difference above which a delivered value is another one: Yahoo sends float32 noise below it."""

_LEADING = 5
"""Overlapping sessions, from the oldest on, that must agree before the bars behind them are left as they are, or must
share one factor before those bars are multiplied by it. With fewer than five in common, all but the last must."""

_UNIFORM = 1e-4
"""Relative spread of a factor that counts as one: sources print four to six decimals."""

_SHARES = 1e-3
"""The same of volumes, which are whole numbers of shares."""

_MOST_GONE = 0.05
_FEW_GONE = 5
"""A download may lack this share, or this many, of a ticker's stored bars and still be a correction. Beyond, it is
rather damaged, and what is stored stays."""

_SAME_RETURN = 1e-4
"""Difference of two daily returns that rounding to cents explains."""
_SAME_SHARE = 0.9
"""Share of common returns that must agree; the rest may have been corrected, or lies on a split."""


@dataclass(frozen=True)
class Restatement:
    """What stored history becomes of a delivery that says otherwise.

    Attributes
    ----------
    factors
        Ticker, first delivered session, and the factors of prices, volume and adjusted close for everything before it.
    held_back
        Ticker to reason: its delivery neither reaches back to its stored beginning nor is one factor away from what is
        stored, so that half of the one beside half of the other would be a false jump.
    """

    factors: tuple[tuple[str, pd.Timestamp, float, float, float], ...]
    held_back: Mapping[str, str]


def compare(stored: pd.DataFrame, delivered: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Delivered rows beside stored ones, each key once in both.

    Parameters
    ----------
    delivered
        On a fresh index.

    Returns
    -------
    tuple
        The delivered rows that are stored, of tickers with any other value: ``date``, ``ticker``, and for each value
        column ``<column>_delivered`` and ``<column>_stored``, on the index of ``delivered``; for each delivered row
        whether it is stored; and whether it is stored with other values.
    """
    place = places_in(stored, delivered)
    is_stored = place >= 0
    at = np.flatnonzero(is_stored)
    differs = np.zeros(len(delivered), dtype=bool)
    for name in VALUE_COLUMNS:
        new, old = delivered[name].to_numpy()[at], stored[name].to_numpy()[place[at]]
        differs[at] |= np.abs(new - old) > RESTATED * np.abs(old)
    changed = delivered["ticker"].to_numpy()[differs]
    shown = np.flatnonzero(is_stored & of_tickers(delivered, set(changed))) if len(changed) else at[:0]
    both = delivered[["date", "ticker"]].iloc[shown]
    for name in VALUE_COLUMNS:
        both[f"{name}_delivered"] = delivered[name].to_numpy()[shown]
        both[f"{name}_stored"] = stored[name].to_numpy()[place[shown]]
    return both, is_stored, differs


def reconcile(both: pd.DataFrame, differs: np.ndarray, first_stored: pd.Series) -> Restatement:
    """What becomes of the stored sessions before those that were delivered again with other values.

    Parameters
    ----------
    both, differs
        See :func:`compare`; sorted by ticker and date.
    first_stored
        Ticker to its first stored session.
    """
    factors: list[tuple[str, pd.Timestamp, float, float, float]] = []
    held_back: dict[str, str] = {}
    columns = [name for name in both if str(name).endswith(("_delivered", "_stored"))]
    # Plain arrays: a day has dozens of restated tickers, and a small table costs more than its numbers.
    values = {str(name): both[name].to_numpy(np.float64) for name in columns}
    tickers, days_of, differing = both["ticker"].to_numpy(), both["date"].to_numpy(), differs[both.index.to_numpy()]
    codes, names = pd.factorize(tickers)
    starts = np.searchsorted(codes, np.arange(len(names) + 1))
    begins = first_stored.to_dict()
    for name, start, end in zip(map(str, names), starts[:-1], starts[1:], strict=True):
        first, bars = pd.Timestamp(days_of[start]), end - start
        if first <= begins[name]:
            continue  # delivered from its stored beginning: whatever differs is replaced
        count = min(_LEADING, max(1, bars - 1))
        if bars > 1 and not differing[start : start + count].any():
            continue  # the older bars stand: single bars were corrected, or have settled since
        leading = slice(start, start + min(_LEADING, bars))
        factor = _uniform_factor({column: each[leading] for column, each in values.items()})
        if factor is not None:
            factors.append((name, first, *factor))
            continue
        days = f"{int(differing[start:end].sum())} of {bars} overlapping bars"
        held_back[name] = (
            f"the delivery begins on {first:%Y-%m-%d}, later than the store ({begins[name]:%Y-%m-%d}), and "
            f"{days} differ by more than one common factor: its earlier history was restated, too"
        )
    return Restatement(tuple(factors), held_back)


def _uniform_factor(rows: Mapping[str, np.ndarray]) -> tuple[float, float, float] | None:
    """Delivered over stored, for prices, volume and adjusted close, if each is the same on all ``rows``."""
    if len(rows["close_stored"]) < 2:
        return None

    def ratios(name: str) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):  # volumes of 0
            return rows[f"{name}_delivered"] / rows[f"{name}_stored"]

    prices = np.concatenate([ratios(name) for name in ("open", "high", "low", "close")])
    price, adjusted = _near(float(np.median(prices))), _near(float(np.median(ratios("adj_close"))))
    # A split leaves the turnover as it was; prices that change alone are in another currency or unit.
    volume = 1.0 / price
    is_traded = (rows["volume_stored"] > 0) & (rows["volume_delivered"] > 0)
    is_uniform = (
        _spread(prices, price) <= _UNIFORM
        and _spread(ratios("adj_close"), adjusted) <= _UNIFORM
        and _spread(ratios("volume")[is_traded], volume) <= _SHARES
    )
    return (price, volume, adjusted) if is_uniform else None


def _near(factor: float) -> float:
    """Exactly 1 for a factor that is 1 up to the sources' noise."""
    return 1.0 if abs(factor - 1.0) <= RESTATED else factor


def _spread(ratios: np.ndarray, centre: float) -> float:
    return float(np.abs(ratios / centre - 1.0).max()) if len(ratios) else 0.0


def missing_at_source(
    stored: pd.DataFrame, delivered: pd.DataFrame, end: dt.date | None = None
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Stored bars that a delivery no longer has, from each ticker's first delivered session on.

    Parameters
    ----------
    end
        Last session that was asked for; ``None``: all.

    Returns
    -------
    tuple
        Those bars (price columns), and ticker to reason where they are so many, or so many of the last ones, that the
        delivery is rather damaged or an older one.
    """
    if stored.empty:
        return stored.reset_index(drop=True), {}
    codes, names = ticker_codes(delivered["ticker"])
    ends = delivered["date"].groupby(codes).agg(["min", "max"]).set_index(names)
    # Mostly the last days were delivered, of what is kept for years.
    recent = stored[stored["date"].to_numpy() >= ends["min"].min()]
    codes, held = ticker_codes(recent["ticker"])
    # NaT for a ticker that was not delivered: no day is later.
    since = ends["min"].reindex(held).to_numpy()[codes]
    inside = recent[recent["date"].to_numpy() >= since]
    if end is not None:
        inside = inside[inside["date"] <= pd.Timestamp(end)]
    missing = inside[~among(inside, delivered)].reset_index(drop=True)
    if missing.empty:
        return missing, {}
    doubtful: dict[str, str] = {}
    bars = inside.groupby("ticker").size()
    for ticker, rows in missing.groupby("ticker"):
        name, last = str(ticker), pd.Timestamp(ends["max"][ticker])
        later = int((rows["date"] > last).sum())
        if later > _FEW_GONE or len(rows) - later > max(_FEW_GONE, _MOST_GONE * bars[ticker]):
            doubtful[name] = (
                f"the source, which ends on {last:%Y-%m-%d}, no longer has {len(rows):,} of {bars[ticker]:,} stored "
                f"bars from {ends['min'][ticker]:%Y-%m-%d} on: an older or damaged file rather than a correction, so "
                "what is stored stays"
            )
    return missing, doubtful


def among(frame: pd.DataFrame, keys: pd.DataFrame) -> np.ndarray:
    """Which rows of ``frame`` have a ticker and date among ``keys``."""
    return places_in(keys, frame) >= 0


def is_same_market(stored: pd.DataFrame, delivered: pd.DataFrame) -> bool:
    """Whether two price frames can be of one market.

    They have a ticker in common, and where they have sessions in common, the same daily returns of the close: a split
    or another unit changes the level of all prices at once, but not their returns. Files that begin after the stored
    sessions have none in common and contradict nothing.
    """
    if not set(stored["ticker"].unique()) & set(delivered["ticker"].unique()):
        return False
    both = stored.merge(delivered, on=["ticker", "date"], suffixes=("_stored", "_delivered"))
    if both.empty:
        return True
    both = both.sort_values(["ticker", "date"])
    returns = both.groupby("ticker")[["close_stored", "close_delivered"]].pct_change(fill_method=None).dropna()
    if returns.empty:  # one common session: the level is all there is
        before, after = both["close_stored"].to_numpy(), both["close_delivered"].to_numpy()
        return bool(np.isclose(before, after, rtol=1e-3, atol=0).mean() >= _SAME_SHARE)
    before, after = returns["close_stored"].to_numpy(), returns["close_delivered"].to_numpy()
    return bool(np.isclose(before, after, rtol=0, atol=_SAME_RETURN).mean() >= _SAME_SHARE)
