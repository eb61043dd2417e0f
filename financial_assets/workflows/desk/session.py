"""What a desk trades by on one session: the stored signals, their evidence after costs, prices, sectors, warnings.

Everything is as it was known at the close of that session, also when an earlier one is asked for. It is read, never
made: signals come from the asset ``daily_signals``, which asks the champion through the gateway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from financial_assets.errors import SignalsError
from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.outcomes import join_outcomes, outcome_frame
from financial_assets.installation.ab_test import ABTestState
from financial_assets.installation.market import MarketState
from financial_assets.market.panel import PricePanel
from financial_assets.monitoring.metrics import open_log
from financial_assets.portfolio.costs import BASIS_POINT
from financial_assets.portfolio.trade_edge import EdgeEvidence, edge_evidence, expected_return
from financial_assets.serving.signal_files import has_signals, read_signals
from financial_assets.serving.signals import missing_heads
from financial_assets.workflows.signals import doubtful_bars, no_signal

MAKE_SIGNALS = (
    "make them with `financial-assets run` (the first time) or the job `daily` (`dagster job execute -m "
    "financial_assets.definitions -j daily`)"
)
_FORECASTS = ("session", "ticker", "status", "probability_up", "q05", "q50", "q95", "q05_5d", "q50_5d", "q95_5d")
_RECENT = pd.Timedelta(days=400)
"""How far back the last close of a ticker that is halted is looked for."""


@dataclass(frozen=True, eq=False)
class DeskSession:
    """One session, as a desk sees it.

    Attributes
    ----------
    as_of, target
        The session at whose close all of it was known, and the one that the signals are about.
    signals
        Columns of ``SIGNAL_SCHEMA``, sorted by ticker.
    arm
        The model version behind the signals, in its latest role.
    epoch
        The current weight epoch of the experiment.
    past
        That model's answered forecasts of earlier sessions after its data cut-off: ``session``, ``ticker``,
        ``probability_up`` and quantiles of one and five sessions.
    evidence
        What such forecasts have earned; ``None`` with too few sessions.
    cost_per_side
        Share of the traded value.
    panel
        Prices up to ``as_of``.
    prices
        Last close of each ticker, as the source gives it, in its currency.
    sectors
        Ticker -> sector, where a universe file names it.
    without_signal
        Ticker -> why it has none.
    warnings
        Ticker -> sentences about doubtful bars behind its signal.
    remarks
        What is to be known about all signals.
    """

    as_of: pd.Timestamp
    target: pd.Timestamp
    signals: pd.DataFrame
    arm: Arm
    epoch: WeightEpoch
    past: pd.DataFrame
    evidence: EdgeEvidence | None
    cost_per_side: float
    panel: PricePanel
    prices: Mapping[str, float]
    sectors: Mapping[str, str]
    without_signal: Mapping[str, str]
    warnings: Mapping[str, tuple[str, ...]]
    remarks: tuple[str, ...]

    @cached_property
    def by_ticker(self) -> dict[str, dict[str, Any]]:
        """Ticker -> its row of ``signals``."""
        rows = ({str(name): value for name, value in row.items()} for row in self.signals.to_dict("records"))
        return {str(row["ticker"]): row for row in rows}


def current_session(market: MarketState) -> pd.Timestamp:
    """The session of the market clock, which must have stored signals.

    Raises
    ------
    SignalsError
        It has none; says whether older ones are there, and what makes them.
    MarketDataError
        The clock was never started: nothing was run yet.
    """
    now = market.clock().now()
    folder = market.folder / "signals"
    if has_signals(folder, now):
        return now
    stored = stored_sessions(market)
    if stored and (older := [session for session in stored if session < now]):
        raise SignalsError(
            f"there are no signals of the current session {now:%Y-%m-%d}; the newest are of {older[-1]:%Y-%m-%d}",
            stale=True,
            fix=MAKE_SIGNALS,
        )
    raise SignalsError(f"there are no signals of the current session {now:%Y-%m-%d}", stale=False, fix=MAKE_SIGNALS)


def stored_sessions(market: MarketState) -> list[pd.Timestamp]:
    """Sessions with stored signals, sorted."""
    return sorted(pd.Timestamp(path.stem) for path in (market.folder / "signals").glob("????-??-??.parquet"))


def load_session(market: MarketState, ab_test: ABTestState, session: pd.Timestamp) -> DeskSession:
    """Everything about ``session``.

    Raises
    ------
    SignalsError
        It has no stored signals.
    MarketDataError, LogError, ExperimentError
        Prices, or the log, cannot be read.
    """
    signals = read_signals(market.folder / "signals", session)
    if signals is None:
        raise SignalsError(f"there are no signals of {session:%Y-%m-%d}", stale=False, fix=MAKE_SIGNALS)
    model = str(signals["model"].iloc[0])
    with open_log(ab_test.log_url) as log:
        epoch = ab_test.current_epoch(log)
        arm = _arm(model, log.epochs(epoch.experiment))
        direct = log.direct((model,), until=session, columns=_FORECASTS)
    panel = market.load_panel().until(session)
    answered = (direct["status"] == "ok") & (direct["session"] > arm.data_cutoff)
    past = direct[answered].drop(columns="status").reset_index(drop=True)
    notes = doubtful_bars(panel, market)
    reasons = no_signal(panel, market, [name for name in market.tickers if name not in set(signals["ticker"])])
    remarks = [missing_heads(signals)]
    if model != epoch.champion.model:
        remarks.append(f"The signals are of {model}; the champion is now {epoch.champion.model}.")
    universe = market.universe()
    return DeskSession(
        as_of=session,
        target=pd.Timestamp(signals["target_session"].iloc[0]),
        signals=signals,
        arm=arm,
        epoch=epoch,
        past=past,
        evidence=_evidence(past, panel),
        cost_per_side=ab_test.cost_bps * BASIS_POINT,
        panel=panel,
        prices=_last_closes(market, session),
        sectors={} if universe is None else universe.sectors(session),
        without_signal=reasons,
        warnings={
            ticker: tuple(note.sentence for note in notes if note.ticker == ticker) for ticker in signals["ticker"]
        },
        remarks=tuple(filter(None, remarks)),
    )


def _arm(model: str, epochs: tuple[WeightEpoch, ...]) -> Arm:
    found = [arm for epoch in epochs if (arm := epoch.arm(model)) is not None]
    if not found:
        raise SignalsError(
            f"the signals are of {model}, which never took part in the experiment", stale=True, fix=MAKE_SIGNALS
        )
    return found[-1]


def _evidence(past: pd.DataFrame, panel: PricePanel) -> EdgeEvidence | None:
    """What the model's forecasts have earned by the panel's last session."""
    due = join_outcomes(past, outcome_frame(panel))
    due = due[due["traded_return"].notna()]
    if due.empty:
        return None
    expected = expected_return(due["probability_up"], due["q05"], due["q95"])
    return edge_evidence(expected, due["traded_return"].to_numpy(np.float64), due["session"].to_numpy())


def _last_closes(market: MarketState, session: pd.Timestamp) -> dict[str, float]:
    bars = market.store().read(market.tickers, (session - _RECENT).date(), session.date())
    closes = bars.sort_values("date").groupby("ticker")["close"].last()
    return {str(ticker): float(close) for ticker, close in closes.items()}
