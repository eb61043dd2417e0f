"""How daily differences depend on each other and how their variance moves, with what a short block leaves open.

A first-order autoregression whose innovations have a variance that follows a GARCH(1, 1) process (Bollerslev 1986,
Journal of Econometrics 31). A block of some months does not say what its parameters are: each simulated test draws its
own from what the block leaves possible, so that the power of a plan is its *assurance* (O'Hagan, Stevens and Campbell
2005, Pharmaceutical Statistics 4; Julious and Owen 2006, ibid. 5, for a variance that was estimated before the test).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_REACTIONS = (0.0, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2)
_PERSISTENCES = (0.5, 0.8, 0.9, 0.95, 0.97, 0.985)
_LEVELS = np.exp(np.linspace(-1.2, 1.2, 25))
_LARGEST = 0.9  # of a first-order autoregression that is drawn: beyond, a year says nothing about a mean
_LEAST = 1e-9  # of what is divided by


@dataclass(frozen=True, eq=False)
class Volatility:
    """Parameters of the variance of innovations, one set for each simulated test.

    Attributes
    ----------
    level
        Mean variance over that of the block ``[world]``.
    reaction, persistence
        Weight of yesterday's square, and of it and yesterday's variance together ``[world]``.
    """

    level: Floats
    reaction: Floats
    persistence: Floats

    def deviations(self, shocks: Floats) -> Floats:
        """Standard deviation of each day's innovation ``[world, day]``, which follows from the shocks before it."""
        variance, path = self.level.copy(), np.empty_like(shocks)
        rest = self.level * (1 - self.persistence)
        for day in range(shocks.shape[1]):
            path[:, day] = variance
            variance = rest + variance * (self.reaction * (shocks[:, day] ** 2 - 1) + self.persistence)
        return np.sqrt(path)


def draw_volatility(innovations: Floats, worlds: int, rng: np.random.Generator) -> tuple[Volatility, Floats]:
    """Parameters for each simulated test, and the deviation of each day of the block.

    Quasi-likelihood of a normal distribution on a grid, with a flat prior over the grid. Shocks with fat tails say less
    of a variance than normal ones: the likelihood is raised to the power at which it says as much as it knows
    (2 over the kurtosis minus 1; Mueller 2013, Econometrica 81, on posteriors of misspecified models).

    Parameters
    ----------
    innovations
        Of the block, with mean square 1 ``[day]``.
    worlds, rng
        How many sets, and of which random numbers.
    """
    grid = np.stack([axis.ravel() for axis in np.meshgrid(_LEVELS, _REACTIONS, _PERSISTENCES, indexing="ij")])
    level, reaction, persistence = grid
    squares, variance = innovations**2, level.copy()
    # Even odds that the variance moves at all; a flat prior otherwise.
    log_likelihood = np.where(reaction > 0, -math.log(len(_REACTIONS) - 1), 0.0)
    rest = level * (1 - persistence)
    for square in squares:
        log_likelihood -= 0.5 * (np.log(variance) + square / variance)
        variance = rest + reaction * square + (persistence - reaction) * variance
    best = int(log_likelihood.argmax())
    path = _variances(squares, *grid[:, best])
    shocks = innovations / np.sqrt(path)
    kurtosis = float(np.mean(shocks**4) / np.mean(shocks**2) ** 2)
    weight = min(1.0, 2 / max(kurtosis - 1, _LEAST))
    chances = np.exp(weight * (log_likelihood - log_likelihood[best]))
    chosen = rng.choice(len(level), size=worlds, p=chances / chances.sum())
    between = np.exp(np.log(_LEVELS[1] / _LEVELS[0]) * (rng.random(worlds) - 0.5))
    return Volatility(level[chosen] * between, reaction[chosen], persistence[chosen]), np.sqrt(path)


def _variances(squares: Floats, level: float, reaction: float, persistence: float) -> Floats:
    """Variance of each day of the block, as known before the day ``[day]``."""
    path, variance, rest = np.empty_like(squares), level, level * (1 - persistence)
    for day, square in enumerate(squares):
        path[day] = variance
        variance = rest + reaction * square + (persistence - reaction) * variance
    return path


def draw_coefficients(days: Floats, worlds: int, rng: np.random.Generator) -> tuple[float, Floats]:
    """First-order coefficient of the days, and what it may be in each simulated test ``[world]``.

    Around the estimate that is corrected for its bias in short series (Kendall 1954, Biometrika 41), with the standard
    error that holds whatever the variance does from day to day (White 1980, Econometrica 48).
    """
    centred = days - days.mean()
    square, count = float(np.sum(centred**2)), len(days)
    fitted = float(np.sum(centred[1:] * centred[:-1])) / square
    corrected = fitted + (1 + 4 * fitted) / count
    errors = centred[1:] - fitted * centred[:-1]
    deviation = float(np.sqrt(np.sum((errors * centred[:-1]) ** 2))) / square
    drawn = corrected + deviation * rng.standard_normal(worlds)
    return fitted, np.clip(drawn, -_LARGEST, _LARGEST)
