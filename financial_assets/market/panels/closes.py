"""What a decision's outcomes are made of: adjusted closes from a session on, with a digest that names them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from financial_assets.chain import canonical
from financial_assets.market.log.history import Change
from financial_assets.market.panel import CHANNELS, PricePanel


@dataclass(frozen=True, eq=False)
class Closes:
    """Adjusted closes of a universe.

    Attributes
    ----------
    tickers
        Rows.
    sessions
        Columns.
    values
        float32 ``[ticker, session]``.
    traded
        bool ``[ticker, session]``: false where an earlier close is carried on.
    """

    tickers: tuple[str, ...]
    sessions: pd.DatetimeIndex
    values: np.ndarray
    traded: np.ndarray

    @classmethod
    def after(cls, panel: PricePanel, session: pd.Timestamp) -> Closes:
        """Those of a panel after ``session``."""
        first = int(panel.sessions.searchsorted(session, side="right"))
        values = np.ascontiguousarray(panel.values[:, CHANNELS.index("close"), first:], dtype="<f4")
        return cls(panel.tickers, panel.sessions[first:], values, np.ascontiguousarray(panel.valid[:, first:], bool))

    @property
    def digest(self) -> str:
        """SHA-256 of the tickers (a line each), days since 1970 (64 bits), closes (32) and whether traded (8)."""
        digest = hashlib.sha256("".join(f"{ticker}\n" for ticker in self.tickers).encode())
        digest.update(self.sessions.to_numpy().astype("datetime64[D]").astype("<i8").tobytes())
        digest.update(self.values.tobytes())
        digest.update(self.traded.astype(np.uint8).tobytes())
        return digest.hexdigest()

    def document(self) -> dict[str, Any]:
        """Plain JSON values; each close reads back to the same 32 bits."""
        return {
            "tickers": list(self.tickers),
            "sessions": [f"{day:%Y-%m-%d}" for day in self.sessions],
            "closes": self.values.astype(np.float64).tolist(),
            "traded": self.traded.astype(int).tolist(),
        }


def history_lines(changes: Sequence[Change]) -> list[str]:
    """The history of a price store as lines of canonical JSON: what changed when, and the content's hash after it."""
    lines: list[str] = []
    for change in changes:
        days = {name: None if (day := getattr(change, name)) is None else day.isoformat() for name in ("first", "last")}
        lines.append(canonical({**asdict(change), **days, "known_at": change.known_at.isoformat()}))
    return lines


def history_digest(changes: Sequence[Change]) -> str:
    """SHA-256 of :func:`history_lines`, each with its line break."""
    return hashlib.sha256("".join(f"{line}\n" for line in history_lines(changes)).encode()).hexdigest()
