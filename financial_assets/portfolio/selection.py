"""Is a Sharpe ratio real, given its sample and how many were tried? All ratios here are per session, not annualised.

Sources: Bailey and López de Prado (2012), The Sharpe ratio efficient frontier; Bailey and López de Prado (2014), The
deflated Sharpe ratio.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.portfolio.performance import moments, sharpe_ratio
from financial_assets.scoring.arguments import vector
from financial_assets.scoring.distributions import normal_probability, normal_quantile

FEWEST_KNOWN = 10
"""Ratios that tell how ratios vary: of fewer, the variance may be small by luck, and deflate nothing."""

_ROUNDING = 1e-12  # no real series has a ratio whose variance is that small


def probabilistic_sharpe(sharpe: float, benchmark: float, observations: int, skewness: float, kurtosis: float) -> float:
    """Probability that the true Sharpe ratio exceeds a benchmark.

    Parameters
    ----------
    sharpe, benchmark
        Observed ratio and the one to exceed, per session.
    observations
        Returns behind ``sharpe``, at least 2.
    skewness, kurtosis
        Of the returns; kurtosis is 3 for a normal distribution.

    Returns
    -------
    float
        Normal approximation, in [0, 1]; 2012, equation 11.
    """
    if observations < 2:
        raise ValueError(f"observations must be at least 2, not {observations}")
    variance = sharpe_variance(sharpe, skewness, kurtosis)
    if not variance > 0:
        raise ValueError(
            f"skewness {skewness:g} and kurtosis {kurtosis:g} do not go together with a ratio of {sharpe:g}"
        )
    return normal_probability((sharpe - benchmark) * math.sqrt((observations - 1) / variance))


def probabilistic_sharpe_ratio(returns: ArrayLike, benchmark: float = 0.0) -> float:
    """``probabilistic_sharpe`` of a series of returns ``[session]``; NaN without a ratio, or without a variance of it.

    That variance is 0 for some series of only two values, such as equal days and one jump.
    """
    data = vector("returns", returns)
    sharpe = sharpe_ratio(data, periods=1)
    shape = None if math.isnan(sharpe) else moments(data)
    if shape is None or not sharpe_variance(sharpe, *shape) > _ROUNDING:
        return float("nan")
    return probabilistic_sharpe(sharpe, benchmark, data.size, *shape)


@dataclass(frozen=True)
class Trials:
    """Every strategy that was ever tried, successes and failures: the more there were, the better the best by luck.

    Attributes
    ----------
    sharpes
        Sharpe ratio of each trial for which it is known, per session ``[trial]``.
    average_correlation
        Of the trials' daily returns, see :func:`average_correlation`. Trials that trade alike are fewer than they seem;
        0, the default, takes all of them for independent, which is the cautious side.
    unknown
        Further trials, whose ratio is not known: they count, and say nothing of how ratios vary.
    """

    sharpes: NDArray[np.float64]
    average_correlation: float = 0.0
    unknown: int = 0

    def __post_init__(self) -> None:
        if self.unknown < 0:
            raise ValueError(f"unknown must be at least 0, not {self.unknown}")
        is_empty = self.unknown > 0 and np.size(self.sharpes) == 0
        object.__setattr__(self, "sharpes", np.empty(0) if is_empty else vector("sharpes", self.sharpes))
        if not -1 <= self.average_correlation <= 1:
            raise ValueError(f"average_correlation must lie in [-1, 1], not {self.average_correlation}")

    @property
    def count(self) -> int:
        """All of them."""
        return self.sharpes.size + self.unknown

    @property
    def effective(self) -> int:
        """Independent trials that are worth as much, rounded up: ``r + (1 - r) trials`` (2014, appendix 3)."""
        shared = max(self.average_correlation, 0.0)
        # A share of a trial that is rounding must not count as one.
        return math.ceil(shared + (1 - shared) * self.count - _ROUNDING * self.count)

    @property
    def variance(self) -> float:
        """Variance of the ratios that are known, per session; 0 for fewer than two."""
        return float(self.sharpes.var(ddof=1)) if self.sharpes.size > 1 else 0.0

    def variance_on(self, sessions: int) -> float:
        """Variance that the best of them is held against, for a strategy judged on ``sessions`` sessions.

        That of the known ratios. Fewer than ten do not tell it: then it is at least that of strategies without skill,
        ``1 / sessions``. A single trial was not chosen among others, and has none.
        """
        if self.count < 2:
            return 0.0
        return self.variance if self.sharpes.size >= FEWEST_KNOWN else max(self.variance, 1 / sessions)


def average_correlation(returns: ArrayLike) -> float:
    """Mean correlation between the daily returns of trials on the same sessions.

    Parameters
    ----------
    returns
        Finite ``[trial, session]``; two trials and two sessions at least, each trial with returns that vary.
    """
    table = np.asarray(returns, dtype=np.float64)
    if table.ndim != 2 or min(table.shape) < 2 or not np.isfinite(table).all():
        raise ValueError(f"returns must be finite [trial, session], at least 2 x 2, not of shape {table.shape}")
    deviations = table.std(axis=1)
    if not np.all(deviations > 0):
        raise ValueError(f"returns of trial {int(np.argmin(deviations))} do not vary: they have no correlation")
    # The variance of the mean of standardised series is their mean correlation, each with itself included.
    standardised = (table - table.mean(axis=1, keepdims=True)) / deviations[:, None]
    trials = len(table)
    whole = float(standardised.mean(axis=0).var())
    return float(np.clip((trials * whole - 1) / (trials - 1), -1.0, 1.0))


def expected_maximum_sharpe(trials: int, variance: float) -> float:
    """Expected best Sharpe ratio among independent trials without skill; 2014, equation 1.

    Parameters
    ----------
    trials
        Strategies tried, at least 1.
    variance
        Variance of their ratios, per session.
    """
    if trials < 1:
        raise ValueError(f"trials must be at least 1, not {trials}")
    if not variance >= 0:
        raise ValueError(f"variance must be at least 0, not {variance}")
    if trials == 1:
        return 0.0
    upper = (1 - np.euler_gamma) * normal_quantile(1 - 1 / trials)
    return math.sqrt(variance) * (upper + np.euler_gamma * normal_quantile(1 - 1 / (trials * math.e)))


def deflated_sharpe_ratio(returns: ArrayLike, trials: int, variance: float) -> float:
    """Probability that the true ratio of the best of ``trials`` exceeds what luck alone would have given the best.

    Parameters
    ----------
    returns
        Returns of the chosen strategy ``[session]``.
    trials, variance
        As for ``expected_maximum_sharpe``.
    """
    return probabilistic_sharpe_ratio(returns, expected_maximum_sharpe(trials, variance))


def deflated_sharpe_of(returns: ArrayLike, trials: Trials) -> float:
    """``deflated_sharpe_ratio`` of one strategy among ``trials``, of which it is one."""
    return deflated_sharpe_ratio(returns, trials.effective, trials.variance_on(np.size(returns)))


def sharpe_variance(sharpe: float, skewness: float, kurtosis: float) -> float:
    """Of an estimated ratio, times the number of sessions (2012, equation 9)."""
    return 1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2
