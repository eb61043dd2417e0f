"""Covariates of one installation: their names in the order of their channels, and their values at each session."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.errors import MarketDataError
from financial_assets.market import calendar
from financial_assets.market.covariates.sectors import sector_levels
from financial_assets.market.covariates.tables import LARGEST_VALUE, known_values
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.market.universe import Universe

MOST = 16
"""Most covariates: a request carries each of them for every bar, and its size has a limit."""

SECTOR = "sector"
"""Name of the channel with the index of the peers in a ticker's sector."""

BAR_AGE = pd.Timedelta(days=15)
"""How long the close of another ticker stays, counted from its session."""

MAX_AGE = pd.Timedelta(days=180)
"""How long a value of a table stays, counted from when it became known."""

_NAMED = 5
"""Most tickers that a sentence names."""

_LAG = re.compile(r"(?P<name>.+)\[-(?P<lag>[1-9])\]")
_SPREAD = re.compile(r"(\S+) ([-/]) (\S+)")


@dataclass(frozen=True)
class Covariates:
    """What is known beside the bars of the universe.

    Attributes
    ----------
    entries
        As in the setting ``COVARIATES``: tickers, and spreads ``A - B`` or ratios ``A / B`` of tickers or names; any of
        them may be that of some sessions before, ``A[-1]``.
    table
        See ``tables.read_tables``; ``None`` without files. Every name in it is a covariate.
    sector
        Whether the index of each ticker's sector is one.
    max_age
        How long a value of the table stays.
    """

    entries: tuple[str, ...] = ()
    table: pd.DataFrame | None = None
    sector: bool = False
    max_age: pd.Timedelta = MAX_AGE

    def __post_init__(self) -> None:
        if SECTOR in self._tabled:
            raise MarketDataError(f"COVARIATE_FILES: {SECTOR} is the name of the sector's index; choose another name")
        for entry in self.entries:
            parts = _parts(entry)
            unsuitable = [name for name in self._tickers_of(entry) if not name.startswith("^")]
            if "-" in parts[1:2] and unsuitable:
                raise MarketDataError(
                    f"COVARIATES: {entry}: each dividend rescales the adjusted prices of {unsuitable[0]}, and so this "
                    f"difference; take the ratio, {entry.replace(' - ', ' / ')}"
                )
        if len(self.names) > MOST:
            raise MarketDataError(
                f"COVARIATES and COVARIATE_FILES: {len(self.names)} covariates ({', '.join(self.names)}); at most "
                f"{MOST} are possible"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of their channels: tickers and spreads as set, names of tables sorted, the sector."""
        entries = [entry for entry in self.entries if entry.lower() not in self._tabled]
        return tuple(dict.fromkeys([*entries, *self._tabled, *([SECTOR] if self.sector else [])]))

    @property
    def tickers(self) -> tuple[str, ...]:
        """Tickers whose bars are needed, each once."""
        return tuple(dict.fromkeys(ticker for entry in self.entries for ticker in self._tickers_of(entry)))

    @property
    def _tabled(self) -> list[str]:
        return [] if self.table is None else sorted(map(str, self.table["name"].unique()))

    def _tickers_of(self, entry: str) -> list[str]:
        names = [_lagged(part)[0] for part in _parts(entry)[::2]]
        return [name for name in names if name.lower() not in self._tabled]

    def extend(self, panel: PricePanel, prices: pd.DataFrame, universe: Universe | None) -> PricePanel:
        """The panel with these covariates as further channels.

        Parameters
        ----------
        panel
            Bars of the universe.
        prices
            Bars of ``tickers``: a price frame.
        universe
            Says who belongs to which sector.

        Raises
        ------
        MarketDataError
            A ticker has no bars, a spread divides by something that is not positive, or there are no sectors.
        """
        if not self.names:
            return panel
        values = np.empty((len(panel.tickers), len(self.names), len(panel.sessions)))
        for place, name in enumerate(self.names):
            if name == SECTOR:
                values[:, place] = self._sectors(panel, universe)
            elif name in self.entries:
                values[:, place] = self._entry(name, panel, prices)
            else:
                values[:, place] = self._named(name, panel)
            if (np.abs(values[:, place]) > LARGEST_VALUE).any():
                raise MarketDataError(f"COVARIATES: {name} has values beyond {LARGEST_VALUE:g}; choose a larger unit")
        return PricePanel(
            panel.tickers,
            panel.sessions,
            np.concatenate([panel.values, values.astype(np.float32)], axis=1),
            panel.valid,
            covariates=self.names,
        )

    def _sectors(self, panel: PricePanel, universe: Universe | None) -> np.ndarray:
        if universe is None or not any(membership.sector for membership in universe.memberships):
            raise MarketDataError("SECTOR_INDEX: UNIVERSE_FILE names no sector; fill its column sector, or unset this")
        return sector_levels(panel, universe)

    def _entry(self, entry: str, panel: PricePanel, prices: pd.DataFrame) -> np.ndarray:
        """Values of a ticker or a spread: float64 ``[ticker or 1, session]``."""
        parts = _parts(entry)
        first, *second = (self._single(part, panel, prices) for part in parts[::2])
        if not second:
            return first
        if parts[1] == "-":
            return first - second[0]
        if (second[0] <= 0).any():
            raise MarketDataError(f"COVARIATES: {entry}: {parts[2]} is not always positive; take the difference")
        return first / second[0]

    def _single(self, part: str, panel: PricePanel, prices: pd.DataFrame) -> np.ndarray:
        name, lag = _lagged(part)
        is_tabled = name.lower() in self._tabled
        values = self._named(name.lower(), panel) if is_tabled else _closes(name, panel.sessions, prices)
        before = np.full_like(values[:, :lag], np.nan)
        return np.concatenate([before, values[:, : values.shape[1] - before.shape[1]]], axis=1)

    def _named(self, name: str, panel: PricePanel) -> np.ndarray:
        """Values of a name of the tables: float64 ``[ticker, session]``, or ``[1, session]`` if common to all."""
        assert self.table is not None
        rows = self.table[self.table["name"] == name]
        closes = calendar.session_closes(panel.sessions)
        owners = {str(ticker): group for ticker, group in rows.groupby("ticker")}
        if "" in owners:
            return known_values(owners[""], closes, self.max_age)[None]
        nothing = rows.head(0)
        return np.stack([known_values(owners.get(ticker, nothing), closes, self.max_age) for ticker in panel.tickers])


def covariate_gaps(panel: PricePanel) -> list[str]:
    """Sentences on each covariate that is not known throughout: where tickers lack features, and which ones."""
    lines: list[str] = []
    for place, name in enumerate(panel.covariates, len(CHANNELS)):
        unknown = np.isnan(panel.values[:, place])
        never = [ticker for ticker, gaps in zip(panel.tickers, unknown, strict=True) if gaps.all()]
        if never:
            some = ", ".join(never[:_NAMED]) + (f" and {len(never) - _NAMED:,} more" if len(never) > _NAMED else "")
            whose = f"for {some}" if len(never) < len(panel.tickers) else "for any ticker"
            lines.append(
                f"covariate {name}: never known up to {panel.sessions[-1]:%Y-%m-%d} {whose}, hence no features"
            )
        days = panel.sessions[np.flatnonzero(unknown[~unknown.all(axis=1)].any(axis=0))]
        if len(days):
            count = len(panel.sessions)
            lines.append(
                f"covariate {name}: unknown on {len(days):,} of {count:,} sessions ({days[0]:%Y-%m-%d} to "
                f"{days[-1]:%Y-%m-%d}); there, and on the bars after a gap, tickers have no features"
            )
    return lines


def _parts(entry: str) -> Sequence[str]:
    """``[A]``, or ``[A, sign, B]``."""
    spread = _SPREAD.fullmatch(entry)
    return [entry] if spread is None else list(spread.groups())


def _lagged(part: str) -> tuple[str, int]:
    """``A[-1]`` as its name and the sessions that it lies back."""
    found = _LAG.fullmatch(part)
    return (part, 0) if found is None else (found["name"], int(found["lag"]))


def _closes(ticker: str, sessions: pd.DatetimeIndex, prices: pd.DataFrame) -> np.ndarray:
    """The latest adjusted close at each session, at most ``BAR_AGE`` old: float64 ``[1, session]``."""
    bars = prices[prices["ticker"] == ticker].sort_values("date")
    if bars.empty:
        raise MarketDataError(
            f"COVARIATES: there are no prices of {ticker}; the price source must deliver it like a ticker of the "
            "universe, or COVARIATE_FILES must hold a name that is called so. A difference or ratio has blanks around "
            "its sign: A - B, A / B"
        )
    dates = bars["date"].to_numpy("datetime64[ns]")
    place = dates.searchsorted(sessions.to_numpy("datetime64[ns]"), side="right") - 1
    age = sessions.to_numpy("datetime64[ns]") - dates[np.maximum(place, 0)]
    closes = bars["adj_close"].to_numpy(np.float64)[np.maximum(place, 0)]
    return np.where((place >= 0) & (age <= BAR_AGE.to_timedelta64()), closes, np.nan)[None]
