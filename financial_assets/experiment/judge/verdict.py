"""The verdict on a prefix of units: promote, rollback or hold, valid at whichever prefix somebody looks.

The statistics are the experiment's own: the betting sequence of :mod:`..statistics.betting` on the units' differences,
with half of the plan's error probability on each side. As in the rule of the experiment, dependence between units
raises what is asked of the sequence by as much as it inflates the variance (:mod:`..statistics.long_run`), and a split
of requests that is not the registered one decides nothing (:mod:`..statistics.srm_sequential`).

What was reached on some prefix is kept: the verdict is that of the first prefix that decides. Ville's inequality bounds
the probability that any prefix ever does so wrongly, so that polls may come at any time and stop at any time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from financial_assets.experiment.judge.plan import JudgePlan
from financial_assets.experiment.judge.units import Units
from financial_assets.experiment.judge.words import reason_of
from financial_assets.experiment.statistics.betting import BettingSequence
from financial_assets.experiment.statistics.capital import margin_grid
from financial_assets.experiment.statistics.long_run import running_deviation
from financial_assets.experiment.statistics.srm_sequential import SequentialSrm

Verdict = Literal["promote", "rollback", "hold"]
Cause = Literal["shown", "split", "horizon", "open"]

SRM_ALPHA = 0.001
"""Of the test of the split, as in the experiment's own tests."""
_AT_ONCE = 256
_STILL = 1e-12
_NEAREST, _FARTHEST, _APART = 0.0005, 0.4, 1.25
"""Margins of requests, in bounds: many units are played against few margins, which lie closer together near zero."""


@dataclass(frozen=True)
class Evidence:
    """What speaks for one of the two claims.

    Attributes
    ----------
    e_value
        Present capital of who bet on it; at most 1 is expected were it wrong.
    p_value
        Anytime-valid: the smallest over all prefixes, after the dependence of units.
    """

    e_value: float
    p_value: float


@dataclass(frozen=True)
class Judgement:
    """What is known after some units.

    Attributes
    ----------
    verdict, reason
        In one word and in one sentence.
    final
        Whether no later unit can change it.
    decided_by
        Label of the unit that decided.
    estimate, low, high, level
        Mean difference of the units so far, positive if the candidate is better, and its confidence sequence.
    better, worse
        Evidence that the candidate is better than the plan's ``least_gain``, worse than its ``tolerated_loss``.
    dependence
        Variance of the mean of units over that of independent ones.
    units, control, candidate, clipped, left_out
        Sample sizes, see :class:`.units.Units`.
    split_p_value
        Of the test of the split; ``None`` where the plan registers none.
    last_unit
        Label of the last unit; ``None`` without any.
    """

    verdict: Verdict
    reason: str
    final: bool
    decided_by: str | None
    estimate: float | None
    low: float
    high: float
    level: float
    better: Evidence
    worse: Evidence
    dependence: float
    units: int
    control: int
    candidate: int
    clipped: int
    left_out: int
    split_p_value: float | None
    last_unit: str | None


@dataclass(frozen=True, eq=False)
class _Path:
    """Evidence after each unit that was played, in units of what is asked for, and what is refuted at the end."""

    better: NDArray[np.float64]
    worse: NDArray[np.float64]
    low: float
    high: float
    last_up: float
    last_down: float


def judge(plan: JudgePlan, units: Units) -> Judgement:
    """The verdict on these units; the unit that decides is the last one that is looked at, however many follow."""
    inflation = running_dependence(units.differences)
    split = _split_p_values(plan, units)
    broken = np.flatnonzero(split <= SRM_ALPHA) if split is not None else np.empty(0, np.int64)
    end = len(units.differences) if plan.horizon is None else min(plan.horizon, len(units.differences))
    # A wrong split is found before what it may have made: a unit that shows both shows nothing.
    before_broken = min(end, int(broken[0])) if broken.size else end
    path, decided = _play(plan, units.differences[:before_broken], inflation)
    verdict, cause, used = _decision(plan, path, decided=decided, end=end, before_broken=before_broken)
    days = units.differences[:used]
    found = Judgement(
        verdict=verdict,
        reason="",
        final=cause != "open",
        decided_by=None if cause == "open" else units.labels[used - 1],
        estimate=float(days.mean()) if used else None,
        low=path.low,
        high=path.high,
        level=1 - plan.alpha,
        better=Evidence(_capital(path.last_up), _p_value(path.better)),
        worse=Evidence(_capital(path.last_down), _p_value(path.worse)),
        dependence=float(inflation[used - 1]) if used else 1.0,
        units=used,
        control=units.control,
        candidate=units.candidate,
        clipped=units.clipped,
        left_out=units.left_out,
        split_p_value=None if split is None else float(split[used - 1]) if used else 1.0,
        last_unit=units.labels[used - 1] if used else None,
    )
    return replace(found, reason=reason_of(plan, found, cause))


def judge_nothing(plan: JudgePlan) -> Judgement:
    """The verdict before the first unit."""
    nothing: NDArray[np.float64] = np.empty(0)
    requests = np.empty((0, 2), np.int64) if plan.control_share is not None else None
    return judge(plan, Units(nothing, (), clipped=0, control=0, candidate=0, requests=requests))


