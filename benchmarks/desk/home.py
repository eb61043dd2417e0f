"""A state folder as a finished run leaves it, made in seconds: simulated prices, forecasts by volatility alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from financial_assets.experiment.arms import Arm
from financial_assets.experiment.prediction_log.records import Forecast, Result
from financial_assets.installation import Installation, open_installation
from financial_assets.market.calendar import next_session
from financial_assets.market.panel import PricePanel
from financial_assets.models.training_data import panel_volatility
from financial_assets.scoring.quantiles import QUANTILE_LEVELS
from financial_assets.serving.client.answers import Answer
from financial_assets.serving.signal_files import save_signals
from financial_assets.serving.signals import make_signals
from financial_assets.settings import load_settings

MODEL = "baseline-predictor-v1"
_NORMAL = np.array([-2.3263, -1.6449, 0.0, 1.6449, 2.3263])
assert len(_NORMAL) == len(QUANTILE_LEVELS)


def make_home(
    home: Path,
    tickers: Sequence[str] = ("AAA", "BBB", "CCC"),
    *,
    sessions: int = 900,
    replayed: int = 150,
    heads: bool = True,
    foresight: float = 0.0,
    settings: Mapping[str, Any] | None = None,
) -> Installation:
    """Prices, clock, prediction log and signals of the clock's session below ``home``.

    Parameters
    ----------
    home
        State folder; made.
    tickers
        Universe.
    sessions
        Simulated ones; the clock stands before the last fifth.
    replayed
        Sessions with forecasts in the log, up to the one before the clock.
    heads
        Whether the model answers for five sessions and ranks.
    foresight
        Probability of up is 0.5 plus or minus this, by what will happen (0: a coin that knows nothing).
    settings
        Further ones, by field name.
    """
    chosen = {
        "financial_assets_home": home,
        "price_source": "simulated",
        "simulated_sessions": sessions,
        "tickers": ",".join(tickers),
        **(settings or {}),
    }
    installation = open_installation(load_settings(**chosen))
    market, ab_test = installation.market, installation.ab_test
    market.ingest()
    whole = market.whole_panel()
    market.begin(whole.sessions)
    panel = market.panel()
    market.panel_path.parent.mkdir(parents=True, exist_ok=True)
    panel.save(market.panel_path)
    first = len(panel.sessions) - 1 - replayed
    arm = Arm(MODEL, "baseline", 1, "champion", 100, panel.sessions[first - 1])
    probabilities = _probabilities(panel, foresight)
    with ab_test.log() as log:
        log.open_epoch(ab_test.policy().experiment, (arm,), "start", after=0)
        for place in range(first, len(panel.sessions) - 1):
            answer = _answer(panel, place, probabilities, heads)
            session = panel.sessions[place]
            intents = log.begin_direct((arm,), session, next_session(session), panel.tickers)
            rows = {ticker: row for row, ticker in enumerate(panel.tickers)}
            log.complete_direct(
                [Result(id=intent.id, forecast=_forecast(answer, rows[intent.ticker])) for intent in intents]
            )
    write_signals(installation, probabilities=probabilities, heads=heads)
    return installation


def write_signals(
    installation: Installation, *, probabilities: np.ndarray | None = None, heads: bool = True, at: int = -1
) -> pd.Timestamp:
    """Signals of the clock's session (or of the session at place ``at`` of the panel); returns it."""
    panel = installation.market.panel()
    known = _probabilities(panel, 0.0) if probabilities is None else probabilities
    answer, session = _answer(panel, at, known, heads), panel.sessions[at]
    signals = make_signals(panel.tickers, answer, as_of=session, model=MODEL, version=1)
    folder = installation.market.folder / "signals"
    folder.mkdir(parents=True, exist_ok=True)
    save_signals(signals, folder)
    return session


def _probabilities(panel: PricePanel, foresight: float) -> np.ndarray:
    """Of up ``[ticker, session]``: a coin's, or one that looks ahead."""
    shape = (len(panel.tickers), len(panel.sessions))
    coin = np.random.default_rng(7).normal(0.5, 0.02, shape).clip(0.4, 0.6)
    if foresight == 0:
        return coin
    opening = panel.values[:, 0].astype(np.float64)
    ahead = np.full(shape, 1.0)
    ahead[:, :-2] = np.sign(opening[:, 2:] / opening[:, 1:-1] - 1)
    return 0.5 + foresight * ahead


def _answer(panel: PricePanel, place: int, probabilities: np.ndarray, heads: bool) -> Answer:
    volatility = panel_volatility(panel).double().numpy()[:, place]
    quantiles = volatility[:, None] * _NORMAL
    # Two tickers of one volatility would have one score: ranks need an order.
    score = (probabilities[:, place] - 0.5) + 1e-6 * np.arange(len(volatility))
    return Answer(
        probabilities[:, place],
        quantiles,
        MODEL,
        1,
        MODEL,
        0.001,
        "an-id",
        return_quantiles_5d=quantiles * 5**0.5 if heads else None,
        excess_return=score if heads else None,
    )


def _forecast(answer: Answer, row: int) -> Forecast:
    later, score = answer.return_quantiles_5d, answer.excess_return
    return Forecast(
        float(answer.probability_up[row]),
        tuple(map(float, answer.return_quantiles[row])),
        None if later is None else tuple(map(float, later[row])),
        None if score is None else float(score[row]),
    )
