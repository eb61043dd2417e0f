"""Which rows an evaluation looks at: due ones, those that arms have in common, and the baselines' on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.outcomes import join_outcomes
from financial_assets.experiment.paired_score import KEYS, rows_of
from financial_assets.experiment.prediction_log.schema import QUANTILE_COLUMNS

__all__ = ["answered_rows", "baseline_rows", "common_keys", "common_rows", "due_baselines", "due_rows", "waiting"]


def answered_rows(direct: pd.DataFrame, arms: Sequence[Arm]) -> dict[str, pd.DataFrame]:
    """Answered rows by model, each after its own data cut-off: what it learned from proves nothing."""
    answered = direct[direct["status"] == "ok"]
    return {
        arm.model: answered[(answered["model"] == arm.model) & (answered["session"] > arm.data_cutoff)] for arm in arms
    }


def due_rows(answered: Mapping[str, pd.DataFrame], outcomes: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The answered rows whose outcome is known, with it; models without any are left out."""
    joined = {model: join_outcomes(rows, outcomes) for model, rows in answered.items()}
    return {model: rows for model, rows in joined.items() if len(rows)}


def waiting(answered: Mapping[str, pd.DataFrame], due: Mapping[str, pd.DataFrame], epoch: WeightEpoch) -> int:
    """How many answered pairs of champion and first challenger wait for their outcome."""
    pair = [epoch.champion.model, *(arm.model for arm in epoch.challengers[:1])]
    missing = pd.DataFrame(columns=KEYS)
    return len(common_keys([answered[model] for model in pair])) - len(
        common_keys([due.get(model, missing) for model in pair])
    )


def common_keys(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Sessions and tickers that all frames have."""
    common = frames[0][KEYS]
    for frame in frames[1:]:
        common = rows_of(common, frame)
    return common


def common_rows(due: Mapping[str, pd.DataFrame], epoch: WeightEpoch) -> dict[str, pd.DataFrame]:
    """Rows by model on what champion and challengers have in common, without challengers that are too young for it."""
    champion, missing = due.get(epoch.champion.model), pd.DataFrame(columns=KEYS)
    if champion is None:
        return {}
    pairs = {arm.model: common_keys([champion, due.get(arm.model, missing)]) for arm in epoch.challengers}
    days = {model: int(frame["session"].nunique()) for model, frame in pairs.items()}
    # One challenger of a few days would cut everybody's common days down to its own.
    young = {model for model, count in days.items() if count < max(days.values()) / 2}
    basis = common_keys([champion, *(frame for model, frame in pairs.items() if model not in young)])
    rows = {model: rows_of(frame, basis) for model, frame in due.items() if model not in young}
    return {model: frame for model, frame in rows.items() if len(frame)}


def due_baselines(baselines: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """The baselines' predictions with their outcomes, in the columns of an arm's rows.

    Raises
    ------
    ExperimentError
        ``baselines`` lacks a column, or holds a prediction twice.
    """
    columns = ["date", "ticker", "model", "probability_up", *QUANTILE_COLUMNS]
    missing = [column for column in columns if column not in baselines]
    if missing:
        raise ExperimentError(f"the frame of baseline predictions lacks the columns {', '.join(missing)}")
    if baselines.duplicated(["date", "ticker", "model"]).any():
        raise ExperimentError("the frame of baseline predictions holds a date, ticker and model more than once")
    return join_outcomes(baselines[columns].rename(columns={"date": "session"}), outcomes)


def baseline_rows(baselines: pd.DataFrame, rows: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The rows of :func:`due_baselines` on the sessions and tickers of ``rows``, by baseline."""
    if not rows:
        return {}
    matching = baselines.merge(next(iter(rows.values()))[KEYS], on=KEYS)
    return {str(name): frame for name, frame in matching.groupby("model", sort=False)}
