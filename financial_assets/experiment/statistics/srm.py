"""Tests of the traffic split: whether the gateway sends requests as the weights say.

A sample-ratio mismatch (SRM) means that assignment or logging is broken, so that nothing else about routed rows can be
believed. Fabijan et al., "Diagnosing Sample Ratio Mismatch in Online Controlled Experiments", KDD 2019. This is the
test of one look; :mod:`.srm_sequential` may be looked at as often as one likes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import comb
from typing import Any, Literal

import numpy as np
from scipy import stats

from financial_assets.errors import ExperimentError

__all__ = ["SRM_ALPHA", "SrmTest", "srm_test"]

SRM_ALPHA = 0.001
"""Usual level of an SRM test: it runs often, and a false alarm voids an experiment (Fabijan et al. 2019)."""

_SMALLEST_EXPECTED = 5.0  # below, the chi-square approximation is not trusted (Cochran 1954)
_MOST_OUTCOMES = 200_000
_DRAWS = 100_000


@dataclass(frozen=True, slots=True)
class SrmTest:
    """Result of a sample-ratio test.

    Attributes
    ----------
    observed, expected
        Requests by model.
    p_value
        Probability of a split at least as unlikely if the weights are obeyed.
    method
        ``chi-square``; ``exact`` or ``monte carlo`` when a count of less than 5 is expected; ``none`` without requests.
    alpha
        The mismatch is declared below this level.
    """

    observed: Mapping[str, int]
    expected: Mapping[str, float]
    p_value: float
    method: Literal["chi-square", "exact", "monte carlo", "none"]
    alpha: float

    @property
    def passed(self) -> bool:
        """Whether the split agrees with the weights."""
        return self.p_value >= self.alpha


def srm_test(
    observed: Mapping[str, int], weights: Mapping[str, int], *, alpha: float = SRM_ALPHA, seed: int = 0
) -> SrmTest:
    """Test routed requests by arm against the weights.

    Parameters
    ----------
    observed
        Model -> requests; a model that is missing had none.
    weights
        Model -> weight, relative.
    alpha
        Level.
    seed
        For the Monte Carlo p-value, used only when few counts are expected in many arms.

    Raises
    ------
    ExperimentError
        For negative counts or weights, or weights that are all zero.
    """
    if any(count < 0 for count in observed.values()) or any(weight < 0 for weight in weights.values()):
        raise ExperimentError(f"negative counts or weights: {dict(observed)}, {dict(weights)}")
    if sum(weights.values()) == 0:
        raise ExperimentError(f"the weights of all arms are zero: {dict(weights)}")
    models = [*weights, *(model for model in observed if model not in weights)]
    counts = {model: int(observed.get(model, 0)) for model in models}
    total = sum(counts.values())
    share = {model: weights.get(model, 0) / sum(weights.values()) for model in models}
    expected = {model: total * share[model] for model in models}
    if total == 0:
        return SrmTest(counts, expected, 1.0, "none", alpha)
    if any(counts[model] and not share[model] for model in models):  # an arm without a weight got requests
        return SrmTest(counts, expected, 0.0, "exact", alpha)
    live = [model for model in models if share[model] > 0]
    seen, probabilities = np.array([counts[m] for m in live]), np.array([share[m] for m in live])
    if len(live) == 1:
        return SrmTest(counts, expected, 1.0, "exact", alpha)
    if min(expected[model] for model in live) >= _SMALLEST_EXPECTED:
        p_value = float(stats.chisquare(seen, total * probabilities).pvalue)
        return SrmTest(counts, expected, p_value, "chi-square", alpha)
    p_value, method = _small_counts(seen, probabilities, seed)
    return SrmTest(counts, expected, p_value, method, alpha)


def _small_counts(seen: np.ndarray, shares: np.ndarray, seed: int) -> tuple[float, Literal["exact", "monte carlo"]]:
    """Exact multinomial test: the probability of all splits that are at most as likely as the one seen."""
    total, arms = int(seen.sum()), len(seen)
    if arms == 2:
        return float(stats.binomtest(int(seen[0]), total, float(shares[0])).pvalue), "exact"
    law: Any = stats.multinomial(total, shares)
    limit = law.logpmf(seen) + 1e-7  # ties count, in spite of rounding
    if comb(total + arms - 1, arms - 1) <= _MOST_OUTCOMES:
        likelihood = law.logpmf(np.array(list(_splits(total, arms))))
        return float(min(1.0, np.exp(likelihood[likelihood <= limit]).sum())), "exact"
    draws = np.random.default_rng(seed).multinomial(total, shares, size=_DRAWS)
    return float((1 + np.count_nonzero(law.logpmf(draws) <= limit)) / (1 + _DRAWS)), "monte carlo"


def _splits(total: int, arms: int) -> Iterator[tuple[int, ...]]:
    if arms == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _splits(total - first, arms - 1):
            yield (first, *rest)
