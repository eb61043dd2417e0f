"""Sequential test of the traffic split, valid at every look.

The e-value is a Bayes factor: a Dirichlet mixture of shares about the weights against the weights themselves. Under
obeyed weights it is a martingale in the requests (Lindon and Malek 2022, Anytime-valid inference for multinomial count
data, NeurIPS, arXiv 2011.03567). Each weight epoch has a bet of its own, and their capitals are multiplied. What
earlier epochs showed is not forgotten: a split that was off by some factor is bet to be off by it again.

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

_DOUBT = 50.0  # requests as the weights say that a model's past is diluted with, before the next epoch bets on it


def log_bayes_factor(
    counts: ArrayLike, shares: Sequence[float], expected: Sequence[float] | None = None
) -> NDArray[np.float64]:
    """Log of the Dirichlet-multinomial probability of a sequence of requests over that under the shares.

    Parameters
    ----------
    counts
        Requests by model, ``[..., model]``.
    shares
        Share asked for, ``[model]``, all positive.
    expected
        Share that is bet on, ``[model]``, chosen before the first of these requests; default: ``shares``, which has
        power on all sides of them.
    """
    seen, share = np.asarray(counts, np.float64), np.asarray(shares, np.float64)
    # Of one sequence of requests: the multinomial coefficient cancels in the ratio.
    prior = CONCENTRATION * (share if expected is None else np.asarray(expected, np.float64))
    mixture = special.gammaln(prior + seen) - special.gammaln(prior) - seen * np.log(share)
    total = special.gammaln(CONCENTRATION) - special.gammaln(CONCENTRATION + seen.sum(axis=-1))
    return total + mixture.sum(axis=-1)


class SequentialSrm:
    """State of the test: requests of a kind are split by weights of their own; one bet each, all capital multiplied.

    Each stratum's e-value is a martingale in its own requests, whatever comes in between, so that the product is one
    in all requests, and a single split that is wrong shows however many others are right. What a stratum bets on is
    fixed when it begins, by the requests of before: a stratum that begins at each new weight epoch would otherwise pay
    again and again for learning the same mismatch.

    Parameters
    ----------
    remembers
        False: each stratum begins without knowing of the others, as decisions of the first rule were taken.
    """

    def __init__(self, *, remembers: bool = True) -> None:
        self._remembers = remembers
        self._counts: dict[Hashable, Counter[str]] = {}
        self._asked: dict[Hashable, dict[str, float]] = {}
        self._tilt: dict[Hashable, dict[str, float]] = {}
        self._log_e: dict[Hashable, float] = {}
        self._log_peak = 0.0

    def update(self, look: Mapping[Hashable, tuple[Mapping[str, int], Mapping[str, int]]]) -> None:
        """One look: stratum -> its weights, which never change, and its requests by model since the last look."""
        begun = {stratum: self._factors(weights) for stratum, (weights, _) in look.items() if stratum not in self._tilt}
        self._tilt |= begun  # those that begin together know nothing of each other
        for stratum, (weights, requests) in look.items():
            if any(count < 0 for count in requests.values()):
                raise ExperimentError(f"negative counts of requests: {dict(requests)}")
            counts = self._counts.setdefault(stratum, Counter())
            counts.update(requests)
            total = sum(weights.values())
            if total > 0:
                self._asked[stratum] = {model: counts.total() * weight / total for model, weight in weights.items()}
            self._log_e[stratum] = _log_e(weights, counts, self._tilt[stratum])
        self._log_peak = max(self._log_peak, self.log_e)

    def _factors(self, weights: Mapping[str, int]) -> dict[str, float]:
        """By how much each model's share was off so far, over all strata, drawn towards 1."""
        factors = dict.fromkeys(weights, 1.0)
        for model in weights if self._remembers else ():
            # Only where others were asked for, too: a model that gets all requests says nothing of a split.
            asked_for = {name: of_models.get(model, 0.0) for name, of_models in self._asked.items()}
            shared = [name for name, count in asked_for.items() if 0 < count < self._counts[name].total()]
            seen = sum(self._counts[name][model] for name in shared)
            factors[model] = (seen + _DOUBT) / (sum(asked_for[name] for name in shared) + _DOUBT)
        return factors

    @property
    def log_e(self) -> float:
        """Logarithm of the present e-value; infinite after a request that no chance explains."""
        return sum(self._log_e.values(), 0.0)

    @property
    def p_value(self) -> float:
        """Anytime-valid p-value over all looks so far."""
        return min(1.0, math.exp(-self._log_peak))


def _log_e(weights: Mapping[str, int], counts: Mapping[str, int], factors: Mapping[str, float]) -> float:
    total = sum(weights.values())
    if any(weight < 0 for weight in weights.values()) or total <= 0:
        raise ExperimentError(f"weights must not be negative nor all zero: {dict(weights)}")
    if any(count and not weights.get(model) for model, count in counts.items()):
        return math.inf  # a model without weight got a request
    live = [model for model, weight in weights.items() if weight > 0]
    if len(live) < 2:
        return 0.0
    tilted = [weights[m] * factors[m] for m in live]
    expected = [value / sum(tilted) for value in tilted]
    return float(log_bayes_factor([counts.get(m, 0) for m in live], [weights[m] / total for m in live], expected))
