"""Splits and dividends, read off the ratio of close to adjusted close."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pandas as pd

SMALLEST_STEP = 5e-5
"""Relative step of close / adj_close that counts; smaller ones are the sources' rounding."""

_SPLIT_TOLERANCE = 2e-3
_SPLITS = sorted(
    {Fraction(n) for n in (*range(2, 11), 12, 15, 16, 20, 25, 30, 40, 50, 100)}
    | {Fraction(3, 2), Fraction(4, 3), Fraction(5, 4), Fraction(5, 2), Fraction(5, 3), Fraction(6, 5), Fraction(7, 2)}
)
_RATIOS = np.array([float(ratio) for ratio in _SPLITS] + [1.0 / float(ratio) for ratio in _SPLITS])
_NAMES = [f"{r.numerator}:{r.denominator}" for r in _SPLITS] + [f"{r.denominator}:{r.numerator}" for r in _SPLITS]


def find_corporate_actions(prices: pd.DataFrame) -> pd.DataFrame:
    """Splits and dividends, inferred from the prices.

    On an ex-date, close / adj_close falls by the factor q: a split n:m makes q = n / m in raw prices (in
    split-adjusted ones it leaves no trace), a dividend D makes q = 1 / (1 - D / P) with P the close of the session
    before. A ratio close to that of a customary split is taken for one.

    Parameters
    ----------
    prices
        Checked price frame, sorted by ticker and date.

    Returns
    -------
    pandas.DataFrame
        ``date`` (ex-date), ``ticker``, ``kind`` (``split``, ``dividend`` or ``other``: the adjusted close was lowered,
        e.g. by a correction), ``ratio`` (q), ``detail`` (``2:1``, or ``about 0.24 USD``: sources that use the
        close of the ex-date instead differ by the day's move).
    """
    close = prices["close"].to_numpy(np.float64)
    factor = close / prices["adj_close"].to_numpy(np.float64)
    ticker = prices["ticker"].to_numpy()
    same = ticker[1:] == ticker[:-1]
    # A ticker's first row has no row before: its step stays 1, so ``at - 1`` never reaches another ticker.
    step = np.ones(len(prices))
    step[1:] = np.where(same, factor[:-1] / factor[1:], 1.0)
    at = np.flatnonzero(np.abs(step - 1.0) > SMALLEST_STEP)
    kinds, details = _classify(step[at], close[at - 1])
    return pd.DataFrame(
        {
            "date": prices["date"].to_numpy()[at],
            "ticker": ticker[at],
            "kind": pd.Series(kinds, dtype="object"),
            "ratio": step[at],
            "detail": pd.Series(details, dtype="object"),
        }
    )


def customary_split(log_ratio: float, tolerance: float) -> str | None:
    """The customary split n:m nearest to a fall of the price by the factor n / m; ``None`` without one that near.

    Parameters
    ----------
    log_ratio
        Log of the price before over the price after: positive for a split, negative for a reverse split.
    tolerance
        Largest difference in logs.
    """
    distance = np.abs(np.log(_RATIOS) - log_ratio)
    nearest = int(distance.argmin())
    return _NAMES[nearest] if distance[nearest] <= tolerance else None


def _classify(steps: np.ndarray, closes_before: np.ndarray) -> tuple[list[str], list[str]]:
    kinds: list[str] = []
    details: list[str] = []
    distance = np.abs(steps[:, None] / _RATIOS - 1.0)
    nearest = distance.argmin(axis=1)
    is_split = distance[np.arange(len(steps)), nearest] < _SPLIT_TOLERANCE
    for step, before, split, name in zip(steps, closes_before, is_split, nearest, strict=True):
        if split:
            kinds.append("split")
            details.append(_NAMES[name])
        elif step > 1.0:
            kinds.append("dividend")
            details.append(f"about {before * (1.0 - 1.0 / step):.2f} USD")
        else:
            kinds.append("other")
            details.append("adj_close lowered against close")
    return kinds, details


def explain_restatement(restated: pd.DataFrame) -> pd.DataFrame:
    """Why a source now delivers other values for stored history, ticker by ticker.

    A split-adjusted source divides all earlier prices by a later split's ratio and multiplies the volumes; any source
    multiplies earlier adjusted closes by one factor at a later dividend. What follows no such pattern is a correction.

    Parameters
    ----------
    restated
        Date, ticker, and ``<column>_stored`` and ``<column>_delivered`` for close, volume and adj_close.

    Returns
    -------
    pandas.DataFrame
        ``ticker``, ``first``, ``last`` (sessions), ``rows``, ``kind`` (``split``, ``dividend`` or ``correction``),
        ``close_ratio`` and ``adj_close_ratio`` (median of delivered / stored).
    """
    columns = ["ticker", "first", "last", "rows", "kind", "close_ratio", "adj_close_ratio"]
    lines = [(ticker, *_explain(rows)) for ticker, rows in restated.groupby("ticker")]
    return pd.DataFrame(lines, columns=pd.Index(columns))


def _explain(rows: pd.DataFrame) -> tuple[object, ...]:
    close = (rows["close_delivered"] / rows["close_stored"]).to_numpy(np.float64)
    adjusted = (rows["adj_close_delivered"] / rows["adj_close_stored"]).to_numpy(np.float64)
    middle, adjusted_middle = float(np.median(close)), float(np.median(adjusted))
    # Close times volume does not change in a split, whatever its ratio; that tells it from a uniform correction.
    turnover = rows["close_delivered"] * rows["volume_delivered"] / (rows["close_stored"] * rows["volume_stored"])
    uniform = _is_uniform(close) and _is_uniform(adjusted)
    if uniform and abs(middle - 1.0) > _SPLIT_TOLERANCE and _is_uniform(turnover.fillna(1.0).to_numpy(), 1.0):
        kind = "split"
    elif uniform and abs(middle - 1.0) <= SMALLEST_STEP and abs(adjusted_middle - 1.0) > SMALLEST_STEP:
        kind = "dividend"
    else:
        kind = "correction"
    return rows["date"].min(), rows["date"].max(), len(rows), kind, middle, adjusted_middle


def _is_uniform(ratios: np.ndarray, value: float | None = None) -> bool:
    centre = float(np.median(ratios)) if value is None else value
    return bool(np.all(np.abs(ratios / centre - 1.0) < _SPLIT_TOLERANCE))
