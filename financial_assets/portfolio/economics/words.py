"""One sentence about what the main book has shown: it claims nothing that its interval does not carry."""

from __future__ import annotations

from collections.abc import Sequence

from financial_assets.portfolio.economics.assumptions import Assumptions, BookName
from financial_assets.portfolio.economics.results import ModelBook, TrialCount
from financial_assets.portfolio.figures import BookFigures
from financial_assets.scoring.intervals import Interval

TITLES: dict[BookName, str] = {
    "direction": "long or short by direction",
    "long_only": "long the best",
    "long_short": "long the best, short the worst",
    "market_neutral": "market-neutral, by score",
}
"""Books as a reader is told of them."""

_SURE = 0.95
"""Deflated Sharpe ratio from which luck among the trials no longer explains a profit."""


def sentence_of(
    books: Sequence[ModelBook],
    models: Sequence[str],
    rules: Assumptions,
    trials: TrialCount | None,
    sessions: int,
) -> str:
    """About the first book of the settings that the first of ``models`` trades, after market costs."""
    order = {book: place for place, book in enumerate(rules.books)}
    traded = [(own, own.figures) for own in books if own.costs == "market" and own.figures is not None]
    if not traded:
        return "No model has traded under market costs: nothing can be said about profit."
    own, figures = min(traded, key=lambda pair: (models.index(pair[0].model), order[pair[0].book]))
    mean = figures.net.mean_return
    if own.wiped_out is not None:
        return f"The book of {own.model}, {TITLES[own.book]}, lost its whole capital on {own.wiped_out}."
    if mean is None:
        return f"{sessions} sessions are too few to say what the book of {own.model} earns."
    return f"{_earned(own, mean, rules, sessions)} {_beside_holding(own)} {_luck(figures, mean, trials)}".strip()


def _earned(own: ModelBook, mean: Interval, rules: Assumptions, sessions: int) -> str:
    if mean.low > 0:
        end = "the whole interval is a profit"
    elif mean.high < 0:
        end = "the whole interval is a loss"
    else:
        end = "these sessions do not show whether it earns or loses money"
    return (
        f"After commission, spread, impact and borrowing at a capital of {rules.capital:,.0f}, the book of "
        f"{own.model}, {TITLES[own.book]}, {'earned' if mean.estimate >= 0 else 'lost'} {abs(mean.estimate):.1%} a "
        f"year over {sessions:,} sessions ({mean.level:.0%} interval: {mean.low:+.1%} to {mean.high:+.1%}): {end}."
    )


def _beside_holding(own: ModelBook) -> str:
    gap = own.advantage_over("buy and hold")
    if gap is None:
        return ""
    if gap.low > 0:
        return "Holding all tickers instead has been shown to earn less."
    if gap.high < 0:
        return "Holding all tickers instead has been shown to earn more."
    return "It has not been shown to differ from holding all tickers."


def _luck(figures: BookFigures, mean: Interval, trials: TrialCount | None) -> str:
    """A profit is doubted where luck among the trials may explain it; nothing else is said of a loss."""
    deflated = figures.deflated_sharpe
    if mean.low <= 0 or trials is None or deflated is None or deflated >= _SURE:
        return ""
    return f"The luck of the best of {trials.count:,} trials may explain the profit."
