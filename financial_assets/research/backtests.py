"""What scores or forecasts would have earned: ``fa.backtest``, over the one simulation of books and costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, Unpack

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from financial_assets.display import section
from financial_assets.errors import PortfolioError
from financial_assets.market.panel import PricePanel
from financial_assets.portfolio.economics.assumptions import Assumptions, BookName, Sizing
from financial_assets.portfolio.economics.evaluate import economics_of
from financial_assets.portfolio.economics.results import Economics, ModelBook
from financial_assets.portfolio.figures import Confidence
from financial_assets.portfolio.selection import Trials
from financial_assets.research.arguments import in_arguments, named_as_arguments
from financial_assets.research.sources import Day, Source, forecast_table

_SHOWN = (
    *("mean_return", "sharpe", "max_drawdown", "hit_rate", "turnover"),
    *("gross_exposure", "net_exposure", "deflated_sharpe"),
)
"""Figures in the notebook; ``table`` has all."""


class Rules(TypedDict, total=False):
    """The fields of ``Assumptions`` but for its books, which see; what is not given is as assumed there."""

    ranked_from: int
    quantiles: int
    gross: float
    sizing: Sizing
    kelly_fraction: float
    kelly_cap: float
    stop_loss: float | None
    cost_bps: float
    commission_bps: float
    half_spread_bps: float | None
    impact: float
    borrow_per_year: float
    cash_per_year: float
    capital: float
    delisting_return: float


@dataclass(frozen=True, eq=False)
class Backtest:
    """What one or several models would have earned.

    Attributes
    ----------
    economics
        Books, alternatives and assumptions.
    forecasts
        The table that was traded.
    """

    economics: Economics
    forecasts: pd.DataFrame

    @property
    def table(self) -> pd.DataFrame:
        """One row per model, book, costs and figure: ``estimate``, ``low``, ``high`` (NaN: no interval).

        Costs are ``market`` (commission, spread, impact, borrowing) or ``flat`` (one rate per side).
        """
        return self.economics.frame()

    @property
    def returns(self) -> pd.DataFrame:
        """Daily net simple returns under market costs, by decision session: a column per book and alternative."""
        alone = len({own.model for own in self._traded}) == 1
        series = {own.book if alone else f"{own.model}, {own.book}": own.daily for own in self._traded}
        series |= {other.name: other.daily for other in self.economics.alternatives if other.costs == "market"}
        return pd.DataFrame(series, index=pd.DatetimeIndex(self.economics.sessions, name="date"))

    @property
    def sentence(self) -> str:
        """What the first book has shown after market costs; it claims nothing that its interval does not carry."""
        return in_arguments(" ".join(filter(None, [self.economics.sentence, self.economics.left_out])))

    def plot(self) -> Figure:
        """Growth of one unit of money, beside buy-and-hold of the same tickers and cash, all after market costs."""
        figure = Figure(figsize=(8, 4), dpi=110, layout="constrained")
        axes = figure.subplots()
        books = len(self._traded)
        for place, (name, daily) in enumerate(self.returns.items()):
            style = "-" if place < books else "--"
            axes.plot(daily.index.to_numpy(), (1 + daily).cumprod().to_numpy(), style, linewidth=1, label=str(name))
        axes.set_ylabel("growth of 1, after costs")
        axes.legend(frameon=False)
        return figure

    def _repr_html_(self) -> str:
        table = self.table
        shown = table[(table["costs"] == "market") & table["figure"].isin(_SHOWN)]
        return section("Backtest", self.sentence, shown.drop(columns="costs"))

    @property
    def _traded(self) -> list[ModelBook]:
        return [own for own in self.economics.books if own.costs == "market" and own.figures is not None]


def backtest(
    model_or_scores: Source,
    panel: PricePanel,
    *,
    book: BookName | Sequence[BookName] | None = None,
    name: str | None = None,
    start: Day | None = None,
    end: Day | None = None,
    trials: Trials | None = None,
    level: float = 0.95,
    **rules: Unpack[Rules],
) -> Backtest:
    """Trade scores or forecasts: decided at a close, entered at the next open, left at the one after, costs paid.

    Parameters
    ----------
    model_or_scores
        Scores, tidy (``date``, ``ticker``, ``score``) or wide (sessions by tickers), known at the close of their
        session; a forecast table; a training; or the path of an ``.onnx`` file with the served signature. The book
        ``direction`` goes by the sign of bare scores.
    panel
        Prices, from :func:`.load_panel`.
    book
        ``direction`` (each ticker by its predicted direction), ``long_only``, ``long_short``, ``market_neutral``, or
        several. Default: ``long_short`` where a session has at least ``ranked_from`` tickers, else ``direction``.
    name
        Of the model in the result.
    start, end
        First and last decision session. Default: all there are; of a training, all after its cut-off.
    trials
        Everything that was tried before, which deflates the Sharpe ratio.
    level
        Confidence of the intervals.
    **rules
        ``commission_bps``, ``half_spread_bps``, ``impact``, ``borrow_per_year``, ``capital``, ``sizing``,
        ``stop_loss`` and the other fields of ``portfolio.economics.assumptions.Assumptions``.

    Raises
    ------
    ForecastError, PortfolioError
        An argument is out of range or cannot be read; names it.
    """
    assumed = _assumptions(book, rules)
    confidence = _confidence(level)
    table = forecast_table(model_or_scores, panel, argument="model_or_scores", name=name, start=start, end=end)
    traded = _with_directions(table, assumed)
    with named_as_arguments():
        found = economics_of(traded, panel, assumed, trials=trials, confidence=confidence)
        if not found.books and book is None:
            # Too few tickers to rank.
            by_direction = replace(assumed, books=("direction",))
            found = economics_of(traded, panel, by_direction, trials=trials, confidence=confidence)
    if not found.books:
        raise PortfolioError(f"book={book!r}: {in_arguments(found.left_out or found.sentence)}")
    return Backtest(found, table)


def _assumptions(book: BookName | Sequence[BookName] | None, rules: Rules) -> Assumptions:
    books = ("long_short",) if book is None else (book,) if isinstance(book, str) else tuple(book)
    known = Rules.__annotations__
    if unknown := [name for name in rules if name not in known]:
        raise PortfolioError(f"backtest has no argument {', '.join(unknown)}; costs and sizes are {', '.join(known)}")
    try:
        with named_as_arguments():
            return Assumptions(books=books, **rules)
    except TypeError as error:
        raise PortfolioError(f"an argument of costs or sizes is not a number: {error}") from error


def _confidence(level: float) -> Confidence:
    try:
        return Confidence(level=level)
    except (TypeError, ValueError) as error:
        raise PortfolioError(str(error)) from error


def _with_directions(table: pd.DataFrame, assumed: Assumptions) -> pd.DataFrame:
    """Bare scores name a direction by their sign; models with a probability stay as they are."""
    silent = table["probability_up"].isna().groupby(table["model"]).transform("all")
    bare = (silent & table["score"].notna()).to_numpy()
    if bare.any() and assumed.sizing == "kelly":
        raise PortfolioError("sizing='kelly' needs probabilities and quantiles; bare scores have none")
    direction = 0.5 + 0.5 * np.sign(table["score"].to_numpy())
    traded = table.assign(probability_up=np.where(bare, direction, table["probability_up"]))
    if traded["probability_up"].isna().all():
        raise PortfolioError("model_or_scores has neither scores nor probabilities: quantiles alone take no position")
    return traded
