"""The desk: which book the daily orders lead to, their files, the paper book and the kill switch."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from pydantic import BaseModel, ConfigDict

from financial_assets.errors import OrderError
from financial_assets.halt import KillSwitch
from financial_assets.locking import exclusive
from financial_assets.trading.order_files import OrderFiles
from financial_assets.trading.paper import PaperBroker

if TYPE_CHECKING:
    from financial_assets.portfolio.construction.constraints import Constraints
    from financial_assets.trading.order import LimitBy

_LONGEST_WAIT_S = 60.0


class TradingState(BaseModel):
    """Settings of the daily orders, and where they are kept."""

    model_config = ConfigDict(frozen=True)

    home: str
    holdings: str | None = None
    orders_capital: float | None = None
    orders_mode: str = "long_only"
    orders_gross: float = 1.0
    orders_per_name: float = 0.1
    orders_per_sector: float | None = None
    orders_turnover: float | None = None
    orders_forecast: str | None = None
    orders_risk_aversion: float = 5.0
    orders_holding_sessions: int = 5
    orders_lot: int = 1
    orders_smallest: float = 0.0
    orders_limit: str = "range"
    orders_tick: float = 0.01

    @property
    def switch(self) -> KillSwitch:
        """The kill switch."""
        return KillSwitch.of(self.home)

    @property
    def files(self) -> OrderFiles:
        """The files of orders."""
        return OrderFiles(Path(self.home) / "orders")

    @property
    def paper(self) -> PaperBroker:
        """The paper book."""
        return PaperBroker(Path(self.home) / "paper-book.jsonl", self.switch)

    @property
    def limit_by(self) -> LimitBy:
        """Which quantiles are limits."""
        return cast("LimitBy", self.orders_limit)

    def constraints(self, *, taken: float = 0.0) -> Constraints:
        """What the book may hold; ``taken`` of the gross exposure is held by names that cannot be traded."""
        from financial_assets.portfolio.construction.constraints import Constraints  # the solver takes seconds

        return Constraints(
            mode=cast("Literal['long_only', 'neutral', 'long_short']", self.orders_mode),
            gross=max(self.orders_gross - taken, 0.0),
            per_name=self.orders_per_name,
            per_sector=self.orders_per_sector,
            turnover=self.orders_turnover,
        )

    @contextmanager
    def alone(self, purpose: str, timeout_s: float = _LONGEST_WAIT_S) -> Generator[None]:
        """One writer at a time of order files and of the paper book."""
        with exclusive(Path(self.home) / "trading.lock", timeout_s, error=OrderError, purpose=purpose):
            yield