def _decision(
    plan: JudgePlan, path: _Path, *, decided: bool, end: int, before_broken: int
) -> tuple[Verdict, Cause, int]:
    """Verdict, what it is due to, and the units that it took."""
    played = len(path.better)
    if decided:
        return "promote" if path.better[-1] >= path.worse[-1] else "rollback", "shown", played
    if before_broken < end:
        return "hold", "split", before_broken + 1
    return "hold", "horizon" if plan.horizon == end else "open", played


def running_dependence(days: NDArray[np.float64]) -> NDArray[np.float64]:
    """Long-run variance of the units so far over that of independent ones, at least 1, after each ``[..., unit]``."""
    count = np.arange(1, days.shape[-1] + 1, dtype=np.float64)
    total, square = np.cumsum(days, axis=-1), np.cumsum(days**2, axis=-1)
    variance = np.maximum(square - total**2 / count, 0.0) / np.maximum(count - 1, 1)
    moves = variance > _STILL * np.maximum(square / count, np.finfo(np.float64).tiny)
    ratio = np.divide(running_deviation(days) ** 2, variance, out=np.ones_like(variance), where=moves)
    return np.maximum(ratio, 1.0)


def _play(plan: JudgePlan, days: NDArray[np.float64], inflation: NDArray[np.float64]) -> tuple[_Path, bool]:
    """The sequence on these units up to the first that decides, and whether one does."""
    asked, limit = (plan.least_gain, -plan.tolerated_loss), math.log(2 / plan.alpha)
    state = BettingSequence.start(np.union1d(_margins(plan), asked), bound=plan.bound, stakes=plan.stakes)
    low, high = -plan.bound, plan.bound
    better, worse = (np.empty(len(days)) for _ in range(2))
    begin, decided = 0, False
    while begin < len(days) and not decided:
        chunk = slice(begin, min(begin + _AT_ONCE, len(days)))
        following, above, below = state.follow(days[chunk].tolist())
        above, below = (_log(wealth) / inflation[chunk, None] for wealth in (above, below))
        up_at, down_at = (int(np.searchsorted(state.margins, margin)) for margin in asked)
        enough = np.arange(chunk.start, chunk.stop) >= plan.least_units - 1
        decisive = np.flatnonzero(np.maximum(above[:, up_at], below[:, down_at])[enough] >= limit)
        count = chunk.stop - chunk.start
        if decisive.size:
            decided, count = True, int(np.flatnonzero(enough)[decisive[0]]) + 1
            following = state.follow(days[begin : begin + count].tolist())[0]
        better[begin : begin + count], worse[begin : begin + count] = above[:count, up_at], below[:count, down_at]
        refuted_up = np.flatnonzero(above[:count].max(axis=0) >= limit)
        refuted_down = np.flatnonzero(below[:count].max(axis=0) >= limit)
        low = max(low, float(state.margins[refuted_up[-1]])) if refuted_up.size else low
        high = min(high, float(state.margins[refuted_down[0]])) if refuted_down.size else high
        state, begin = _nearby(following, low, high, asked), begin + count
    up_at, down_at = (int(np.searchsorted(state.margins, margin)) for margin in asked)
    last_up, last_down = (float(_log(part.mean())) for part in (state.up[:, up_at], state.down[:, down_at]))
    return _Path(better[:begin], worse[:begin], low, high, last_up, last_down), decided


def _nearby(state: BettingSequence, low: float, high: float, asked: tuple[float, float]) -> BettingSequence:
    """Without margins that are refuted already: their capital only grows, at last beyond what a double can hold."""
    kept = ((state.margins > low) & (state.margins < high)) | np.isin(state.margins, asked)
    return replace(
        state,
        margins=state.margins[kept],
        up=state.up[:, kept],
        down=state.down[:, kept],
        peak_up=state.peak_up[kept],
        peak_down=state.peak_down[kept],
    )


def _margins(plan: JudgePlan) -> NDArray[np.float64]:
    if plan.unit == "day":
        return margin_grid(plan.bound / 500, plan.bound / 5, plan.bound)
    if plan.unit == "incident":
        return margin_grid(plan.bound / 100, 0.6 * plan.bound, plan.bound)
    count = math.ceil(math.log(_FARTHEST / _NEAREST) / math.log(_APART))
    side = plan.bound * _NEAREST * _APART ** np.arange(count)
    return np.concatenate([-side[::-1], [0.0], side])


def _split_p_values(plan: JudgePlan, units: Units) -> NDArray[np.float64] | None:
    """Anytime-valid p-values of the registered split, looked at after each unit."""
    if plan.control_share is None or units.requests is None:
        return None
    share = round(1_000_000 * plan.control_share)
    weights = {"control": share, "candidate": 1_000_000 - share}
    test, found = SequentialSrm(), []
    before = np.zeros(2, np.int64)
    for seen in units.requests:
        control, candidate = (seen - before).tolist()
        test.update({"requests": (weights, {"control": control, "candidate": candidate})})
        found.append(test.p_value)
        before = seen
    return np.array(found, np.float64)


def _log(wealth: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    """Of a capital that may have been lost down to the last bit."""
    return np.log(np.maximum(wealth, np.finfo(np.float64).tiny))


def _capital(log_e: float) -> float:
    return math.exp(min(log_e, 600.0))


def _p_value(path: NDArray[np.float64]) -> float:
    return math.exp(-max(0.0, float(path.max(initial=0.0))))
