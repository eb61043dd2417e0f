"""What two models, and the baselines, answer on days that are no evidence of a test between the two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from financial_assets.experiment.prediction_log.schema import QUANTILE_5D_COLUMNS, QUANTILE_COLUMNS
from financial_assets.market.panel import PricePanel
from financial_assets.models.baselines.fitted import Baselines
from financial_assets.models.baselines.history import predict_last
from financial_assets.models.external.answers import ExternalGraph
from financial_assets.models.request_shape import SERVED_LOOKBACK
from financial_assets.models.training import Training

CALIBRATION = "the calibration block"
BEFORE_THE_TEST = "the sessions before the test"

KnownModel = Training | ExternalGraph
"""A model whose answers on days that are no evidence are kept, or can be asked for."""

_YEAR = 252
_FEWEST_SESSIONS = 63
_MOST_WINDOWS = 50_000
"""Two graphs are asked about a year of the sessions before the test; of a large universe, about fewer."""


@dataclass(frozen=True, eq=False)
class Block:
    """The days that are no evidence.

    Attributes
    ----------
    known
        Prices up to the later of the two data cut-offs: by then every outcome of a calibration block is settled, and
        no evidence has begun.
    sessions
        The days: those of the block that calibrated a trained model, of two the champion's; for two external models
        the last ones of ``known``.
    name
        What they are, in words.
    """

    known: PricePanel
    sessions: pd.DatetimeIndex
    name: str

    @classmethod
    def of(cls, champion: KnownModel, challenger: KnownModel, panel: PricePanel) -> Block | None:
        """That of two models; ``None`` where no ticker has bars enough to ask a model about it."""
        until = max(champion.cutoff, challenger.cutoff)
        if until < panel.sessions[0]:
            return None
        known = panel.until(until)
        if not (known.listed_bars() >= SERVED_LOOKBACK).any():
            return None
        trained = [model for model in (champion, challenger) if isinstance(model, Training)]
        if trained:
            return cls(known, pd.DatetimeIndex(trained[0].held_out.session).unique().sort_values(), CALIBRATION)
        count = max(_FEWEST_SESSIONS, min(_YEAR, _MOST_WINDOWS // len(known.tickers)))
        return cls(known, known.sessions[-count:], BEFORE_THE_TEST)


def block_answers(model: KnownModel, block: Block) -> pd.DataFrame:
    """What a model answers on days that are no evidence, in the columns of an arm's rows.

    Those of a training are of its own calibration block; a graph is asked about the block's sessions.
    """
    if isinstance(model, ExternalGraph):
        asked = model.answers(block.known, block.sessions)
        return _rows(asked.session, asked.ticker, asked.answer.probability_up.ravel(), asked.answer)
    answers, served = model.held_out, model.calibrated(model.held_out)
    probability = expit(model.platt.scale * answers.logit + model.platt.bias)
    return _rows(answers.session, answers.ticker.astype(object), probability, served)


def block_predictions(
    fitted: Baselines, champion: KnownModel, challenger: KnownModel, panel: PricePanel
) -> pd.DataFrame | None:
    """What baselines answer in the block of two models; ``None`` without one, or if they were fitted after it.

    Parameters
    ----------
    fitted
        Baselines. Those of no later cut-off than a trained model's have learned from blocks before its calibration.
    champion, challenger
        What was kept of their trainings, or their graphs.
    panel
        Prices; those after the data cut-offs are not read.

    Raises
    ------
    TrainingError
        The baselines were fitted on other features.
    """
    block = Block.of(champion, challenger, panel)
    if block is None or pd.Timestamp(fitted.cutoff) > block.known.sessions[-1]:
        return None
    return predict_last(fitted, block.known, int((block.known.sessions >= block.sessions[0]).sum()))


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
