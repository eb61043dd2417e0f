"""Whether a forecast is worth a trade: the trade's expected return after costs with its interval, and what it advises.

A forecast's range says where the next return may lie, which always includes losses. The question of a trade is
another: is the *mean* of what such forecasts have earned above their costs? It is answered by regressing what the past
forecasts of a model have earned on what they said (Mincer and Zarnowitz 1969, The evaluation of economic forecasts),
with an interval that takes days, not rows, as independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.scoring.arguments import levels, same_shape, vector
from financial_assets.scoring.distributions import normal_quantile, normal_quantiles, student_t_quantile
from financial_assets.scoring.intervals import Interval

Direction = Literal["BUY", "SELL", "HOLD"]

LEVEL = 0.95
"""Confidence of the interval that must exclude zero."""
FEWEST_DAYS = 60
"""Sessions with a known result below which no trade is advised: the interval would rest on too few days."""
_RANGE = 0.9
"""Probability between the 5 and 95 % quantiles."""

RULE = (
    f"BUY if probability_up is above 0.5 and SELL if it is below, each only if the whole {100 * LEVEL:.0f} % "
    "confidence interval of the trade's expected return after costs lies above zero; HOLD otherwise. The trade goes in "
    "at the next session's open and out at the open after it, and pays cost_per_side twice. Its expected return is the "
    "regression of what the model's past forecasts earned in that way on what they expected, by least squares with a "
    f"day-clustered interval; below {FEWEST_DAYS} such sessions the answer is HOLD."
)


@dataclass(frozen=True)
class EdgeEvidence:
    """What forecasts have earned for what they expected: ``traded = intercept + slope * expected``.

    Attributes
    ----------
    intercept, slope
        Least squares over all rows.
    covariance
        Of the two ``[2, 2]``: cluster jackknife over days.
    days, rows
        What it rests on.
    """

    intercept: float
    slope: float
    covariance: NDArray[np.float64]
    days: int
    rows: int

    def mean_at(self, expected: float, level: float = LEVEL) -> Interval:
        """Mean traded return (simple) of a forecast that expects ``expected``, with its interval."""
        at = np.array([1.0, expected])
        deviation = float(np.sqrt(max(at @ self.covariance @ at, 0.0)))
        reach = student_t_quantile(0.5 + levels("level", level) / 2, self.days - 1) * deviation
        mean = self.intercept + self.slope * expected
        return Interval(mean, mean - reach, mean + reach, self.days, self.rows, level)


@dataclass(frozen=True)
class TradeEdge:
    """What is advised for one ticker, and why.

    Attributes
    ----------
    direction
        BUY, SELL or HOLD, by ``RULE``.
    side
        1 for a long trade, -1 for a short one: what was considered, also where the answer is HOLD.
    after_costs
        The trade's expected simple return after costs; ``None`` where too few sessions are known.
    reason
        In a sentence.
    """

    direction: Direction
    side: Literal[1, -1]
    after_costs: Interval | None
    reason: str


def expected_return(probability_up: ArrayLike, low: ArrayLike, high: ArrayLike) -> NDArray[np.float64]:
    """Mean log return that a probability and a range imply together: ``deviation * z(probability)``.

    Parameters
    ----------
    probability_up
        ``[n]``; 0 and 1 are taken as the nearest probability that has a finite quantile.
    low, high
        5 and 95 % quantiles of the log return ``[n]``.
    """
    probability, lower, upper = (
        vector(name, values) for name, values in (("probability_up", probability_up), ("low", low), ("high", high))
    )
    same_shape(probability_up=probability, low=lower, high=upper)
    deviation = (upper - lower) / (2 * normal_quantile(0.5 + _RANGE / 2))
    return deviation * normal_quantiles(np.clip(probability, 1e-9, 1 - 1e-9))


def edge_evidence(expected: ArrayLike, traded: ArrayLike, days: ArrayLike) -> EdgeEvidence | None:
    """The regression of what was earned on what was expected; ``None`` with fewer than ``FEWEST_DAYS`` days.

    Parameters
    ----------
    expected
        From :func:`expected_return`, one per forecast ``[n]``.
    traded
        Simple return from the open of t+1 to the open of t+2 of each, before costs ``[n]``.
    days
        Session of each ``[n]``.

    The covariance is the cluster jackknife over days: all tickers of a day move together, and days of returns that
    nobody can foretell do not. Where the forecasts do not differ, nothing can be said about their slope, and the mean
    of all is the answer.
    """
    forecast, earned = vector("expected", expected) if len(np.atleast_1d(expected)) else np.empty(0), np.asarray(traded)
    groups, day = np.unique(np.asarray(days), return_inverse=True)
    if len(groups) < FEWEST_DAYS:
        return None
    earned = vector("traded", earned)
    same_shape(expected=forecast, traded=earned)
    centre, scale = forecast.mean(), forecast.std()
    # In units of their own spread: expected returns of a day are so small that the normal equations would be singular.
    differs = scale > 1e-9 * abs(centre)
    unit = (forecast - centre) / scale if differs else np.zeros_like(forecast)
    design = np.stack([np.ones_like(unit), unit], axis=1)
    squares = np.zeros((len(groups), 2, 2))
    products = np.zeros((len(groups), 2))
    np.add.at(squares, day, design[:, :, None] * design[:, None, :])
    np.add.at(products, day, design * earned[:, None])
    # Pseudo-inverses: where forecasts do not differ, or on one day only, there is no slope without that day.
    whole = np.linalg.pinv(squares.sum(axis=0), hermitian=True) @ products.sum(axis=0)
    without = np.linalg.pinv(squares.sum(axis=0) - squares, hermitian=True)
    left = (without @ (products.sum(axis=0) - products)[..., None])[..., 0]
    moves = left - whole
    count = len(groups)
    covariance = (count - 1) / count * moves.T @ moves
    # Back to the forecast's own unit: traded = (a - b centre / scale) + (b / scale) expected.
    back = np.array([[1.0, -centre / scale], [0.0, 1 / scale]]) if differs else np.diag([1.0, 0.0])
    intercept, slope = back @ whole
    return EdgeEvidence(float(intercept), float(slope), back @ covariance @ back.T, count, len(earned))


def trade_edge(
    evidence: EdgeEvidence | None, probability_up: float, expected: float, *, cost_per_side: float
) -> TradeEdge:
    """What ``RULE`` advises.

    Parameters
    ----------
    evidence
        From :func:`edge_evidence`; ``None``: too few sessions.
    probability_up, expected
        Of the forecast; ``expected`` from :func:`expected_return`.
    cost_per_side
        Share of the traded value.
    """
    side: Literal[1, -1] = 1 if probability_up > 0.5 else -1
    if evidence is None:
        reason = f"fewer than {FEWEST_DAYS} sessions with a known result since the model's data cut-off"
        return TradeEdge("HOLD", side, None, reason)
    mean = evidence.mean_at(expected).times(side)
    costs = 2 * cost_per_side
    after = Interval(
        mean.estimate - costs, mean.low - costs, mean.high - costs, mean.days, mean.observations, mean.level
    )
    span = f"{after.estimate:+.3%} [{after.low:+.3%}, {after.high:+.3%}] after costs"
    if probability_up == 0.5:
        return TradeEdge("HOLD", side, after, "up and down are equally probable")
    if after.low > 0:
        return TradeEdge("BUY" if side > 0 else "SELL", side, after, f"the interval is above zero: {span}")
    position = "spans zero" if after.high >= 0 else "is below zero"
    return TradeEdge("HOLD", side, after, f"the interval {position}: {span}")
