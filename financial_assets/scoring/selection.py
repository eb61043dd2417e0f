"""Is a Sharpe ratio real, given its sample and how many were tried? All ratios here are per session, not annualised.

Sources: Bailey and López de Prado (2012), The Sharpe ratio efficient frontier; Bailey and López de Prado (2014), The
deflated Sharpe ratio; Bailey, Borwein, López de Prado and Zhu (2017), The probability of backtest overfitting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.scoring.arguments import vector
from financial_assets.scoring.distributions import normal_probability, normal_quantile
from financial_assets.scoring.performance import sharpe_ratio

__all__ = [
    "BacktestOverfitting",
    "backtest_overfitting",
    "deflated_sharpe_ratio",
    "expected_maximum_sharpe",
    "probabilistic_sharpe",
    "probabilistic_sharpe_ratio",
]

_ROUNDING = 1e-12  # no real series has a ratio whose variance is that small
_MOST_BLOCKS = 20  # 184,756 ways to halve them


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
    variance = _variance(sharpe, skewness, kurtosis)
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
    if math.isnan(sharpe):
        return sharpe
    standardised = (data - float(data.mean())) / float(data.std())
    skewness, kurtosis = float((standardised**3).mean()), float((standardised**4).mean())
    if not _variance(sharpe, skewness, kurtosis) > _ROUNDING:
        return float("nan")
    return probabilistic_sharpe(sharpe, benchmark, data.size, skewness, kurtosis)


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


@dataclass(frozen=True)
class BacktestOverfitting:
    """Whether choosing the best strategy on one half of the sessions helps on the other half.

    Attributes
    ----------
    probability
        Share of all halvings in which the chosen strategy is in the worse half of the strategies out of sample (PBO);
        ties count half. About 0.5 when nothing distinguishes them, near 0 when one is truly better.
    logits
        ``log(rank / (1 - rank))`` of the chosen strategy's relative rank out of sample ``[halving]``, best positive.
    loss
        Share of halvings in which the chosen strategy's ratio is not above 0 out of sample.
    blocks, strategies
        Of the computation.
    """

    probability: float
    logits: NDArray[np.float64]
    loss: float
    blocks: int
    strategies: int


def backtest_overfitting(returns: ArrayLike, blocks: int = 16) -> BacktestOverfitting:
    """Probability of backtest overfitting, by combinatorially symmetric cross-validation (2017, section 2.3).

    The sessions are cut into ``blocks`` runs of equal length. For every way to take half of the runs, the strategy with
    the best Sharpe ratio there is ranked by its ratio in the rest. One set of returns gives one, rather noisy, number:
    the halvings overlap.

    Parameters
    ----------
    returns
        ``[session, strategy]``; sessions that do not fill the last block are left out at the beginning.
    blocks
        Even, at least 4; at most 20.

    Raises
    ------
    ValueError
        Bad arguments, or a strategy whose returns do not vary in some half.
    """
    table = np.asarray(returns, dtype=np.float64)
    if blocks % 2 or not 4 <= blocks <= _MOST_BLOCKS:
        raise ValueError(f"blocks must be an even number from 4 to {_MOST_BLOCKS}, not {blocks}")
    if table.ndim != 2 or table.shape[1] < 2 or table.shape[0] < 2 * blocks:
        raise ValueError(
            f"returns must be [session, strategy], 2 strategies and {2 * blocks} sessions or more: {table.shape}"
        )
    if not np.isfinite(table).all():
        raise ValueError("returns holds values that are NaN or infinite")
    length = table.shape[0] // blocks
    cut = table[table.shape[0] - length * blocks :].reshape(blocks, length, -1)
    chosen = np.array(list(combinations(range(blocks), blocks // 2)))
    inside = np.zeros((len(chosen), blocks))
    np.put_along_axis(inside, chosen, 1.0, axis=1)
    sums, squares = cut.sum(axis=1), (cut**2).sum(axis=1)
    count = length * blocks // 2
    best = np.argmax(_ratios(inside @ sums, inside @ squares, count), axis=1)
    outside = _ratios((1 - inside) @ sums, (1 - inside) @ squares, count)
    own = np.take_along_axis(outside, best[:, None], axis=1)
    strategies = table.shape[1]
    below, equal = (outside < own).sum(axis=1), (outside == own).sum(axis=1)
    rank = (below + (equal + 1) / 2) / (strategies + 1)
    logits = np.log(rank / (1 - rank))
    # Exact: logits of the middle rank may be off zero by rounding.
    middle = 2 * below + equal + 1 - (strategies + 1)
    probability = float(np.mean((middle < 0) + 0.5 * (middle == 0)))
    return BacktestOverfitting(probability, logits, float(np.mean(own <= 0)), blocks, strategies)


def _variance(sharpe: float, skewness: float, kurtosis: float) -> float:
    """Of an estimated ratio, times the number of sessions (2012, equation 9)."""
    return 1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2


def _ratios(sums: NDArray[np.float64], squares: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Sharpe ratios per session ``[halving, strategy]`` from sums over ``count`` sessions."""
    mean = sums / count
    variance = (squares - count * mean**2) / (count - 1)
    if not np.all(variance > 1e-14 * squares / count):
        raise ValueError("a strategy's returns do not vary in some half of the sessions: it has no Sharpe ratio there")
    return mean / np.sqrt(variance)
