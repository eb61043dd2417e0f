"""How much calmer the calibration block was than the years before it, as simple forecasters of the question see it.

A test lasts as long as a year, and the block that its spread is measured on is often a calm half-year. Two forecasters
that need no fit are compared over the whole past by the same metric: where their daily differences vary more than in
the block, so will those of the two models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.experiment.metrics.metric import Metric, Question
from financial_assets.experiment.metrics.paired import paired_days
from financial_assets.experiment.outcomes import outcome_frame
from financial_assets.experiment.prediction_log.schema import QUANTILE_5D_COLUMNS, QUANTILE_COLUMNS
from financial_assets.market.panel import PricePanel
from financial_assets.scoring.autocorrelation import autocorrelation_effect, automatic_lags

FEWEST_BLOCK_DAYS = 20
LEAST_PAST = 3
"""The past must be so many times as long as the block to say what is usual."""

_TAIL = 0.01
"""Share of days at either end that is moved to the border of the rest: one crash must not be what is usual."""
_WINDOW = 20
_CONFIDENCE = 0.02


@dataclass(frozen=True, slots=True)
class LongRun:
    """What the past says of days to come.

    Attributes
    ----------
    regime
        Standard deviation of days of the whole past over that of the block, at least 1.
    inflation
        Variance of a mean of days over that of independent ones, at least 1.
    """

    regime: float
    inflation: float


def long_run_of(metric: Metric, panel: PricePanel, block: pd.DatetimeIndex) -> LongRun:
    """How the two simple forecasters' daily differences vary in the whole past.

    Parameters
    ----------
    metric
        By which they are compared.
    panel
        Prices up to where the block is settled: nothing later is read.
    block
        Sessions of the block.

    Returns
    -------
    LongRun
        1 and 1 where block or past are too short to tell, or the two never differ: then nothing is known to be unusual.
    """
    first, second = _simple_forecasters(metric.question, panel)
    known = outcome_frame(panel, scaled=True)
    days = paired_days(first.merge(known, on=["session", "ticker"]), second, metric)
    inside = days.sessions.isin(block)
    if inside.sum() < FEWEST_BLOCK_DAYS or len(days) < LEAST_PAST * inside.sum():
        return LongRun(1.0, 1.0)
    past, now = (_without_tails(values) for values in (days.differences, days.differences[inside]))
    regime = max(float(np.std(past, ddof=1) / np.std(now, ddof=1)), 1.0) if np.ptp(now) > 0 else 1.0
    return LongRun(regime, inflation_of(days.differences, metric.horizon))


def inflation_of(days: np.ndarray, horizon: int) -> float:
    """Variance of the mean of days over that of independent ones, at least 1; 1 where there are too few to tell.

    Bartlett's weights take little more than half of what outcomes of h sessions share when they reach h - 1 days: twice
    h are used where outcomes overlap.
    """
    lags = max(automatic_lags(len(days)), 2 * horizon if horizon > 1 else 0)
    enough = len(days) > lags + 1 and np.ptp(days) > 0
    return autocorrelation_effect(days, lags) if enough else 1.0


def _without_tails(days: np.ndarray) -> np.ndarray:
    return np.clip(days, *np.quantile(days, [_TAIL, 1 - _TAIL]))


def _simple_forecasters(question: Question, panel: PricePanel) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two forecasters that answer the question differently: ``session``, ``ticker``, and its answers."""
    if question == "risk":
        return _risk(panel)
    from financial_assets.models.baselines.ranks import RANK_RULES, excess_move

    moves = {name: sign * excess_move(panel, sessions) for name, (sessions, sign) in RANK_RULES.items()}
    first, second = (
        _rows(panel, {"excess_return": move, "probability_up": 0.5 + _CONFIDENCE * np.sign(move)})
        for move in moves.values()
    )
    return first, second


def _risk(panel: PricePanel) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Normal quantiles of RiskMetrics' volatility, and of the root mean square of the last month."""
    from financial_assets.models.risk.bars import RiskBars, trailing_mean
    from financial_assets.models.risk.simple import normal_multiples

    bars = RiskBars.of(panel)
    first, second = (
        _rows(panel, _quantiles(volatility, normal_multiples()))
        for volatility in (bars.ewma, np.sqrt(trailing_mean(np.square(bars.returns), _WINDOW)))
    )
    return first, second


def _quantiles(volatility: np.ndarray, multiples: np.ndarray) -> dict[str, np.ndarray]:
    columns = zip((*QUANTILE_COLUMNS, *QUANTILE_5D_COLUMNS), (*multiples, *(5**0.5 * multiples)), strict=True)
    return {name: volatility * multiple for name, multiple in columns}


def _rows(panel: PricePanel, answers: Mapping[str, np.ndarray]) -> pd.DataFrame:
    ticker, session = np.nonzero(panel.valid)
    columns = {name: values[ticker, session] for name, values in answers.items()}
    names = np.array(panel.tickers, dtype=object)[ticker]
    return pd.DataFrame({"session": panel.sessions[session], "ticker": names, **columns})
