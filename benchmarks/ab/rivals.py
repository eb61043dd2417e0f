"""Allocators and inference that the package's own are measured against; nothing that runs chooses them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from financial_assets.errors import ExperimentError
from financial_assets.experiment.allocation.record import Memory
from financial_assets.experiment.statistics.off_policy import LoggedRewards
from financial_assets.scoring.intervals import Interval, day_clustered_difference

__all__ = ["FixedShares", "ThompsonBeta", "best_of_betas", "naive_difference"]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(96)
_REACH = 9.0  # standard deviations around each mean; what lies outside is below any weight


@dataclass(frozen=True, slots=True)
class FixedShares:
    """The shares that were agreed, whatever happens: 70/30 by default.

    Attributes
    ----------
    fixed
        Shares ``[arm]`` that add up to 1.
    """

    fixed: tuple[float, ...] = (0.7, 0.3)

    def __post_init__(self) -> None:
        if not all(share >= 0 for share in self.fixed) or not math.isclose(math.fsum(self.fixed), 1.0):
            raise ExperimentError(f"fixed shares {self.fixed} are not shares that add up to 1")

    @property
    def name(self) -> str:
        """For logs."""
        return "fixed"

    def start(self, arms: int) -> Memory:
        """Counts days only."""
        if arms != len(self.fixed):
            raise ExperimentError(f"fixed shares for {len(self.fixed)} arms, but the experiment has {arms}")
        return Memory(0.0, (0.0,) * arms)

    def update(self, memory: Memory, scores: Sequence[float]) -> Memory:
        """One day more."""
        return Memory(memory.days + 1, memory.totals)

    def shares(self, memory: Memory) -> tuple[float, ...]:
        """Always the same."""
        return self.fixed


@dataclass(frozen=True, slots=True)
class ThompsonBeta:
    """Share = posterior probability of winning the most days. Thompson (1933), Biometrika 25, with Beta posteriors.

    An arm wins a day when its score is the day's best; tied arms share the day in equal parts (ties are most of the
    evidence that two models are alike, and move the shares towards equality). It forgets by how much a day was won.

    ``totals`` are days won.

    Attributes
    ----------
    prior
        Days won and lost by every arm before the first: ``Beta(prior, prior)``.
    memory_days
        A day counts ``exp(-age / memory_days)``; infinite: all days alike.
    """

    prior: float = 1.0
    memory_days: float = math.inf

    def __post_init__(self) -> None:
        if not (self.prior > 0 and self.memory_days > 0):
            raise ExperimentError(f"prior {self.prior} and memory_days {self.memory_days}; allowed: above 0")

    @property
    def name(self) -> str:
        """For logs."""
        return "thompson-beta"

    def start(self, arms: int) -> Memory:
        """No days won."""
        return Memory(0.0, (0.0,) * arms)

    def update(self, memory: Memory, scores: Sequence[float]) -> Memory:
        """The day goes to the best arm or arms."""
        best, keep = max(scores), math.exp(-1 / self.memory_days)
        winners = sum(score == best for score in scores)
        totals = tuple(keep * w + (s == best) / winners for w, s in zip(memory.totals, scores, strict=True))
        return Memory(keep * memory.days + 1, totals)

    def shares(self, memory: Memory) -> tuple[float, ...]:
        """Posterior probability that each arm wins days most often."""
        wins = [self.prior + won for won in memory.totals]
        losses = [self.prior + memory.days - won for won in memory.totals]
        return best_of_betas(wins, losses)


def best_of_betas(wins: Sequence[float], losses: Sequence[float]) -> tuple[float, ...]:
    """Probability that each of independent ``Beta(wins, losses)`` variables is the largest.

    The integral of an arm's density times the other arms' distribution functions, by Gauss-Legendre quadrature between
    all places where one of them changes; error about 1e-6.

    Parameters
    ----------
    wins, losses
        Shapes ``[arm]``, positive.
    """
    a, b = np.asarray(wins, np.float64), np.asarray(losses, np.float64)
    mean = a / (a + b)
    reach = _REACH * np.sqrt(mean * (1 - mean) / (a + b + 1))
    edges = np.unique(np.clip(np.concatenate([mean - reach, mean, mean + reach]), 0.0, 1.0))
    x, weight = _grid(edges)
    below = special.betainc(a[:, None], b[:, None], x)
    log_density = special.xlogy(a[:, None] - 1, x) + special.xlog1py(b[:, None] - 1, -x)
    density = np.exp(log_density - special.betaln(a, b)[:, None])
    return _shares(density, below, weight)


def naive_difference(log: LoggedRewards, allocation: Literal["fixed", "adaptive"], level: float = 0.95) -> Interval:
    """Mean score of the challenger's rows minus that of the champion's, with a day-clustered interval.

    For a fixed split, at one planned look. What ``allocation`` says is not believed against the data.

    Raises
    ------
    ExperimentError
        If the weights were adaptive or changed.
    """
    if allocation == "adaptive" or float(np.ptp(log.propensity[:, 1])) > 1e-9:
        raise ExperimentError(
            "refused: the weights changed while the data came in, and naive inference after adaptive allocation is "
            "biased; use the paired scores, or ipw_log_e_process for routed ones"
        )
    on = log.arm == 1
    return day_clustered_difference(log.reward[on], log.session[on], log.reward[~on], log.session[~on], level)


def _grid(edges: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes and weights of the quadrature on each piece between ``edges``, joined."""
    half = np.diff(edges)[:, None] / 2
    middle = (edges[1:] + edges[:-1])[:, None] / 2
    return (middle + half * _NODES).ravel(), (half * _WEIGHTS).ravel()


def _shares(density: NDArray[np.float64], below: NDArray[np.float64], weight: NDArray[np.float64]) -> tuple[float, ...]:
    arms = len(density)
    won = [float(np.sum(density[arm] * weight * np.prod(np.delete(below, arm, axis=0), axis=0))) for arm in range(arms)]
    total = sum(won)
    return tuple(value / total for value in won)
