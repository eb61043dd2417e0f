"""What a test can expect before it starts: how much the two arms' daily scores differ, on days that are no evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from financial_assets.experiment.metrics.metric import Metric, Question
from financial_assets.experiment.metrics.paired import KEYS, PairedDays, paired_days
from financial_assets.experiment.metrics.registry import METRICS, metrics_of
from financial_assets.experiment.outcomes import outcome_frame
from financial_assets.experiment.paired_score import PairedMetric
from financial_assets.experiment.plan.long_run_spread import inflation_of, long_run_of
from financial_assets.experiment.plan.plan import DailyDeviation
from financial_assets.experiment.prediction_log.schema import QUANTILE_5D_COLUMNS, QUANTILE_COLUMNS
from financial_assets.market.panel import PricePanel
from financial_assets.models.external.answers import ExternalGraph
from financial_assets.models.request_shape import SERVED_LOOKBACK
from financial_assets.models.training import Training

BLOCK = "the calibration block"
BEFORE_THE_TEST = "the sessions before the test"

KnownModel = Training | ExternalGraph
"""A model whose answers on days that are no evidence are kept, or can be asked for."""

_YEAR = 252
_FEWEST_SESSIONS = 63
_MOST_WINDOWS = 50_000
"""Two graphs are asked about a year of the sessions before the test; of a large universe, about fewer."""


def expected_deviation(
    champion: KnownModel, challenger: KnownModel, metric: PairedMetric, tickers: int, panel: PricePanel
) -> DailyDeviation:
    """Standard deviation of the daily paired differences of the two arms on days that are no evidence.

    These are the days of the block that calibrated a trained model. An external model has none: beside a trained one it
    is asked about that one's block, and two of them are asked about the last year up to the later of their data
    cut-offs, after which evidence begins. The mean there is worth nothing, because calibration, or an external model's
    makers, may have seen these days; how much the two differ from day to day is what a plan needs. Should what they
    learned by heart have changed that as well, only the plan's figures of power would be wrong: each look estimates
    the deviation again.

    Without 20 common days, or where they never differ, cautious figures are assumed.

    Parameters
    ----------
    champion, challenger
        What was kept of their trainings, or their graphs.
    metric
        By which the two are compared.
    tickers
        Tickers of the experiment.
    panel
        Prices; those after the data cut-offs are not read.

    Raises
    ------
    ExperimentError
        See :meth:`.DailyDeviation.assumed`.
    """
    found = _deviations(champion, challenger, (METRICS[metric],), panel)
    return found.get(metric) or DailyDeviation.assumed(tickers, metric)


def expected_deviations(
    champion: KnownModel, challenger: KnownModel, question: Question, panel: PricePanel
) -> dict[str, DailyDeviation]:
    """:func:`expected_deviation` of every metric of a question that the two models' common days can measure."""
    return _deviations(champion, challenger, metrics_of(question), panel)


def deviation_of_days(days: PairedDays, metric: Metric, panel: PricePanel, block: str = BLOCK) -> DailyDeviation | None:
    """What days that are no evidence say of those to come; ``None`` with fewer than 20 or without any difference.

    Parameters
    ----------
    days
        Daily differences of the block.
    metric
        Of the differences.
    panel
        Prices up to where the block is settled.
    block
        What the block is, in words.
    """
    measured = DailyDeviation.of_days(days.differences, block)
    if measured is None:
        return None
    long_run = long_run_of(metric, panel, days.sessions)
    calm = f", times {long_run.regime:.2f}, because it was calmer than the past" if long_run.regime > 1 else ""
    inflation = inflation_of(days.differences, metric.horizon)
    if metric.horizon > 1:
        # A block of a few months shows too little of how much outcomes that overlap share: the past says it better.
        # Days that do not overlap depend on each other as the two models make them, not as other forecasters do.
        inflation = max(inflation, long_run.inflation)
    return replace(
        measured,
        deviation=measured.deviation * long_run.regime,
        basis=f"{measured.basis}{calm}",
        regime=long_run.regime,
        inflation=inflation,
    )


def _deviations(
    champion: KnownModel, challenger: KnownModel, metrics: Sequence[Metric], panel: PricePanel
) -> dict[str, DailyDeviation]:
    """Metric -> expected variation of the daily differences; one that cannot be measured is left out."""
    # By the later of the data cut-offs every outcome of a calibration block is settled, and no evidence has begun.
    until = max(champion.cutoff, challenger.cutoff)
    if until < panel.sessions[0]:
        return {}
    known = panel.until(until)
    trained = [model for model in (champion, challenger) if isinstance(model, Training)]
    sessions = pd.DatetimeIndex(trained[0].held_out.session).unique() if trained else _last_sessions(known)
    if not (known.listed_bars() >= SERVED_LOOKBACK).any():
        return {}
    first, second = (_answers(model, known, sessions) for model in (challenger, champion))
    outcomes, block = outcome_frame(known, scaled=True), BLOCK if trained else BEFORE_THE_TEST
    found = {
        metric.name: deviation_of_days(
            paired_days(first.merge(outcomes, on=KEYS), second, metric), metric, known, block
        )
        for metric in metrics
    }
    return {name: measured for name, measured in found.items() if measured is not None}


def _last_sessions(known: PricePanel) -> pd.DatetimeIndex:
    count = max(_FEWEST_SESSIONS, min(_YEAR, _MOST_WINDOWS // len(known.tickers)))
    return known.sessions[-count:]


def _answers(model: KnownModel, known: PricePanel, sessions: pd.DatetimeIndex) -> pd.DataFrame:
    """What a model answers on days that are no evidence, in the columns of an arm's rows.

    Those of a training are of its own calibration block; a graph is asked about ``sessions``.
    """
    if isinstance(model, ExternalGraph):
        asked = model.answers(known, sessions)
        return _rows(asked.session, asked.ticker, asked.answer.probability_up.ravel(), asked.answer)
    answers, served = model.held_out, model.calibrated(model.held_out)
    probability = expit(model.platt.scale * answers.logit + model.platt.bias)
    return _rows(answers.session, answers.ticker.astype(object), probability, served)


def _rows(session: Any, ticker: np.ndarray, probability_up: np.ndarray, served: Any) -> pd.DataFrame:
    columns: dict[str, object] = {
        "session": session,
        "ticker": ticker,
        "probability_up": probability_up,
        "excess_return": np.asarray(served.excess_return, dtype=np.float64).ravel(),
    }
    for names, quantiles in (
        (QUANTILE_COLUMNS, served.return_quantiles),
        (QUANTILE_5D_COLUMNS, served.return_quantiles_5d),
    ):
        columns |= dict(zip(names, np.asarray(quantiles, dtype=np.float64).T, strict=True))
    return pd.DataFrame(columns)
