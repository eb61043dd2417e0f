"""The evidence of a test: one number a day, champion and challenger on the same bars, after both data cut-offs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from financial_assets.errors import ExperimentError
from financial_assets.experiment.outcomes import outcome_frame
from financial_assets.experiment.paired_score import PairedMetric, answer_columns, paired_score
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.market.panel import PricePanel

__all__ = ["Evidence", "PairedDays", "gather"]

_KEYS = ["session", "ticker"]


@dataclass(frozen=True, slots=True, eq=False)
class PairedDays:
    """Daily mean differences of a score between two forecasters, in order.

    Attributes
    ----------
    sessions
        Days with a known outcome ``[days]``.
    differences
        First less second, mean over the tickers of the day ``[days]``.
    rows, disagreements
        Predictions behind them, and those on which the two scores differed.
    """

    sessions: pd.DatetimeIndex
    differences: np.ndarray
    rows: int
    disagreements: int

    def __len__(self) -> int:
        return len(self.differences)

    def until(self, days: int) -> PairedDays:
        """The first ``days`` days; counts stay those of all."""
        return PairedDays(self.sessions[:days], self.differences[:days], self.rows, self.disagreements)


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


def gather(
    plan: ExperimentPlan,
    direct: pd.DataFrame,
    baselines: pd.DataFrame,
    panel: PricePanel,
    *,
    as_of: pd.Timestamp | None = None,
) -> Evidence:
    """The evidence of a plan as of a session.

    Parameters
    ----------
    plan
        Which pair, since when, by which metric.
    direct
        The log's paired predictions: ``session``, ``ticker``, ``model``, ``status``, ``probability_up``, and the
        quantiles for pinball loss.
    baselines
        Daily predictions of the baselines: ``date``, ``ticker``, ``model``, ``probability_up``.
    panel
        Prices, for the outcomes.
    as_of
        Nothing later is used; default the panel's last session.

    Raises
    ------
    ExperimentError
        A prediction stands twice, or a baseline of the plan is not among ``baselines``.
    """
    known = panel if as_of is None else panel.until(as_of)
    outcomes = outcome_frame(known)[[*_KEYS, "up", "log_return"]]
    outcomes = outcomes[outcomes["session"] > pd.Timestamp(plan.starts_after)]
    pair = direct[direct["model"].isin((plan.champion, plan.challenger)) & (direct["status"] != "pending")]
    _refuse_repeats(pair, "paired predictions")
    answered = pair[pair["status"] == "ok"]
    columns = tuple(dict.fromkeys(("probability_up", *answer_columns(plan.test.metric))))
    challenger, champion = (_answers(answered, name, outcomes, columns) for name in (plan.challenger, plan.champion))
    rivals = {name: _baseline(baselines, name, outcomes) for name in plan.must_beat}
    due = _due(pair, outcomes)
    complete = challenger.merge(champion[_KEYS], on=_KEYS)
    by_ticker = _differences(challenger, champion, plan.test.metric)
    main = _daily(by_ticker)
    against = {name: _paired(challenger, rows, "accuracy") for name, rows in rivals.items()}
    accuracy = main if plan.test.metric == "accuracy" else _paired(challenger, champion, "accuracy")
    return Evidence(
        main=main,
        accuracy=accuracy,
        against=against,
        due=due,
        missing=due - len(complete),
        digest=_digest([main, accuracy, *against.values()]),
        by_ticker=by_ticker,
    )


def _due(pair: pd.DataFrame, outcomes: pd.DataFrame) -> int:
    """Rows that should exist: from the first time that a ticker was asked about, every session with an outcome."""
    begun = pair.groupby("ticker", sort=False)["session"].min().rename("first").reset_index()
    rows = outcomes.merge(begun, on="ticker")
    return int((rows["session"] >= rows["first"]).sum())


def _answers(answered: pd.DataFrame, model: str, outcomes: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    rows = answered.loc[answered["model"] == model, [*_KEYS, *columns]]
    return rows.merge(outcomes, on=_KEYS, validate="1:1")


def _baseline(baselines: pd.DataFrame, name: str, outcomes: pd.DataFrame) -> pd.DataFrame:
    rows = baselines[baselines["model"] == name]
    if rows.empty and len(outcomes):
        raise ExperimentError(
            f"the plan wants the challenger to beat {name!r}, but there are no predictions of it: materialize the "
            "asset `baselines`"
        )
    _refuse_repeats(rows.rename(columns={"date": "session"}), "baseline predictions")
    rows = rows[["date", "ticker", "probability_up"]].rename(columns={"date": "session"})
    return rows.merge(outcomes, on=_KEYS, validate="1:1")


def _refuse_repeats(rows: pd.DataFrame, what: str) -> None:
    repeated = rows.duplicated([*_KEYS, "model"])
    if repeated.any():
        first = rows[repeated].iloc[0]
        raise ExperimentError(
            f"{what} hold {first['model']}, {first['ticker']}, {first['session']:%Y-%m-%d} more than once"
        )


def _paired(first: pd.DataFrame, second: pd.DataFrame, metric: PairedMetric) -> PairedDays:
    return _daily(_differences(first, second, metric))


def _differences(first: pd.DataFrame, second: pd.DataFrame, metric: PairedMetric) -> pd.DataFrame:
    columns = [*answer_columns(metric)]
    others = {column: f"{column}_second" for column in columns}
    both = first.dropna(subset=columns).merge(
        second.dropna(subset=columns)[[*_KEYS, *columns]].rename(columns=others), on=_KEYS, validate="1:1"
    )
    outcome = both["up"].to_numpy(bool), both["log_return"].to_numpy(np.float64)
    theirs = both[[*others.values()]].rename(columns={name: column for column, name in others.items()})
    difference = (
        paired_score(metric, both[columns], *outcome) - paired_score(metric, theirs, *outcome)
        if len(both)
        else np.empty(0)
    )
    return both[_KEYS].assign(difference=difference)


def _daily(rows: pd.DataFrame) -> PairedDays:
    if rows.empty:
        return PairedDays(pd.DatetimeIndex([]), np.empty(0), 0, 0)
    daily = rows["difference"].groupby(rows["session"].to_numpy(), sort=True).mean()
    unequal = int(np.count_nonzero(rows["difference"]))
    return PairedDays(pd.DatetimeIndex(daily.index), daily.to_numpy(np.float64), len(rows), unequal)


def _digest(series: list[PairedDays]) -> str:
    digest = hashlib.sha256()
    for days in series:
        digest.update(np.asarray(days.sessions, dtype="datetime64[D]").astype("<i8").tobytes())
        digest.update(days.differences.astype("<f8").tobytes())
    return digest.hexdigest()
