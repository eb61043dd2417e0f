"""Everything that could take the champion's place, beside it on the same bars: challengers and shadows at once.

These figures describe. Only the registered plans decide: they share their error probabilities before the first look.
Here several arms are compared after the fact, so that p-values are adjusted (Holm 1979) and e-values go through e-BH
(Wang and Ramdas 2022).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.evaluation.skill import profit_of, trading_grid
from financial_assets.experiment.metrics.paired import KEYS, PairedDays, paired_days, rows_of, same_keys
from financial_assets.experiment.metrics.registry import EARLIER_METRICS
from financial_assets.experiment.statistics.asymptotic import asymptotic_interval, precision_for
from financial_assets.experiment.statistics.bernstein import average_interval
from financial_assets.experiment.statistics.capital import log_e_process
from financial_assets.experiment.statistics.multiplicity import e_bh, holm
from financial_assets.scoring.intervals import Interval, day_clustered_mean

ALWAYS_ALPHA = 0.01
"""Error probability of the intervals that hold on all days, and false discovery rate of e-BH."""

_PLANNED_DAYS = 252  # about which an asymptotic sequence is narrowest
_LOSSES = ("log_loss", "pinball")


@dataclass(frozen=True, slots=True)
class AlwaysValid:
    """A mean daily difference with an interval that may be looked at every day.

    Attributes
    ----------
    name
        ``average accuracy so far``, ``log loss``, ``pinball loss`` or ``net profit per day``; positive is better.
    mean, low, high
        In the score's unit; ``None`` before the sequence says anything.
    guarantee
        ``exact`` for bounded differences; ``asymptotic``: none for any finite number of days.
    """

    name: str
    mean: float
    low: float | None
    high: float | None
    guarantee: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """One arm against the champion, by accuracy first.

    Attributes
    ----------
    name, role
        Served name; ``challenger`` or ``shadow``.
    difference
        Mean daily difference in accuracy with its day-clustered interval of one look.
    brier
        The same for the Brier score; positive is better.
    p_value, holm
        Of no difference, two-sided, by Student's t of the days; and adjusted for the number of candidates.
    log_e
        Present log e-value of the bet that it is better, valid on every day.
    better
        Whether e-BH would call it better.
    further
        Other scores.
    """

    name: str
    role: str
    difference: Interval
    brier: Interval
    p_value: float
    holm: float
    log_e: float
    better: bool
    further: tuple[AlwaysValid, ...]


def candidates(
    rows: Mapping[str, pd.DataFrame],
    epoch: WeightEpoch,
    sessions: pd.DatetimeIndex,
    *,
    level: float,
    cost_bps: float,
) -> tuple[Candidate, ...]:
    """All challengers and shadows with two or more days in common with the champion, in the epoch's order.

    Parameters
    ----------
    rows
        Model -> due predictions after its data cut-off: ``session``, ``ticker``, ``probability_up``, quantiles, ``up``,
        ``log_return``, ``traded_return``.
    epoch
        The current weight epoch.
    sessions
        The calendar, for profits.
    level
        Confidence of the intervals of one look.
    cost_bps
        Costs per side in basis points.
    """
    champion = rows.get(epoch.champion.model)
    arms = [] if champion is None else [arm for arm in (*epoch.challengers, *epoch.shadows) if arm.model in rows]
    pairs = {arm.model: _same_bars(rows[arm.model], rows[epoch.champion.model]) for arm in arms}
    accuracy = {model: paired_days(*pair, EARLIER_METRICS["accuracy"]) for model, pair in pairs.items()}
    # An interval needs two days; a candidate without them is not counted among those that p-values are adjusted for.
    arms = [arm for arm in arms if len(accuracy[arm.model]) > 1]
    differences = {arm.model: accuracy[arm.model].differences for arm in arms}
    p_values = {model: _p_value(days) for model, days in differences.items()}
    adjusted = holm(p_values)
    log_e = {model: float(log_e_process(days)[-1]) for model, days in differences.items()}
    better = e_bh(log_e, ALWAYS_ALPHA) if log_e else ()
    return tuple(
        Candidate(
            name=arm.model,
            role=arm.role,
            difference=_one_look(accuracy[arm.model], level),
            brier=_one_look(paired_days(*pairs[arm.model], EARLIER_METRICS["brier"]), level),
            p_value=p_values[arm.model],
            holm=adjusted[arm.model],
            log_e=log_e[arm.model],
            better=arm.model in better,
            further=_further(pairs[arm.model], differences[arm.model], sessions, cost_bps),
        )
        for arm in arms
    )


def _same_bars(ours: pd.DataFrame, theirs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows that both have, in one order: aligned once, so that no score has to align them again."""
    ours = rows_of(ours, theirs)
    return ours, theirs if same_keys(ours, theirs) else ours[KEYS].merge(theirs, on=KEYS, validate="1:1")


def _one_look(days: PairedDays, level: float) -> Interval:
    return day_clustered_mean(days.differences, days.sessions.to_numpy(), level)


def _p_value(days: np.ndarray) -> float:
    """Two-sided, of a mean of 0; 1 without variation, which proves nothing."""
    spread = float(days.std(ddof=1))
    if not spread > 0:
        return 1.0
    t = abs(float(days.mean())) / (spread / math.sqrt(len(days)))
    return float(2 * special.stdtr(len(days) - 1, -t))


def _further(
    pair: tuple[pd.DataFrame, pd.DataFrame], accuracy: np.ndarray, sessions: pd.DatetimeIndex, cost_bps: float
) -> tuple[AlwaysValid, ...]:
    """The average so far, exactly, though it was not better on each day (the weak null: Choe and Ramdas 2024)."""
    low, high = average_interval(accuracy, ALWAYS_ALPHA)
    average = AlwaysValid("average accuracy so far", float(accuracy.mean()), low, high, "exact")
    scores = [EARLIER_METRICS[name] for name in _LOSSES]
    losses = [_asymptotic(metric.title, paired_days(*pair, metric).differences) for metric in scores]
    grid = trading_grid(pair[0], sessions)
    ours, theirs = (profit_of(rows, grid, cost_bps) for rows in pair)
    if ours is None or theirs is None:
        return average, *losses
    return average, *losses, _asymptotic("net profit per day", np.asarray(ours.daily) - np.asarray(theirs.daily))


def _asymptotic(name: str, days: np.ndarray) -> AlwaysValid:
    low, high = asymptotic_interval(days, ALWAYS_ALPHA, precision_for(_PLANNED_DAYS, ALWAYS_ALPHA))
    bounds = (low, high) if math.isfinite(low) else (None, None)  # no bound before the asymptotics may be trusted
    return AlwaysValid(name, float(days.mean()), *bounds, "asymptotic")
