"""The evidence of a test: one number per day, champion and challenger on the same bars, after both data cut-offs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd

from financial_assets.errors import ExperimentError
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.decision.series import (
    ACCURACY,
    MAIN,
    RANGE,
    Series,
    guards_of,
    outcome_columns,
    prediction_columns,
    series_of,
)
from financial_assets.experiment.metrics.metric import Metric
from financial_assets.experiment.metrics.paired import KEYS, PairedDays, paired_differences, rows_of
from financial_assets.experiment.outcomes import join_outcomes
from financial_assets.experiment.plan.plan import ExperimentPlan


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Everything that a decision takes from log and prices.

    Attributes
    ----------
    main
        Challenger against champion, by the plan's metric.
    accuracy
        The same by accuracy: a better score with fewer right directions is no improvement.
    against
        Challenger against each baseline of the plan, by the plan's metric; of plans of the first rule by accuracy.
    due, missing
        Predictions that should exist of the pair since the plan's start, and how many of them do not.
    digest
        SHA-256 of all of it.
    by_ticker
        What the days of ``main`` are means of: ``session``, ``ticker``, ``difference``.
    guards
        Challenger minus champion by what it must not be shown to be worse in, larger is better: ``accuracy`` unless it
        is the metric, ``profit`` (net return per session of the same simple book), ``tail`` (joint loss of value at
        risk and expected shortfall at 5 %, unless it is the metric). None of plans of the first rule.
    inside, ranged
        The challenger's answers whose outcome lay between its 5 % and 95 % quantiles, and all that have both.
    """

    main: PairedDays
    accuracy: PairedDays
    against: Mapping[str, PairedDays]
    due: int
    missing: int
    digest: str
    by_ticker: pd.DataFrame = field(default_factory=pd.DataFrame)
    guards: Mapping[str, PairedDays] = field(default_factory=dict)
    inside: int = 0
    ranged: int = 0

    @property
    def coverage(self) -> float | None:
        """Share of the outcomes that lay in the challenger's 90 % range; ``None`` without one."""
        return self.inside / self.ranged if self.ranged else None

    @property
    def missing_share(self) -> float:
        """Share of the due predictions that are missing; 0 before any is due."""
        return self.missing / self.due if self.due else 0.0


def gather(plan: ExperimentPlan, direct: pd.DataFrame, baselines: pd.DataFrame, outcomes: pd.DataFrame) -> Evidence:
    """The evidence of a plan.

    Parameters
    ----------
    plan
        Which pair, since when, by which metric.
    direct
        The log's paired predictions: ``session``, ``ticker``, ``model``, ``status``, and the columns of
        :func:`.series.prediction_columns`.
    baselines
        Daily predictions of the baselines: ``date``, ``ticker``, ``model``, and the answers of what they are compared
        by.
    outcomes
        What is known as of the decision (:func:`~financial_assets.experiment.outcomes.outcome_frame`), scaled if
        :func:`.series.needs_scaled_outcomes` says so.

    Raises
    ------
    ExperimentError
        A prediction occurs twice, or a baseline of the plan is not among ``baselines``.
    """
    pair = direct[direct["model"].isin((plan.champion, plan.challenger)) & (direct["status"] != "pending")]
    days = tabulate(plan, pair, baselines, outcomes, first_sessions(pair))
    return assemble(plan, days.table, days.by_ticker)


@dataclass(frozen=True, slots=True, eq=False)
class EvidenceDays:
    """The evidence by session.

    Attributes
    ----------
    table
        Index session; for each series, by its name, the mean difference (NaN where there is none), ``<name>/rows`` and
        ``<name>/unequal``; ``due`` and ``both``, predictions that should exist, and those that do.
    by_ticker
        See :class:`Evidence`.
    """

    table: pd.DataFrame
    by_ticker: pd.DataFrame


