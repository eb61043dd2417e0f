"""Simulated tests: daily differences of a challenger to champion, baselines and guards, without any true difference.

Days are those that the plan's spread was measured on, in a new order: what depends on the day before is taken out of
them (:mod:`.dynamics`), the rest is drawn in blocks of a month, the same days for all series so that they go on moving
together, and dependence and volatility are put back with parameters of each test's own (post-blackened circular block
bootstrap, Davison and Hinkley 1997, section 8.2; filtered historical simulation, Barone-Adesi, Giannopoulos and Vosper
1999). Their deviation is the plan's, as uncertain as the days leave it.

Baselines and guards that were not measured on these days are assumed to correlate with the difference to the champion
by a half, as differences of one model to two others do, and baselines to differ a fifth more from the challenger than
the champion does. Where no day was measured all are normal and independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from financial_assets.experiment.metrics.registry import GUARDS
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.plan.whole_rule.dynamics import draw_coefficients, draw_volatility

_BLOCK = 21
_BURN_IN = 60  # days until a simulated variance has forgotten that it began at its mean
_FEWEST_DAYS = 60  # to draw from: of fewer, too few different ones
_SHARED, _APART = 0.5, 1.2

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Worlds:
    """Daily differences ``[world, day]`` with a mean of 0 in the long run.

    Attributes
    ----------
    main
        To the champion, in the plan's metric.
    against
        Baseline -> the same.
    guards
        Guard -> the same to the champion, in its own unit; in units of its own deviation where that is assumed.
    basis
        Where the days come from, in words.
    """

    main: NDArray[np.float64]
    against: Mapping[str, NDArray[np.float64]]
    guards: Mapping[str, NDArray[np.float64]]
    basis: str


def draw_worlds(plan: ExperimentPlan, worlds: int, seed: int) -> Worlds:
    """Simulated tests of a plan.

    Parameters
    ----------
    plan
        Its spread and baselines; guards are those that are not its metric.
    worlds, seed
        How many, and of which random numbers.
    """
    spread, shape = plan.spread, (worlds, plan.looks[-1])
    rng, sample = np.random.default_rng(seed), np.array(spread.sample)
    draws = _Measured(rng, shape, sample) if len(sample) >= _FEWEST_DAYS else None
    beside = dict(spread.beside) if draws else {}
    main = draws.main if draws else rng.standard_normal(shape)
    assumed = list[str]()

    def days(series: str, name: str, deviation: float) -> Floats:
        if draws and series in beside:
            # The plan's deviation may be larger than the sample's: then so is that of all that was measured with it.
            return spread.deviation / float(sample.std(ddof=1)) * draws.beside(np.array(beside[series]))
        assumed.append(name)
        own = draws.independent() if draws else rng.standard_normal(shape)
        return deviation * (_SHARED * main + math.sqrt(1 - _SHARED**2) * own)

    against = {name: days(f"against {name}", name, _APART * spread.deviation) for name in plan.must_beat}
    guards = {
        name: days(f"guard {name}", name, 1.0) for name, metric in GUARDS.items() if metric.name != plan.test.metric
    }
    basis = f"drawn from {spread.basis} in blocks of {_BLOCK}" if draws else "normal, because too few were measured"
    if assumed:
        basis += f"; how {', '.join(assumed)} go with them is assumed"
    return Worlds(spread.deviation * main, against, guards, basis)


class _Measured:
    """Series of simulated tests that are drawn from days of a block.

    Parameters
    ----------
    rng, shape
        Random numbers; tests and days of each.
    sample
        Daily differences to the champion ``[day of the block]``.

    Attributes
    ----------
    main
        Those of the simulated tests, in deviations of the sample ``[world, day]``.
    """

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int], sample: Floats) -> None:
        self._rng, self._worlds, self._days = rng, shape[0], shape[1] + _BURN_IN
        self._sample = sample / sample.std(ddof=1)
        innovations, self._unit, self._coefficients = self._whitened(self._sample)
        self._volatility, self._before = draw_volatility(innovations, shape[0], rng)
        self._shocks = innovations / self._before
        self._shocks /= math.sqrt(float(np.mean(self._shocks**2)))
        self._places = self._blocks()
        self._deviations = self._volatility.deviations(self._shocks[self._places])
        steps = self._deviations * self._shocks[self._places]
        self.main = self._unit * self._coloured(steps, self._coefficients)

    def independent(self) -> Floats:
        """Another series of the same kind that has nothing to do with the main one ``[world, day]``."""
        shocks = self._shocks[self._blocks()]
        return self._unit * self._coloured(self._volatility.deviations(shocks) * shocks, self._coefficients)

    def beside(self, days: Floats) -> Floats:
        """A series that was measured on the days of the sample, on the days that the main one is drawn from."""
        innovations, unit, coefficients = self._whitened(days)
        shocks = innovations / self._before
        shocks /= math.sqrt(float(np.mean(shocks**2)))
        return unit * self._coloured(self._deviations * shocks[self._places], coefficients)

    def _whitened(self, days: Floats) -> tuple[Floats, float, Floats]:
        """Innovations with mean 0 and mean square 1, their deviation, and a coefficient for each test."""
        fitted, drawn = draw_coefficients(days, self._worlds, self._rng)
        centred = days - days.mean()
        innovations = centred[1:] - fitted * centred[:-1]
        innovations -= innovations.mean()
        unit = math.sqrt(float(np.mean(innovations**2)))
        return innovations / unit, unit, drawn

    def _blocks(self) -> NDArray[np.int64]:
        """Places in the block, a month of consecutive ones at a time ``[world, day]``."""
        count = len(self._sample) - 1
        starts = self._rng.integers(0, count, size=(self._worlds, -(-self._days // _BLOCK)))
        places = (starts[:, :, None] + np.arange(_BLOCK)) % count
        return places.reshape(self._worlds, -1)[:, : self._days]

    def _coloured(self, steps: Floats, coefficients: Floats) -> Floats:
        for day in range(1, self._days):
            steps[:, day] += coefficients * steps[:, day - 1]
        return steps[:, _BURN_IN:]
