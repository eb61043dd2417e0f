"""Quantiles and tails of the distributions behind the intervals and tests, typed, from ``scipy.special``.

SciPy is imported on first use: it takes longer than a whole command that shows no p-value.
"""

# SciPy ships no type information; this file is where it enters.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def normal_probability(value: float) -> float:
    """Probability that a standard normal variable is at most ``value``."""
    from scipy import special

    return float(special.ndtr(value))


def normal_quantile(probability: float) -> float:
    """Quantile of the standard normal distribution."""
    from scipy import special

    return float(special.ndtri(probability))


def normal_quantiles(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles of the standard normal distribution, for an array of any shape."""
    from scipy import special

    return np.asarray(special.ndtri(probability), dtype=np.float64)


def student_t_quantile(probability: float, degrees: float) -> float:
    """Quantile of Student's t."""
    from scipy import special

    return float(special.stdtrit(degrees, probability))


def student_t_tail(value: float, degrees: float) -> float:
    """Probability that Student's t exceeds ``value``."""
    from scipy import special

    return float(special.stdtr(degrees, -value))


def f_tail(value: float, numerator: float, denominator: float) -> float:
    """Probability that Fisher's F exceeds ``value``."""
    from scipy import special

    return float(special.fdtrc(numerator, denominator, value))


def beta_quantile(probability: float, a: float, b: float) -> float:
    """Quantile of the beta distribution with shapes ``a`` and ``b``."""
    from scipy import special

    return float(special.betaincinv(a, b, probability))


def chi_square_tail(statistic: float, degrees: int) -> float:
    """Probability that chi-square exceeds ``statistic``."""
    from scipy import special

    return float(special.chdtrc(degrees, statistic))


def bernoulli_log_likelihood(successes: float, failures: float, rate: float) -> float:
    """Log likelihood of independent trials with success probability ``rate``; nothing observed contributes 0."""
    from scipy import special

    return float(special.xlogy(successes, rate) + special.xlog1py(failures, -rate))
