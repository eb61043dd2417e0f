"""Signals of the champion, put together from the resources: the asset and the command ``signal`` both ask this way."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from financial_assets.market.panel import PricePanel
from financial_assets.resources.experiment import Experiment
from financial_assets.resources.serving import Serving
from financial_assets.serving.signals import ask_signals

__all__ = ["ask_champion"]


def ask_champion(
    panel: PricePanel, serving: Serving, ab_test: Experiment, tickers: Sequence[str] | None = None
) -> pd.DataFrame:
    """Signals of the champion in force for ``tickers`` (default: all); see ``serving.signals.ask_signals``."""
    with ab_test.log() as log:
        champion = ab_test.current_epoch(log).champion
    with serving.connect() as client:
        return ask_signals(client, panel, model=champion.model, version=champion.version, tickers=tickers)
