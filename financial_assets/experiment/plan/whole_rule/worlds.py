"""Simulated tests: daily differences of a challenger to champion, baselines and guards, without any true difference.

Days against the champion are drawn from those that the plan's spread was measured on, in blocks of a month, so that
their shape and what dependence they have is kept (Politis and Romano 1992, circular block bootstrap); where none were
measured they are normal. Their deviation is the plan's. Days against a baseline and of a guard have the same shape and
correlate with them by a half, as differences of one model to two others do; baselines differ a fifth more from the
challenger than the champion does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from financial_assets.experiment.plan.plan import ExperimentPlan

_BLOCK = 21
_FEWEST_DAYS = 60  # to draw from: of fewer, too few different ones
_SHARED, _APART = 0.5, 1.2


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
        Guard -> the same to the champion, in units of its own deviation.
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
        Its spread and baselines; guards are profit and, if the metric is another, right directions.
    worlds, seed
        How many, and of which random numbers.
    """
    rng, deviation = np.random.default_rng(seed), plan.spread.deviation
    shape = (worlds, plan.looks[-1])
    sample = np.array(plan.spread.sample)
    is_measured = len(sample) >= _FEWEST_DAYS
    basis = f"drawn from {plan.spread.basis} in blocks of {_BLOCK}"

    def days() -> NDArray[np.float64]:
        return _blocks(rng, shape, sample) if is_measured else rng.standard_normal(shape)

    main = days()
    names = ("profit", "tail", *(("accuracy",) if plan.test.metric != "accuracy" else ()))
    against = {name: _APART * deviation * _beside(main, days()) for name in plan.must_beat}
    guards = {name: _beside(main, days()) for name in names}
    return Worlds(deviation * main, against, guards, basis if is_measured else "normal, because too few were measured")


def _beside(main: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.float64]:
    """Days that correlate with those of ``main``."""
    return _SHARED * main + math.sqrt(1 - _SHARED**2) * own


def _blocks(rng: np.random.Generator, shape: tuple[int, int], sample: NDArray[np.float64]) -> NDArray[np.float64]:
    """Blocks of consecutive days of a sample, standardised."""
    days = (sample - sample.mean()) / sample.std()
    starts = rng.integers(0, len(days), size=(shape[0], -(-shape[1] // _BLOCK)))
    places = (starts[:, :, None] + np.arange(_BLOCK)) % len(days)
    return days[places.reshape(shape[0], -1)[:, : shape[1]]]