class SharedSeries:
    """Differences between the arms of one pair on the same rows, by metric: several plans of it ask for the same.

    The rows have the columns that any of these plans needs.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[Metric, pd.DataFrame]] = []
        self._arms: tuple[pd.DataFrame, pd.DataFrame] | None = None

    def arms(self, compute: Callable[[], tuple[pd.DataFrame, pd.DataFrame]]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Challenger's and champion's rows with their outcomes, as they were made before or are now."""
        self._arms = self._arms or compute()
        return self._arms

    def of(self, metric: Metric, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """What was computed by this metric before, or is now."""
        # By identity: two metrics of one name may mean different things (``registry.EARLIER_METRICS``).
        found = next((rows for known, rows in self._rows if known is metric), None)
        if found is None:
            found = compute()
            self._rows.append((metric, found))
        return found


def first_sessions(pair: pd.DataFrame) -> dict[str, pd.Timestamp]:
    """Ticker -> the first session on which it was requested of one of the pair, and answered or not."""
    first = pair.groupby("ticker", sort=False)["session"].min()
    return dict(zip(map(str, first.index), pd.DatetimeIndex(first), strict=True))


def series_names(plan: ExperimentPlan) -> tuple[str, ...]:
    """The series of a plan's evidence, by the names that tables have them under."""
    return tuple(series.name for series in series_of(plan))


def counts_of(plan: ExperimentPlan) -> tuple[str, ...]:
    """The counts of a plan's evidence beside those of its series, by the names that tables have them under."""
    return ("due", "both") if plan.rule == 1 else ("due", "both", "inside", "ranged")


def tabulate(
    plan: ExperimentPlan,
    pair: pd.DataFrame,
    baselines: pd.DataFrame,
    outcomes: pd.DataFrame,
    begun: Mapping[str, pd.Timestamp],
    only: Collection[pd.Timestamp] | None = None,
    shared: SharedSeries | None = None,
) -> EvidenceDays:
    """The evidence of a plan by session; that of one session depends on its own rows only, and on ``begun``.

    Parameters
    ----------
    plan, baselines, outcomes
        See :func:`gather`; of all sessions, or of some.
    pair
        Paired predictions of champion and challenger of the same sessions, none of them pending.
    begun
        See :func:`first_sessions`.
    only
        Sessions whose evidence is asked for; the others are there because it depends on their rows
        (:func:`.series.looks_back`). Default: all.
    shared
        Differences from the champion that another plan of the same pair has had computed from the same rows.
    """
    outcomes = outcomes[outcomes["session"] > pd.Timestamp(plan.starts_after)]
    if shared is None:
        answers = [*KEYS, "model", "status", *prediction_columns(plan)]
        challenger, champion = _arms(plan, pair[answers], outcomes[[*KEYS, *outcome_columns(plan)]])
    else:
        challenger, champion = shared.arms(partial(_arms, plan, pair, outcomes))
    asked_for = _Sessions(None if only is None else pd.DatetimeIndex(list(only)).to_numpy(), outcomes)
    figures, by_ticker = dict[str, np.ndarray](), pd.DataFrame()
    for series in series_of(plan):
        if series.baseline:
            rows = paired_differences(challenger, _baseline(baselines, series, outcomes), series.metric)
        elif shared is None:
            rows = paired_differences(challenger, champion, series.metric)
        else:
            rows = shared.of(series.metric, partial(paired_differences, challenger, champion, series.metric))
        by_ticker = asked_for.rows(rows) if series.name == MAIN else by_ticker
        figures |= _figures(series.name, rows, asked_for)
    # Rows that should exist: every session with an outcome from the first one on which the ticker was requested.
    # Counted from the outcomes, not from the log: a session on which neither arm was asked is missing too.
    first = outcomes["ticker"].map(begun).astype("datetime64[ns]").to_numpy()
    figures["due"] = asked_for.count(outcomes, outcomes["session"].to_numpy() >= first)
    figures["both"] = asked_for.count(rows_of(challenger, champion))
    if plan.rule > 1:
        low, high, outcome = (challenger[name].to_numpy(np.float64) for name in (*RANGE, "log_return"))
        figures["ranged"] = asked_for.count(challenger, ~(np.isnan(low) | np.isnan(high)))
        figures["inside"] = asked_for.count(challenger, (low <= outcome) & (outcome <= high))
    return EvidenceDays(pd.DataFrame(figures, index=pd.DatetimeIndex(asked_for.days), copy=False), by_ticker)


def _arms(plan: ExperimentPlan, pair: pd.DataFrame, outcomes: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Answers of challenger and champion with what became of them."""
    _refuse_repeats(pair, "paired predictions")
    answered, model = pair["status"].to_numpy() == "ok", pair["model"].to_numpy()
    challenger, champion = (
        join_outcomes(pair[answered & (model == name)], outcomes) for name in (plan.challenger, plan.champion)
    )
    return challenger, champion


class _Sessions:
    """The sessions that evidence is asked for, and where rows lie among them.

    Parameters
    ----------
    only
        Sessions, datetime64; ``None``: all.
    outcomes
        What is known. Sessions without an outcome have no evidence.
    """

    def __init__(self, only: np.ndarray | None, outcomes: pd.DataFrame) -> None:
        known = np.unique(outcomes["session"].to_numpy())
        self.days = known if only is None else known[np.isin(known, only)]
        self._is_all = len(self.days) == len(known)

    def rows(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Those of these sessions, among rows of sessions with an outcome."""
        return rows if self._is_all else rows[np.isin(rows["session"].to_numpy(), self.days)]

    def count(self, rows: pd.DataFrame, which: np.ndarray | None = None) -> np.ndarray:
        """How many of the rows, or of ``which`` of them, lie in each ``[session]``."""
        place = self.places(rows)
        place = place if which is None else place[which]
        return np.bincount(place[place >= 0], minlength=len(self.days))

    def places(self, rows: pd.DataFrame) -> np.ndarray:
        """The session of each row, as its place in ``days``; -1 where it is none of these."""
        session = rows["session"].to_numpy()
        place = np.searchsorted(self.days, session)
        is_one = place < len(self.days)
        is_one[is_one] = self.days[place[is_one]] == session[is_one]
        return np.where(is_one, place, -1)


def _figures(name: str, rows: pd.DataFrame, sessions: _Sessions) -> dict[str, np.ndarray]:
    """What a series says of each session: its mean difference, its rows, and those on which the scores differ."""
    place, means = sessions.places(rows), np.full(len(sessions.days), np.nan)
    difference, place = rows["difference"].to_numpy()[place >= 0], place[place >= 0]
    # pandas' mean compensates for rounding, which a sum of NumPy's does not: recorded decisions rest on its bits.
    daily = pd.Series(difference).groupby(place, sort=True).mean()
    means[daily.index.to_numpy(np.int64)] = daily.to_numpy()
    counts = {"rows": place, "unequal": place[difference != 0]}
    return {name: means} | {
        f"{name}/{what}": np.bincount(of, minlength=len(sessions.days)) for what, of in counts.items()
    }


def assemble(plan: ExperimentPlan, table: pd.DataFrame, by_ticker: pd.DataFrame | None = None) -> Evidence:
    """The evidence of the sessions of a table (:class:`EvidenceDays`), in order."""
    found = {name: _series(table, name) for name in series_names(plan)}
    accuracy = found.get(ACCURACY, found[MAIN])
    guards = {name: accuracy if name == ACCURACY else found[f"guard {name}"] for name in guards_of(plan)}
    counts = {name: int(table[name].sum()) for name in counts_of(plan)}
    days = [found[MAIN], accuracy, *(days for name, days in found.items() if name not in (MAIN, ACCURACY))]
    return Evidence(
        main=found[MAIN],
        accuracy=accuracy,
        against={name: found[f"against {name}"] for name in plan.must_beat},
        due=counts["due"],
        missing=counts["due"] - counts["both"],
        digest=_digest(days),
        by_ticker=pd.DataFrame() if by_ticker is None else by_ticker,
        guards=guards,
        inside=counts.get("inside", 0),
        ranged=counts.get("ranged", 0),
    )


def _series(table: pd.DataFrame, name: str) -> PairedDays:
    daily = table[name].to_numpy(np.float64)
    has = ~np.isnan(daily)
    rows, unequal = (int(table[f"{name}/{what}"].to_numpy()[has].sum()) for what in ("rows", "unequal"))
    sessions = pd.DatetimeIndex(table.index)
    return PairedDays(sessions if has.all() else sessions[has], daily[has], rows, unequal)


def _baseline(baselines: pd.DataFrame, series: Series, outcomes: pd.DataFrame) -> pd.DataFrame:
    rows, name = baselines[baselines["model"] == series.baseline], series.baseline
    lacking = [column for column in series.metric.answers if column not in rows]
    if (rows.empty or lacking) and len(outcomes):
        raise ExperimentError(
            f"the plan wants the challenger to beat {name!r}, but there are no predictions of it: materialize the "
            "asset `baselines`"
        )
    answers = list(series.metric.answers)
    columns = {"session": "date", "ticker": "ticker", "model": "model", **{answer: answer for answer in answers}}
    rows = pd.DataFrame({new: rows[old].to_numpy() if old in rows else np.nan for new, old in columns.items()})
    _refuse_repeats(rows, "baseline predictions")
    return rows


def _refuse_repeats(rows: pd.DataFrame, what: str) -> None:
    repeated = rows.duplicated([*KEYS, "model"])
    if repeated.any():
        first = rows[repeated].iloc[0]
        raise ExperimentError(
            f"{what} hold {first['model']}, {first['ticker']}, {first['session']:%Y-%m-%d} more than once"
        )


def _digest(series: list[PairedDays]) -> str:
    digest = hashlib.sha256()
    # Days and doubles in a fixed byte order: a repeated decision must agree to the last bit on any machine.
    for days in series:
        digest.update(np.asarray(days.sessions, dtype="datetime64[D]").astype("<i8").tobytes())
        digest.update(days.differences.astype("<f8").tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """One challenger's decision with what it was taken on: nothing has to be gathered again to show it."""

    decision: Decision
    plan: ExperimentPlan
    evidence: Evidence


def leading_decision(decisions: Sequence[Decision]) -> Decision | None:
    """The decision that a report is about first: one that changes the traffic before one that holds.

    Answers to questions that move no traffic never lead.
    """
    decisions = [decision for decision in decisions if decision.moves_traffic]
    order = {"promote": 0, "rollback": 1, "hold": 2}
    return min(decisions, key=lambda decision: (order[decision.action], -(decision.estimate or 0.0)), default=None)
