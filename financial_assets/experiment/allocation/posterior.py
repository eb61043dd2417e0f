"""Posterior probability that an arm is the best one: what Thompson sampling draws with, computed instead of drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

__all__ = ["best_of_means"]

_DRAWS = 4096


def best_of_means(
    days: float,
    totals: Sequence[float],
    products: Sequence[float],
    prior_days: float,
    prior_sd: float,
    seed: Sequence[int],
) -> tuple[float, ...]:
    """Probability that each mean is the largest, by the normal-inverse-Wishart posterior.

    The posterior of the means is a multivariate Student t. Two arms: one value of its distribution function. More:
    ``4096`` draws from a generator seeded by ``seed`` and the number of days.

    Parameters
    ----------
    days, totals, products
        Number of days, sums ``[arm]`` and sums of products ``[arm * arm]`` of daily scores minus their mean over arms.
    prior_days, prior_sd
        Strength of the prior, and the daily standard deviation expected by it.
    seed
        Whole numbers of 0 or more.
    """
    arms = len(totals)
    # A prior of arms + 2 degrees of freedom: the weakest whole number for which the covariance has a mean, its scale.
    freedom, weight = days + 3.0, days + prior_days
    if arms == 2:
        # Scores minus their mean over two arms are +x and -x: everything follows from the sums of x and of its square.
        pull = totals[0] ** 2 / days if days else 0.0
        square = products[0] - pull + pull * prior_days / weight
        spread = math.sqrt((2 * prior_sd**2 + 4 * square) / (weight * freedom))
        first = float(special.stdtr(freedom, (totals[0] - totals[1]) / weight / spread))
        return first, 1.0 - first
    sums = np.asarray(totals, np.float64)
    centre = sums / weight
    mean = sums / max(days, 1e-300)
    scatter = np.asarray(products, np.float64).reshape(arms, arms) - days * np.outer(mean, mean)
    shrunk = days * prior_days / weight * np.outer(mean, mean)
    scale = np.eye(arms) * prior_sd**2 + scatter + shrunk
    shape = scale / (weight * freedom)
    random = np.random.default_rng([*seed, int(days)])
    normal = random.standard_normal((_DRAWS, arms)) @ np.linalg.cholesky(shape).T
    chi = random.chisquare(freedom, (_DRAWS, 1)) / freedom
    best = np.argmax(centre + normal / np.sqrt(chi), axis=1)
    return tuple(float(count) / _DRAWS for count in np.bincount(best, minlength=arms))
