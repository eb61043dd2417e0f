"""Signals of the champion with the configured resources: for the asset ``daily_signals`` and the command ``signal``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from financial_assets.errors import InferenceError, MarketDataError
from financial_assets.experiment.evaluation.var_backtest import TAILS, TailBackTest, backtest_arm
from financial_assets.experiment.outcomes import join_outcomes, outcome_frame
from financial_assets.installation.ab_test import ABTestState
from financial_assets.installation.market import MarketState
from financial_assets.installation.serving import ServingAccess
from financial_assets.market.panel import PricePanel
from financial_assets.market.quality.notes import QualityNote, explained
from financial_assets.models.request_shape import SERVED_LOOKBACK
from financial_assets.serving.client.transport import request_body
from financial_assets.serving.signal_files import read_signals
from financial_assets.serving.signals import ask_signals, check_signals, without_signal

_SAME_SCORE = 1e-5
"""Between one row and a batch of them, onnxruntime may add up in another order."""


def ask_champion(
    panel: PricePanel, serving: ServingAccess, ab_test: ABTestState, tickers: Sequence[str] | None = None
) -> pd.DataFrame:
    """Signals of the current champion for ``tickers`` (default: all); see ``serving.signals.ask_signals``."""
    with ab_test.log() as log:
        champion = ab_test.current_epoch(log).champion
    with serving.connect() as client:
        return ask_signals(client, panel, model=champion.model, version=champion.version, tickers=tickers)


def signals_as_of(
    session: pd.Timestamp, market: MarketState, serving: ServingAccess, ab_test: ABTestState
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Signals of the current champion as of the close of a past session, and the rows that break a rule.

    Raises
    ------
    MarketDataError
        The champion has learned from the session, or no ticker can have a signal for it.
    """
    with ab_test.log() as log:
        champion = ab_test.current_epoch(log).champion
    if session <= champion.data_cutoff:
        raise MarketDataError(
            f"{champion.model} has learned from sessions up to {champion.data_cutoff:%Y-%m-%d}: its signals for "
            f"{session:%Y-%m-%d} would know what came after"
        )
    found = checked_signals(session, market.panel(), market, serving, ab_test)
    if found is None:
        raise MarketDataError(f"no ticker can have a signal for {session:%Y-%m-%d}")
    return found


def checked_signals(
    session: pd.Timestamp, panel: PricePanel, market: MarketState, serving: ServingAccess, ab_test: ABTestState
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Signals of the champion as of a session's close, and the rows that break a rule; ``None`` if no ticker has one.

    Parameters
    ----------
    panel
        Prices up to that session or later.
    """
    then = panel.until(session)  # a signal must not see a later bar than its own session's
    expected = [name for name in market.tickers if name not in without_signal(then, market.tickers)]
    if not expected:
        return None
    signals = ask_champion(then, serving, ab_test)
    return signals, check_signals(signals, expected)


def doubtful_bars(panel: PricePanel, market: MarketState) -> tuple[QualityNote, ...]:
    """What is wrong with the bars that signals at the panel's last session rest on, and which tickers wait."""
    return market.quality_notes(panel.sessions[-SERVED_LOOKBACK:])


def no_signal(panel: PricePanel, market: MarketState, tickers: Sequence[str]) -> dict[str, str]:
    """Which of ``tickers`` cannot have a signal, and why: see ``serving.signals.without_signal``."""
    return explained(without_signal(panel, tickers), doubtful_bars(panel, market))


def signal_request(symbol: str, market: MarketState) -> bytes:
    """The V2 request, as JSON, for the signal of one ticker at the market clock.

    Raises
    ------
    MarketDataError
        The ticker is not in the universe or cannot have a signal; the message has the reason.
    """
    panel = _panel_with(symbol, market)
    _, bars = panel.windows(panel.sessions[-1], SERVED_LOOKBACK, [symbol])
    return request_body(bars)


def champion_backtest(symbol: str, market: MarketState, ab_test: ABTestState) -> tuple[TailBackTest, ...]:
    """Back-test of the champion's value at risk of one ticker, by tail; empty before the first outcome is known.

    Its p-values are adjusted for all tickers of the champion, so that they match those of the report.
    """
    with ab_test.log() as log:
        champion = ab_test.current_epoch(log).champion
        direct = log.direct((champion.model,), columns=("session", "ticker", "status", *TAILS))
    answered = direct[(direct["status"] == "ok") & (direct["session"] > champion.data_cutoff)]
    backtests = backtest_arm(champion.model, "champion", join_outcomes(answered, outcome_frame(market.panel())))
    return tuple(backtest for backtest in backtests if backtest.ticker == symbol)


def champion_signal(symbol: str, market: MarketState, serving: ServingAccess, ab_test: ABTestState) -> dict[str, Any]:
    """The signal of one ticker at the market clock: column of ``SIGNAL_SCHEMA`` -> value, ``None`` where it has none.

    ``rank`` is that of :func:`rank_of`.

    Raises
    ------
    MarketDataError
        The ticker is not in the universe or cannot have a signal; the message has the reason.
    ExperimentError
        There is no champion yet.
    ServingError
        The serving plane is down, did not answer, or its answer fails the checks.
    """
    panel = _panel_with(symbol, market)
    signals = ask_champion(panel, serving, ab_test, [symbol])
    failures = check_signals(signals, [symbol])
    if not failures.empty:
        raise InferenceError(f"the answer for {symbol} is not sound: {'; '.join(failures['problem'])}")
    values = {str(name): None if pd.isna(value) else value for name, value in signals.to_dict("records")[0].items()}
    return values | {"rank": None if (place := rank_of(values, market)) is None else place[0]}


def rank_of(values: Mapping[str, Any], market: MarketState) -> tuple[int, int] | None:
    """Place of a signal by its score, and the number of tickers, in the stored signals of its session.

    ``None`` unless ``daily_signals`` has stored this very signal: asked for alone, a ticker has no place.
    """
    score: float | None = values["score"]
    stored = None if score is None else read_signals(market.folder / "signals", values["as_of"])
    if score is None or stored is None:
        return None
    same = (stored[["ticker", "model", "version"]] == [values[name] for name in ("ticker", "model", "version")]).all(
        axis=1
    )
    rows = stored[same & np.isclose(stored["score"], score, rtol=0, atol=_SAME_SCORE)]
    return None if rows.empty else (int(rows["rank"].iloc[0]), len(stored))


def _panel_with(symbol: str, market: MarketState) -> PricePanel:
    """The panel at the market clock, once it is certain that the ticker can have a signal."""
    if symbol not in market.tickers:
        raise MarketDataError(f"TICKERS: {symbol} is not in the universe ({', '.join(market.tickers)})")
    panel = market.panel()
    reasons = no_signal(panel, market, [symbol])
    if reasons:
        raise MarketDataError(f"{symbol} {reasons[symbol]}")
    return panel
