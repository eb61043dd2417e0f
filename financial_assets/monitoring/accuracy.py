"""Recent accuracy of each arm: its logged predictions joined to the outcomes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.outcomes import outcome_frame
from financial_assets.experiment.prediction_log.reader import LogReader
from financial_assets.market.panel import PricePanel
from financial_assets.scoring.classification import hits
from financial_assets.scoring.intervals import Interval, day_clustered_mean, day_clustered_proportion

_COLUMNS = ("session", "ticker", "model", "status", "probability_up")


@dataclass(frozen=True)
class RollingAccuracy:
    """One arm over the window.

    Attributes
    ----------
    experiment, model
        Whose.
    days
        Sessions of the window with a scored prediction.
    rows
        Predictions scored.
    majority
        Share of the same rows that the majority class gets right: the direction that was more frequent *before* the
        window. The more frequent one within it would be known only afterwards, and no constant can beat it.
    accuracy
        Share of correct directions with its day-clustered interval; ``None`` with fewer than two days.
    advantage
        Accuracy minus ``majority`` on the same rows, paired, with its interval; ``None`` with fewer than two days.
    """

    experiment: str
    model: str
    days: int
    rows: int
    majority: float | None
    accuracy: Interval | None
    advantage: Interval | None


def rolling_accuracy(
    log: LogReader, epochs: tuple[WeightEpoch, ...], panel: PricePanel, window: int, level: float
) -> tuple[RollingAccuracy, ...]:
    """The arms of each of ``epochs`` over the last ``window`` sessions whose outcome is known.

    Each (session, ticker, model) counts once, whether it was routed or asked directly. Sessions that the model was
    trained on do not count.

    Parameters
    ----------
    log
        Predictions.
    epochs
        The current weight epoch of each experiment.
    panel
        Prices up to now.
    window
        Sessions.
    level
        Confidence of the intervals.

    Raises
    ------
    LogError
        The log cannot be read.
    """
    outcomes = outcome_frame(panel)
    sessions = np.unique(outcomes["session"])
    if not len(sessions):
        return tuple(_score(epoch.experiment, arm, outcomes, True, level) for epoch in epochs for arm in epoch.arms)
    start = pd.Timestamp(sessions[-window:][0])
    before = outcomes.loc[outcomes["session"] < start, "up"]
    mostly_up = bool(before.mean() >= 0.5) if len(before) else True
    frames = [log.routed(since=start, columns=_COLUMNS), log.direct(since=start, columns=_COLUMNS)]
    answers = pd.concat([frame[frame["status"] == "ok"] for frame in frames], ignore_index=True)
    # Routed and direct answers of a model are one function of the same bars: each counts once.
    answers = answers.drop_duplicates(["session", "ticker", "model"])
    scored = answers.merge(outcomes, on=["session", "ticker"], how="inner", validate="m:1")
    return tuple(
        _score(epoch.experiment, arm, scored[scored["model"] == arm.model], mostly_up, level)
        for epoch in epochs
        for arm in epoch.arms
    )


def _score(experiment: str, arm: Arm, rows: pd.DataFrame, mostly_up: bool, level: float) -> RollingAccuracy:
    scored = rows[rows["session"] > arm.data_cutoff]
    days, session = int(scored["session"].nunique()), scored["session"].to_numpy()
    constant = (scored["up"].to_numpy() == mostly_up).astype(np.float64)
    majority = float(constant.mean()) if days else None
    accuracy = advantage = None
    if days > 1:  # an interval takes two
        right = np.asarray(hits(scored["probability_up"], scored["up"]), dtype=np.float64)
        accuracy = day_clustered_proportion(right, session, level)
        advantage = day_clustered_mean(right - constant, session, level)
    return RollingAccuracy(experiment, arm.model, days, len(scored), majority, accuracy, advantage)
