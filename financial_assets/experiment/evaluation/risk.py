"""Risk of each arm's profit, and how alike two arms trade: reported beside a decision, never a reason for it.

Sharpe ratios come with the interval that they deserve (:mod:`financial_assets.portfolio.estimates`: skewness, fat tails
and days that move together counted), and with the years that a difference would need (Memmel 2003, Performance
hypothesis testing with the Sharpe ratio): decades, as a rule. Correlations have an interval on Fisher's scale with the
variance of their influence function, so that fat tails do not make it too narrow (Devlin, Gnanadesikan and Kettenring
1975), and are compared between regimes by chi-square (Rao 1973, section 6g.3). Differences and correlations take days
for independent.

Risk is that of the days until a book was wiped out: the empty days after it would only dilute it. Two books are
compared on the days on which neither was wiped out yet, the last one included.

The deflated Sharpe ratio is the exception: a registered plan may ask for it before a promotion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.experiment.evaluation.measures import ProfitAndLoss
from financial_assets.experiment.evaluation.skill import profit_of, trading_grid
from financial_assets.experiment.outcomes import KnownPrices, join_outcomes
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.market import calendar
from financial_assets.portfolio.estimates import FEWEST_DAYS, sharpe_interval
from financial_assets.portfolio.performance import moments, sharpe_ratio, until_ruin
from financial_assets.portfolio.selection import deflated_sharpe_ratio
from financial_assets.scoring.distributions import chi_square_tail, normal_quantile
from financial_assets.scoring.intervals import Interval
from financial_assets.scoring.risk import expected_shortfall, historical_var

POWER = 0.8
WORTHWHILE_SHARPE = 0.5
"""Difference in annual Sharpe ratio that a report speaks of: large, for one model in place of another."""

_TAIL = 0.95


@dataclass(frozen=True, slots=True)
class Risk:
    """One strategy's risk.

    Attributes
    ----------
    name
        Whose.
    sharpe
        Annual; ``None`` where it is not defined.
    value_at_risk, expected_shortfall
        Loss of a day, by history at 95 %: positive is a loss.
    worst_day
        Smallest net return.
    skewness, kurtosis
        Of the daily returns; kurtosis is 3 for a normal distribution. ``None`` without variation.
    """

    name: str
    sharpe: Interval | None
    value_at_risk: float
    expected_shortfall: float
    worst_day: float
    skewness: float | None
    kurtosis: float | None


@dataclass(frozen=True, slots=True)
class SharpeGap:
    """Difference of two annual Sharpe ratios on the same days.

    ``years`` of such days would find a true difference of ``worthwhile`` with 80 % power.
    """

    difference: Interval
    worthwhile: float
    years: float


def risk_of(name: str, pnl: ProfitAndLoss, level: float = 0.95) -> Risk:
    """The risk of one strategy's daily net returns; ``level`` is that of the Sharpe ratio's interval."""
    daily = until_ruin(pnl.daily)
    skewness, kurtosis = moments(daily) or (None, None)
    return Risk(
        name=name,
        sharpe=sharpe_interval(daily, level),
        value_at_risk=historical_var(daily, _TAIL),
        expected_shortfall=expected_shortfall(daily, _TAIL),
        worst_day=float(daily.min()),
        skewness=skewness,
        kurtosis=kurtosis,
    )


def deflated_sharpe(
    plan: ExperimentPlan, direct: pd.DataFrame, known: KnownPrices, *, versions: int, cost_bps: float
) -> float | None:
    """Deflated Sharpe ratio of the challenger's daily profit after costs on its evidence.

    The probability that its Sharpe ratio exceeds what the best of N skill-less trials would show. Every registered
    version is a trial, tested or not, and their ratios are taken to vary as those of models without skill do: by
    ``1 / days`` (Bailey and López de Prado 2014, The deflated Sharpe ratio).

    Parameters
    ----------
    plan
        Who the challenger is, and since when its predictions count.
    direct
        Paired predictions: ``session``, ``ticker``, ``model``, ``status``, ``probability_up``.
    known
        What prices say as of the decision.
    versions
        Registered versions.
    cost_bps
        Costs per side in basis points.

    Returns
    -------
    float or None
        In [0, 1]; 0 for a book that was wiped out, whatever it earned before; ``None`` with fewer than 20 days or
        without any profit or loss.
    """
    own = direct[(direct["model"] == plan.challenger) & (direct["status"] == "ok")]
    rows = join_outcomes(own[own["session"] > pd.Timestamp(plan.starts_after)], known.outcomes)
    if rows["session"].nunique() < FEWEST_DAYS:
        return None
    grid = trading_grid(rows, known.panel.sessions)
    answers = rows.dropna(subset=["probability_up"])
    profit = profit_of(answers, grid, cost_bps) if len(answers) else None
    if profit is None:
        return None
    if profit.wiped_out is not None:
        return 0.0
    days = np.asarray(profit.daily, np.float64)
    value = deflated_sharpe_ratio(days, versions, 1 / len(days)) if np.ptp(days) else math.nan
    return None if math.isnan(value) else float(value)


def sharpe_gap(first: np.ndarray, second: np.ndarray, level: float = 0.95) -> SharpeGap | None:
    """First Sharpe ratio minus second, annual; ``None`` with fewer than 20 days, or where one is not defined.

    The variance of a day is ``2 (1 - r) + (a**2 + b**2 - 2 a b r**2) / 2`` with daily ratios a, b and correlation r of
    the returns (Memmel 2003, equation 4).
    """
    a, b = sharpe_ratio(first, periods=1), sharpe_ratio(second, periods=1)
    if first.size < FEWEST_DAYS or math.isnan(a) or math.isnan(b):
        return None
    r = float(np.corrcoef(first, second)[0, 1])
    variance = max(2 * (1 - r) + (a * a + b * b - 2 * a * b * r * r) / 2, 0.0)
    scale = math.sqrt(calendar.sessions_per_year())
    half = normal_quantile(0.5 + level / 2) * math.sqrt(variance / first.size) * scale
    gap = (a - b) * scale
    wanted = (normal_quantile(0.5 + level / 2) + normal_quantile(POWER)) ** 2
    return SharpeGap(
        Interval(gap, gap - half, gap + half, first.size, first.size, level),
        WORTHWHILE_SHARPE,
        wanted * variance / WORTHWHILE_SHARPE**2,
    )


def correlation(first: np.ndarray, second: np.ndarray, level: float = 0.95) -> Interval | None:
    """Correlation of two series of daily returns; ``None`` with too few days, or if one does not move."""
    days = first.size
    if days < FEWEST_DAYS or not np.ptp(first) or not np.ptp(second):
        return None
    # Rounding may put r just outside [-1, 1], where atanh is not defined.
    r = float(np.clip(np.corrcoef(first, second)[0, 1], -1, 1))
    if abs(r) > 1 - 1e-12:
        return Interval(r, r, r, days, days, level)
    x, y = ((series - series.mean()) / series.std() for series in (first, second))
    influence = x * y - r * (x**2 + y**2) / 2
    error = float(influence.std()) / (1 - r * r) / math.sqrt(days - 3)
    half = normal_quantile(0.5 + level / 2) * error
    low, high = math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)
    return Interval(r, low, high, days, days, level)


def equal_correlations(correlations: list[Interval]) -> float | None:
    """p-value of "the correlation is the same in all of these samples"; ``None`` where two cannot be compared."""
    # An interval that reaches 1 or has no width has no place on Fisher's scale.
    usable = [value for value in correlations if -1 < value.low < value.high < 1]
    if len(usable) < 2 or len(usable) < len(correlations):
        return None
    z = np.arctanh([value.estimate for value in usable])
    halves = [(math.atanh(value.high) - math.atanh(value.low)) / 2 for value in usable]
    scales = [normal_quantile(0.5 + value.level / 2) for value in usable]
    weights = (np.array(scales) / np.array(halves)) ** 2
    mean = float(weights @ z / weights.sum())
    return chi_square_tail(float(weights @ (z - mean) ** 2), len(usable) - 1)


def days_of_both(first: np.ndarray, second: np.ndarray) -> int:
    """Days until one of two books was wiped out, that one included; all of them if neither was."""
    return min(until_ruin(first).size, until_ruin(second).size)
