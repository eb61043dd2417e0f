"""What is assumed of a book and of its costs, fixed before anything is computed."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

from financial_assets.errors import PortfolioError

BookName = Literal["direction", "long_only", "long_short", "market_neutral"]
"""``direction``: every ticker by its predicted direction; the others rank the tickers of a session by their score."""

Sizing = Literal["book", "equal", "inverse_volatility", "kelly"]
"""``book``: as each book is built, in equal parts or in proportion to the score."""

CostModel = Literal["flat", "market"]
"""``flat``: one rate, rebalancing free, as decisions count. ``market``: commission, spread, impact and borrowing."""

BOOKS: tuple[BookName, ...] = ("direction", "long_only", "long_short", "market_neutral")
COST_MODELS: tuple[CostModel, ...] = ("flat", "market")

_AT_LEAST_ZERO = ("cost_bps", "commission_bps", "impact", "borrow_per_year", "cash_per_year")
_ABOVE_ZERO = ("gross", "kelly_cap", "capital")


@dataclass(frozen=True, kw_only=True, slots=True)
class Assumptions:
    """How forecasts are traded, and what that costs.

    Attributes
    ----------
    books
        Which ones, in the order in which they are shown.
    ranked_from
        Tickers with a forecast in a median session from which on books rank them; with fewer, a fifth of the universe
        is a name or none, and only ``direction`` is traded.
    quantiles
        5 holds the best fifth (and the worst).
    gross
        Gross exposure of the ranked books, as a share of the capital.
    sizing
        How much of each name.
    kelly_fraction, kelly_cap
        Of ``sizing = "kelly"``: the share of Kelly's weight, and the most of one name.
    stop_loss
        Loss at which a position is closed, as a share of its price of entry; ``None``: none.
    cost_bps
        Of the flat costs, per side.
    commission_bps
        Of the market costs, per side.
    half_spread_bps
        Of the market costs; ``None`` (BUSINESS_SPREAD = estimated): from highs and lows (Corwin and Schultz 2012),
        which takes volatility for spread in liquid stocks and then charges several times too much.
    impact
        Coefficient of the square-root law; 0: no impact, and no limit of capacity.
    borrow_per_year
        Fee for shares sold short.
    cash_per_year
        Simple return of cash.
    capital
        Money at the start of each session, in the currency of the prices.
    delisting_return
        What holders get who could not sell at a last open.
    """

    books: tuple[BookName, ...] = BOOKS
    ranked_from: int = 10
    quantiles: int = 5
    gross: float = 1.0
    sizing: Sizing = "book"
    kelly_fraction: float = 0.5
    kelly_cap: float = 0.1
    stop_loss: float | None = None
    cost_bps: float = 5.0
    commission_bps: float = 0.5
    half_spread_bps: float | None = 2.0
    impact: float = 1.0
    borrow_per_year: float = 0.005
    cash_per_year: float = 0.0
    capital: float = 10_000_000.0
    delisting_return: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise PortfolioError(f"{_setting(field.name)} must be finite, not {value}")
        unknown = [name for name in self.books if name not in BOOKS]
        if unknown or not self.books or len(set(self.books)) < len(self.books):
            raise PortfolioError(f"BUSINESS_BOOKS: choose among {', '.join(BOOKS)}, each once, not {self.books}")
        if self.sizing not in get_args(Sizing):
            raise PortfolioError(f"BUSINESS_SIZING: choose one of {', '.join(get_args(Sizing))}, not {self.sizing!r}")
        for name in _AT_LEAST_ZERO:
            if getattr(self, name) < 0:
                raise PortfolioError(f"{_setting(name)} must be at least 0, not {getattr(self, name):g}")
        for name in _ABOVE_ZERO:
            if not getattr(self, name) > 0:
                raise PortfolioError(f"{_setting(name)} must be above 0, not {getattr(self, name):g}")
        if self.half_spread_bps is not None and self.half_spread_bps < 0:
            raise PortfolioError(f"BUSINESS_HALF_SPREAD_BPS must be at least 0, not {self.half_spread_bps:g}")
        if not 0 < self.kelly_fraction <= 1:
            raise PortfolioError(f"BUSINESS_KELLY_FRACTION must be above 0 and at most 1, not {self.kelly_fraction:g}")
        if self.stop_loss is not None and not 0 < self.stop_loss < 1:
            raise PortfolioError(f"BUSINESS_STOP_LOSS must lie between 0 and 1, not {self.stop_loss:g}")
        if self.quantiles < 2 or self.ranked_from < 2:
            raise PortfolioError("BUSINESS_QUANTILES and BUSINESS_RANKED_FROM must be at least 2: one name has no rank")
        if not self.delisting_return >= -1:
            raise PortfolioError(f"BUSINESS_DELISTING_RETURN must be at least -1, not {self.delisting_return:g}")


def _setting(name: str) -> str:
    return "COST_BPS" if name == "cost_bps" else f"BUSINESS_{name.upper()}"
