"""The panel on disk, with what is needed to add the next session to it."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from financial_assets.atomic import atomic_path
from financial_assets.market.panel import PricePanel, panel_of
from financial_assets.market.panels.layout import CHANNELS, Layout
from financial_assets.market.panels.lineage import Lineage


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


_BASIS, _LINEAGE = TypeAdapter(Basis), TypeAdapter(Lineage)


@dataclass(frozen=True, eq=False)
class StoredPanel:
    """A layout, its basis, what it has in common with the panels stored before, and covariates behind its channels.

    These are ``[ticker, covariate, session]``.
    """

    layout: Layout
    basis: Basis
    lineage: Lineage = field(default_factory=Lineage)
    covariates: tuple[str, ...] = ()
    levels: np.ndarray | None = None

    @property
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
        adjusted, growth, belongs = layout.adjusted[:, :count], layout.growth[:count], layout.belongs[:, :count]
        return StoredPanel(Layout(layout.tickers, panel.sessions, panel.values, adjusted, growth, belongs), self.basis)

    def save(self, path: Path) -> None:
        """Write to ``path``, atomically, so that ``PricePanel.load`` reads the panel."""
        layout = self.layout
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                **self.panel.arrays(),
                adjusted=layout.adjusted,
                growth=layout.growth,
                belongs=layout.belongs,
                basis=np.frombuffer(_BASIS.dump_json(self.basis), dtype=np.uint8),
                lineage=np.frombuffer(_LINEAGE.dump_json(self.lineage), dtype=np.uint8),
            )

    @classmethod
    def load(cls, path: Path) -> StoredPanel | None:
        """What ``save`` wrote.

        ``None`` where nothing can be added to what is there: no file, one of an earlier version, or a damaged one. The
        panel is made of the price store alone, so that it can always be made anew.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as held:
                layout = Layout(
                    tickers=tuple(map(str, held["tickers"])),
                    sessions=pd.DatetimeIndex(held["days"].astype("datetime64[D]").astype("datetime64[ns]")),
                    # Covariates are looked up again each time: their tables may have grown.
                    values=np.ascontiguousarray(held["values"][:, : len(CHANNELS)]),
                    adjusted=held["adjusted"],
                    growth=held["growth"],
                    belongs=held["belongs"],
                )
                basis, lineage = held["basis"].tobytes(), held["lineage"].tobytes()
                return cls(layout, _BASIS.validate_json(basis), _LINEAGE.validate_json(lineage))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, ValidationError):
            return None
