"""The rows that forecasters have in common, and their paired comparison on them.

The unit of evidence is the day: the mean over tickers of the difference of two scores, one number per day. Predictions
do not move the market, so that both outcomes are known on every row and pairing is legitimate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.evaluation.measures import Comparison, Score
from financial_assets.experiment.keyed_rows import places
from financial_assets.experiment.metrics.paired import KEYS, paired_days, rows_of
from financial_assets.experiment.metrics.registry import EARLIER_METRICS
from financial_assets.experiment.outcomes import join_outcomes
from financial_assets.experiment.plan.criteria import Criteria
from financial_assets.experiment.prediction_log.schema import QUANTILE_COLUMNS
from financial_assets.experiment.statistics.power import days_needed, minimum_detectable_effect
from financial_assets.scoring.intervals import day_clustered_mean


def answered_rows(direct: pd.DataFrame, arms: Sequence[Arm]) -> dict[str, pd.DataFrame]:
    """Answered rows by model, each after its own data cut-off: what it learned from proves nothing."""
    # As arrays: pandas compares texts with one in several times the time.
    answered, model = direct["status"].to_numpy() == "ok", direct["model"].to_numpy()
    return {
        arm.model: direct[answered & (model == arm.model) & (direct["session"] > arm.data_cutoff).to_numpy()]
        for arm in arms
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
    # Baselines of the ranking answer neither: they are compared in the evidence of a plan only.
    answered = np.logical_or.reduce([baselines[name].notna().to_numpy() for name in columns[3:]])
    return join_outcomes(baselines[columns][answered].rename(columns={"date": "session"}), outcomes)


def baseline_rows(baselines: pd.DataFrame, rows: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The rows of :func:`due_baselines` on the sessions and tickers of ``rows``, by baseline."""
    if not rows:
        return {}
    matching, model = places(baselines, next(iter(rows.values()))) >= 0, baselines["model"].to_numpy(object)
    found = {str(name): baselines[matching & (model == name)] for name in pd.unique(model[matching])}
    for frame in found.values():  # a copy already: to number its rows anew must not make another
        frame.index = pd.RangeIndex(len(frame))
    return found


def comparisons(
    common: Mapping[str, pd.DataFrame],
    due: Mapping[str, pd.DataFrame],
    baselines: pd.DataFrame,
    epoch: WeightEpoch,
    criteria: Mapping[str, Criteria],
) -> tuple[Comparison, ...]:
    """Each challenger against champion and baselines, then the champion against the baselines.

    Parameters
    ----------
    common
        Rows by forecaster on what champion and challengers have in common.
    due
        All due rows by model.
    baselines
        Due rows of all baselines.
    epoch
        The current weight epoch.
    criteria
        By arm.
    """
    champion = epoch.champion.model
    compared: list[Comparison | None] = []
    for model in [arm.model for arm in epoch.challengers if arm.model in due and champion in due]:
        basis, rows = common_keys([due[model], due[champion]]), common
        # A challenger that is younger than the others, or older, is compared on all rows that it has with the champion.
        if model not in common or len(basis) != len(common[champion]):
            rows = {name: rows_of(due[name], basis) for name in (model, champion)}
            rows |= baseline_rows(baselines, rows)
        compared.append(compare(model, champion, rows, criteria[model], "accuracy"))
        compared.append(compare(model, champion, rows, criteria[model], "brier"))
        compared += [compare(model, name, rows, criteria[model]) for name in criteria[model].must_beat]
    compared += [compare(champion, name, common, criteria[champion]) for name in criteria[champion].must_beat]
    return tuple(comparison for comparison in compared if comparison is not None)


def compare(
    first: str, second: str, rows: Mapping[str, pd.DataFrame], criteria: Criteria, score: Score = "accuracy"
) -> Comparison | None:
    """How much better the first forecaster is, on the rows that both have.

    Parameters
    ----------
    first, second
        Names.
    rows
        Rows by name (``session``, ``ticker``, ``probability_up``, ``up``, ``log_return``), each row once.
    criteria
        Confidence of the interval, power, and the difference that would matter.
    score
        By what.

    Returns
    -------
    Comparison or None
        ``None`` with fewer than two common days, or without the rows of one.
    """
    if not {first, second} <= set(rows):
        return None
    days = paired_days(rows[first], rows[second], EARLIER_METRICS[score])
    if len(days) < 2:
        return None
    # The plausible effect is in the unit of the test's metric, and says nothing about another score.
    worthwhile = criteria.plausible_effect if score == criteria.metric else None
    level, power = criteria.level, criteria.power
    return Comparison(
        score=score,
        first=first,
        second=second,
        difference=day_clustered_mean(days.differences, days.sessions.to_numpy(), level),
        disagreements=days.disagreements,
        rows=days.rows,
        mde=minimum_detectable_effect(days.differences, level=level, power=power),
        power=power,
        worthwhile=worthwhile,
        days_needed=None if worthwhile is None else days_needed(days.differences, worthwhile, level=level, power=power),
    )
