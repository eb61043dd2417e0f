"""How much of the traffic each arm deserves after the days so far.

An honest word first. Predictions do not move the market, and every arm answers on every bar (paired or mirrored), so
that *all* arms' rewards are known the next day whichever one was routed to. This is the full-information setting:
nothing needs to be explored, Hedge is the natural algorithm, and Thompson's posterior is one of the shares, not a
device for learning. Exploration would be needed only for a reward that exists for the routed arm alone: P&L of orders
really placed, latency under load. What an allocator can gain is the traffic's reward *while* the test runs; it proves
nothing, and promotion never follows from it.

Every allocator is a frozen value with a name and three methods: ``start`` an empty memory, ``update`` it with a day's
scores (larger is better), and say the ``shares`` ``[arm]`` that add up to 1. None draws at random in two-armed tests;
with more arms Thompson's Gaussian posterior is sampled from a generator seeded by the setting and the data, so that
the same log gives the same weights bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import special

from financial_assets.errors import ExperimentError
from financial_assets.experiment.allocation.record import Memory

_DRAWS = 4096


class Allocator(Protocol):
    """Evidence in, shares out."""

    @property
    def name(self) -> str:
        """For logs."""
        ...

    def start(self, arms: int) -> Memory:
        """Memory before the first day."""
        ...

    def update(self, memory: Memory, scores: Sequence[float]) -> Memory:
        """Memory after a day with these finite scores ``[arm]``, larger is better."""
        ...

    def shares(self, memory: Memory) -> tuple[float, ...]:
        """Shares ``[arm]``, not negative, adding up to 1."""
        ...


@dataclass(frozen=True, slots=True)
class ThompsonGaussian:
    """Share = posterior probability of the best mean daily score, from the *paired* scores.

    The conjugate normal-inverse-Wishart posterior of the vector of means (Gelman et al. 2013, Bayesian Data Analysis,
    3rd ed., section 3.6). Days on which all arms do well cancel, because the posterior keeps the arms' covariance.

    ``totals`` are sums of the scores minus the day's mean over arms; ``more`` is the matrix of the sums of their
    products ``[arm, arm]``, row by row.

    Attributes
    ----------
    prior_days
        The prior is worth so many days without a difference.
    prior_sd
        Standard deviation of a daily score expected before the first day, in the unit of the scores.
    memory_days
        A day counts ``exp(-age / memory_days)``; infinite: all days alike.
    seed
        Of the draws; used with more than two arms only.
    """

    name = "thompson-gaussian"

    prior_days: float = 1.0
    prior_sd: float = 0.2
    memory_days: float = math.inf
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("prior_days", "prior_sd", "memory_days"):
            _positive(name, getattr(self, name))
        if self.seed < 0:
            raise ExperimentError(f"the seed of an allocator is {self.seed}; allowed: 0 or more")

    def start(self, arms: int) -> Memory:
        """No scores."""
        return Memory(0.0, (0.0,) * arms, (0.0,) * arms**2)

    def update(self, memory: Memory, scores: Sequence[float]) -> Memory:
        """The day's scores minus their mean are added."""
        keep, middle = math.exp(-1 / self.memory_days), math.fsum(scores) / len(scores)
        rest = [score - middle for score in scores]
        products = [a * b for a in rest for b in rest]
        return Memory(
            keep * memory.days + 1,
            tuple(keep * total + x for total, x in zip(memory.totals, rest, strict=True)),
            tuple(keep * total + x for total, x in zip(memory.more, products, strict=True)),
        )

    def shares(self, memory: Memory) -> tuple[float, ...]:
        """Posterior probability that each arm has the largest mean."""
        return best_of_means(
            memory.days, memory.totals, memory.more, self.prior_days, self.prior_sd, (self.seed, len(memory.totals))
        )


@dataclass(frozen=True, slots=True)
class Hedge:
    """Exponential weights on all arms' scores, with the learning rate of AdaHedge, which needs no tuning.

    Freund and Schapire (1997), A decision-theoretic generalization of on-line learning; learning rate ``ln k / D``, D
    the sum of the mixability gaps so far, by de Rooij, van Erven, Grünwald and Koolen (2014), Follow the leader if you
    can, hedge if you must, JMLR 15. Shares do not change when all scores are scaled or shifted. For scores that span at
    most S per day the regret to the best arm after T days is at most ``S sqrt(T ln k) + S (4/3 ln k + 2)``, whatever
    the scores: no assumption about the market at all. The limits on weights cost more: a floor of f on every other arm
    costs f times its gap each day, for ever.

    ``totals`` are the summed scores; ``more`` holds D alone.
    """

    name = "hedge"

    def start(self, arms: int) -> Memory:
        """No scores, no gap."""
        return Memory(0.0, (0.0,) * arms, (0.0,))

    def update(self, memory: Memory, scores: Sequence[float]) -> Memory:
        """Scores are added, and the day's mixability gap: expected score minus the mix, both as losses."""
        rate = self._rate(memory)
        held = [(p, x) for p, x in zip(self.shares(memory), scores, strict=True) if p > 0]
        top = max(score for _, score in held)
        expected = math.fsum(share * score for share, score in held)
        mixed = top
        if math.isfinite(rate):
            mixed += math.log(math.fsum(share * math.exp(rate * (score - top)) for share, score in held)) / rate
        totals = tuple(total + score for total, score in zip(memory.totals, scores, strict=True))
        return Memory(memory.days + 1, totals, (memory.more[0] + max(0.0, mixed - expected),))

    def shares(self, memory: Memory) -> tuple[float, ...]:
        """Exponential weights; before the first difference all arms alike."""
        rate, top = self._rate(memory), max(memory.totals)
        if math.isinf(rate):
            raw = [float(total == top) for total in memory.totals]
        else:
            raw = [math.exp(rate * (total - top)) for total in memory.totals]
        total = math.fsum(raw)
        return tuple(value / total for value in raw)

    def _rate(self, memory: Memory) -> float:
        gap = memory.more[0]
        return math.log(len(memory.totals)) / gap if gap > 0 else math.inf


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ExperimentError(f"an allocator's {name} is {value}; allowed: above 0")


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
