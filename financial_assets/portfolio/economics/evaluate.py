"""What forecasts would have earned: each book of each model under either model of costs, beside what else to hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from financial_assets.market import calendar
from financial_assets.market.panel import PricePanel
from financial_assets.portfolio.arguments import Floats
from financial_assets.portfolio.capacity import break_even_bps, paid_bps
from financial_assets.portfolio.economics.assumptions import COST_MODELS, Assumptions, BookName, CostModel
from financial_assets.portfolio.economics.forecasts import ForecastGrid, Forecasts, read_forecasts
from financial_assets.portfolio.economics.prices import BENCHMARK, TradedSpan, traded_span
from financial_assets.portfolio.economics.results import Economics, HeldInstead, ModelBook, TrialCount
from financial_assets.portfolio.economics.trading import held_universe, simulated_book
from financial_assets.portfolio.economics.words import sentence_of
from financial_assets.portfolio.figures import Confidence, Holding, book_figures, holding
from financial_assets.portfolio.selection import Trials

BUY_AND_HOLD = "buy and hold"
CASH = "cash"


def economics_of(
    forecasts: pd.DataFrame,
    panel: PricePanel,
    assumptions: Assumptions | None = None,
    *,
    trials: Trials | None = None,
    leading: Sequence[str] = (),
    confidence: Confidence | None = None,
) -> Economics:
    """The economics of every model in a table of forecasts.

    A decision is taken after the close of its session, entered at the next open and left at the one after. A ticker
    that does not trade (``panel.valid``) is neither bought nor sold: a position stays, at its last price.

    Parameters
    ----------
    forecasts
        See :func:`.forecasts.read_forecasts`.
    panel
        Prices, up to what is known.
    assumptions
        Of books and costs.
    trials
        Everything that was ever tried, for the deflated Sharpe ratio: :meth:`.trials.TrialLedger.trials`.
    leading
        Models that the sentence is about, the first that trades first; default: in the order of the table.
    confidence
        Of the intervals.

    Raises
    ------
    PortfolioError
        The table is not one of forecasts on this panel.
    """
    rules, how = assumptions or Assumptions(), confidence or Confidence()
    table = read_forecasts(forecasts, panel)
    span = traded_span(table, panel, rules)
    names = _names(table, span)
    wanted: list[BookName] = [book for book in rules.books if book == "direction" or names >= rules.ranked_from]
    cash = span.cash(rules.cash_per_year)
    held: dict[CostModel, dict[str, Holding]] = {
        costs: _held(table, span, rules, costs, cash, how) for costs in COST_MODELS
    }
    books = tuple(
        _model_book(model, book, costs, grid, span, rules, held[costs], cash, trials, how)
        for book in wanted
        for model, grid in table.models.items()
        for costs in COST_MODELS
    )
    counted = None if trials is None else TrialCount.of(trials, len(span.sessions), calendar.sessions_per_year())
    return Economics(
        sessions=tuple(session.date().isoformat() for session in span.sessions),
        tickers=len(table.tickers),
        names=names,
        assumptions=rules,
        books=books,
        alternatives=tuple(
            HeldInstead(name, costs, other.figures, tuple(map(float, other.returns)))
            for costs, others in held.items()
            for name, other in others.items()
        ),
        trials=counted,
        level=how.level,
        left_out=_left_out(rules, wanted, names),
        sentence=sentence_of(books, [*leading, *table.models], rules, counted, len(span.sessions)),
    )


def held_out_returns(forecasts: pd.DataFrame, panel: PricePanel, cost_bps: float = 0.0) -> dict[str, Floats]:
    """Daily net simple returns ``[session]`` of each model's book ``direction`` at a flat cost: what a trial earned.

    Parameters
    ----------
    forecasts, panel
        As for :func:`economics_of`.
    cost_bps
        Per side.
    """
    rules = Assumptions(cost_bps=cost_bps)
    table = read_forecasts(forecasts, panel)
    span = traded_span(table, panel, rules)
    return {model: simulated_book("direction", "flat", grid, span, rules).net for model, grid in table.models.items()}


def _names(table: Forecasts, span: TradedSpan) -> int:
    """Tickers with a forecast in a median session, of the model that has most."""
    counts = [np.median((~np.isnan(grid.score) & span.valid).sum(axis=0)) for grid in table.models.values()]
    return int(max(counts, default=0))


def _held(
    table: Forecasts, span: TradedSpan, rules: Assumptions, costs: CostModel, cash: Floats, how: Confidence
) -> dict[str, Holding]:
    known = np.zeros(span.valid.shape, dtype=bool)
    for grid in table.models.values():
        known |= ~np.isnan(grid.probability_up)
    returns = {BUY_AND_HOLD: held_universe(known, costs, span, rules).net}
    if span.benchmark is not None:
        returns[BENCHMARK] = span.benchmark
    returns[CASH] = cash
    return {name: holding(name, series, cash=cash, confidence=how) for name, series in returns.items()}


def _model_book(
    model: str,
    book: BookName,
    costs: CostModel,
    grid: ForecastGrid,
    span: TradedSpan,
    rules: Assumptions,
    held: dict[str, Holding],
    cash: Floats,
    trials: Trials | None,
    how: Confidence,
) -> ModelBook:
    simulated = simulated_book(book, costs, grid, span, rules)
    paid = paid_bps(simulated)
    figures = None
    if paid is not None:
        figures = book_figures(
            model, simulated, alternatives=held, cash=cash, trials=trials, confidence=how, before_costs=False
        )
    wiped_out = None
    if simulated.wiped_out is not None:
        wiped_out = span.exits[simulated.wiped_out].date().isoformat()
    return ModelBook(
        model=model,
        book=book,
        costs=costs,
        ranked_by="probability_up" if book == "direction" else grid.ranked_by,
        figures=figures,
        break_even_bps=break_even_bps(simulated, how.level, in_place_of_all=True),
        paid_bps=paid,
        wiped_out=wiped_out,
        daily=tuple(map(float, simulated.net)) if costs == "market" else (),
    )


def _left_out(rules: Assumptions, wanted: Sequence[BookName], names: int) -> str:
    missing = [book for book in rules.books if book not in wanted]
    if not missing:
        return ""
    return (
        f"Books that rank tickers ({', '.join(name.replace('_', ' ') for name in missing)}) need {rules.ranked_from} "
        f"tickers with a forecast in a session (BUSINESS_RANKED_FROM); there are {names}."
    )
