"""What trading costs: a flat rate, half the spread, market impact, and the fee for borrowed shares.

All are shares of the capital. Rates may differ by ticker and session and must be known when the trade is decided, at
the close of session t: the features ``corwin_schultz_spread_20``, ``roll_spread_60`` and ``ewma_volatility``, and
:func:`average_dollar_volume`, are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from financial_assets.market import calendar
from financial_assets.portfolio.arguments import Floats, above_zero, at_least_zero, broadcast, gappy_matrix

BASIS_POINT = 1e-4


@dataclass(frozen=True)
class SquareRootImpact:
    """Market impact that grows with the square root of a trade's share of the day's volume.

    A trade of Q (money) moves its own price by ``coefficient * volatility * sqrt(Q / dollar_volume)``, and pays that
    share of Q. Tóth et al. (2011, Anomalous price impact and the critical nature of liquidity in financial markets,
    Physical Review X 1) find a coefficient of order one. Almgren, Thum, Hauptmann and Li (2005, Direct estimation of
    equity market impact) fit a power of 3/5 to the temporary impact of large orders. Charging the whole move is
    cautious: under the square root, the average price of an execution is two thirds of the way.

    Attributes
    ----------
    coefficient
        At least 0.
    volatility
        Of a session's return, forecast at the close: one number, ``[ticker, 1]`` or ``[ticker, session]``.
    dollar_volume
        Expected money traded in a session, likewise. A name is not traded where it is 0 or NaN: simulating such a
        trade raises.
    """

    coefficient: float
    volatility: ArrayLike
    dollar_volume: ArrayLike

    def __post_init__(self) -> None:
        at_least_zero("coefficient", self.coefficient)


@dataclass(frozen=True)
class Costs:
    """The costs of a book; those that are not given are 0.

    Attributes
    ----------
    flat_bps
        Commission and everything else that is proportional, in basis points of each side of a trade.
    half_spread
        Half the bid-ask spread as a share of the price, paid on each side: one number, ``[ticker, 1]`` or ``[ticker,
        session]``, see :func:`half_spread`.
    impact
        Market impact; needs a capital in the simulation.
    borrow_per_year
        Fee for shares sold short, as a share of their value per year, likewise. Paid for each session on which a short
        position is held.
    """

    flat_bps: float = 0.0
    half_spread: ArrayLike = 0.0
    impact: SquareRootImpact | None = None
    borrow_per_year: ArrayLike = 0.0

    def __post_init__(self) -> None:
        at_least_zero("flat_bps", self.flat_bps)

    def rates(self, shape: tuple[int, int], capital: float | None) -> Rates:
        """The costs of trades in a panel of ``shape`` by a book with ``capital``.

        Raises
        ------
        ValueError
            Rates of another shape, negative ones, or an impact without a capital.
        """
        impact = None
        if self.impact is not None:
            if capital is None:
                raise ValueError("capital must be given: market impact depends on how much money is traded")
            volatility = _rate("impact.volatility", self.impact.volatility, shape)
            volume = _rate("impact.dollar_volume", self.impact.dollar_volume, shape)
            # No volume is no market: like an unknown rate, it may stand where nothing is traded, and only there.
            per_volume = np.divide(
                above_zero("capital", capital),
                volume,
                out=np.full(shape, np.nan),
                where=~np.isnan(volume) & (volume > 0),
            )
            impact = self.impact.coefficient * volatility * np.sqrt(per_volume)
        return Rates(
            flat_bps=float(self.flat_bps),
            half_spread=_rate("half_spread", self.half_spread, shape),
            impact=impact,
            borrow=_rate("borrow_per_year", self.borrow_per_year, shape) / calendar.sessions_per_year(),
        )


@dataclass(frozen=True)
class Rates:
    """Costs per unit of what causes them, ``[ticker, session]``; NaN where not known.

    ``half_spread`` of each traded share of the capital; ``impact`` of its power 3/2; ``borrow`` of each share that is
    held short over a session.
    """

    flat_bps: float
    half_spread: Floats
    impact: Floats | None
    borrow: Floats

    def charges(self, trades: tuple[Floats, ...], held: Floats, units: float = 1.0) -> Charges:
        """What trades and positions cost.

        Parameters
        ----------
        trades
            Traded volumes ``[ticker, session]``, at least 0: each matrix holds trades that are made one by one.
        held
            Positions ``[ticker, session]``.
        units
            Positions and trades are in ``1 / units`` of the capital.

        Raises
        ------
        ValueError
            A rate is not known where something is traded or held short.
        """
        traded = sum(trades[1:], trades[0])
        turnover = traded.sum(axis=0) / units
        impact = np.zeros_like(turnover)
        if self.impact is not None:
            cubes = sum((volume * np.sqrt(volume) for volume in trades[1:]), trades[0] * np.sqrt(trades[0]))
            impact = _paid("impact (volatility, or a dollar_volume above 0)", self.impact, cubes) / units**1.5
        return Charges(
            commission=turnover * self.flat_bps * BASIS_POINT,
            spread=_paid("half_spread", self.half_spread, traded) / units,
            impact=impact,
            borrow=_paid("borrow_per_year", self.borrow, np.maximum(-held, 0.0)) / units,
        )


@dataclass(frozen=True)
class Charges:
    """Costs of a book by cause ``[session]``, as shares of the capital."""

    commission: Floats
    spread: Floats
    impact: Floats
    borrow: Floats
    total: Floats = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", self.commission + self.spread + self.impact + self.borrow)

    def until(self, session: int) -> Charges:
        """The same, with nothing charged after ``session``."""
        causes = (self.commission, self.spread, self.impact, self.borrow)
        here = np.arange(len(self.total)) <= session
        return Charges(*(np.where(here, cause, 0.0) for cause in causes))


def half_spread(spread_percent: ArrayLike, *, least_bps: float = 0.0) -> Floats:
    """Half of an effective spread that is stated in percent of the price, as the features state it.

    Parameters
    ----------
    spread_percent
        ``corwin_schultz_spread_20`` or ``roll_spread_60`` ``[ticker, session]``; NaN stays NaN.
    least_bps
        Half-spreads are at least this many basis points: both estimators give 0 where they find no spread, and no
        stock trades for nothing.

    Returns
    -------
    ndarray
        Share of the price ``[ticker, session]``.
    """
    spread = gappy_matrix("spread_percent", spread_percent)
    if np.any(spread < 0):
        raise ValueError("spread_percent must be at least 0")
    return np.maximum(spread / 200, at_least_zero("least_bps", least_bps) * BASIS_POINT)


def average_dollar_volume(dollar_volume: ArrayLike, window: int = 20) -> Floats:
    """Mean money traded over the last ``window`` sessions, the present one included.

    Parameters
    ----------
    dollar_volume
        Price times shares ``[ticker, session]``, at least 0; 0 where nothing was traded, NaN before the listing.
    window
        Sessions.

    Returns
    -------
    ndarray
        ``[ticker, session]``; a mean of fewer sessions at the beginning of a listing, NaN before it.
    """
    volume = gappy_matrix("dollar_volume", dollar_volume)
    if np.any(volume < 0):
        raise ValueError("dollar_volume must be at least 0")
    if window < 1:
        raise ValueError(f"window must be at least 1, not {window}")
    known = ~np.isnan(volume)
    total, count = (_trailing_sum(values, window) for values in (np.where(known, volume, 0.0), known.astype(float)))
    return np.divide(total, count, out=np.full(volume.shape, np.nan), where=count > 0)


def _trailing_sum(values: Floats, window: int) -> Floats:
    summed = np.cumsum(values, axis=1)
    trailing = summed.copy()
    trailing[:, window:] -= summed[:, :-window]
    return trailing


def _rate(name: str, values: ArrayLike, shape: tuple[int, int]) -> Floats:
    rate = broadcast(name, values, shape)
    if np.any(rate < 0):
        raise ValueError(f"{name} must be at least 0")
    return rate


def _paid(name: str, rate: Floats, volume: Floats) -> Floats:
    unknown = np.isnan(rate)
    if unknown.any():
        missing = np.argwhere(unknown & (volume > 0))
        if len(missing):
            ticker, session = missing[0]
            raise ValueError(
                f"{name} is not known for {len(missing)} positions, the first of ticker {ticker} in session {session}: "
                "give a rate, or take the name off the book with its tradable mask"
            )
        rate = np.where(unknown, 0.0, rate)
    return (rate * volume).sum(axis=0)
