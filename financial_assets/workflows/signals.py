"""Signals of the champion, from the resources: for the asset ``daily_signals`` and the command ``signal``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from financial_assets.errors import InferenceError, MarketDataError
from financial_assets.experiment.evaluation.var_backtest import TAILS, TailBackTest, backtest_arm
from financial_assets.experiment.outcomes import join_outcomes, outcome_frame
from financial_assets.market.panel import PricePanel
from financial_assets.models.predictor import SERVED_LOOKBACK
from financial_assets.resources.ab_test import ABTest
from financial_assets.resources.market import Market
from financial_assets.resources.serving import Serving
from financial_assets.serving.client.transport import request_body
from financial_assets.serving.signals import ask_signals, check_signals, without_signal

__all__ = ["ask_champion", "champion_backtest", "champion_signal", "signal_request"]


def ask_champion(
    panel: PricePanel, serving: Serving, ab_test: ABTest, tickers: Sequence[str] | None = None
) -> pd.DataFrame:
    """Signals of the champion in force for ``tickers`` (default: all); see ``serving.signals.ask_signals``."""
    with ab_test.log() as log:
        champion = ab_test.current_epoch(log).champion
    with serving.connect() as client:
        return ask_signals(client, panel, model=champion.model, version=champion.version, tickers=tickers)


def signal_request(symbol: str, market: Market) -> bytes:
    """The V2 request, as JSON, that asks for the signal of one ticker at the market clock.

    Raises
    ------
    MarketDataError
        The universe has no such ticker, or it cannot have a signal; the text says why.
    """
    panel = _panel_with(symbol, market)
    _, bars = panel.windows(panel.sessions[-1], SERVED_LOOKBACK, [symbol])
    return request_body(bars)


def champion_backtest(symbol: str, market: Market, ab_test: ABTest) -> tuple[TailBackTest, ...]:
    """How the champion's value at risk of one ticker held so far, by tail; its p-values count its other tickers too.

    Empty before an outcome of its predictions is known.
    """
    with ab_test.log() as log:
        champion = ab_test.current_epoch(log).champion
        direct = log.direct((champion.model,), columns=("session", "ticker", "status", *TAILS))
    answered = direct[(direct["status"] == "ok") & (direct["session"] > champion.data_cutoff)]
    found = backtest_arm(champion.model, "champion", join_outcomes(answered, outcome_frame(market.panel())))
    return tuple(one for one in found if one.ticker == symbol)


def champion_signal(symbol: str, market: Market, serving: Serving, ab_test: ABTest) -> dict[str, Any]:
    """The signal of one ticker at the market clock, by the names of ``SIGNAL_SCHEMA``.

    Raises
    ------
    MarketDataError
        The universe has no such ticker, or it cannot have a signal; the text says why.
    ExperimentError
        There is no champion yet.
    ServingError
        The serving plane is not there, did not answer, or its answer is not sound.
    """
    panel = _panel_with(symbol, market)
    signals = ask_champion(panel, serving, ab_test, [symbol])
    failures = check_signals(signals, [symbol])
    if not failures.empty:
        raise InferenceError(f"the answer for {symbol} is not sound: {'; '.join(failures['problem'])}")
    return {str(name): value for name, value in signals.to_dict("records")[0].items()}


def _panel_with(symbol: str, market: Market) -> PricePanel:
    """The panel at the market clock, which holds enough bars of the ticker."""
    if symbol not in market.tickers:
        raise MarketDataError(f"TICKERS: {symbol} is not in the universe ({', '.join(market.tickers)})")
    panel = market.panel()
    reasons = without_signal(panel, [symbol])
    if reasons:
        raise MarketDataError(f"{symbol} {reasons[symbol]}")
    return panel
