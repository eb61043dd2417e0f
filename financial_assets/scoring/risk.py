"""Value at risk, expected shortfall, and the back-tests of value-at-risk forecasts.

Losses are positive numbers. The back-tests take one series of exceedances in time order (one ticker or one portfolio):
exceedances of many tickers on one day are not independent, and pooling them would reject far too often. Those of a
universe, and of outcomes that overlap, are in ``coverage``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.scoring.arguments import levels, outcomes, same_shape, vector
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


def shortfall_between_quantiles(
    far: ArrayLike, near: ArrayLike, far_level: float = 0.01, near_level: float = 0.05, at: float = 0.05
) -> NDArray[np.float64]:
    """Expected return in the lower tail, from two forecast quantiles of it.

    The tail is taken as exponential through both: the quantile falls linearly in the logarithm of its level,
    ``q(u) = near + slope log(near_level / u)``, so that the mean of what is below ``q(at)`` is ``q(at) + slope``. From
    exact quantiles at 1 and 5 % the shortfall at 5 % is 0.3 % too large for a normal distribution and 1.2 % too small
    for Student's t with 5 degrees of freedom; at 1 % it is 3 % too large and 6 % too small.

    Parameters
    ----------
    far, near
        Forecast quantiles of the return ``[n]`` at ``far_level < near_level``; for the upper tail their negatives.
    at
        Level of the shortfall: returns below their quantile at this level.

    Returns
    -------
    ndarray
        A return ``[n]``, negative in a tail of losses: minus the expected shortfall.
    """
    outer, inner = vector("far", far), vector("near", near)
    same_shape(far=outer, near=inner)
    if not levels("far_level", far_level) < levels("near_level", near_level):
        raise ValueError(f"far_level must be below near_level: {far_level}, {near_level}")
    if np.any(outer > inner):
        raise ValueError("far must not exceed near: quantiles rise with their level")
    slope = (outer - inner) / np.log(near_level / far_level)
    return inner + slope * (np.log(near_level / levels("at", at)) + 1)


def joint_tail_losses(
    returns: ArrayLike, quantile: ArrayLike, shortfall: ArrayLike, rate: float
) -> NDArray[np.float64]:
    """Loss of forecasts of a tail's border and mean together (FZ0), which differences of it compare.

    Expected shortfall alone has no loss that the truth minimises; the pair has (Fissler and Ziegel 2016, Higher order
    elicitability and Osband's principle). Of that family this is the one whose differences do not depend on the unit.

    Parameters
    ----------
    returns
        What happened ``[n]``.
    quantile, shortfall
        Forecasts of the quantile of the return at ``rate`` and of the mean below it ``[n]``: minus value at risk and
        minus expected shortfall. ``shortfall`` is negative and at most ``quantile``.
    rate
        Level of the tail, for example 0.05.

    Returns
    -------
    ndarray
        ``(quantile + hit (returns - quantile) / rate) / shortfall + log(-shortfall) - 1``, hit being 1 at or below the
        quantile: ``[n]``.

    Source: Patton, Ziegel and Chen (2019), Dynamic semiparametric models for expected shortfall, equation 6.
    """
    actual, border, mean = vector("returns", returns), vector("quantile", quantile), vector("shortfall", shortfall)
    same_shape(returns=actual, quantile=border, shortfall=mean)
    if np.any(mean >= 0) or np.any(mean > border):
        raise ValueError("shortfall must be negative and at most quantile: the mean of a tail of losses")
    hit = actual <= border
    return (border + hit * (actual - border) / levels("rate", rate)) / mean + np.log(-mean) - 1


@dataclass(frozen=True)
class BackTest:
    """A likelihood-ratio test.

    Attributes
    ----------
    statistic
        -2 ln of the likelihood ratio, at least 0.
    p_value
        Upper tail of chi-square, with one degree of freedom unless the test says otherwise.
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
    return kupiec_of_counts(int(hits.sum()), hits.size, rate)


@lru_cache(maxsize=100_000)
def kupiec_of_counts(exceeded: int, days: int, rate: float) -> BackTest:
    """:func:`kupiec_unconditional_coverage` of ``exceeded`` days of ``days``: nothing else of them enters it."""
    within = days - exceeded
    return _test(2 * (_best(exceeded, within) - bernoulli_log_likelihood(exceeded, within, levels("rate", rate))))


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
    both, first, second = int((before & after).sum()), int(before.sum()), int(after.sum())
    return christoffersen_of_counts(both, first, second, before.size)


@lru_cache(maxsize=100_000)
def christoffersen_of_counts(both: int, first: int, second: int, pairs: int) -> BackTest:
    """:func:`christoffersen_independence` of pairs of neighbouring days.

    Parameters
    ----------
    both, first, second
        Pairs in which both days, the first one, and the second one were exceeded.
    pairs
        All of them: one less than days.
    """
    markov = _best(both, first - both) + _best(second - both, pairs - first - (second - both))
    return _test(2 * (markov - _best(second, pairs - second)))


def christoffersen_conditional_coverage(exceeded: ArrayLike, rate: float) -> BackTest:
    """Whether exceedances are as frequent as promised *and* independent of yesterday's.

    Parameters as for ``kupiec_unconditional_coverage``. The likelihood that both fit, given the first day, against any
    first-order Markov chain. Chi-square(2).

    Source: Christoffersen (1998), Evaluating interval forecasts, section 3.3.
    """
    hits, independence = outcomes("exceeded", exceeded), christoffersen_independence(exceeded)
    later = hits[1:]
    unconditional = 2 * (_best_likelihood(later) - _likelihood(later, levels("rate", rate)))
    return _test(unconditional + independence.statistic, degrees=2)


def dynamic_quantile(exceeded: ArrayLike, value_at_risk: ArrayLike, rate: float, lags: int = 4) -> BackTest:
    """Whether earlier exceedances, or the forecast itself, say when the next one comes.

    Least squares of ``exceeded - rate`` on a constant, its own ``lags`` and the value at risk of the same day; all
    coefficients are 0 when the forecast is right. Chi-square(``lags + 2``); with few expected exceedances it rejects
    too often.

    Parameters
    ----------
    exceeded, rate
        As for ``kupiec_unconditional_coverage``.
    value_at_risk
        The forecasts ``[n]``, in any unit.
    lags
        Days back, at least 1.

    Raises
    ------
    ValueError
        Bad arguments, too few days, or regressors that are linear in each other (a constant value at risk, or never an
        exceedance).

    Source: Engle and Manganelli (2004), CAViaR, section 4: the out-of-sample test DQ.
    """
    hits, forecast = outcomes("exceeded", exceeded), vector("value_at_risk", value_at_risk)
    same_shape(exceeded=hits, value_at_risk=forecast)
    if lags < 1 or hits.size <= 2 * lags + 2:
        raise ValueError(f"lags must be at least 1 and leave more days than regressors, not {lags} of {hits.size} days")
    surprise = hits - levels("rate", rate)
    past = [surprise[lags - lag : -lag] for lag in range(1, lags + 1)]
    # The forecast in its own units would make a well-posed problem look singular.
    level = (forecast[lags:] - forecast[lags:].mean()) / (forecast[lags:].std() or 1.0)
    design = np.stack([np.ones(hits.size - lags), *past, level], axis=1)
    coefficients, _, rank, _ = np.linalg.lstsq(design, surprise[lags:], rcond=None)
    if rank < design.shape[1]:
        raise ValueError("the regressors are linear in each other: a constant value_at_risk, or exceeded never varies")
    explained = design @ coefficients
    return _test(float(explained @ explained) / (rate * (1 - rate)), degrees=lags + 2)


def _likelihood(hits: NDArray[np.bool_], rate: float) -> float:
    count = int(hits.sum())
    return bernoulli_log_likelihood(count, hits.size - count, rate)


def _best_likelihood(hits: NDArray[np.bool_]) -> float:
    count = int(hits.sum())
    return _best(count, hits.size - count)


def _best(successes: int, failures: int) -> float:
    """Log likelihood at the observed share; 0 where nothing was observed."""
    days = successes + failures
    return bernoulli_log_likelihood(successes, failures, successes / days) if days else 0.0


def _test(statistic: float, degrees: int = 1) -> BackTest:
    # Rounding may leave a statistic of zero slightly negative.
    statistic = max(statistic, 0.0)
    return BackTest(statistic, chi_square_tail(statistic, degrees))
