"""The second rule over many simulated tests at once: a vectorised copy of ``decide``; tests hold it against it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.plan.whole_rule.worlds import Worlds
from financial_assets.experiment.statistics import long_run
from financial_assets.experiment.statistics.capital import log_e_process, planned_stakes
from financial_assets.experiment.statistics.group_sequential import z_of_t

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Comparison = np.ufunc
"""``numpy.greater``, ``greater_equal`` or ``less_equal``."""
Condition = Literal["baselines", "guards", "futility"]
"""What a promotion needs beside the champion's defeat."""

_CLOSE = 1e-6
"""Part of Student's t from a limit within which its normal deviate is computed."""
_CLOSER = 1e-9
"""Deviates that differ by more are in the order of their t, whatever the rounding."""

NEVER = 10**9
"""A day that does not come."""


@dataclass(frozen=True, eq=False)
class Endings:
    """How simulated tests end: whether the challenger was promoted or rolled back, and on which day ``[world]``."""

    promoted: Bools
    rolled_back: Bools
    day: NDArray[np.int64]


def critical_t(limit: ArrayLike, freedom: Floats) -> tuple[Floats, Floats]:
    """Two values of Student's t: with one below both, the normal deviate is surely below ``limit``; above both, above.

    Parameters
    ----------
    limit, freedom
        Normal deviates, and the degrees of freedom of t; any shapes that go together.
    """
    asked_for = np.asarray(limit, np.float64)
    # By the small tail, which is exact far out.
    size = np.abs(special.stdtrit(freedom, special.ndtr(-np.abs(asked_for))))
    t = np.copysign(size, asked_for)
    # What the inverse gives is looked at again: nothing rests on its accuracy.
    with np.errstate(invalid="ignore"):  # of an infinite one, which is not sure of anything
        below, above = t - _CLOSE * (1 + size), t + _CLOSE * (1 + size)
        is_below = z_of_t(below, freedom) < asked_for - _CLOSER
        is_above = z_of_t(above, freedom) > asked_for + _CLOSER
    is_possible = np.abs(asked_for) <= long_run.LARGEST_Z
    return (
        np.where(is_possible, np.where(is_below, below, -np.inf), np.copysign(np.inf, asked_for)),
        np.where(is_possible, np.where(is_above, above, np.inf), np.copysign(np.inf, asked_for)),
    )


@lru_cache(maxsize=64)
def _critical_by_freedom(limit: float, most: int) -> tuple[Floats, Floats]:
    """:func:`critical_t` by whole degrees of freedom, from 0 to ``most``."""
    return critical_t(limit, np.maximum(np.arange(most + 1, dtype=np.float64), 1.0))


@dataclass(frozen=True, eq=False)
class _Series:
    """Mean and standard error of one series after each day of interest, without any true difference.

    ``skew`` and ``count`` are those by which t is corrected (:func:`.long_run.skew_corrected`); without them it is not.
    """

    mean: Floats
    error: Floats
    freedom: Floats
    skew: Floats | None = None
    count: Floats | None = None

    def of(self, worlds: NDArray[np.intp], days: NDArray[np.intp]) -> _Series:
        """That of some worlds, each on a day of its own ``[world]``."""
        return _Series(self.mean[worlds, days], self.error[worlds, days], self.freedom[days])

    def compared(self, shift: float, holds: Comparison, limit: Floats | float) -> Bools:
        """Whether the normal deviate of the mean plus ``shift`` is above, or below, ``limit``.

        Only deviates that are close to it are computed: for all others Student's t tells as much, at a fraction of the
        time.
        """
        t = np.divide(self.mean + shift, self.error, out=np.zeros_like(self.mean), where=self.error > 0)
        if self.skew is not None and self.count is not None:
            t = long_run.skew_corrected(t, self.skew, self.count)
        if isinstance(limit, float):
            whole = self.freedom.astype(np.int64)
            table = _critical_by_freedom(limit, 2 ** int(whole.max(initial=1)).bit_length())
            below, above = (values[whole] for values in table)
        else:
            below, above = critical_t(limit, self.freedom)
        found = t <= below if holds is np.less_equal else t >= above
        close = np.nonzero(((t > below) & (t < above)) | np.isinf(t))
        if close[0].size:
            freedom, asked_for = (np.broadcast_to(values, t.shape)[close] for values in (self.freedom, limit))
            found[close] = holds(np.clip(z_of_t(t[close], freedom), -long_run.LARGEST_Z, long_run.LARGEST_Z), asked_for)
        return found


