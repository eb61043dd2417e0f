"""One order, and the rule of its limit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, ClassVar, Literal, Self, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from financial_assets.errors import OrderError

Side = Literal["BUY", "SELL"]
LimitBy = Literal["range", "tail", "median", "none"]
"""Which quantiles of the next session's return are limits: 5 and 95 %, 1 and 99 %, 50 %, or no limit."""

_Record = TypeVar("_Record")
_BUY_AT: Mapping[LimitBy, str] = {"range": "q95", "tail": "q99", "median": "q50"}
_SELL_AT: Mapping[LimitBy, str] = {"range": "q05", "tail": "q01", "median": "q50"}
_PERCENT = {"q01": 1, "q05": 5, "q50": 50, "q95": 95, "q99": 99}


@dataclass(frozen=True)
class TradingCosts:
    """What trades of one name cost, as known at the close of the decision; see ``portfolio.costs``.

    Attributes
    ----------
    commission_bps
        Basis points of the traded value.
    half_spread
        Share of the traded value.
    impact
        Times the traded value to the power 3/2, in money.
    """

    commission_bps: float = 0.0
    half_spread: float = 0.0
    impact: float = 0.0

    def of(self, value: float) -> dict[str, float]:
        """Costs in money of a trade of ``value`` (at least 0), by cause."""
        return {
            "commission": value * self.commission_bps * 1e-4,
            "spread": value * self.half_spread,
            "impact": self.impact * value * math.sqrt(value),
        }


@dataclass(frozen=True)
class Order:
    """A day order for the session after its own.

    Attributes
    ----------
    key
        Names it for ever: a broker that is sent it twice executes it once.
    ticker, side
        What, and whether it is bought or sold.
    quantity
        Shares, above 0; whole lots but in simulations.
    limit
        Price per share beyond which it is not executed, in the currency of the prices; ``None``: at the market.
    close, factor
        The last close, by which it was sized, and adjusted close over close of that session: they tell a later split.
    costs
        What its execution is expected to cost.
    reason
        In plain words.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    key: str
    ticker: str
    side: Side
    quantity: float
    limit: float | None
    close: float
    factor: float
    costs: TradingCosts
    reason: str = ""

    def __post_init__(self) -> None:
        if self.side not in ("BUY", "SELL"):
            raise OrderError(f"order {self.key}: side must be BUY or SELL, not {self.side!r}")
        for name in ("quantity", "close", "factor"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise OrderError(f"order {self.key}: {name} must be a finite number above 0, not {value}")
        if self.limit is not None and not (math.isfinite(self.limit) and self.limit > 0):
            raise OrderError(f"order {self.key}: limit must be a finite number above 0, not {self.limit}")

    @property
    def sign(self) -> int:
        """1 for a purchase, -1 for a sale."""
        return 1 if self.side == "BUY" else -1

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What :meth:`to_dict` gave.

        Raises
        ------
        OrderError
            The values are not an order.
        """
        return validated(cls, values, "an order")


def validated(kind: type[_Record], values: Mapping[str, Any], name: str) -> _Record:
    """A frozen dataclass from JSON values, checked field by field.

    Raises
    ------
    OrderError
        The values are not one: a field is missing, unknown, or of another type.
    """
    try:
        return _adapter(kind).validate_python(values)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise OrderError(f"not {name}: {where}: {problem['msg']}") from error


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def limit_rule(by: LimitBy, tick: float) -> str:
    """The rule of the limits in words, for whoever reads an order."""
    if by == "none":
        return "no limit: at the market of the next session's open"
    buy, sell = _PERCENT[_BUY_AT[by]], _PERCENT[_SELL_AT[by]]
    return (
        f"BUY at most at last close * exp({buy} % quantile of the next session's log return), SELL at least at last "
        f"close * exp({sell} % quantile); rounded to {tick:g}, a purchase down and a sale up. Good for the next "
        "session only."
    )


def limits_of(close: float, quantiles: Mapping[str, float], by: LimitBy, tick: float) -> tuple[float, float] | None:
    """Limits of a purchase and of a sale; ``None`` without limits.

    Parameters
    ----------
    close
        Last close.
    quantiles
        Of the next session's log return: ``q01`` ... ``q99``.
    by, tick
        See :func:`limit_rule`; limits are multiples of ``tick``, at least one.
    """
    if by == "none":
        return None
    buy, sell = (close * math.exp(quantiles[names[by]]) for names in (_BUY_AT, _SELL_AT))
    # A hair of tolerance: a price that is a multiple of the tick must stay it.
    ticks = max(math.floor(buy / tick * (1 + 1e-12)), 1), max(math.ceil(sell / tick * (1 - 1e-12)), 1)
    return round(ticks[0] * tick, 10), round(ticks[1] * tick, 10)
