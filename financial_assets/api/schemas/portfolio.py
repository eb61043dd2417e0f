"""Portfolios: request and answer."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from financial_assets.api.schemas.positions import MOST_POSITIONS, Positions, Ticker

METHOD = (
    "Mean and variance with proportional costs (Markowitz 1952): the most expected return over the holding period "
    "after risk and costs that the constraints allow, by "
    "skfolio. The covariance is that of the joint scenarios of /v1/risk, "
    "its correlations shrunk (Ledoit and Wolf 2004). Orders are rounded towards zero to whole lots."
)


class BookLimits(BaseModel):
    """Constraints; weights are signed shares of the capital."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    mode: Literal["long_only", "neutral", "long_short"] = Field(
        default="long_only", description="`neutral`: long and short exposure are equal"
    )
    gross: float = Field(default=1.0, gt=0, le=20, description="Largest sum of absolute weights")
    per_name: float = Field(default=0.1, gt=0, le=20, description="Largest absolute weight")
    per_sector: float | None = Field(
        default=None, ge=0, le=20, description="Largest sum of absolute weights of a sector"
    )
    turnover: float | None = Field(default=None, ge=0, le=40, description="Largest sum of absolute changes of weights")
    volatility_target: float | None = Field(
        default=None, gt=0, le=10, description="Highest forecast volatility per year; fraction"
    )
    invested: float | None = Field(
        default=None, ge=0, le=20, description="Smallest sum of weights; of a long_only book alone"
    )

    @model_validator(mode="after")
    def _long_only_alone(self) -> Self:
        if self.invested is not None and self.mode != "long_only":
            raise ValueError("invested is for a long_only book alone")
        return self


class PortfolioRequest(BaseModel):
    """What is held, and what may be."""

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [
                {
                    "capital": 1000000,
                    "positions": [{"ticker": "AAPL", "quantity": 100}],
                    "constraints": {"mode": "long_only", "per_name": 0.6, "turnover": 0.5, "volatility_target": 0.15},
                }
            ]
        },
    )

    capital: float = Field(gt=0, le=1e13, description="What weights are shares of; currency")
    positions: Positions = Field(default=[], max_length=MOST_POSITIONS, description="Held now; default: nothing")
    tickers: Annotated[list[Ticker], Field(min_length=1, max_length=MOST_POSITIONS)] | None = Field(
        default=None, description="Names that may be held; default: all with a signal. Others that are held are sold"
    )
    constraints: BookLimits = Field(default=BookLimits())
    forecast: Literal["score", "probability", "evidence", "none"] | None = Field(
        default=None,
        description="What is expected of each name, see `forecast_is` of the answer; default: `score` (beyond the "
        "market) for a neutral book, else `probability`",
    )
    risk_aversion: float = Field(default=5.0, ge=0, le=10_000, description="Weight of the variance against the return")
    holding_sessions: int = Field(default=5, ge=1, le=252, description="Sessions that costs are spread over")
    lot: int = Field(default=1, ge=1, le=1_000_000, description="Shares in a lot")
    smallest_order: float = Field(default=0.0, ge=0, le=1e13, description="Orders of less value are left out; currency")


class Target(BaseModel):
    """One name of the book."""

    ticker: str
    weight: float = Field(description="Target; signed share of the capital")
    current: float = Field(description="Held now; signed share of the capital")
    expected_return: float = Field(description="Of one session, before costs; fraction")
    sector: str | None


class OrderAnswer(BaseModel):
    """One order."""

    ticker: str
    side: Literal["BUY", "SELL"]
    quantity: int = Field(description="Shares")
    price: float = Field(description="Last close, by which it is sized; currency")
    value: float = Field(description="Currency")
    weight_before: float
    weight_after: float


class PortfolioAnswer(BaseModel):
    """A book and its orders."""

    as_of: date
    target_session: date
    model: str
    version: int
    targets: list[Target] = Field(description="Names with a weight now or then, largest first")
    orders: list[OrderAnswer] = Field(description="Largest value first")
    gross: float
    net: float
    cash: float = Field(description="1 minus net: what is not invested; fraction of the capital")
    turnover: float
    expected_return: float = Field(description="Of the target book, one session, before costs; fraction of the capital")
    volatility: float = Field(description="Forecast, per year; fraction of the capital")
    cost: float = Field(description="Of the trades at COST_BPS per side; fraction of the capital")
    forecast_is: str
    left_out: dict[str, str] = Field(description="Ticker to reason")
    method: str
    warnings: list[str]
    caveat: str


class DeskOrder(BaseModel):
    """One order of the daily run, and what became of it."""

    key: str = Field(description="Names the order for ever; send it as the client's order id")
    ticker: str
    side: Literal["BUY", "SELL"]
    quantity: int = Field(description="Shares")
    limit: float | None = Field(description="Worst price; null: at the market; currency")
    close: float = Field(description="Last close, by which it is sized; currency")
    reason: str
    state: Literal["open", "filled", "expired", "cancelled", "not sent"] = Field(description="In the paper book")
    why_not: str | None = Field(description="Why it was not executed; null if it was, or waits")


class OrdersAnswer(BaseModel):
    """A file of orders."""

    session: date = Field(description="At whose close they were decided")
    target_session: date = Field(description="For which they are good")
    status: Literal["orders", "nothing to trade", "halted", "refused"]
    remark: str
    halted: str | None = Field(description="Trading is halted now: send nothing. Null if not")
    model: str
    version: int
    decision: str
    holdings: str
    capital: float
    limit_rule: str
    revision: int
    sequence: int = Field(description="Place in the chain of files")
    digest: str = Field(description="SHA-256 of the file")
    previous: str = Field(description="SHA-256 of the file before it")
    orders: list[DeskOrder] = Field(description="Largest value first; none under a halt")
