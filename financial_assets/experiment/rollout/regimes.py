"""The regime of a request: what a policy splits traffic by, known before the session's first bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from financial_assets.errors import ExperimentError
from financial_assets.experiment.allocation.regimes import Regime
from financial_assets.experiment.plan.policy import RolloutPolicy
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.scoring.regimes import trend_directions, volatility_terciles

_AFTER_THE_CLOSE = "closed"
"""The graph predicts after the close, so all of its requests have the same time of day."""


@dataclass(frozen=True)
class RequestRegimes:
    """The regime of every session and ticker.

    Parameters
    ----------
    policy
        The dimensions, and the sectors.
    panel
        Prices: volatility and trend of a session are those of the market level on the sessions before it.
    """

    policy: RolloutPolicy
    panel: PricePanel

    def label(self, session: pd.Timestamp, ticker: str) -> str | None:
        """The regime of a request; ``None`` while there is too little history, or for a session not in the panel."""
        values = {name: self._value(name, session, ticker) for name in self.policy.traffic.regimes}
        present = {name: value for name, value in values.items() if value is not None}
        return Regime.of(**present).label if len(present) == len(values) else None

    def labels(self, session: pd.Timestamp, tickers: Sequence[str]) -> dict[str, str]:
        """Ticker -> label, for tickers whose regime is known."""
        return {ticker: label for ticker in tickers if (label := self.label(session, ticker)) is not None}

    def _value(self, dimension: str, session: pd.Timestamp, ticker: str) -> str | None:
        if dimension == "sector":
            return self.policy.traffic.sectors.get(ticker)
        if dimension == "time":
            return _AFTER_THE_CLOSE
        column = self._columns.get(session)
        return None if column is None else self._market[dimension][column]

    @cached_property
    def _columns(self) -> dict[pd.Timestamp, int]:
        return {session: column for column, session in enumerate(self.panel.sessions)}

    # Both look at the sessions before their own only, so that a request's regime is known when it is sent.
    @cached_property
    def _market(self) -> dict[str, list[str | None]]:
        level = self.panel.values[0, CHANNELS.index("market")].astype(np.float64)
        return {"volatility": volatility_terciles(level), "trend": trend_directions(level)}


def request_regimes(policy: RolloutPolicy, panel: PricePanel) -> RequestRegimes | None:
    """The regimes of a panel's requests; ``None`` if the policy does not split by regime.

    Raises
    ------
    ExperimentError
        A ticker has no sector, and the policy splits by sector.
    """
    if not policy.traffic.regimes:
        return None
    without_sector = [ticker for ticker in panel.tickers if ticker not in policy.traffic.sectors]
    if "sector" in policy.traffic.regimes and without_sector:
        raise ExperimentError(
            f"{', '.join(without_sector)} {'has' if len(without_sector) == 1 else 'have'} no sector: add to "
            "traffic.sectors of the rollout policy, or take sector out of traffic.regimes"
        )
    return RequestRegimes(policy, panel)
