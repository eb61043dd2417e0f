"""What an external model answers on sessions of the past: it has no training whose answers could have been kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from financial_assets.market.panel import PricePanel
from financial_assets.models.external.windows import WINDOWS_AT_ONCE, complete_windows, windows_at
from financial_assets.models.onnx.export import OUTPUT_NAMES, OnnxAnswer, onnx_session, run_onnx


@dataclass(frozen=True, eq=False)
class PastAnswers:
    """Answers to windows of the past.

    Attributes
    ----------
    session, ticker
        Last session (tz-naive) and ticker of each window ``[n]``.
    answer
        Outputs ``[n, width]``.
    """

    session: pd.DatetimeIndex
    ticker: np.ndarray
    answer: OnnxAnswer


@dataclass(frozen=True)
class ExternalGraph:
    """The file of a registered external model.

    Attributes
    ----------
    path
        The ``.onnx`` file.
    cutoff
        Data cut-off of its card: it may have learned from every session up to this one.
    """

    path: Path
    cutoff: pd.Timestamp

    def answers(self, panel: PricePanel, sessions: pd.DatetimeIndex) -> PastAnswers:
        """What it answers at the close of ``sessions``, of every ticker that traded and has a whole window.

        Raises
        ------
        ExternalModelError
            No ticker of the panel has a whole window in any session.
        OSError
            The file cannot be read.
        """
        ticker, session = complete_windows(panel)
        wanted = panel.sessions[session].isin(sessions)
        ticker, session = ticker[wanted], session[wanted]
        graph = onnx_session(self.path)
        firsts = range(0, len(ticker), WINDOWS_AT_ONCE)
        parts = [
            run_onnx(
                graph,
                windows_at(panel, ticker[first : first + WINDOWS_AT_ONCE], session[first : first + WINDOWS_AT_ONCE]),
            )
            for first in firsts
        ]
        joined = {
            name: np.concatenate([np.asarray(getattr(part, name)) for part in parts]) for name in OUTPUT_NAMES if parts
        }
        names = np.array(panel.tickers, dtype=object)[ticker]
        return PastAnswers(panel.sessions[session], names, OnnxAnswer(**joined))
