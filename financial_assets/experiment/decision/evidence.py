"""The evidence of a test: one number per day, champion and challenger on the same bars, after both data cut-offs."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

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
from financial_assets.experiment.metrics.paired import KEYS, PairedDays, paired_differences, rows_of
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
    """
    columns = list(outcome_columns(plan))
    outcomes = outcomes.loc[outcomes["session"] > pd.Timestamp(plan.starts_after), [*KEYS, *columns]]
    _refuse_repeats(pair, "paired predictions")
    answered = pair[pair["status"] == "ok"]
    scored = answered[[*KEYS, "model", *prediction_columns(plan)]].merge(outcomes, on=KEYS, validate="m:1")
    challenger, champion = (
        scored[scored["model"] == model].reset_index(drop=True) for model in (plan.challenger, plan.champion)
    )
    figures, by_ticker = dict[str, pd.Series](), pd.DataFrame()
    for series in series_of(plan):
        rival = _baseline(baselines, series, outcomes) if series.baseline else champion
        rows = _only(paired_differences(challenger, rival, series.metric), only)
        by_ticker = rows if series.name == MAIN else by_ticker
        figures |= _figures(series.name, rows)
    challenger, champion, outcomes = (_only(rows, only) for rows in (challenger, champion, outcomes))
    # Rows that should exist: every session with an outcome from the first one on which the ticker was requested.
    # Counted from the outcomes, not from the log: a session on which neither arm was asked is missing too.
    first = outcomes["ticker"].map(begun).astype("datetime64[ns]")
    figures["due"] = outcomes.loc[(outcomes["session"] >= first).to_numpy(), "session"].value_counts()
    figures["both"] = rows_of(challenger, champion)["session"].value_counts()
    if plan.rule > 1:
        ranged = challenger.dropna(subset=list(RANGE))
        low, high = (ranged[name] for name in RANGE)
        inside = ranged["log_return"].between(low, high)
        figures["ranged"], figures["inside"] = (rows["session"].value_counts() for rows in (ranged, ranged[inside]))
    table = pd.DataFrame(figures, index=pd.DatetimeIndex(np.unique(outcomes["session"].to_numpy())))
    counted = [name for name in figures if name not in series_names(plan)]
    table[counted] = table[counted].fillna(0).astype(np.int64)
    return EvidenceDays(table, by_ticker)


def _only(rows: pd.DataFrame, sessions: Collection[pd.Timestamp] | None) -> pd.DataFrame:
    return rows if sessions is None else rows[rows["session"].isin(list(sessions))]


def _figures(name: str, rows: pd.DataFrame) -> dict[str, pd.Series]:
    """What a series says of each session: its mean difference, its rows, and those on which the scores differ."""
    days, place = np.unique(rows["session"].to_numpy(), return_inverse=True)
    index = pd.DatetimeIndex(days)
    unequal = place[(rows["difference"] != 0).to_numpy()]
    counts = {"rows": place, "unequal": unequal}
    # pandas' mean compensates for rounding, which a sum of NumPy's does not: recorded decisions rest on its bits.
    figures = {name: rows["difference"].groupby(place, sort=True).mean().set_axis(index)}
    return figures | {
        f"{name}/{what}": pd.Series(np.bincount(of, minlength=len(days)), index) for what, of in counts.items()
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
    days = table[table[name].notna()]
    rows, unequal = int(days[f"{name}/rows"].sum()), int(days[f"{name}/unequal"].sum())
    return PairedDays(pd.DatetimeIndex(days.index), days[name].to_numpy(np.float64), rows, unequal)


def _baseline(baselines: pd.DataFrame, series: Series, outcomes: pd.DataFrame) -> pd.DataFrame:
    rows, name = baselines[baselines["model"] == series.baseline], series.baseline
    lacking = [column for column in series.metric.answers if column not in rows]
    if (rows.empty or lacking) and len(outcomes):
        raise ExperimentError(
            f"the plan wants the challenger to beat {name!r}, but there are no predictions of it: materialize the "
            "asset `baselines`"
        )
    answers = list(series.metric.answers)
    rows = rows.reindex(columns=["date", "ticker", "model", *answers]).rename(columns={"date": "session"})
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
