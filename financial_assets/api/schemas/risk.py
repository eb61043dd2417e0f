"""Risk of a portfolio: request and answer."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from financial_assets.api.schemas.positions import MOST_POSITIONS, Positions

METHOD = (
    "Filtered historical simulation. Scenarios are the latest sessions on which all positions traded: the return of "
    "each ticker in units of the volatility known before it, all tickers of a session together. They are shifted "
    "and scaled so that each ticker's 5, 50 and 95 % quantiles are those of its served forecast. Positions are held "
    "unchanged. Value at risk is the empirical quantile of the profits, expected shortfall the mean of the worst share."
)


class RiskLimits(BaseModel):
    """Limits to check, each as a fraction of the capital; those not given are not checked."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    gross: float | None = Field(default=None, gt=0, le=100, description="Sum of absolute values")
    net: float | None = Field(default=None, ge=0, le=100, description="Absolute value of the sum")
    per_name: float | None = Field(default=None, gt=0, le=100, description="Largest absolute value of one ticker")
    per_sector: float | None = Field(default=None, gt=0, le=100, description="Largest gross value of one sector")
    var_95: float | None = Field(default=None, gt=0, le=100, description="Over one session")
    var_99: float | None = Field(default=None, gt=0, le=100, description="Over one session")
    es_95: float | None = Field(default=None, gt=0, le=100, description="Over one session")
    es_99: float | None = Field(default=None, gt=0, le=100, description="Over one session")
    var_99_5d: float | None = Field(default=None, gt=0, le=100, description="Over five sessions")
    es_99_5d: float | None = Field(default=None, gt=0, le=100, description="Over five sessions")


class RiskRequest(BaseModel):
    """Positions, and what they are held against."""

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [
                {
                    "positions": [{"ticker": "AAPL", "value": 500000}, {"ticker": "MSFT", "quantity": -4000}],
                    "capital": 1000000,
                    "limits": {"gross": 1.5, "var_99": 0.04},
                }
            ]
        },
    )

    positions: Positions = Field(min_length=1, max_length=MOST_POSITIONS)
    capital: float | None = Field(
        default=None, gt=0, le=1e13, description="What limits are fractions of; default: the gross value"
    )
    limits: RiskLimits = Field(default=RiskLimits())
    scenarios: int = Field(default=1000, ge=250, le=5000, description="Latest sessions that are scenarios, at most")
    back_test: bool = Field(
        default=False, description="Also test the value at risk of these positions on the model's past sessions"
    )


class Tail(BaseModel):
    """Losses as positive amounts in the portfolio's currency."""

    var_95: float
    var_99: float
    es_95: float
    es_99: float


class PositionTail(BaseModel):
    """Risk of one position."""

    ticker: str
    value: float = Field(description="Market value; currency")
    price: float | None = Field(description="Last close; currency of the ticker")
    alone: Tail = Field(description="Held by itself")
    share_of_es_95: float = Field(description="What it adds to the portfolio's; negative: a hedge; currency")
    share_of_es_99: float = Field(description="What it adds to the portfolio's; negative: a hedge; currency")


class Coverage(BaseModel):
    """How the value at risk of these positions would have held."""

    level: float
    sessions: int
    beyond: int = Field(description="Sessions that lost more")
    expected: float
    kupiec_p: float | None = Field(description="Frequency as promised; null with too few sessions")
    independence_p: float | None = Field(description="No clusters (Christoffersen); null with too few sessions")


class HorizonAnswer(BaseModel):
    """Risk over one horizon."""

    sessions: int
    portfolio: Tail
    positions: list[PositionTail]
    diversification_95: float = Field(description="Sum of the positions' ES 95 minus the portfolio's; currency")
    scenarios: int
    back_test: list[Coverage]


class LimitCheck(BaseModel):
    """One limit."""

    limit: str
    observed: float = Field(description="Fraction of the capital")
    allowed: float = Field(description="Fraction of the capital")
    breached: bool
    detail: str = Field(description="Which ticker or sector, where there is one")


class RiskAnswer(BaseModel):
    """Risk of a portfolio."""

    as_of: date
    target_session: date
    model: str
    version: int
    capital: float
    capital_is: Literal["given", "gross value of the positions"]
    gross: float = Field(description="Currency")
    net: float = Field(description="Currency")
    horizons: list[HorizonAnswer]
    limits: list[LimitCheck]
    within_limits: bool
    method: str
    warnings: list[str]
    caveat: str
