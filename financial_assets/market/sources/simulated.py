"""Simulated bars whose predictability is known exactly.

Every ticker is a geometric walk. Before each step a rule looks at the bars so far and names a direction; the step goes
there with probability ``(1 + signal_strength) / 2``, whatever its size. So nothing can predict the next direction more
often than that: it is the Bayes accuracy, by construction, for every rule.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import pandas as pd

from financial_assets.errors import SourceError
from financial_assets.market import calendar
from financial_assets.market.sources import FetchResult, deliver

Signal = Literal["momentum", "volume_reversal", "parity"]

_SMALLEST_STEP = 0.3
"""Steps are at least this fraction of a standard normal one, so that a bar shows its sign clearly."""


@dataclass(frozen=True)
class SimulatedMarket:
    """What to simulate.

    Attributes
    ----------
    sessions
        Number of sessions.
    start
        First day; the first session on or after it begins the data.
    seed
        Of every draw. A ticker's path depends on the seed and its own name only.
    signal_strength
        0 (random walk) to 1 (every direction follows the rule).
    signal
        ``momentum``: yesterday's direction goes on (linear: any model learns it). ``volume_reversal``: a move goes on
        after low volume and reverses after high volume (Campbell, Grossman & Wang 1993): an exclusive or, which no
        linear model learns. ``parity``: the product of the signs of the last ``order`` returns and of today's volume
        surprise: hidden from all smaller interactions, so it takes a network of some size.
    order
        Number of returns in ``parity``.
    volatility
        Daily standard deviation of the log return, on average.
    usual_volume
        Shares a day that volume surprises are measured against.
    regime_shift_session
        Session number (from 0) from which steps go against the rule; ``None``: never.
    """

    sessions: int = 1500
    start: dt.date = field(default=dt.date(2005, 1, 3))
    seed: int = 42
    signal_strength: float = 0.2
    signal: Signal = "momentum"
    order: int = 2
    volatility: float = 0.015
    usual_volume: float = 5e6
    regime_shift_session: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.signal_strength <= 1.0:
            raise SourceError(f"SIMULATED_SIGNAL={self.signal_strength}: must lie between 0 and 1")
        if self.sessions < 2:
            raise SourceError(f"SIMULATED_SESSIONS={self.sessions}: at least 2 are needed")
        if self.order < 1 or not self.volatility > 0:
            raise SourceError(f"order={self.order} and volatility={self.volatility} must be positive")
        if self.signal not in get_args(Signal):
            raise SourceError(f"signal={self.signal!r}: must be one of {', '.join(get_args(Signal))}")
        shift = self.regime_shift_session
        if shift is not None and not 1 <= shift < self.sessions:
            raise SourceError(f"SIMULATED_REGIME_SHIFT={shift}: must lie between 1 and {self.sessions - 1}")

    @property
    def bayes_accuracy(self) -> float:
        """Share of directions that the best possible predictor gets right, on either side of a regime shift."""
        return (1.0 + self.signal_strength) / 2.0


class SimulatedPrices:
    """Simulated bars of any ticker.

    Parameters
    ----------
    market
        What to simulate.
    """

    name: str = "simulated"
    live: bool = False

    def __init__(self, market: SimulatedMarket) -> None:
        self.market = market

    @property
    def bayes_accuracy(self) -> float:
        """See ``SimulatedMarket.bayes_accuracy``."""
        return self.market.bayes_accuracy

    def fetch(self, tickers: Sequence[str], start: dt.date | None = None, end: dt.date | None = None) -> FetchResult:
        """Bars of ``tickers``; see ``PriceSource.fetch``."""
        days = _sessions(self.market)
        paths = [_simulate(self.market, ticker, days) for ticker in dict.fromkeys(tickers)]
        held = pd.concat(paths, ignore_index=True) if paths else pd.DataFrame({"ticker": [], "date": []})
        return deliver(held, tickers, start, end, origin="PRICE_SOURCE=simulated")


def direction_rule(market: SimulatedMarket, returns: np.ndarray, surprise: np.ndarray) -> int:
    """The direction (+1, -1) that the rule names after these bars, before any regime shift.

    Parameters
    ----------
    returns
        Log returns of the closes so far, oldest first; at least ``market.order``.
    surprise
        Log of volume over its usual level, of the same bars.
    """
    signs = np.where(returns > 0, 1, -1)
    high = 1 if surprise[-1] > 0 else -1
    if market.signal == "momentum":
        return int(signs[-1])
    if market.signal == "volume_reversal":
        return int(-signs[-1] * high)
    return int(np.prod(signs[-market.order :]) * high)


def _sessions(market: SimulatedMarket) -> pd.DatetimeIndex:
    days = calendar.sessions(market.start, calendar.last_session())
    if len(days) < market.sessions:
        raise SourceError(f"SIMULATED_SESSIONS={market.sessions}: the calendar has {len(days)} from {market.start} on")
    return days[: market.sessions]


def _simulate(market: SimulatedMarket, ticker: str, days: pd.DatetimeIndex) -> pd.DataFrame:
    name = int.from_bytes(hashlib.sha256(ticker.encode()).digest()[:8], "little")
    rng = np.random.default_rng([market.seed, name])
    count = len(days)
    surprise = rng.choice((-1.0, 1.0), count) * (0.2 + 0.3 * np.abs(rng.standard_normal(count)))
    follows = rng.random(count) < market.bayes_accuracy
    sizes = _SMALLEST_STEP + np.abs(rng.standard_normal(count))
    sizes *= market.volatility * _volatility_path(rng, count) / np.sqrt(np.mean(sizes**2))
    returns = np.zeros(count)
    first = rng.choice((-1.0, 1.0), count)
    for at in range(count):
        if at <= market.order:
            direction = first[at]
        else:
            past = slice(at - market.order, at)
            direction = direction_rule(market, returns[past], surprise[past])
            shifted = market.regime_shift_session is not None and at >= market.regime_shift_session
            direction = direction if follows[at] != shifted else -direction
        returns[at] = direction * sizes[at]
    close = 100.0 * np.exp(np.cumsum(returns))
    gaps = 0.3 * market.volatility * rng.standard_normal(count)
    opening = np.concatenate(([100.0], close[:-1])) * np.exp(gaps)
    reach = 0.4 * market.volatility * np.abs(rng.standard_normal((2, count)))
    return pd.DataFrame(
        {
            "date": days,
            "ticker": ticker,
            "open": opening,
            "high": np.maximum(opening, close) * np.exp(reach[0]),
            "low": np.minimum(opening, close) * np.exp(-reach[1]),
            "close": close,
            "volume": np.round(market.usual_volume * np.exp(surprise)),
            "adj_close": close,
        }
    )


def _volatility_path(rng: np.random.Generator, count: int) -> np.ndarray:
    """Slowly changing volatility around 1: the exponential of an AR(1) process."""
    shocks = 0.05 * rng.standard_normal(count)
    level = np.zeros(count)
    for at in range(1, count):
        level[at] = 0.98 * level[at - 1] + shocks[at]
    return np.exp(level)
