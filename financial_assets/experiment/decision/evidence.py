"""The evidence of a test: one number per day, champion and challenger on the same bars, after both data cut-offs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from financial_assets.errors import ExperimentError
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.paired_score import (
    KEYS,
    PairedDays,
    answer_columns,
    paired_differences,
    rows_of,
)
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
        Challenger against each baseline that must be beaten, by accuracy.
    due, missing
        Predictions that should exist of the pair since the plan's start, and how many of them do not.
    digest
        SHA-256 of all of it.
    by_ticker
        What the days of ``main`` are means of: ``session``, ``ticker``, ``difference``.
    """

    main: PairedDays
    accuracy: PairedDays
    against: Mapping[str, PairedDays]
    due: int
    missing: int
    digest: str
    by_ticker: pd.DataFrame = field(default_factory=pd.DataFrame)
    guards: Mapping[str, PairedDays] = field(default_factory=dict)

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
        The log's paired predictions: ``session``, ``ticker``, ``model``, ``status``, ``probability_up``, and the
        quantiles for pinball loss.
    baselines
        Daily predictions of the baselines: ``date``, ``ticker``, ``model``, ``probability_up``.
    outcomes
        What is known as of the decision (:func:`~financial_assets.experiment.outcomes.outcome_frame`).

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


MAIN, ACCURACY = "main", "accuracy"
"""Names of series; that against a baseline is called ``against <baseline>``."""


def first_sessions(pair: pd.DataFrame) -> dict[str, pd.Timestamp]:
    """Ticker -> the first session on which it was requested of one of the pair, and answered or not."""
    first = pair.groupby("ticker", sort=False)["session"].min()
    return dict(zip(map(str, first.index), pd.DatetimeIndex(first), strict=True))


def series_names(plan: ExperimentPlan) -> tuple[str, ...]:
    """The series of a plan's evidence, by the names that tables have them under."""
    accuracy = () if plan.test.metric == "accuracy" else (ACCURACY,)
    return (MAIN, *accuracy, *(f"against {name}" for name in plan.must_beat))


def tabulate(
    plan: ExperimentPlan,
    pair: pd.DataFrame,
    baselines: pd.DataFrame,
    outcomes: pd.DataFrame,
    begun: Mapping[str, pd.Timestamp],
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
    """
    outcomes = outcomes.loc[outcomes["session"] > pd.Timestamp(plan.starts_after), [*KEYS, "up", "log_return"]]
    _refuse_repeats(pair, "paired predictions")
    answered = pair[pair["status"] == "ok"]
    columns = [*KEYS, "model", *dict.fromkeys(("probability_up", *answer_columns(plan.test.metric)))]
    scored = answered[columns].merge(outcomes, on=KEYS, validate="m:1")
    challenger, champion = (
        scored[scored["model"] == model].reset_index(drop=True) for model in (plan.challenger, plan.champion)
    )
    rivals = {name: _baseline(baselines, name, outcomes) for name in plan.must_beat}
    # The pair is compared by the plan's metric; baselines and the safeguard always by accuracy.
    by_ticker = paired_differences(challenger, champion, plan.test.metric)
    series = {MAIN: by_ticker}
    if plan.test.metric != "accuracy":
        series[ACCURACY] = paired_differences(challenger, champion, "accuracy")
    series |= {f"against {name}": paired_differences(challenger, rows, "accuracy") for name, rows in rivals.items()}
    figures = dict[str, pd.Series]()
    for name, rows in series.items():
        days, place = np.unique(rows["session"].to_numpy(), return_inverse=True)
        index = pd.DatetimeIndex(days)
        # pandas' mean compensates for rounding, which a sum of NumPy's does not: recorded decisions rest on its bits.
        figures[name] = rows["difference"].groupby(place, sort=True).mean().set_axis(index)
        unequal = place[(rows["difference"] != 0).to_numpy()]
        for what, rows_of_days in (("rows", place), ("unequal", unequal)):
            figures[f"{name}/{what}"] = pd.Series(np.bincount(rows_of_days, minlength=len(days)), index)
    # Rows that should exist: every session with an outcome from the first one on which the ticker was requested.
    # Counted from the outcomes, not from the log: a session on which neither arm was asked is missing too.
    first = outcomes["ticker"].map(begun).astype("datetime64[ns]")
    figures["due"] = outcomes.loc[(outcomes["session"] >= first).to_numpy(), "session"].value_counts()
    figures["both"] = rows_of(challenger, champion)["session"].value_counts()
    table = pd.DataFrame(figures, index=pd.DatetimeIndex(np.unique(outcomes["session"].to_numpy())))
    counted = [name for name in figures if name not in series]
    table[counted] = table[counted].fillna(0).astype(np.int64)
    return EvidenceDays(table, by_ticker)


def assemble(plan: ExperimentPlan, table: pd.DataFrame, by_ticker: pd.DataFrame | None = None) -> Evidence:
    """The evidence of the sessions of a table (:class:`EvidenceDays`), in order."""
    main = _series(table, MAIN)
    accuracy = main if plan.test.metric == "accuracy" else _series(table, ACCURACY)
    against = {name: _series(table, f"against {name}") for name in plan.must_beat}
    due = int(table["due"].sum())
    return Evidence(
        main=main,
        accuracy=accuracy,
        against=against,
        due=due,
        missing=due - int(table["both"].sum()),
        digest=_digest([main, accuracy, *against.values()]),
        by_ticker=pd.DataFrame() if by_ticker is None else by_ticker,
    )


def _series(table: pd.DataFrame, name: str) -> PairedDays:
    days = table[table[name].notna()]
    rows, unequal = int(days[f"{name}/rows"].sum()), int(days[f"{name}/unequal"].sum())
    return PairedDays(pd.DatetimeIndex(days.index), days[name].to_numpy(np.float64), rows, unequal)


def _baseline(baselines: pd.DataFrame, name: str, outcomes: pd.DataFrame) -> pd.DataFrame:
    rows = baselines[baselines["model"] == name]
    if rows.empty and len(outcomes):
        raise ExperimentError(
            f"the plan wants the challenger to beat {name!r}, but there are no predictions of it: materialize the "
            "asset `baselines`"
        )
    rows = rows[["date", "ticker", "model", "probability_up"]].rename(columns={"date": "session"})
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
    """The decision that a report is about first: one that changes the traffic before one that holds."""
    order = {"promote": 0, "rollback": 1, "hold": 2}
    return min(decisions, key=lambda decision: (order[decision.action], -(decision.estimate or 0.0)), default=None)
