"""Which regime a request is in: what a policy's traffic is split by, known before the session's first bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from financial_assets.errors import ExperimentError
from financial_assets.experiment.allocation.regimes import (
    Regime,
    trend_directions,
    volatility_terciles,
)
from financial_assets.experiment.plan.policy import RolloutPolicy
from financial_assets.market.panel import CHANNELS, PricePanel

__all__ = ["RequestRegimes", "request_regimes"]

_AFTER_THE_CLOSE = "closed"
"""The graph predicts after the close, so its own requests are always of this part of the day."""


@dataclass(frozen=True)
class RequestRegimes:
    """The regime of every session and ticker.

    Parameters
    ----------
    policy
        Which dimensions, and the sectors.
    panel
        Prices: volatility and trend of a session are those of the market's level on the sessions before it.
    """

    policy: RolloutPolicy
    panel: PricePanel

    def of(self, session: pd.Timestamp, ticker: str) -> Regime | None:
        """The regime of a request; ``None`` while there is too little history, or for a session not in the panel."""
        values: dict[str, str] = {}
        for name in self.policy.traffic.regimes:
            value = self._value(name, session, ticker)
            if value is None:
                return None
            values[name] = value
        return Regime.of(**values)

    def label(self, session: pd.Timestamp, ticker: str) -> str | None:
        """Its label."""
        regime = self.of(session, ticker)
        return None if regime is None else regime.label

    def labels(self, session: pd.Timestamp, tickers: Sequence[str]) -> dict[str, str]:
        """Labels by ticker, of those whose regime is known."""
        return {ticker: label for ticker in tickers if (label := self.label(session, ticker)) is not None}

    def _value(self, name: str, session: pd.Timestamp, ticker: str) -> str | None:
        if name == "sector":
            return self.policy.traffic.sectors.get(ticker)
        if name == "time":
            return _AFTER_THE_CLOSE
        place = self._places.get(session)
        return None if place is None else self._market[name][place]

    @cached_property
    def _places(self) -> dict[pd.Timestamp, int]:
        return {session: place for place, session in enumerate(self.panel.sessions)}

    @cached_property
    def _market(self) -> dict[str, list[str | None]]:
        level = self.panel.values[0, CHANNELS.index("market")].astype(np.float64)
        return {"volatility": volatility_terciles(level), "trend": trend_directions(level)}


def request_regimes(policy: RolloutPolicy, panel: PricePanel) -> RequestRegimes | None:
    """The regimes of a panel's requests; ``None`` unless the policy asks for some.

    Raises
    ------
    ExperimentError
        A ticker has no sector, and the policy wants sectors.
    """
    if not policy.traffic.regimes:
        return None
    homeless = [ticker for ticker in panel.tickers if ticker not in policy.traffic.sectors]
    if "sector" in policy.traffic.regimes and homeless:
        raise ExperimentError(
            f"{', '.join(homeless)} {'has' if len(homeless) == 1 else 'have'} no sector: add to traffic.sectors of the "
            "rollout policy, or take sector out of traffic.regimes"
        )
    return RequestRegimes(policy, panel)
