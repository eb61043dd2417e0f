"""Scores of the quantiles of the return, over one session and over five.

All are free of the unit of returns, so that a volatile ticker and a volatile year count as much as calm ones: pinball
losses are divided by the volatility that was known when the forecast was made, the same for all forecasters;
differences of QLIKE and of the joint loss of value at risk and expected shortfall depend on ratios only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from financial_assets.experiment.metrics.metric import Metric, Rows, Unit
from financial_assets.experiment.prediction_log.schema import QUANTILE_5D_COLUMNS, QUANTILE_COLUMNS
from financial_assets.scoring.quantiles import QUANTILE_LEVELS, normalised_pinball_losses, pinball_losses
from financial_assets.scoring.risk import joint_tail_losses, shortfall_between_quantiles
from financial_assets.scoring.volatility import qlike_losses
from financial_assets.serving.bar_rules import SESSIONS_5D

BASELINES = ("filtered", "ewma", "har")
"""What a risk head must be compared with: filtered historical simulation, RiskMetrics, and a regression on the
variances of the last day, week and month."""

TAIL = 0.05
"""Level of value at risk and expected shortfall: the loss of one session in twenty."""

_Z_90, _Z_98 = 1.6448536269514722, 2.3263478740408408  # standard normal quantiles at .95 and .99
_LEAST_DEVIATION = 1e-4  # a basis point: a forecast of no risk at all would have an infinite loss

_COLUMNS = {1: (QUANTILE_COLUMNS, "log_return"), SESSIONS_5D: (QUANTILE_5D_COLUMNS, "outcome_5d")}
"""Sessions ahead -> columns of the quantiles, and of what they are about."""


def implied_deviation(quantiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation of the forecast with these quantiles ``[n, level]``, at least a basis point ``[n]``.

    Served models answer quantiles and no variance. Fat tails narrow the 90 % range and widen the 98 % range that a
    variance goes with; the mean of what both say of a normal distribution is right for one, and 3 to 4 % too large for
    Student's t with 4 to 8 degrees of freedom.
    """
    low, outer = quantiles[:, 3] - quantiles[:, 1], quantiles[:, 4] - quantiles[:, 0]
    return np.maximum((low / _Z_90 + outer / _Z_98) / 4, _LEAST_DEVIATION)


def _pinball_in_return(rows: Rows) -> NDArray[np.float64]:
    outcome = np.asarray(rows["log_return"], np.float64)
    # Summed level by level: recorded decisions rest on these bits.
    losses = [
        pinball_losses(outcome, np.asarray(rows[column], np.float64), level)
        for column, level in zip(QUANTILE_COLUMNS, QUANTILE_LEVELS, strict=True)
    ]
    return -np.mean(losses, axis=0)


def _pinball(rows: Rows, horizon: int) -> NDArray[np.float64]:
    columns, outcome = _COLUMNS[horizon]
    unit = np.asarray(rows["volatility"], np.float64) * horizon**0.5
    return -normalised_pinball_losses(np.asarray(rows[outcome], np.float64), _matrix(rows, columns), unit)


def _qlike(rows: Rows, horizon: int) -> NDArray[np.float64]:
    columns, outcome = _COLUMNS[horizon]
    variance = np.square(implied_deviation(_matrix(rows, columns)))
    return -qlike_losses(np.square(np.asarray(rows[outcome], np.float64)), variance)


def _qlike_of_range(rows: Rows) -> NDArray[np.float64]:
    # A proxy of the variance ranks forecasts as the variance itself would, and the less noisy it is, the fewer days it
    # takes (Patton 2011; Hansen and Lunde 2006).
    variance = np.square(implied_deviation(_matrix(rows, QUANTILE_COLUMNS)))
    return -qlike_losses(np.asarray(rows["range_variance"], np.float64), variance)


def _tail(rows: Rows, horizon: int) -> NDArray[np.float64]:
    columns, outcome = _COLUMNS[horizon]
    quantiles = _matrix(rows, columns[:2])
    far, near = quantiles.min(axis=1), quantiles.max(axis=1)  # the loss is of an ordered pair
    # A tail that is forecast to hold no loss has no such loss; it is taken as one of a basis point.
    shortfall = np.minimum(shortfall_between_quantiles(far, near, at=TAIL), -_LEAST_DEVIATION)
    return -joint_tail_losses(np.asarray(rows[outcome], np.float64), np.maximum(near, shortfall), shortfall, TAIL)


def _matrix(rows: Rows, columns: Sequence[str]) -> NDArray[np.float64]:
    """Columns beside each other ``[row, column]``, each of them contiguous."""
    return np.stack([np.asarray(rows[column], np.float64) for column in columns]).T


def _metric(name: str, title: str, unit: Unit, horizon: int, places: slice, plausible_effect: float) -> Metric:
    columns, outcome = _COLUMNS[horizon]
    scores = {"pinball": _pinball, "qlike": _qlike, "var_es": _tail}[name]
    return Metric(
        name=name if horizon == 1 else f"{name}_5d",
        title=title if horizon == 1 else f"{title} over {horizon} sessions",
        question="risk",
        horizon=horizon,
        unit=unit,
        answers=columns[places],
        outcomes=(outcome, "volatility") if name == "pinball" else (outcome,),
        scores=partial(scores, horizon=horizon),
        baselines=BASELINES,
        plausible_effect=plausible_effect,
    )


# What is plausible is what a regression on range-based variances gained over the deviation of the last month on fifty
# large US stocks, on average of the years 2020 to 2023, which differ little: few heads may hope for more.
_PLAUSIBLE = {1: (0.0027, 0.1, 0.068), SESSIONS_5D: (0.0023, 0.086, 0.037)}
_PLAUSIBLE_OF_RANGE = 0.11


def _of_horizon(horizon: int) -> tuple[Metric, ...]:
    pinball, qlike, tail = _PLAUSIBLE[horizon]
    return (
        _metric("pinball", "pinball loss", Unit(100, 3, "% of the volatility"), horizon, slice(5), pinball),
        _metric("qlike", "QLIKE", Unit(1, 4, ""), horizon, slice(5), qlike),
        _metric("var_es", "loss of value at risk and expected shortfall", Unit(1, 4, ""), horizon, slice(2), tail),
    )


QLIKE_OF_RANGE = Metric(
    name="qlike_range",
    title="QLIKE of the range",
    question="risk",
    horizon=1,
    unit=Unit(1, 4, ""),
    answers=QUANTILE_COLUMNS,
    outcomes=("range_variance",),
    scores=_qlike_of_range,
    baselines=BASELINES,
    plausible_effect=_PLAUSIBLE_OF_RANGE,
)

RISK = (*_of_horizon(1), *_of_horizon(SESSIONS_5D), QLIKE_OF_RANGE)

PINBALL_IN_RETURN = Metric(
    name="pinball",
    title="pinball loss",
    question="risk",
    horizon=1,
    unit=Unit(10_000, 2, "basis points"),
    answers=QUANTILE_COLUMNS,
    outcomes=("log_return",),
    scores=_pinball_in_return,
    baselines=BASELINES,
    plausible_effect=0.0001,
)
"""What plans of the first rule call pinball: in log return, so that volatile tickers and years decide."""
