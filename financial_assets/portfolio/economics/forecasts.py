"""A table of forecasts as panels ``[ticker, session]``, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.errors import PortfolioError
from financial_assets.market.panel import PricePanel
from financial_assets.portfolio.arguments import Floats

NEEDED = ("date", "ticker", "model", "probability_up")
USED = ("probability_up", "q05", "q95", "score")
"""Columns that are traded by; those behind the first may be missing, for models that do not answer them."""


@dataclass(frozen=True)
class ForecastGrid:
    """One model's forecasts ``[ticker, session]``, NaN where it gave none.

    Attributes
    ----------
    probability_up
        Probability of a rise.
    low, high
        The 5 and 95 % quantiles of the next session's log return.
    score
        What ranks the tickers of a session.
    ranked_by
        ``score``; ``probability_up`` for a model without a head for scores.
    """

    probability_up: Floats
    low: Floats
    high: Floats
    score: Floats
    ranked_by: str


@dataclass(frozen=True)
class Forecasts:
    """The forecasts of several models on the same axes.

    Attributes
    ----------
    models
        Each one's grid.
    tickers
        Sorted.
    rows
        Place of each ticker in the panel.
    first, end
        Sessions of the panel from number ``first`` to before ``end``: from the first decision to the last one that can
        be entered.
    """

    models: Mapping[str, ForecastGrid]
    tickers: tuple[str, ...]
    rows: np.ndarray
    first: int
    end: int


def read_forecasts(table: pd.DataFrame, panel: PricePanel) -> Forecasts:
    """Lay a table of forecasts out on the sessions of a panel.

    Parameters
    ----------
    table
        One row per model, session of the decision and ticker: ``date``, ``ticker``, ``model``, ``probability_up``, and
        as far as there are any ``q05``, ``q95`` (log returns) and ``score``. A model without any probability (one that
        gives quantiles only) takes no direction and is left out.
    panel
        Prices; those of the session after a decision must be known, or it is left out.

    Raises
    ------
    PortfolioError
        A column is missing or holds no numbers, a row is there twice, a session or ticker is not in the panel, a
        probability lies outside [0, 1], something is infinite; or no decision can be entered yet.
    """
    missing = [name for name in NEEDED if name not in table.columns]
    if missing:
        raise PortfolioError(f"the table of forecasts has no {', '.join(missing)}; it needs {', '.join(NEEDED)}")
    if table.empty:
        raise PortfolioError("the table of forecasts is empty: no decision can be traded")
    if table[["date", "ticker", "model"]].isna().to_numpy().any():
        raise PortfolioError("the table of forecasts has rows without a date, a ticker or a model")
    session = panel.sessions.get_indexer(pd.DatetimeIndex(table["date"]))
    ticker, found = pd.factorize(table["ticker"], sort=True)
    tickers = pd.Index(found)
    rows = pd.Index(panel.tickers).get_indexer(tickers)
    if (session < 0).any():
        stray = pd.Timestamp(table["date"].to_numpy()[session < 0][0])
        raise PortfolioError(
            f"{stray.date()} is not a session of the panel: forecasts and prices do not belong together"
        )
    if (rows < 0).any():
        raise PortfolioError(f"the panel has no {tickers[rows < 0][0]}: forecasts and prices do not belong together")
    first, end = int(session.min()), min(int(session.max()) + 1, len(panel.sessions) - 1)
    if end <= first:
        raise PortfolioError(
            "no decision of the table of forecasts can be entered yet: prices end with its first session"
        )
    values = {name: _numbers(table, name) for name in USED}
    wrong = (values["probability_up"] < 0) | (values["probability_up"] > 1)
    if wrong.any():
        raise PortfolioError(f"probability_up must lie in [0, 1], not {values['probability_up'][wrong][0]:g}")
    codes, names = pd.factorize(table["model"])
    place = ticker * (end - first) + session - first
    shape = (len(tickers), end - first)
    models: dict[str, ForecastGrid] = {}
    for code, name in enumerate(map(str, names)):
        own = np.flatnonzero((codes == code) & (session < end))
        if np.bincount(place[own], minlength=1).max() > 1:
            raise PortfolioError(f"the table of forecasts has a session and ticker of {name} twice")
        grids = {column: _laid_out(held, own, place, shape) for column, held in values.items()}
        if np.isnan(grids["probability_up"]).all():
            continue
        has_score = not np.isnan(grids["score"]).all()
        models[name] = ForecastGrid(
            probability_up=grids["probability_up"],
            low=grids["q05"],
            high=grids["q95"],
            score=grids["score"] if has_score else grids["probability_up"],
            ranked_by="score" if has_score else "probability_up",
        )
    return Forecasts(models, tuple(map(str, tickers)), rows, first, end)


def _numbers(table: pd.DataFrame, name: str) -> Floats:
    if name not in table.columns:
        return np.full(len(table), np.nan)
    try:
        numbers = table[name].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise PortfolioError(f"{name} of the table of forecasts must hold numbers: {error}") from None
    if np.isinf(numbers).any():
        raise PortfolioError(f"{name} of the table of forecasts must be finite, or NaN where there is none")
    return numbers


def _laid_out(values: Floats, own: np.ndarray, place: np.ndarray, shape: tuple[int, int]) -> Floats:
    grid = np.full(shape[0] * shape[1], np.nan)
    grid[place[own]] = values[own]
    return grid.reshape(shape)
