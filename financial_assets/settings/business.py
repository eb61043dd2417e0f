"""What a promotion is worth to you, and how the report's books trade."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from financial_assets.settings.base import SettingsGroup

_Book = Literal["direction", "long_only", "long_short", "market_neutral"]


def _check_books(value: str) -> str:
    names = [name.strip() for name in value.split(",")]
    if not set(names) <= set(get_args(_Book)) or len(set(names)) < len(names):
        raise ValueError(f"must be names among {', '.join(get_args(_Book))}, each once, with commas between them")
    return ",".join(names)


class BusinessSettings(SettingsGroup):
    """Figures of the business view.

    What a promotion costs and is worth is in a currency of your choice; the capital of the books is in that of the
    prices.
    """

    business_aum: float | None = Field(default=None, gt=0, le=1e15, allow_inf_nan=False)
    """Assets that would trade by the promoted model, in money; unset: the report shows returns only."""

    business_horizon_sessions: int = Field(default=252, ge=1, le=5040)
    """Sessions over which a promotion is to pay."""

    business_latency_cost_per_ms: float = Field(default=0.0, ge=0, le=1e12, allow_inf_nan=False)
    """Money that each millisecond of slower mean response costs in a session; needs BUSINESS_AUM to be shown."""

    business_implementation_cost: float = Field(default=0.0, ge=0, le=1e15, allow_inf_nan=False)
    """Money that a promotion costs once; needs BUSINESS_AUM to be shown."""

    business_books: Annotated[str, AfterValidator(_check_books)] = "direction,long_only,long_short,market_neutral"
    """Books of the report, with commas between them: ``direction`` takes each ticker's predicted side; the others rank
    the tickers by score. The sentence of the report is about the first one that trades."""

    business_ranked_from: int = Field(default=10, ge=2, le=10_000)
    """Tickers with a forecast in a session from which on books rank them; below, only ``direction`` is traded."""

    business_quantiles: int = Field(default=5, ge=2, le=100)
    """5: the best fifth of the tickers is bought, the worst fifth sold."""

    business_gross: float = Field(default=1.0, gt=0, le=10, allow_inf_nan=False)
    """Gross exposure of books that rank, as a share of the capital."""

    business_sizing: Literal["book", "equal", "inverse_volatility", "kelly"] = "book"
    """How much of each name: ``book`` as each book is built (equal parts, or in proportion to the score), equal parts,
    in proportion to the inverse of its volatility, or fractional Kelly by probability and range."""

    business_kelly_fraction: float = Field(default=0.5, gt=0, le=1, allow_inf_nan=False)
    """Share of Kelly's weight that is taken."""

    business_kelly_cap: float = Field(default=0.1, gt=0, le=1, allow_inf_nan=False)
    """Largest weight of one name under Kelly."""

    business_stop_loss: float | None = Field(default=None, gt=0, lt=1, allow_inf_nan=False)
    """Loss at which a position is closed, as a share of its entry price: 0.05 for 5 %; unset: none."""

    business_capital: float | None = Field(default=None, gt=0, le=1e15, allow_inf_nan=False)
    """Money that the books trade with, which market impact depends on; default: ``BUSINESS_AUM``, and 10,000,000 where
    that is not set."""

    business_commission_bps: float = Field(default=0.5, ge=0, le=1000, allow_inf_nan=False)
    """Commission per side under market costs, in basis points; flat costs are ``COST_BPS``."""

    business_spread: Literal["fixed", "estimated"] = "fixed"
    """Whether half the spread is ``BUSINESS_HALF_SPREAD_BPS``, or estimated from daily highs and lows (Corwin and
    Schultz 2012), which takes volatility for spread and charges several times too much for liquid stocks."""

    business_half_spread_bps: float = Field(default=2.0, ge=0, le=1000, allow_inf_nan=False)
    """Half the bid-ask spread that is paid per side under market costs, in basis points of the price."""

    business_impact: float = Field(default=1.0, ge=0, le=100, allow_inf_nan=False)
    """Market impact: this many times daily volatility times the square root of the share of a day's volume; 0: none."""

    business_borrow_per_year: float = Field(default=0.005, ge=0, le=10, allow_inf_nan=False)
    """Fee for shares sold short, as a share of their value per year."""

    business_cash_per_year: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    """Return of cash per year, which Sharpe ratios are in excess of."""

    business_delisting_return: float = Field(default=0.0, ge=-1, le=1, allow_inf_nan=False)
    """What holders get of a name that never opens again, after its last price: -0.3 is usual after a failure."""
