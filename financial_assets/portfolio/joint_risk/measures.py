"""Value at risk and expected shortfall of positions, alone and together, and what each adds to the whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.scoring.risk import expected_shortfall, historical_var

LEVELS = (0.95, 0.99)


@dataclass(frozen=True)
class TailRisk:
    """Losses as positive numbers, in the unit of the profits: value at risk and expected shortfall at 95 and 99 %."""

    var_95: float
    var_99: float
    es_95: float
    es_99: float


@dataclass(frozen=True, eq=False)
class PortfolioRisk:
    """Risk over one horizon, in the unit of the positions.

    Attributes
    ----------
    whole
        Of all positions together.
    alone
        Of each position by itself, in their order.
    share_of_es_95, share_of_es_99
        What each position adds to the expected shortfall of the whole ``[position]``: its mean loss in the scenarios in
        which the whole loses most. They add up to it; a negative one is a hedge.
    scenarios
        How many.
    """

    whole: TailRisk
    alone: tuple[TailRisk, ...]
    share_of_es_95: NDArray[np.float64]
    share_of_es_99: NDArray[np.float64]
    scenarios: int

    @property
    def diversification_95(self) -> float:
        """How much smaller the expected shortfall of the whole is than the sum of those of its positions."""
        return sum(risk.es_95 for risk in self.alone) - self.whole.es_95


def tail_risk(profits: ArrayLike) -> TailRisk:
    """Of profits and losses ``[scenario]``, all equally probable."""
    return TailRisk(
        var_95=historical_var(profits, 0.95),
        var_99=historical_var(profits, 0.99),
        es_95=expected_shortfall(profits, 0.95),
        es_99=expected_shortfall(profits, 0.99),
    )


def portfolio_risk(values: ArrayLike, returns: NDArray[np.float64]) -> PortfolioRisk:
    """Risk of positions that are held unchanged over the horizon.

    Parameters
    ----------
    values
        Market value of each position ``[position]``, negative for a short one.
    returns
        Simple returns ``[scenario, position]``.
    """
    profits = returns * np.asarray(values, dtype=np.float64)
    whole = profits.sum(axis=1)
    return PortfolioRisk(
        whole=tail_risk(whole),
        alone=tuple(tail_risk(column) for column in profits.T),
        share_of_es_95=_shares(profits, whole, 0.95),
        share_of_es_99=_shares(profits, whole, 0.99),
        scenarios=len(whole),
    )


def _shares(profits: NDArray[np.float64], whole: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """Euler's shares of expected shortfall (Tasche 2002, Expected shortfall and beyond), its border weighted alike."""
    order = np.argsort(whole, kind="stable")
    tail = len(whole) * (1 - level)
    weights = np.clip(tail - np.arange(len(whole)), 0, 1)
    return -(weights @ profits[order]) / tail


def tails_of_quantiles(quantiles: ArrayLike, side: int) -> TailRisk:
    """Risk of one unit held over the horizon of a served forecast, from its quantiles alone.

    Parameters
    ----------
    quantiles
        1, 5, 50, 95 and 99 % quantiles of the log return ``[5]``.
    side
        1: held long; -1: held short, whose losses are in the upper tail.

    Returns
    -------
    TailRisk
        Fractions of the value. Expected shortfall takes the tail as the exponential one through both of its quantiles
        (``scoring.risk.shortfall_between_quantiles`` says how close that is at 95 %). Beyond 99 % nothing is served, so
        that ``es_99`` rests on that assumption: from exact quantiles it is 3 % too large for a normal distribution and
        6 % too small for Student's t with 5 degrees of freedom. Infinite where the upper tail is so heavy that its mean
        does not exist.
    """
    q01, q05, _, q95, q99 = (float(value) for value in np.asarray(quantiles, dtype=np.float64))
    far, near = (q01, q05) if side > 0 else (q99, q95)
    slope = abs(near - far) / np.log(5)
    # The mean of exp(near -+ slope E), E exponential: 1 / (1 +- slope).
    factor = 1 / (1 + slope) if side > 0 else (1 / (1 - slope) if slope < 1 else np.inf)
    return TailRisk(
        var_95=float(-side * np.expm1(near)),
        var_99=float(-side * np.expm1(far)),
        es_95=float(side * (1 - np.exp(near) * factor)),
        es_99=float(side * (1 - np.exp(far) * factor)),
    )
