"""The evidence of a test: one number per day, champion and challenger on the same bars, after both data cut-offs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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
from financial_assets.experiment.keyed_rows import places
from financial_assets.experiment.metrics.compensated import group_means
from financial_assets.experiment.metrics.metric import Metric
from financial_assets.experiment.metrics.paired import KEYS, PairedDays, paired_columns, same_keys
from financial_assets.experiment.plan.plan import ExperimentPlan

Columns = dict[str, NDArray[Any]]
"""Rows of a table as its columns, by name: ``session``, ``ticker`` and what else they say."""


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
    return assemble(plan, days)


@dataclass(frozen=True, slots=True, eq=False)
class EvidenceDays:
    """The evidence by session.

    Attributes
    ----------
    sessions
        datetime64, rising ``[session]``.
    figures
        For each series, by its name, the mean difference (NaN where there is none), ``<name>/rows`` and
        ``<name>/unequal``; ``due`` and ``both``, predictions that should exist, and those that do: each ``[session]``,
        in the order of :func:`figure_names`.
    by_ticker
        See :class:`Evidence`.
    """

    sessions: NDArray[np.datetime64]
    figures: Mapping[str, NDArray[Any]]
    by_ticker: pd.DataFrame = field(default_factory=pd.DataFrame)


class SharedSeries:
    """Differences between the arms of one pair on the same rows, by metric: several plans of it ask for the same.

    The rows have the columns that any of these plans needs.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[Metric, Columns]] = []
        self._arms: tuple[Columns, Columns] | None = None

    def arms(self, compute: Callable[[], tuple[Columns, Columns]]) -> tuple[Columns, Columns]:
        """Challenger's and champion's rows with their outcomes, as they were made before or are now."""
        self._arms = self._arms or compute()
        return self._arms

    def of(self, metric: Metric, compute: Callable[[], Columns]) -> Columns:
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


def counts_of(plan: ExperimentPlan) -> tuple[str, ...]:
    """The counts of a plan's evidence beside those of its series, by the names that tables have them under."""
    return ("due", "both") if plan.rule == 1 else ("due", "both", "inside", "ranged")


def figure_names(plan: ExperimentPlan) -> tuple[str, ...]:
    """All figures of a session, in the order of :class:`EvidenceDays`."""
    series = (one.name for one in series_of(plan))
    return (*(f"{name}{what}" for name in series for what in ("", "/rows", "/unequal")), *counts_of(plan))


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
    settled = _columns(outcomes, map(str, outcomes.columns))
    is_later = settled["session"] > np.datetime64(pd.Timestamp(plan.starts_after))
    settled = settled if is_later.all() else {name: values[is_later] for name, values in settled.items()}
    if shared is None:
        answers = (*KEYS, "model", "status", *prediction_columns(plan))
        needed = (*KEYS, *outcome_columns(plan))
        challenger, champion = _arms(plan, _columns(pair, answers), {name: settled[name] for name in needed})
    else:
        challenger, champion = shared.arms(lambda: _arms(plan, _columns(pair, map(str, pair.columns)), settled))
    asked_for = _Sessions(None if only is None else pd.DatetimeIndex(list(only)).to_numpy(), settled["session"])
    figures, by_ticker, rivals = dict[str, NDArray[Any]](), pd.DataFrame(), _Rivals(baselines)
    for series in series_of(plan):
        if series.baseline:
            rival = rivals.of(series, any_due=len(settled["session"]) > 0)
            rows = paired_columns(challenger, rival, series.metric)
        elif shared is None:
            rows = paired_columns(challenger, champion, series.metric)
        else:
            rows = shared.of(series.metric, partial(paired_columns, challenger, champion, series.metric))
        if series.name == MAIN and only is None:
            by_ticker = pd.DataFrame(rows)
        figures |= _figures(series.name, rows, asked_for)
    # Rows that should exist: every session with an outcome from the first one on which the ticker was requested.
    # Counted from the outcomes, not from the log: a session on which neither arm was asked is missing too.
    never = np.datetime64("NaT")
    ticker = settled["ticker"]
    # Outcomes come ticker by ticker: each is looked up once per run of its rows.
    runs = np.flatnonzero(np.concatenate([np.ones(min(len(ticker), 1), bool), ticker[1:] != ticker[:-1]]))
    begins = np.array([begun.get(one, never) for one in ticker[runs]], dtype="datetime64[ns]")
    first = np.repeat(begins, np.diff(runs, append=len(ticker)))
    figures["due"] = asked_for.count(settled, settled["session"] >= first)
    both = None if same_keys(challenger, champion) else places(challenger, champion) >= 0
    figures["both"] = asked_for.count(challenger, both)
    if plan.rule > 1:
        low, high, outcome = (challenger[name].astype(np.float64) for name in (*RANGE, "log_return"))
        figures["inside"] = asked_for.count(challenger, (low <= outcome) & (outcome <= high))
        figures["ranged"] = asked_for.count(challenger, ~(np.isnan(low) | np.isnan(high)))
    return EvidenceDays(asked_for.days, figures, by_ticker)


def _columns(frame: pd.DataFrame, names: Iterable[str]) -> Columns:
    return {name: frame[name].to_numpy() for name in names}


def _arms(plan: ExperimentPlan, pair: Columns, outcomes: Columns) -> tuple[Columns, Columns]:
    """Answers of challenger and champion with what became of them."""
    answered, settled = pair["status"] == "ok", [name for name in outcomes if name not in KEYS]
    found = list[Columns]()
    for model in (plan.challenger, plan.champion):
        asked = pair["model"] == model
        _refuse_repeats({name: pair[name][asked] for name in KEYS}, model, "paired predictions")
        rows = {name: values[asked & answered] for name, values in pair.items()}
        place = places(rows, outcomes)
        known = place >= 0
        rows = rows if known.all() else {name: values[known] for name, values in rows.items()}
        found.append(rows | {name: outcomes[name][place[known]] for name in settled})
    challenger, champion = found
    return challenger, champion


