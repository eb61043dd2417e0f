"""Sequential test of the traffic split, valid at every look.

The e-value is a Bayes factor: a Dirichlet mixture of shares about the weights against the weights themselves. Under
obeyed weights it is a martingale in the requests (Lindon and Malek 2022, Anytime-valid inference for multinomial count
data, NeurIPS, arXiv 2011.03567). Each weight epoch bets anew, and their capitals are multiplied.

A sample-ratio mismatch (SRM) means that assignment or logging is broken, so that nothing else about routed rows can be
believed (Fabijan et al. 2019, Diagnosing sample ratio mismatch in online controlled experiments). The page, the check,
the alert and the decision all use this test: a chi-square test at each look raises forty times as many false alarms.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from financial_assets.errors import ExperimentError

CONCENTRATION = 100.0
"""Prior requests of the Dirichlet mixture: shares some 5 percentage points off the weights are found soonest."""


def log_bayes_factor(counts: ArrayLike, shares: Sequence[float]) -> NDArray[np.float64]:
    """Log of the Dirichlet-multinomial probability of a sequence of requests over that under the shares.

    Parameters
    ----------
    counts
        Requests by model, ``[..., model]``.
    shares
        Share asked for, ``[model]``, all positive.
    """
    seen, share = np.asarray(counts, np.float64), np.asarray(shares, np.float64)
    # Of one sequence of requests: the multinomial coefficient cancels in the ratio. The prior's mean is the
    # weights themselves, so that the bet is fair at the null hypothesis and has power on all sides of it.
    prior = CONCENTRATION * share
    mixture = special.gammaln(prior + seen) - special.gammaln(prior) - seen * np.log(share)
    total = special.gammaln(CONCENTRATION) - special.gammaln(CONCENTRATION + seen.sum(axis=-1))
    return total + mixture.sum(axis=-1)


class SequentialSrm:
    """State of the test: requests of a kind are split by weights of their own; one bet each, all capital multiplied.

    Each stratum's e-value is a martingale in its own requests, whatever comes in between, so that the product is one
    in all requests, and a single split that is wrong shows however many others are right.
    """

    def __init__(self) -> None:
        self._counts: dict[Hashable, Counter[str]] = {}
        self._log_e: dict[Hashable, float] = {}
        self._log_peak = 0.0

    def update(self, look: Mapping[Hashable, tuple[Mapping[str, int], Mapping[str, int]]]) -> None:
        """One look: stratum -> its weights, which never change, and its requests by model since the last look."""
        for stratum, (weights, requests) in look.items():
            if any(count < 0 for count in requests.values()):
                raise ExperimentError(f"negative counts of requests: {dict(requests)}")
            counts = self._counts.setdefault(stratum, Counter())
            counts.update(requests)
            self._log_e[stratum] = _log_e(weights, counts)
        self._log_peak = max(self._log_peak, self.log_e)

    @property
    def log_e(self) -> float:
        """Logarithm of the present e-value; infinite after a request that no chance explains."""
        return sum(self._log_e.values(), 0.0)

    @property
    def p_value(self) -> float:
        """Anytime-valid p-value over all looks so far."""
        return min(1.0, math.exp(-self._log_peak))


def _log_e(weights: Mapping[str, int], counts: Mapping[str, int]) -> float:
    total = sum(weights.values())
    if any(weight < 0 for weight in weights.values()) or total <= 0:
        raise ExperimentError(f"weights must not be negative nor all zero: {dict(weights)}")
    if any(count and not weights.get(model) for model, count in counts.items()):
        return math.inf  # a model without weight got a request
    live = [model for model, weight in weights.items() if weight > 0]
    if len(live) < 2:
        return 0.0
    return float(log_bayes_factor([counts.get(m, 0) for m in live], [weights[m] / total for m in live]))
