"""What each arm said of one session and what happened: a row per model, by the metrics that plans are decided by."""

from __future__ import annotations

import numpy as np
import pandas as pd

from financial_assets.experiment.metrics.metric import Metric
from financial_assets.experiment.metrics.paired import without_gaps
from financial_assets.experiment.metrics.registry import METRICS
from financial_assets.experiment.outcomes import KnownPrices, join_outcomes, outcome_frame
from financial_assets.experiment.prediction_log.schema import QUANTILE_COLUMNS

SCORED: tuple[Metric, ...] = tuple(metric for metric in METRICS.values() if metric.basis != "book")
"""All metrics but those of a book, which depend on the positions of the session before."""

_NEEDED = tuple(dict.fromkeys(column for metric in SCORED for column in metric.answers))
PREDICTION_COLUMNS = ("session", "ticker", "model", "status", *dict.fromkeys((*_NEEDED, *QUANTILE_COLUMNS)))
"""What :func:`session_scores` needs of a prediction."""


def session_scores(predictions: pd.DataFrame, session: pd.Timestamp, known: KnownPrices) -> pd.DataFrame:
    """How each model did on one session.

    Parameters
    ----------
    predictions
        Columns :data:`PREDICTION_COLUMNS`; rows of other sessions, and answers that failed, do not count.
    session
        The session at whose close the predictions were made.
    known
        Prices as of now; what they do not settle yet is left empty.

    Returns
    -------
    pandas.DataFrame
        A row per model, by name: ``model``, ``answers`` (tickers it answered for), ``settled`` (of those, tickers whose
        next session is over), ``beyond_var_95`` and ``beyond_var_99`` (tickers that lost more than the value at risk of
        a long position), and the mean over tickers of each metric in :data:`SCORED`: larger is better, losses are
        negative, NaN where too few tickers are settled. Those of five sessions are settled five sessions later.
    """
    answered = predictions[(predictions["session"] == session) & (predictions["status"] == "ok")]
    outcomes = outcome_frame(known.panel, scaled=True, sessions=[session])
    rows = [_row(str(model), one, join_outcomes(one, outcomes)) for model, one in answered.groupby("model", sort=True)]
    counts = ["answers", "settled", "beyond_var_95", "beyond_var_99"]
    table = pd.DataFrame(rows, columns=["model", *counts, *(metric.name for metric in SCORED)])
    return table.astype({"model": object, **dict.fromkeys(counts, np.int64)})


def _row(model: str, answered: pd.DataFrame, settled: pd.DataFrame) -> dict[str, object]:
    row: dict[str, object] = {
        "model": model,
        "answers": len(answered),
        "settled": len(settled),
        "beyond_var_95": int((settled["log_return"] < settled["q05"]).sum()),
        "beyond_var_99": int((settled["log_return"] < settled["q01"]).sum()),
    }
    return row | {metric.name: _mean(metric, settled) for metric in SCORED}


def _mean(metric: Metric, settled: pd.DataFrame) -> float:
    scored = without_gaps(settled, [*metric.answers, *metric.outcomes])
    if len(scored) < metric.fewest_tickers:
        return float("nan")
    return float(np.mean(metric.scores(scored)))
