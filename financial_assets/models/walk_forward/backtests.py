"""Whether the values at risk of every model, head, tail and fold hold: by ticker, and for the universe.

By ticker: Kupiec's (1995) frequency, Christoffersen's (1998) independence and both together. Stocks fall together, so
that the tests of many tickers are not as many tests: the universe has tests of its own, in which the day is the unit
(``coverage.universe_coverage``).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from financial_assets.models.forecasts import check_forecasts
from financial_assets.models.walk_forward.quantile_heads import (
    QUANTILE_HEADS,
    TAIL_LEVELS,
    TAILS,
    QuantileHead,
    folds_of,
)
from financial_assets.scoring.autocorrelation import FEWEST_DAYS
from financial_assets.scoring.coverage import exceedances, ticker_coverage, universe_coverage
from financial_assets.scoring.quantiles import QUANTILE_LEVELS

UNIVERSE = "(universe)"
"""Stands for all tickers in the column ``ticker``."""

COVERAGE_COLUMNS = (
    *("model", "head", "fold", "tail", "promised", "ticker"),
    *("share", "days", "kupiec", "independence", "conditional"),
)


def coverage_table(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Back-tests of all values at risk.

    Parameters
    ----------
    forecasts
        Forecast table of any models and folds.

    Returns
    -------
    pandas.DataFrame
        ``COVERAGE_COLUMNS``: ``promised`` is the share that should be beyond, ``share`` what was; ``kupiec``,
        ``independence`` and ``conditional`` are p-values, those of a ticker not adjusted for the number of tickers.
        NaN where there are too few days.

    Raises
    ------
    ForecastError
        It is not a forecast table.
    """
    rows: list[dict[str, object]] = []
    for model, of_model in check_forecasts(forecasts).groupby("model", sort=False):
        for fold, part in folds_of(of_model):
            for head in QUANTILE_HEADS:
                known = part.dropna(subset=[*head.columns, head.outcome])
                if not known.empty:
                    keys = {"model": model, "head": head.name, "fold": fold}
                    rows += [{**keys, **test} for test in _tests(known, head)]
    return pd.DataFrame(rows, columns=list(COVERAGE_COLUMNS))


def breaches(forecasts: pd.DataFrame, head: QuantileHead, tail: str, promised: float) -> pd.DataFrame:
    """Whether each outcome of one model was beyond its value at risk: a matrix by ticker and date, NaN where unknown.

    Parameters
    ----------
    forecasts
        Rows of one model.
    head
        Which quantiles.
    tail, promised
        One of ``TAILS``, and a level of ``TAIL_LEVELS``.
    """
    upper = tail == "upper"
    column = head.columns[QUANTILE_LEVELS.index(1 - promised if upper else promised)]
    actual = forecasts.pivot(index="ticker", columns="date", values=head.outcome)
    bound = forecasts.pivot(index="ticker", columns="date", values=column)
    hits = exceedances(actual.to_numpy(), bound.to_numpy(), upper=upper)
    return pd.DataFrame(hits, index=actual.index, columns=actual.columns)


def _tests(rows: pd.DataFrame, head: QuantileHead) -> Iterator[dict[str, object]]:
    for tail in TAILS:
        for promised in TAIL_LEVELS:
            hits = breaches(rows, head, tail, promised)
            keys: dict[str, object] = {"tail": tail, "promised": promised}
            yield {**keys, **_of_universe(hits.to_numpy(), promised, head.horizon)}
            for ticker, found in zip(hits.index, ticker_coverage(hits.to_numpy(), promised, head.horizon), strict=True):
                if found is not None:
                    p_values = {name: getattr(found, name) for name in ("kupiec", "independence", "conditional")}
                    share = found.beyond / found.sessions
                    yield {**keys, "ticker": ticker, "share": share, "days": found.sessions, **p_values}


def _of_universe(hits: np.ndarray, promised: float, horizon: int) -> dict[str, object]:
    known: np.ndarray = np.any(~np.isnan(hits), axis=0)
    share = float(np.nanmean(hits))
    found: dict[str, object] = {"ticker": UNIVERSE, "share": share, "days": int(known.sum())}
    # Each of the series that do not overlap needs so many days.
    if min(int(known[start::horizon].sum()) for start in range(horizon)) < FEWEST_DAYS:
        return {**found, "kupiec": np.nan, "independence": np.nan, "conditional": np.nan}
    test = universe_coverage(hits, promised, horizon)
    return {**found, "kupiec": test.coverage, "independence": test.independence, "conditional": test.p_value}
