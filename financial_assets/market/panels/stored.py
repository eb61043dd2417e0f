"""The panel on disk, with what is needed to add the next session to it."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from financial_assets.market.panel import PricePanel, panel_of
from financial_assets.market.panels.archive import joined, read_parts, write_tail, write_whole
from financial_assets.market.panels.layout import CHANNELS, Layout, as_days
from financial_assets.market.panels.lineage import Lineage
from financial_assets.market.panels.sections import Sections


@dataclass(frozen=True)
class Basis:
    """What a panel was laid out from.

    Attributes
    ----------
    changes, content_hash
        Number of the last change of the price store, and the store's hash after it.
    settings
        Calendar, tickers asked for, and the first and last day of what may be read.
    left_out
        Ticker to the days (ISO) of stored bars that are not used.
    """

    changes: int
    content_hash: str
    settings: tuple[str, ...]
    left_out: Mapping[str, tuple[str, ...]]


_LONGEST_TAIL = 64
"""Sessions: a quarter. Beyond, the whole is written anew."""

_MOST_ROWS = 0.2
"""Share of the tickers that the tail may hold from their first session on. Beyond, the whole is written anew."""

_BASIS, _LINEAGE = TypeAdapter(Basis), TypeAdapter(Lineage)


@dataclass(frozen=True, eq=False)
class StoredPanel:
    """A layout, its basis, what it has in common with the panels stored before, and covariates behind its channels.

    Attributes
    ----------
    whole, unchanged, rows
        Name of the whole panel on disk, how many of its first sessions this one has ("", 0: there is none), and the
        places of tickers that were laid out anew since: of them, it has none.
    covariates, levels
        Names, and float32 ``[ticker, covariate, session]``.
    """

    layout: Layout
    basis: Basis
    lineage: Lineage = field(default_factory=Lineage)
    whole: str = ""
    unchanged: int = 0
    rows: tuple[int, ...] = ()
    covariates: tuple[str, ...] = ()
    levels: np.ndarray | None = None

    @cached_property
    def panel(self) -> PricePanel:
        """The panel that everybody reads."""
        bars = panel_of(self.layout)
        if self.levels is None:
            return bars
        values = np.concatenate([bars.values, self.levels], axis=1)
        return PricePanel(bars.tickers, bars.sessions, values, bars.valid, covariates=self.covariates)

    def with_channels(self, panel: PricePanel) -> StoredPanel:
        """The same with the covariates of ``panel``, which has the same bars."""
        if not panel.covariates:
            return self
        return replace(self, covariates=panel.covariates, levels=panel.values[:, -len(panel.covariates) :])

    def until(self, session: pd.Timestamp) -> StoredPanel:
        """What was known after the close of ``session``, without covariates; see ``PricePanel.until``."""
        panel, layout = panel_of(self.layout).until(session), self.layout
        count = len(panel.sessions)
        if count == len(layout.sessions):
            return self
        values, adjusted = Sections([panel.values]), layout.adjusted.between(0, count)
        growth, belongs, digests = layout.growth[:count], layout.belongs[:, :count], layout.digests[:, :count]
        shorter = Layout(layout.tickers, panel.sessions, values, adjusted, growth, belongs, digests)
        return StoredPanel(shorter, self.basis)

    def save(self, path: Path) -> None:
        """Write to ``path``, atomically, so that ``PricePanel.load`` reads the panel.

        Where the whole panel that is there has most of it, only the rest is written: the last sessions, and tickers
        whose history was restated.
        """
        layout = self.layout
        count = len(layout.sessions)
        is_short = count - self.unchanged <= _LONGEST_TAIL and len(self.rows) <= _MOST_ROWS * len(layout.tickers)
        # Tables may say something else of any session than they did: with covariates nothing counts as unchanged.
        is_tail = bool(self.whole) and not self.covariates and is_short
        first = self.unchanged if is_tail else 0
        arrays = {
            "tickers": np.array(layout.tickers, dtype=np.str_),
            "days": as_days(layout.sessions)[first:],
            "valid": layout.valid_between(first, count),
            "adjusted": layout.adjusted.between(first, count).joined(),
            "growth": layout.growth,
            "belongs": layout.belongs[:, first:],
            # Of all sessions, in the tail, too: there are few bytes of them, and a restated ticker changes them all.
            "session_digests": self.panel.session_digests(),
            "basis": np.frombuffer(_BASIS.dump_json(self.basis), dtype=np.uint8),
            "lineage": np.frombuffer(_LINEAGE.dump_json(self.lineage), dtype=np.uint8),
        }
        if is_tail:
            values = layout.sections.between(first, count).joined()
            rows = np.array(self.rows, dtype=np.intp)
            restated = {
                "values": layout.sections.between(0, first).of_row(rows),
                "adjusted": layout.adjusted.between(0, first).of_row(rows),
                "valid": layout.valid_of(rows)[:, :first],
            }
            write_tail(path, self.whole, arrays | {"values": values}, first, rows, restated)
        else:
            write_whole(path, self.lineage.name, self.panel.arrays() | arrays)

    @classmethod
    def load(cls, path: Path) -> StoredPanel | None:
        """What ``save`` wrote.

        ``None`` where nothing can be added to what is there: no file, one of an earlier version, or a damaged one. The
        panel is made of the price store alone, so that it can always be made anew.
        """
        names = ("tickers", "days", "values", "adjusted", "growth", "belongs", "basis", "lineage")
        try:
            parts, base = read_parts(path, names, ("session_digests", "covariates"), ("values", "adjusted"))
            # With covariates, a session's digest is not that of its bars.
            digests = parts.pop("session_digests", ()) if not parts.pop("covariates", ()) else ()
            # Covariates are looked up again each time: their tables may have grown.
            values = Sections([part[:, : len(CHANNELS)] for part in parts.pop("values")])
            adjusted = Sections(parts.pop("adjusted"))
            held = {name: joined(part) for name, part in parts.items()}
            layout = Layout(
                tickers=tuple(map(str, held["tickers"])),
                sessions=pd.DatetimeIndex(held["days"].astype("datetime64[D]").astype("datetime64[ns]")),
                sections=values,
                adjusted=adjusted,
                growth=held["growth"],
                belongs=held["belongs"],
                **({"digests": digests[0]} if digests else {}),
            )
            basis = _BASIS.validate_json(held["basis"].tobytes())
            lineage = _LINEAGE.validate_json(held["lineage"].tobytes())
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, ValidationError):
            return None
        return cls(layout, basis, lineage, base.name, base.unchanged, base.rows)
