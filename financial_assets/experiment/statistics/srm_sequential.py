"""Sequential test of the traffic split, valid at every look.

The e-value is a Bayes factor: a Dirichlet mixture of shares about the weights against the weights themselves. Under
obeyed weights it is a martingale in the requests (Lindon and Malek 2022, Anytime-valid inference for multinomial count
data, NeurIPS, arXiv 2011.03567). Each weight epoch bets anew, and their capitals are multiplied.

A sample-ratio mismatch (SRM) means that assignment or logging is broken, so that nothing else about routed rows can be
believed (Fabijan et al. 2019, Diagnosing sample ratio mismatch in online controlled experiments). The page, the check,
the alert and the decision all use this test: a chi-square test at each look raises forty times as many false alarms.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from financial_assets.errors import ExperimentError

__all__ = ["CONCENTRATION", "SequentialSrm", "StratifiedSrm", "log_bayes_factor"]

CONCENTRATION = 100.0
"""Prior requests of the Dirichlet mixture: shares some 5 percentage points off the weights are found soonest."""


def log_bayes_factor(
    counts: ArrayLike, shares: Sequence[float], concentration: float = CONCENTRATION
) -> NDArray[np.float64]:
    """Log of the Dirichlet-multinomial probability of a sequence of requests over that under the shares.

    Parameters
    ----------
    counts
        Requests by model, ``[..., model]``.
    shares
        Share asked for, ``[model]``, all positive.
    concentration
        Of the Dirichlet mixture.
    """
    seen, share = np.asarray(counts, np.float64), np.asarray(shares, np.float64)
    prior = concentration * share
    mixture = special.gammaln(prior + seen) - special.gammaln(prior) - seen * np.log(share)
    total = special.gammaln(concentration) - special.gammaln(concentration + seen.sum(axis=-1))
    return total + mixture.sum(axis=-1)


@dataclass(frozen=True, slots=True)
class SequentialSrm:
    """State of the test under one set of weights; :meth:`start` makes it, :meth:`update` feeds requests.

    Attributes
    ----------
    shares
        Model -> share of requests asked for in this epoch.
    counts
        Model -> requests in this epoch.
    concentration
        Of the Dirichlet mixture.
    log_peak
        Largest log e-value at any look.
    impossible
        Whether a model without weight got a request, which no chance explains.
    """

    shares: Mapping[str, float]
    counts: Mapping[str, int]
    concentration: float = CONCENTRATION
    log_peak: float = 0.0
    impossible: bool = False

    @classmethod
    def start(cls, weights: Mapping[str, int], concentration: float = CONCENTRATION) -> SequentialSrm:
        """A test without requests under the weights of the first epoch."""
        if not 0 < concentration < math.inf:
            raise ExperimentError(f"the concentration must be positive and finite, not {concentration}")
        shares = _shares(weights)
        return cls(shares, dict.fromkeys(shares, 0), concentration)

    def update(self, requests: Mapping[str, int]) -> SequentialSrm:
        """The state after more requests by model (those since the last look, not all)."""
        if any(count < 0 for count in requests.values()):
            raise ExperimentError(f"negative counts of requests: {dict(requests)}")
        strange = any(count and not self.shares.get(model) for model, count in requests.items())
        counts = {model: count + int(requests.get(model, 0)) for model, count in self.counts.items()}
        new = dataclasses.replace(self, counts=counts, impossible=self.impossible or strange)
        return dataclasses.replace(new, log_peak=max(self.log_peak, new._log_bayes_factor()))

    @property
    def log_e(self) -> float:
        """Logarithm of the present e-value; infinite after an impossible request."""
        return math.inf if self.impossible else self._log_bayes_factor()

    @property
    def p_value(self) -> float:
        """Anytime-valid p-value over all looks so far."""
        return 0.0 if self.impossible else min(1.0, math.exp(-self.log_peak))

    def passed(self, alpha: float) -> bool:
        """Whether at no look so far the split contradicted the weights."""
        return self.p_value > alpha

    def _log_bayes_factor(self) -> float:
        live = [model for model, share in self.shares.items() if share > 0]
        if len(live) < 2:
            return 0.0
        shares, counts = [self.shares[model] for model in live], [self.counts[model] for model in live]
        return float(log_bayes_factor(counts, shares, self.concentration))


class StratifiedSrm:
    """The same test where kinds of requests are split by weights of their own: one bet each, all capital multiplied.

    Each stratum's e-value is a martingale in its own requests, whatever comes in between, so that the product is one
    in all requests, and a single split that is wrong shows however many others are right.
    """

    def __init__(self) -> None:
        self._tests: dict[Hashable, SequentialSrm] = {}
        self._log_peak = 0.0

    def update(self, look: Mapping[Hashable, tuple[Mapping[str, int], Mapping[str, int]]]) -> None:
        """One look: stratum -> its weights, which never change, and its requests by model since the last look."""
        for stratum, (weights, requests) in look.items():
            test = self._tests.get(stratum) or SequentialSrm.start(weights)
            self._tests[stratum] = test.update(requests)
        self._log_peak = max(self._log_peak, self.log_e)

    @property
    def log_e(self) -> float:
        """Logarithm of the present e-value; infinite after an impossible request."""
        return sum((test.log_e for test in self._tests.values()), 0.0)

    @property
    def p_value(self) -> float:
        """Anytime-valid p-value over all looks so far."""
        return min(1.0, math.exp(-self._log_peak))


def _shares(weights: Mapping[str, int]) -> dict[str, float]:
    total = sum(weights.values())
    if any(weight < 0 for weight in weights.values()) or total <= 0:
        raise ExperimentError(f"weights must not be negative nor all zero: {dict(weights)}")
    return {model: weight / total for model, weight in weights.items()}