class WholeRule:
    """A plan's rule over simulated tests; a true difference only shifts their means, so that most is computed once.

    Parameters
    ----------
    plan, worlds
        What is judged.
    """

    def __init__(self, plan: ExperimentPlan, worlds: Worlds) -> None:
        self._plan, self._worlds = plan, worlds
        main = self._at_looks(worlds.main)
        self._against = {name: self._at_looks(days) for name, days in worlds.against.items()}
        self._guards = {name: self._at_looks(days) for name, days in worlds.guards.items()}
        so_far = [worlds.main[:, :day] for day in plan.looks]
        self._skew = np.stack([long_run.skewness(days) for days in so_far], axis=1)
        if plan.corrects_skewness:
            deviations = main.error * np.sqrt(plan.looks)
            counts = [
                long_run.effective_count(deviations[:, place], days, plan.lags) for place, days in enumerate(so_far)
            ]
            main = replace(main, skew=self._skew, count=np.stack(counts, axis=1))
        self._main = main

    def endings(self, effect: float, without: Collection[Condition] = ()) -> Endings:
        """How the tests end if the challenger is truly better by ``effect`` than champion and baselines alike.

        Guards stay at no difference.

        Parameters
        ----------
        effect
            In the metric's unit.
        without
            Conditions that are left out.
        """
        plan = self._plan
        won, harm, futile = self._looks(effect, without)
        days = np.array(plan.looks)

        def first_day(happens: Bools) -> NDArray[np.int64]:
            return np.where(happens.any(axis=1), days[happens.argmax(axis=1)], NEVER)

        over = np.minimum(first_day(harm), first_day(futile))
        sure, worse = self._sequence(effect, without)
        # Of what happens on one day, harm comes before a promotion; a look that ends a test stops the sequence, too.
        back, up = np.minimum(worse, first_day(harm)), np.minimum(first_day(won), sure)
        promoted = (up < back) & (up < over)
        rolled_back = ~promoted & (back <= over) & (back <= plan.looks[-1])
        end = np.minimum(np.minimum(np.where(promoted, up, NEVER), back), over)
        return Endings(promoted, rolled_back, np.minimum(end, plan.looks[-1]))

    def _at_looks(self, days: Floats) -> _Series:
        means, errors, freedoms = list[Floats](), list[Floats](), list[float]()
        for day in self._plan.looks:
            deviation, freedom = long_run.long_run_deviation(days[:, :day], self._plan.lags)
            means.append(days[:, :day].mean(axis=1))
            errors.append(deviation / math.sqrt(day))
            freedoms.append(freedom)
        return _Series(np.stack(means, axis=1), np.stack(errors, axis=1), np.array(freedoms))

    def _looks(self, effect: float, without: Collection[Condition]) -> tuple[Bools, Bools, Bools]:
        """Which looks are won, find harm, find no hope ``[world, look]``."""
        plan, margin = self._plan, self._plan.test.margin
        boundary = np.array(plan.boundaries)
        reached = self._main.compared(effect - margin, np.greater_equal, boundary)
        won = reached & ~(self._skew < -plan.skewness_limit) & self._met(self._against, self._guards, effect, without)
        harm = (
            ~reached
            & self._main.compared(effect + margin, np.less_equal, -boundary)
            & ~(self._skew > plan.skewness_limit)
        )
        if plan.uneven:
            return np.zeros_like(won), np.zeros_like(won), np.zeros_like(won)
        futile = ~reached & ~harm & (self._hope(effect) < plan.test.futility)
        futile[:, -1] = False
        return won, harm, futile if "futility" not in without else np.zeros_like(futile)

    def _hope(self, effect: float) -> Floats:
        """Conditional power at each look ``[world, look]``; see :func:`.conditions.conditional_power`."""
        plan, day = self._plan, np.array(self._plan.looks, np.float64)
        margin, horizon = plan.test.margin, float(plan.looks[-1])
        deviation = self._main.error * np.sqrt(day)
        ahead = np.maximum(horizon - day, 1e-9)
        total = day * (self._main.mean + effect - margin) + ahead * (plan.test.plausible_effect - margin)
        short = plan.boundaries[-1] * deviation * math.sqrt(horizon) - total
        return special.ndtr(-short / (deviation * np.sqrt(ahead)))

    def _met(
        self,
        against: Mapping[str, _Series],
        guards: Mapping[str, _Series],
        effect: float,
        without: Collection[Condition],
    ) -> Bools:
        plan = self._plan
        needed = -float(special.ndtri(plan.test.guard_alpha))
        met = np.ones((), dtype=np.bool_)
        if "baselines" not in without:
            for series in against.values():
                met = met & series.compared(effect + plan.noninferiority_margin, np.greater_equal, needed)
        if "guards" not in without:
            for name, series in guards.items():
                met = met & series.compared(plan.guard_margins.get(name, 0.0), np.greater, -needed)
        return met

    @cached_property
    def _dependence(self) -> Floats:
        """Dependence of the days so far, against the champion ``[world, day]``; see :func:`.conditions.dependence`."""
        days, count = self._worlds.main, np.arange(1, self._worlds.main.shape[1] + 1)
        deviation = long_run.running_deviation(days)
        plain = np.cumsum(days**2, axis=1) - np.cumsum(days, axis=1) ** 2 / count
        variance = np.maximum(plain, 0) / np.maximum(count - 1, 1)
        ratio = np.divide(deviation**2, variance, out=np.ones_like(variance), where=variance > 0)
        return np.maximum(ratio, 1.0)

    def _sequence(self, effect: float, without: Collection[Condition]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First days on which the always-on sequence promotes, and rolls back ``[world]``."""
        plan, test = self._plan, self._plan.test
        days = np.clip(self._worlds.main + effect, -plan.bound, plan.bound)
        stakes = planned_stakes(test.plausible_effect - test.margin, plan.spread.deviation, plan.bound)
        limit = math.log(2 / plan.alpha_always)
        down = log_e_process(-days, test.margin, bound=plan.bound, stakes=stakes) >= limit
        worse = _first(down)
        if plan.autocorrelated or plan.lags:
            # With overlapping outcomes the sequence would need many times as much: it is left out of the figures.
            return np.full_like(worse, NEVER), worse
        up = log_e_process(days, test.margin, bound=plan.bound, stakes=stakes)
        wins = up >= limit
        wins &= up >= limit * self._dependence
        wins[:, -1] = False  # on the last day the look decides
        return self._first_met(wins, effect, without), worse

    def _first_met(self, wins: Bools, effect: float, without: Collection[Condition]) -> NDArray[np.int64]:
        """First day on which the sequence wins and the conditions are met ``[world]``."""
        found, open_days = np.full(len(wins), NEVER), wins.copy()
        while (worlds := np.flatnonzero(open_days.any(axis=1))).size:
            days = open_days[worlds].argmax(axis=1)
            against, guards = (
                {name: series.of(worlds, days) for name, series in group.items()} for group in self._running
            )
            met = self._met(against, guards, effect, without)
            met = np.broadcast_to(met, worlds.shape)
            found[worlds[met]] = days[met] + 1
            open_days[worlds[met]] = False
            open_days[worlds[~met], days[~met]] = False
        return found

    @cached_property
    def _running(self) -> tuple[dict[str, _Series], dict[str, _Series]]:
        """The series of the conditions after each day ``[world, day]``."""
        count = np.arange(1, self._worlds.main.shape[1] + 1)

        def of(days: Floats) -> _Series:
            error = long_run.running_deviation(days) / np.sqrt(count)
            return _Series(np.cumsum(days, axis=1) / count, error, np.maximum(count - 1, 1).astype(np.float64))

        against = {name: of(days) for name, days in self._worlds.against.items()}
        return against, {name: of(days) for name, days in self._worlds.guards.items()}


def _first(happens: Bools) -> NDArray[np.int64]:
    """First day, counted from 1, on which it happens ``[world]``."""
    return np.where(happens.any(axis=1), happens.argmax(axis=1) + 1, NEVER)
