"""Value at risk, expected shortfall, and the back-tests of value-at-risk forecasts.

Losses are positive numbers. The back-tests take one series of exceedances in time order (one ticker or one portfolio):
exceedances of many tickers on one day are not independent, and pooling them would reject far too often.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.scoring.arguments import levels, outcomes, vector
from financial_assets.scoring.distributions import bernoulli_log_likelihood, chi_square_tail


def historical_var(returns: ArrayLike, level: float = 0.95) -> float:
    """Value at risk by historical simulation: the loss exceeded on a share ``1 - level`` of past days.

    Parameters
    ----------
    returns
        Returns ``[n]``.
    level
        Confidence, for example 0.95 or 0.99.

    Returns
    -------
    float
        Minus the empirical quantile (linear interpolation) of the returns; negative when even that day gained.
    """
    return float(-np.quantile(vector("returns", returns), 1 - levels("level", level)))


def expected_shortfall(returns: ArrayLike, level: float = 0.95) -> float:
    """Mean loss on the worst share ``1 - level`` of past days; parameters as for ``historical_var``.

    The day on the border counts with the fraction of it that is needed (Acerbi and Tasche 2002, On the coherence of
    expected shortfall, equation 12), which makes the estimate coherent and never smaller than the value at risk.
    """
    data = np.sort(vector("returns", returns))
    tail = data.size * (1 - levels("level", level))
    weights = np.clip(tail - np.arange(data.size), 0, 1)
    return float(-np.sum(weights * data) / tail)


@dataclass(frozen=True)
class BackTest:
    """A likelihood-ratio test.

    Attributes
    ----------
    statistic
        -2 ln of the likelihood ratio, at least 0.
    p_value
        Upper tail of chi-square with one degree of freedom.
    """

    statistic: float
    p_value: float


def kupiec_unconditional_coverage(exceeded: ArrayLike, rate: float) -> BackTest:
    """Whether losses exceed the value at risk as often as it promises.

    Parameters
    ----------
    exceeded
        0/1 or booleans ``[n]``: the loss was greater than the value at risk.
    rate
        Expected share, ``1 - level`` of the value at risk.

    Source: Kupiec (1995), Techniques for verifying the accuracy of risk measurement models. Chi-square(1).
    """
    hits = outcomes("exceeded", exceeded)
    return _test(2 * (_best_likelihood(hits) - _likelihood(hits, levels("rate", rate))))


def christoffersen_independence(exceeded: ArrayLike) -> BackTest:
    """Whether an exceedance today makes one tomorrow more or less likely; parameters as for ``kupiec...``.

    Where no day, or each day, is exceeded the statistic is 0: nothing speaks against independence.

    Conditional on the first day. Chi-square(1).

    Source: Christoffersen (1998), Evaluating interval forecasts, section 3.2.
    """
    hits = outcomes("exceeded", exceeded)
    if hits.size < 2:
        raise ValueError("exceeded must hold at least two days in time order")
    before, after = hits[:-1], hits[1:]
    markov = _best_likelihood(after[before]) + _best_likelihood(after[~before])
    return _test(2 * (markov - _best_likelihood(after)))


def _likelihood(hits: NDArray[np.bool_], rate: float) -> float:
    count = int(hits.sum())
    return bernoulli_log_likelihood(count, hits.size - count, rate)


def _best_likelihood(hits: NDArray[np.bool_]) -> float:
    return _likelihood(hits, float(hits.mean())) if hits.size else 0.0


def _test(statistic: float) -> BackTest:
    # Rounding may leave a statistic of zero slightly negative.
    statistic = max(statistic, 0.0)
    return BackTest(statistic, chi_square_tail(statistic, 1))
