"""What forecasts would have earned, as values that a report shows and JSON holds."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from financial_assets.portfolio.economics.assumptions import Assumptions, BookName, CostModel
from financial_assets.portfolio.figures import BookFigures, SeriesFigures
from financial_assets.portfolio.selection import Trials, expected_maximum_sharpe
from financial_assets.scoring.intervals import Interval


@dataclass(frozen=True, slots=True)
class ModelBook:
    """One book of one model under one model of costs.

    Attributes
    ----------
    model, book, costs
        Whose, which, and what was charged.
    ranked_by
        What ranked the tickers: ``score``, or ``probability_up`` for a model without one. Direction uses the latter.
    figures
        Of merit, beside the alternatives under the same costs; shares are of the capital. ``None`` where the book never
        held anything: no two scores of a session differed, or no costs were known.
    break_even_bps
        Cost of trading per side, all of it, at which nothing is earned; ``None`` without a trade, or with fewer than 20
        sessions.
    paid_bps
        What trading cost on average per side; ``None`` without a trade.
    wiped_out
        Session at whose open all was lost (ISO date); ``None``: it was not.
    daily
        Net simple returns of ``Economics.sessions``, under market costs; empty under others.
    """

    model: str
    book: BookName
    costs: CostModel
    ranked_by: str
    figures: BookFigures | None
    break_even_bps: Interval | None
    paid_bps: float | None
    wiped_out: str | None
    daily: tuple[float, ...]

    def advantage_over(self, name: str) -> Interval | None:
        """Mean net return per year minus that of an alternative; ``None`` where there is none, or too few sessions."""
        others = () if self.figures is None else self.figures.alternatives
        return next((other.advantage for other in others if other.figures.name == name), None)


@dataclass(frozen=True, slots=True)
class HeldInstead:
    """What one could have held: its figures, and its daily simple returns."""

    name: str
    costs: CostModel
    figures: SeriesFigures
    daily: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TrialCount:
    """What Sharpe ratios are deflated by.

    Attributes
    ----------
    count
        Every trial on record.
    known
        Those whose Sharpe ratio is known.
    variance
        Of the ratios, per session, as it was used.
    best_by_luck
        Annual Sharpe ratio that the best of as many trials without skill is expected to show.
    """

    count: int
    known: int
    variance: float
    best_by_luck: float

    @classmethod
    def of(cls, trials: Trials, sessions: int, per_year: int) -> TrialCount:
        """Those of ``trials``, for books judged on ``sessions`` sessions."""
        variance = trials.variance_on(sessions)
        luck = expected_maximum_sharpe(trials.effective, variance) * per_year**0.5
        return cls(trials.count, trials.sharpes.size, variance, luck)


@dataclass(frozen=True, slots=True)
class Economics:
    """What the forecasts of several models would have earned on the same sessions.

    Attributes
    ----------
    sessions
        Of the decisions (ISO dates).
    tickers, names
        Tickers with forecasts; and of these, the median number in a session.
    assumptions
        Of books and costs.
    books
        By book, model and costs.
    alternatives
        Under either model of costs: buy-and-hold of the same tickers, the benchmark where it is known, cash.
    trials
        ``None`` where there is no record of trials: then no Sharpe ratio is deflated.
    level
        Confidence of the intervals.
    left_out
        Why books are missing that the settings ask for; empty if none is.
    sentence
        What the main book shows, and no more.
    """

    sessions: tuple[str, ...]
    tickers: int
    names: int
    assumptions: Assumptions
    books: tuple[ModelBook, ...]
    alternatives: tuple[HeldInstead, ...]
    trials: TrialCount | None
    level: float
    left_out: str
    sentence: str

    def book(self, model: str, book: BookName, costs: CostModel) -> ModelBook | None:
        """One of them."""
        return next((b for b in self.books if (b.model, b.book, b.costs) == (model, book, costs)), None)

    def frame(self) -> pd.DataFrame:
        """One row per model, book, costs and figure: ``estimate``, ``low``, ``high`` (NaN: none)."""
        frames = [
            figures[figures["series"] == own.model].assign(model=own.model, book=own.book, costs=own.costs)
            for own in self.books
            if own.figures is not None
            for figures in [own.figures.frame()]
        ]
        columns = ["model", "book", "costs", "figure", "estimate", "low", "high"]
        return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=pd.Index(columns))
