"""Positions that a request holds."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MOST_POSITIONS = 2000
_MOST_MONEY = 1e13
_MOST_SHARES = 1e11


def _symbol(value: str) -> str:
    return value.strip().upper()


Ticker = Annotated[str, Field(min_length=1, max_length=32), AfterValidator(_symbol)]


class Position(BaseModel):
    """One position: its value in money, or its number of shares."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    ticker: Ticker = Field(description="A ticker of the universe")
    value: float | None = Field(
        default=None,
        ge=-_MOST_MONEY,
        le=_MOST_MONEY,
        description="Market value in the portfolio's currency, negative for a short position",
    )
    quantity: float | None = Field(
        default=None,
        ge=-_MOST_SHARES,
        le=_MOST_SHARES,
        description="Shares, negative for a short position; valued at the last close",
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.value is None) == (self.quantity is None):
            raise ValueError("give either value or quantity")
        return self


def check_distinct(positions: list[Position]) -> list[Position]:
    """The positions, each ticker once."""
    names = [position.ticker for position in positions]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise ValueError(f"{', '.join(twice[:5])} is there more than once: add the positions of a ticker up")
    return positions


Positions = Annotated[list[Position], AfterValidator(check_distinct)]
