"""Which book the daily orders lead to, and from which holdings."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from financial_assets.settings.base import LocalPath, SettingsGroup


class OrderSettings(SettingsGroup):
    """The book behind the asset `orders`; ``POST /v1/portfolio`` takes the same constraints with each request."""

    holdings: LocalPath | None = None
    """File of what is held (CSV: ticker, quantity), from which orders lead to the target; unset: the paper book. Orders
    from a file are not executed on paper."""

    orders_capital: float | None = Field(default=None, gt=0, le=1e13, allow_inf_nan=False)
    """Money that the paper book begins with, and that weights are shares of where ``HOLDINGS`` is set, in the currency
    of the prices; unset: the capital of the report's books (``BUSINESS_CAPITAL``)."""

    orders_mode: Literal["long_only", "neutral", "long_short"] = "long_only"
    """``neutral``: long and short exposure are equal."""

    orders_gross: float = Field(default=1.0, gt=0, le=20, allow_inf_nan=False)
    """Largest sum of absolute weights, as shares of the capital."""

    orders_per_name: float = Field(default=0.1, gt=0, le=20, allow_inf_nan=False)
    """Largest absolute weight of one name."""

    orders_per_sector: float | None = Field(default=None, gt=0, le=20, allow_inf_nan=False)
    """Largest sum of absolute weights of one sector of ``UNIVERSE_FILE``; unset: no limit."""

    orders_turnover: float | None = Field(default=None, gt=0, le=40, allow_inf_nan=False)
    """Largest sum of absolute changes of weights in one session; unset: no limit."""

    orders_forecast: Literal["score", "probability", "evidence", "none"] | None = None
    """What is expected of each name: the model's score, what probability and range imply, what such forecasts have
    earned, or nothing (the least risk); unset: ``score`` for a neutral book, else ``probability``."""

    orders_risk_aversion: float = Field(default=5.0, ge=0, le=10_000, allow_inf_nan=False)
    """Weight of the variance against the expected return."""

    orders_holding_sessions: int = Field(default=5, ge=1, le=252)
    """Sessions that the costs of a trade are spread over."""

    orders_lot: int = Field(default=1, ge=1, le=1_000_000)
    """Shares in a lot: orders are whole lots."""

    orders_smallest: float = Field(default=0.0, ge=0, le=1e13, allow_inf_nan=False)
    """Orders of less value are left out."""

    orders_limit: Literal["range", "tail", "median", "none"] = "range"
    """Limits of orders, by quantiles of the next session's return: 5 and 95 %, 1 and 99 %, 50 %, or none."""

    orders_tick: float = Field(default=0.01, gt=0, le=1e6, allow_inf_nan=False)
    """Limits are multiples of it."""

    @model_validator(mode="after")
    def _a_name_fits_into_the_book(self) -> Self:
        if self.orders_per_name > self.orders_gross:
            raise ValueError(
                f"ORDERS_PER_NAME: {self.orders_per_name:g} is more than ORDERS_GROSS={self.orders_gross:g} allows "
                "for all names together"
            )
        return self
