"""Paired comparison of two forecasters on the same rows.

The unit of evidence is the day: the mean over tickers of the difference of two scores, one number per day. Predictions
do not move the market, so that both outcomes are known on every row and pairing is legitimate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.evaluation.measures import Comparison, Score
from financial_assets.experiment.evaluation.rows import baseline_rows, common_keys
from financial_assets.experiment.paired_score import paired_days, rows_of
from financial_assets.experiment.plan.criteria import Criteria
from financial_assets.experiment.statistics.power import days_needed, minimum_detectable_effect
from financial_assets.scoring.intervals import day_clustered_mean

__all__ = ["compare", "comparisons"]


def comparisons(
    common: Mapping[str, pd.DataFrame],
    due: Mapping[str, pd.DataFrame],
    baselines: pd.DataFrame,
    epoch: WeightEpoch,
    criteria: Mapping[str, Criteria],
) -> Iterator[Comparison]:
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
    for model in [arm.model for arm in epoch.challengers if arm.model in due and champion in due]:
        basis, rows = common_keys([due[model], due[champion]]), common
        # A challenger that is younger than the others, or older, is compared on all rows that it has with the champion.
        if model not in common or len(basis) != len(common[champion]):
            rows = {name: rows_of(due[name], basis) for name in (model, champion)}
            rows |= baseline_rows(baselines, rows)
        yield from _compared(rows, model, champion, criteria[model], "accuracy")
        yield from _compared(rows, model, champion, criteria[model], "brier")
        for baseline in criteria[model].must_beat:
            yield from _compared(rows, model, baseline, criteria[model], "accuracy")
    for baseline in criteria[champion].must_beat:
        yield from _compared(common, champion, baseline, criteria[champion], "accuracy")


def _compared(
    rows: Mapping[str, pd.DataFrame], first: str, second: str, criteria: Criteria, score: Score
) -> Iterator[Comparison]:
    comparison = compare(first, second, rows, criteria, score) if {first, second} <= set(rows) else None
    if comparison is not None:
        yield comparison


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
        ``None`` with fewer than two common days.
    """
    days = paired_days(rows[first], rows[second], score)
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
