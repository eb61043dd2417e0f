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
    daily_means,
    paired_days,
    paired_differences,
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
    outcomes = outcomes.loc[outcomes["session"] > pd.Timestamp(plan.starts_after), [*KEYS, "up", "log_return"]]
    pair = direct[direct["model"].isin((plan.champion, plan.challenger)) & (direct["status"] != "pending")]
    _refuse_repeats(pair, "paired predictions")
    answered = pair[pair["status"] == "ok"]
    columns = [*KEYS, *dict.fromkeys(("probability_up", *answer_columns(plan.test.metric)))]
    challenger, champion = (
        answered.loc[answered["model"] == model, columns].merge(outcomes, on=KEYS, validate="1:1")
        for model in (plan.challenger, plan.champion)
    )
    rivals = {name: _baseline(baselines, name, outcomes) for name in plan.must_beat}
    due = _due(pair, outcomes)
    # The pair is compared by the plan's metric; baselines and the safeguard always by accuracy.
    by_ticker = paired_differences(challenger, champion, plan.test.metric)
    main = daily_means(by_ticker)
    accuracy = main if plan.test.metric == "accuracy" else paired_days(challenger, champion, "accuracy")
    against = {name: paired_days(challenger, rows, "accuracy") for name, rows in rivals.items()}
    return Evidence(
        main=main,
        accuracy=accuracy,
        against=against,
        due=due,
        missing=due - len(challenger.merge(champion[KEYS], on=KEYS)),
        digest=_digest([main, accuracy, *against.values()]),
        by_ticker=by_ticker,
    )


def _due(pair: pd.DataFrame, outcomes: pd.DataFrame) -> int:
    """Rows that should exist: every session with an outcome from the first one on which the ticker was requested.

    Counted from the outcomes, not from the log: a session on which neither arm was asked is missing too.
    """
    begun = pair.groupby("ticker", sort=False)["session"].min().rename("first").reset_index()
    rows = outcomes.merge(begun, on="ticker")
    return int((rows["session"] >= rows["first"]).sum())


def _baseline(baselines: pd.DataFrame, name: str, outcomes: pd.DataFrame) -> pd.DataFrame:
    rows = baselines[baselines["model"] == name]
    if rows.empty and len(outcomes):
        raise ExperimentError(
            f"the plan wants the challenger to beat {name!r}, but there are no predictions of it: materialize the "
            "asset `baselines`"
        )
    _refuse_repeats(rows.rename(columns={"date": "session"}), "baseline predictions")
    rows = rows[["date", "ticker", "probability_up"]].rename(columns={"date": "session"})
    return rows.merge(outcomes, on=KEYS, validate="1:1")


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
