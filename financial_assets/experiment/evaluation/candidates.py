"""Everything that could take the champion's place, beside it on the same bars: challengers and shadows at once.

These figures describe. Only the registered plans decide: they share their error probabilities before the first look.
Here several arms are compared after the fact, so that p-values are adjusted (Holm 1979) and e-values go through e-BH
(Wang and Ramdas 2022).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.evaluation.measures import Estimate
from financial_assets.experiment.evaluation.rows import KEYS, rows_of, same_keys
from financial_assets.experiment.evaluation.skill import estimate, profit_of, trading_grid
from financial_assets.experiment.paired_score import PairedMetric, answer_columns, paired_score
from financial_assets.experiment.statistics.asymptotic import AsymptoticSequence, precision_for
from financial_assets.experiment.statistics.bernstein import AverageSequence
from financial_assets.experiment.statistics.capital import log_e_process
from financial_assets.experiment.statistics.multiplicity import e_bh, holm
from financial_assets.scoring.intervals import day_clustered_mean

__all__ = ["ALWAYS_ALPHA", "AlwaysValid", "Candidate", "candidates"]

ALWAYS_ALPHA = 0.01
"""Error probability of the intervals that hold on all days, and false discovery rate of e-BH."""

_PLANNED_DAYS = 252  # about which an asymptotic sequence is narrowest
_LOSSES: tuple[PairedMetric, ...] = ("log_loss", "pinball")


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
    difference: Estimate
    brier: Estimate
    p_value: float
    holm: float
    log_e: float
    better: bool
    further: tuple[AlwaysValid, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    arm: Arm
    ours: pd.DataFrame
    theirs: pd.DataFrame

    def daily(self, metric: PairedMetric) -> pd.Series:
        """Mean difference of each session ``[session]``; larger is better."""
        columns, up = [*answer_columns(metric)], self.ours["up"].to_numpy(bool)
        outcome = up, self.ours["log_return"].to_numpy(np.float64)
        ours, theirs = (paired_score(metric, rows[columns], *outcome) for rows in (self.ours, self.theirs))
        return pd.Series(ours - theirs).groupby(self.ours["session"].to_numpy()).mean()


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
        Weight epoch in force.
    sessions
        The calendar, for profits.
    level
        Confidence of the intervals of one look.
    cost_bps
        Costs a side in basis points.
    """
    champion = rows.get(epoch.champion.model)
    arms = [arm for arm in (*epoch.challengers, *epoch.shadows) if arm.model in rows]
    pairs = [] if champion is None else [_pair(arm, rows[arm.model], champion) for arm in arms]
    known = [(pair, pair.daily("accuracy")) for pair in pairs if pair.ours["session"].nunique() > 1]
    p_values = {pair.arm.model: _p_value(days.to_numpy(np.float64)) for pair, days in known}
    adjusted = holm(p_values)
    log_e = {pair.arm.model: float(log_e_process(days.to_numpy(np.float64))[-1]) for pair, days in known}
    better = e_bh(log_e, ALWAYS_ALPHA) if log_e else ()
    return tuple(
        Candidate(
            name=pair.arm.model,
            role=pair.arm.role,
            difference=_one_look(days, level),
            brier=_one_look(pair.daily("brier"), level),
            p_value=p_values[pair.arm.model],
            holm=adjusted[pair.arm.model],
            log_e=log_e[pair.arm.model],
            better=pair.arm.model in better,
            further=(_average(days), *_losses(pair), *_profit(pair, sessions, cost_bps)),
        )
        for pair, days in known
    )


def _pair(arm: Arm, ours: pd.DataFrame, theirs: pd.DataFrame) -> _Pair:
    """The rows that both have, in one order."""
    mine = rows_of(ours, theirs)
    others = theirs if same_keys(mine, theirs) else mine[KEYS].merge(theirs, on=KEYS, validate="1:1")
    return _Pair(arm, mine, others)


def _one_look(days: pd.Series, level: float) -> Estimate:
    return estimate(day_clustered_mean(days.to_numpy(np.float64), days.index.to_numpy(), level))


def _p_value(days: np.ndarray) -> float:
    """Two-sided, of a mean of 0; 1 without variation, which is no evidence of anything."""
    spread = float(days.std(ddof=1))
    if not spread > 0:
        return 1.0
    t = abs(float(days.mean())) / (spread / math.sqrt(len(days)))
    return float(2 * special.stdtr(len(days) - 1, -t))


def _average(days: pd.Series) -> AlwaysValid:
    """Whether it was better on average so far, though not on each day: the weak null (Choe and Ramdas 2024)."""
    low, high = AverageSequence().extend(map(float, days)).interval(ALWAYS_ALPHA)
    return AlwaysValid("average accuracy so far", float(days.mean()), low, high, "exact")


def _losses(pair: _Pair) -> Sequence[AlwaysValid]:
    names = {"log_loss": "log loss", "pinball": "pinball loss"}
    return [_asymptotic(names[metric], pair.daily(metric).to_numpy(np.float64)) for metric in _LOSSES]


def _profit(pair: _Pair, sessions: pd.DatetimeIndex, cost_bps: float) -> Sequence[AlwaysValid]:
    grid = trading_grid(pair.ours, sessions)
    ours, theirs = (profit_of(rows, grid, cost_bps) for rows in (pair.ours, pair.theirs))
    if ours is None or theirs is None:
        return []
    return [_asymptotic("net profit per day", np.asarray(ours.daily) - np.asarray(theirs.daily))]


def _asymptotic(name: str, days: np.ndarray) -> AlwaysValid:
    sequence = AsymptoticSequence(precision_for(_PLANNED_DAYS, ALWAYS_ALPHA)).extend(map(float, days))
    low, high = sequence.interval(ALWAYS_ALPHA)
    known = math.isfinite(low)
    return AlwaysValid(name, float(days.mean()), low if known else None, high if known else None, sequence.label)