class _Sessions:
    """The sessions that evidence is asked for, and where rows lie among them.

    Parameters
    ----------
    only
        Sessions, datetime64; ``None``: all.
    settled
        Sessions of the outcomes ``[outcome]``. Sessions without one have no evidence.
    """

    def __init__(self, only: np.ndarray | None, settled: NDArray[np.datetime64]) -> None:
        known = np.unique(settled)
        self.days = known if only is None else known[np.isin(known, only)]
        self._is_all = len(self.days) == len(known)

    def rows(self, rows: Columns) -> Columns:
        """Those of these sessions, among rows of sessions with an outcome."""
        if self._is_all:
            return rows
        inside = np.isin(rows["session"], self.days)
        return {name: values[inside] for name, values in rows.items()}

    def count(self, rows: Columns, which: NDArray[np.bool_] | None = None) -> NDArray[np.intp]:
        """How many of the rows, or of ``which`` of them, lie in each ``[session]``."""
        place = self.places(rows)
        place = place if which is None else place[which]
        return np.bincount(place[place >= 0], minlength=len(self.days))

    def places(self, rows: Columns) -> NDArray[np.intp]:
        """The session of each row, as its place in ``days``; -1 where it is none of these."""
        session = rows["session"]
        place = np.searchsorted(self.days, session)
        is_one = place < len(self.days)
        is_one[is_one] = self.days[place[is_one]] == session[is_one]
        return np.where(is_one, place, -1)


def _figures(name: str, rows: Columns, sessions: _Sessions) -> dict[str, NDArray[Any]]:
    """What a series says of each session: its mean difference, its rows, and those on which the scores differ."""
    place, count = sessions.places(rows), len(sessions.days)
    difference, place = rows["difference"][place >= 0], place[place >= 0]
    return {
        name: group_means(difference, place, count),
        f"{name}/rows": np.bincount(place, minlength=count),
        f"{name}/unequal": np.bincount(place[difference != 0], minlength=count),
    }


def assemble(plan: ExperimentPlan, table: EvidenceDays) -> Evidence:
    """The evidence of some sessions, in order."""
    sessions = pd.DatetimeIndex(table.sessions)
    found = {series.name: _series(sessions, table.figures, series.name) for series in series_of(plan)}
    accuracy = found.get(ACCURACY, found[MAIN])
    guards = {name: accuracy if name == ACCURACY else found[f"guard {name}"] for name in guards_of(plan)}
    counts = {name: int(table.figures[name].sum()) for name in counts_of(plan)}
    days = [found[MAIN], accuracy, *(days for name, days in found.items() if name not in (MAIN, ACCURACY))]
    return Evidence(
        main=found[MAIN],
        accuracy=accuracy,
        against={name: found[f"against {name}"] for name in plan.must_beat},
        due=counts["due"],
        missing=counts["due"] - counts["both"],
        digest=_digest(days),
        by_ticker=table.by_ticker,
        guards=guards,
        inside=counts.get("inside", 0),
        ranged=counts.get("ranged", 0),
    )


def _series(sessions: pd.DatetimeIndex, figures: Mapping[str, NDArray[Any]], name: str) -> PairedDays:
    daily = np.asarray(figures[name], np.float64)
    has = ~np.isnan(daily)
    rows, unequal = (int(figures[f"{name}/{what}"][has].sum()) for what in ("rows", "unequal"))
    return PairedDays(sessions if has.all() else sessions[has], daily[has], rows, unequal)


class _Rivals:
    """Predictions of the baselines, taken apart by baseline."""

    def __init__(self, baselines: pd.DataFrame) -> None:
        self._columns = _columns(baselines, map(str, baselines.columns))
        self._model = self._columns["model"].astype(object)

    def of(self, series: Series, *, any_due: bool) -> Columns:
        """Those that a series compares with; a baseline is missed only if ``any_due`` outcome is known."""
        name, answers = series.baseline, series.metric.answers
        mine = np.flatnonzero(self._model == name)
        lacking = [column for column in answers if column not in self._columns]
        if (not len(mine) or lacking) and any_due:
            raise ExperimentError(
                f"the plan wants the challenger to beat {name!r}, but there are no predictions of it: materialize the "
                "asset `reference_models`"
            )
        rows = {"session": self._columns["date"][mine], "ticker": self._columns["ticker"][mine].astype(object)}
        _refuse_repeats(rows, name, "baseline predictions")
        nothing = np.full(len(mine), np.nan)
        return rows | {answer: nothing if answer in lacking else self._columns[answer][mine] for answer in answers}


def _refuse_repeats(rows: Columns, model: str, what: str) -> None:
    sessions, tickers = rows["session"], rows["ticker"]
    # Most come in order, where a repeated key stands beside itself.
    is_later = (sessions[1:] > sessions[:-1]) | ((sessions[1:] == sessions[:-1]) & (tickers[1:] > tickers[:-1]))
    if is_later.all():
        return
    repeated = pd.DataFrame({"session": sessions, "ticker": tickers}).duplicated().to_numpy()
    if repeated.any():
        first = int(np.flatnonzero(repeated)[0])
        day = pd.Timestamp(sessions[first])
        raise ExperimentError(f"{what} hold {model}, {tickers[first]}, {day:%Y-%m-%d} more than once")


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
