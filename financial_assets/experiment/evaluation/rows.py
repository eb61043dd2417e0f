"""Which rows an evaluation looks at: due ones, those that arms have in common, and the baselines' on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.outcomes import join_outcomes, outcome_frame
from financial_assets.experiment.prediction_log.schema import QUANTILE_COLUMNS
from financial_assets.market.panel import PricePanel

__all__ = ["KEYS", "baseline_rows", "common_keys", "common_rows", "due_rows", "rows_of", "same_keys"]

KEYS = ["session", "ticker"]


def due_rows(direct: pd.DataFrame, epoch: WeightEpoch, panel: PricePanel) -> tuple[dict[str, pd.DataFrame], int]:
    """Answered rows with a known outcome by model, each after its own data cut-off; how many pairs wait for theirs."""
    answered = direct[direct["status"] == "ok"]
    outcomes = outcome_frame(panel)
    rows = {
        arm.model: answered[(answered["model"] == arm.model) & (answered["session"] > arm.data_cutoff)]
        for arm in epoch.arms
    }
    due = {model: frame.merge(outcomes, on=KEYS, validate="1:1") for model, frame in rows.items()}
    first = [epoch.champion.model, *(arm.model for arm in epoch.challengers[:1])]
    waiting = len(common_keys([rows[model] for model in first])) - len(common_keys([due[model] for model in first]))
    return {model: frame for model, frame in due.items() if len(frame)}, waiting


def common_keys(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Sessions and tickers that all frames have."""
    common = frames[0][KEYS]
    for frame in frames[1:]:
        common = rows_of(common, frame)
    return common


def rows_of(frame: pd.DataFrame, keys: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``frame`` for the sessions and tickers of ``keys``, each once, in the order of ``frame``."""
    return frame if same_keys(frame, keys) else frame.merge(keys[KEYS], on=KEYS, validate="1:1")


def same_keys(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    """Whether two frames have the same sessions and tickers in the same order; then nothing has to be looked up."""
    return len(first) == len(second) and all(
        np.array_equal(first[name].to_numpy(), second[name].to_numpy()) for name in KEYS
    )


def common_rows(due: Mapping[str, pd.DataFrame], epoch: WeightEpoch) -> dict[str, pd.DataFrame]:
    """Rows by model on what champion and challengers have in common, but for challengers that are too young for it."""
    champion, missing = due.get(epoch.champion.model), pd.DataFrame(columns=KEYS)
    if champion is None:
        return {}
    pairs = {arm.model: common_keys([champion, due.get(arm.model, missing)]) for arm in epoch.challengers}
    days = {model: int(frame["session"].nunique()) for model, frame in pairs.items()}
    young = {model for model, count in days.items() if count < max(days.values()) / 2}
    basis = common_keys([champion, *(frame for model, frame in pairs.items() if model not in young)])
    rows = {model: rows_of(frame, basis) for model, frame in due.items() if model not in young}
    return {model: frame for model, frame in rows.items() if len(frame)}


def baseline_rows(
    baselines: pd.DataFrame, rows: Mapping[str, pd.DataFrame], panel: PricePanel
) -> dict[str, pd.DataFrame]:
    """Due predictions of the baselines on the sessions and tickers of ``rows``, by baseline.

    Raises
    ------
    ExperimentError
        ``baselines`` lacks a column, or holds a prediction twice.
    """
    wanted = ["date", "ticker", "model", "probability_up", *QUANTILE_COLUMNS]
    missing = [column for column in wanted if column not in baselines]
    if missing:
        raise ExperimentError(f"the frame of baseline predictions lacks the columns {', '.join(missing)}")
    if baselines.duplicated(["date", "ticker", "model"]).any():
        raise ExperimentError("the frame of baseline predictions holds a date, ticker and model more than once")
    if not rows:
        return {}
    keys = next(iter(rows.values()))[KEYS]
    tidy = baselines[wanted].rename(columns={"date": "session"}).merge(keys, on=KEYS)
    return {str(name): join_outcomes(frame, panel) for name, frame in tidy.groupby("model", sort=False)}
