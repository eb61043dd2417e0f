"""What a promotion is worth in profit, with its interval: what a person who pays for it would ask.

The unit is the day: the challenger's net return minus the champion's, both trading the same bars. The interval is of
the mean of these days, by Student's t with the long-run variance of Newey and West (1987): tickers of a day are in one
number already, and positions that are carried over make neighbouring days move together. Negative autocorrelation is
not believed, so the interval is never narrower than that of independent days. A block bootstrap would need a seed and a
thousand draws for the same result.

Nothing here decides: profits of so few years do not separate the arms, as :mod:`.risk` computes. No amount is assumed
either: assets, latency and implementation cost are set by the user; without assets there are only returns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.errors import ExperimentError
from financial_assets.scoring.autocorrelation import hac_mean
from financial_assets.scoring.intervals import Interval, day_clustered_difference

FEWEST_DAYS = 30
"""Below, no value is given: an interval from so few days is not to be trusted."""


@dataclass(frozen=True, slots=True)
class BusinessCase:
    """What only the user knows.

    Attributes
    ----------
    aum
        Assets that would trade by the promoted model, in money; ``None``: only returns are shown.
    horizon_sessions
        Sessions over which the promotion is to pay.
    latency_cost_per_ms
        Money that each millisecond of slower mean response costs per session.
    implementation_cost
        Money that the promotion costs once.
    """

    aum: float | None = None
    horizon_sessions: int = 252
    latency_cost_per_ms: float = 0.0
    implementation_cost: float = 0.0

    def __post_init__(self) -> None:
        amounts = (self.latency_cost_per_ms, self.implementation_cost)
        if not all(math.isfinite(amount) and amount >= 0 for amount in amounts) or self.horizon_sessions < 1:
            raise ExperimentError("a business case needs costs of at least 0 and a horizon of at least one session")
        if self.aum is not None and not (math.isfinite(self.aum) and self.aum > 0):
            raise ExperimentError("a business case needs assets above 0: set BUSINESS_AUM, or leave it unset")


@dataclass(frozen=True, slots=True)
class Money:
    """Value over the horizon, in the unit of the assets: ``net`` is ``gain - latency - implementation``.

    ``latency`` is ``None`` where it costs nothing, or where the arms were not routed side by side.
    """

    gain: Interval
    latency: Interval | None
    implementation: float
    net: Interval


@dataclass(frozen=True, slots=True)
class Promotion:
    """Expected value of putting the challenger in the champion's place.

    Attributes
    ----------
    challenger, champion
        Served names.
    daily
        Mean daily difference of net returns.
    lags
        Days after which neighbouring days are taken for independent.
    horizon
        The same over ``case.horizon_sessions``: the sum of daily returns, not compounded.
    slower_s
        By how many seconds the challenger's mean response was slower; ``None`` where it was not routed.
    money
        ``None`` without assets.
    case
        What the user said.
    sentence
        All of it in words.
    """

    challenger: str
    champion: str
    daily: Interval
    lags: int
    horizon: Interval
    slower_s: Interval | None
    money: Money | None
    case: BusinessCase
    sentence: str

    @property
    def value(self) -> Interval:
        """Over the horizon: in money where assets are known, else as a share of the capital."""
        return self.horizon if self.money is None else self.money.net

    @property
    def amount(self) -> str:
        """The expected value as ``a loss of 14.1 %``."""
        return _side(self.value.estimate, self.money)

    @property
    def range(self) -> str:
        """Its interval in the same words."""
        return f"{_side(self.value.low, self.money)} to {_side(self.value.high, self.money)}"


def slower_by(routed: pd.DataFrame, challenger: str, champion: str, level: float) -> Interval | None:
    """Mean response time of the challenger minus the champion's in seconds, clustered by session.

    Of answered requests, in the weight epochs in which both got any; ``None`` with fewer than two sessions of either.
    """
    rows = routed[(routed["status"] == "ok") & routed["model"].isin((challenger, champion))]
    arms = rows.groupby("epoch")["model"].nunique()
    rows = rows[rows["epoch"].isin(arms.index[arms == 2])]
    ours, theirs = (rows[rows["model"] == name] for name in (challenger, champion))
    if min(ours["session"].nunique(), theirs["session"].nunique()) < 2:
        return None
    return day_clustered_difference(
        ours["latency_s"].to_numpy(),
        ours["session"].to_numpy(),
        theirs["latency_s"].to_numpy(),
        theirs["session"].to_numpy(),
        level,
    )


def value_of_promotion(
    names: tuple[str, str],
    daily: tuple[np.ndarray, np.ndarray],
    slower_s: Interval | None,
    case: BusinessCase,
    level: float = 0.95,
) -> Promotion | None:
    """Expected value of a promotion over the user's horizon.

    Parameters
    ----------
    names, daily
        Of challenger and champion: served name, and net simple returns of the same sessions.
    slower_s
        See :func:`slower_by`.
    case
        The user's figures.
    level
        Confidence.

    Returns
    -------
    Promotion or None
        ``None`` with fewer than 30 days.
    """
    first, second = (np.asarray(returns, np.float64) for returns in daily)
    if first.shape != second.shape:
        raise ExperimentError("challenger and champion must have traded the same sessions")
    if first.size < FEWEST_DAYS:
        return None
    mean, lags = hac_mean(first - second, level)
    horizon = mean.times(case.horizon_sessions)
    money = None if case.aum is None else _money(horizon, slower_s, case, case.aum)
    return Promotion(
        challenger=names[0],
        champion=names[1],
        daily=mean,
        lags=lags,
        horizon=horizon,
        slower_s=slower_s,
        money=money,
        case=case,
        sentence=_sentence(horizon, money, case),
    )


def _money(horizon: Interval, slower_s: Interval | None, case: BusinessCase, aum: float) -> Money:
    gain, latency = horizon.times(aum), None
    if case.latency_cost_per_ms > 0 and slower_s is not None:
        latency = slower_s.times(1000 * case.latency_cost_per_ms * case.horizon_sessions)
    value = gain.estimate - (latency.estimate if latency else 0.0) - case.implementation_cost
    # The parts are unrelated: their symmetric half-widths add as squares.
    half = math.hypot(_half(gain), _half(latency) if latency else 0.0)
    net = Interval(value, value - half, value + half, gain.days, gain.observations, gain.level)
    return Money(gain, latency, case.implementation_cost, net)


def _half(value: Interval) -> float:
    return (value.high - value.low) / 2


def _sentence(horizon: Interval, money: Money | None, case: BusinessCase) -> str:
    span = f"over {case.horizon_sessions:,} sessions"
    if money is None:
        value = horizon
        after = "after trading costs; without BUSINESS_AUM it is not put into money, and other costs are left out"
    else:
        value = money.net
        after = "after trading, latency and implementation costs"
        if case.latency_cost_per_ms > 0 and money.latency is None:
            after = (
                "after trading and implementation costs; the cost of latency is left out, both must be routed for it"
            )
    if value.low == value.high == 0:
        return f"Promotion is expected to change nothing {span}: both arms traded alike."
    if value.spans_zero:
        end = "The interval spans zero: these days do not show whether promotion earns or loses money."
    else:
        side = "earns" if value.low > 0 else "loses"
        end = f"The whole interval says that promotion {side} money; it describes one look, and decides nothing."
    verb = "gain" if value.estimate >= 0 else "lose"
    return (
        f"Promotion is expected to {verb} {_size(value.estimate, money)} {span} ({100 * value.level:.0f} % interval: "
        f"between {_side(value.low, money)} and {_side(value.high, money)}), {after}. {end}"
    )


def _size(value: float, money: Money | None) -> str:
    return f"{100 * abs(value):.1f} % of the capital" if money is None else f"{abs(value):,.0f}"


def _side(value: float, money: Money | None) -> str:
    """``a loss of 14.1 %``: a sign alone is overlooked."""
    size = f"{100 * abs(value):.1f} %" if money is None else f"{abs(value):,.0f}"
    return f"a {'gain' if value >= 0 else 'loss'} of {size}"
