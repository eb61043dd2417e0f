"""The price panel: all bars of a universe as one dense array, adjusted so that splits and dividends vanish."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from financial_assets.atomic import atomic_path
from financial_assets.errors import MarketDataError
from financial_assets.market.panels.archive import read_arrays
from financial_assets.market.panels.building import Members, build_layout
from financial_assets.market.panels.digests import LANES, digests_by_session
from financial_assets.market.panels.layout import CHANNELS, Layout, as_days
from financial_assets.market.panels.sections import Sections

__all__ = [
    "CHANNELS",
    "Members",
    "PricePanel",
    "build_layout",
    "build_panel",
    "panel_of",
]


@dataclass(frozen=True, eq=False)
class PricePanel:
    """Bars of a universe over a gapless run of sessions.

    Attributes
    ----------
    tickers
        Sorted.
    sessions
        sessions of the calendar (tz-naive), sorted, no gaps.
    values
        float32 ``[ticker, channel, session]``, C-contiguous; channels as in ``CHANNELS``. Prices in USD, adjusted for
        splits and dividends; volume in shares, adjusted inversely; market: level of the equal-weighted index of the
        universe; day: days since 1970-01-01. NaN before a ticker's first bar, except market and day.
    valid
        bool ``[ticker, session]``: whether the ticker traded, as a member of the universe. After its first bar, a
        session without one carries the last close forward with zero volume and is not valid, nor is padding
        (``quality.not_traded``).
    covariates
        Names of further channels behind those of ``CHANNELS``, see ``market.covariates``; NaN where unknown.
    """

    tickers: tuple[str, ...]
    sessions: pd.DatetimeIndex
    values: np.ndarray
    valid: np.ndarray
    covariates: tuple[str, ...] = ()

    if not TYPE_CHECKING:  # a type checker would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            """``values`` and ``valid`` of a layout, made once somebody asks for all of them."""
            if name not in ("values", "valid") or "layout" not in vars(self):
                raise AttributeError(f"{type(self).__name__} has no attribute {name}")
            vars(self)[name] = getattr(self.layout, name)
            return vars(self)[name]

    @classmethod
    def of_layout(cls, layout: Layout) -> PricePanel:
        """A panel without covariates whose sessions are not joined before somebody asks for all of them.

        Raises
        ------
        MarketDataError
            The shapes do not belong together.
        """
        shape = (len(layout.tickers), len(CHANNELS), len(layout.sessions))
        values, flat, others = layout.sections, (shape[0], shape[2]), {layout.adjusted.shape, layout.belongs.shape}
        if values.shape != shape or values.dtype != np.float32 or others != {flat}:
            raise MarketDataError(
                f"panel values must be float32 {shape}, not {values.dtype} {values.shape}, adjusted closes and "
                f"membership {flat}, not {layout.adjusted.shape} and {layout.belongs.shape}"
            )
        panel = cls.__new__(cls)
        vars(panel).update(tickers=layout.tickers, sessions=layout.sessions, layout=layout, covariates=())
        return panel

    def _sections(self) -> Sections:
        held: Layout | None = vars(self).get("layout")
        return Sections([self.values]) if held is None else held.sections

    def valid_between(self, first: int, end: int) -> np.ndarray:
        """``valid`` from session number ``first`` to before ``end``; the others need not be looked at."""
        held: Layout | None = vars(self).get("layout")
        return self.valid[:, first:end] if held is None else held.valid_between(first, end)

    def of_tickers(self, rows: np.ndarray) -> PricePanel:
        """The panel of the tickers at these places alone, with the market's index of all."""
        held: Layout | None = vars(self).get("layout")
        return PricePanel(
            tickers=tuple(self.tickers[row] for row in rows),
            sessions=self.sessions,
            values=np.ascontiguousarray(self._sections().of_row(rows)),
            valid=self.valid[rows] if held is None else held.valid_of(rows),
            covariates=self.covariates,
        )

    def recent(self, count: int) -> np.ndarray:
        """The last ``count`` sessions of ``values``; the others need not be joined."""
        return self._sections().between(len(self.sessions) - count, len(self.sessions)).joined()

    def stretch(self, row: int, first: int, end: int) -> np.ndarray:
        """``values`` of one ticker from session number ``first`` to before ``end``: float32 ``[channel, session]``."""
        return self._sections().between(first, end).of_row(row)

    def __post_init__(self) -> None:
        shape = (len(self.tickers), len(self.channels), len(self.sessions))
        if self.values.shape != shape or self.values.dtype != np.float32 or not self.values.flags.c_contiguous:
            raise MarketDataError(
                f"panel values must be C-contiguous float32 {shape}, not {self.values.dtype} {self.values.shape}"
            )
        if self.valid.shape != (shape[0], shape[2]) or self.valid.dtype != np.bool_:
            raise MarketDataError(f"panel validity must be bool {(shape[0], shape[2])}, not {self.valid.shape}")

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the second axis of ``values``."""
        return (*CHANNELS, *self.covariates)

    def listed_bars(self) -> np.ndarray:
        """Sessions since listing, this one included: int32 ``[ticker, session]``, 0 before the first bar.

        With covariates: sessions without a gap in which all of them are known, too.
        """
        listed = self._listed(slice(None), len(self.sessions))
        bars = np.cumsum(listed, axis=1, dtype=np.int32)
        if self.covariates:
            bars -= np.maximum.accumulate(np.where(listed, 0, bars), axis=1)
        return bars

    def has_bars(self, lookback: int, sessions: int) -> np.ndarray:
        """Whether ``listed_bars`` is at least ``lookback`` >= 1 in the last sessions: bool ``[ticker, sessions]``.

        Only as many sessions are looked at as that takes.
        """
        window = self._sections().between(len(self.sessions) - lookback - sessions + 1, len(self.sessions))
        closes = window.take(slice(None), CHANNELS.index("close"))
        is_listed = np.logical_or.accumulate(~np.isnan(closes), axis=1)
        if self.covariates:
            is_listed &= ~np.isnan(window.joined()[:, len(CHANNELS) :]).any(axis=1)
        count = np.cumsum(np.pad(is_listed, ((0, 0), (1, 0))), axis=1, dtype=np.int32)
        complete = count[:, lookback:] - count[:, :-lookback] == lookback
        # Sessions before the panel's first one have no bars.
        return np.pad(complete, ((0, 0), (sessions - complete.shape[1], 0)))

    def _listed(self, rows: np.ndarray | slice, count: int) -> np.ndarray:
        """Whether a ticker has had a bar by each of the first sessions, also before it joined the universe.

        Its covariates must be known at the session itself.
        """
        closes = self._sections().between(0, count).take(rows, CHANNELS.index("close"))
        listed = np.logical_or.accumulate(~np.isnan(closes), axis=1)
        if self.covariates:
            listed &= ~np.isnan(self.values[rows, len(CHANNELS) :, :count]).any(axis=1)
        return listed

    def unknown_covariates(self, ticker: str, lookback: int) -> tuple[str, ...]:
        """Covariates that are not known at all of the ticker's last ``lookback`` sessions."""
        recent = self.values[self.tickers.index(ticker), len(CHANNELS) :, -lookback:]
        return tuple(name for name, known in zip(self.covariates, recent, strict=True) if np.isnan(known).any())

    def position(self, session: pd.Timestamp) -> int:
        """Index of ``session``.

        Raises
        ------
        MarketDataError
            The panel does not hold it.
        """
        position = int(self.sessions.get_indexer(pd.DatetimeIndex([session]))[0])
        if position < 0:
            raise MarketDataError(
                f"{pd.Timestamp(session).date()} is not a session of the panel "
                f"({self.sessions[0].date()} to {self.sessions[-1].date()})"
            )
        return position

    def until(self, session: pd.Timestamp) -> PricePanel:
        """The panel as it was known after the close of ``session``.

        Raises
        ------
        MarketDataError
            The panel begins later.
        """
        count = int(self.sessions.searchsorted(pd.Timestamp(session), side="right"))
        if count == 0:
            raise MarketDataError(
                f"the panel begins at {self.sessions[0].date()}, after {pd.Timestamp(session).date()}"
            )
        if count == len(self.sessions):
            return self
        return PricePanel(
            tickers=self.tickers,
            sessions=self.sessions[:count],
            values=np.ascontiguousarray(self.values[:, :, :count]),
            valid=np.ascontiguousarray(self.valid[:, :count]),
            covariates=self.covariates,
        )

    def window(self, ticker: str, session: pd.Timestamp, lookback: int) -> np.ndarray:
        """The last ``lookback`` bars of ``ticker`` up to ``session``: float32 ``[lookback, channel]``, oldest first.

        Raises
        ------
        MarketDataError
            Unknown ticker or session, too few bars since listing, or no trade on ``session``.
        """
        names, windows = self.windows(session, lookback, [ticker])
        if not names:
            row, at = self.tickers.index(ticker), self.position(session)
            bars = int(self.listed_bars()[row, at])
            reason = f"has {bars} bars" if bars < lookback else "did not trade"
            raise MarketDataError(f"{ticker} {reason} at {pd.Timestamp(session).date()}; {lookback} bars are needed")
        return windows[0]

    def windows(
        self, session: pd.Timestamp, lookback: int, tickers: Sequence[str] | None = None
    ) -> tuple[tuple[str, ...], np.ndarray]:
        """Windows of all tickers that traded on ``session`` and have ``lookback`` bars by then.

        Parameters
        ----------
        tickers
            Which ones to look at; default: all.

        Returns
        -------
        tuple
            Names, and float32 ``[ticker, lookback, channel]``, oldest first: the served layout.

        Raises
        ------
        MarketDataError
            An unknown ticker or session, or ``lookback`` below 1.
        """
        if lookback < 1:
            raise MarketDataError(f"a window needs at least one bar, not {lookback}")
        rows = self._rows(self.tickers if tickers is None else tickers)
        at = self.position(session)
        bars = self._listed(rows, at + 1)[:, -lookback:].sum(axis=1)
        rows = rows[self.valid[rows, at] & (bars >= lookback)]
        # With too few sessions no row is left, and the slice below has no rows to be too short for.
        block = self.values[rows, :, max(0, at + 1 - lookback) : at + 1]
        names = tuple(self.tickers[row] for row in rows)
        if not names:
            return (), np.empty((0, lookback, len(self.channels)), dtype=np.float32)
        return names, np.ascontiguousarray(block.transpose(0, 2, 1))

    def _rows(self, tickers: Sequence[str]) -> np.ndarray:
        places = {name: row for row, name in enumerate(self.tickers)}
        unknown = [name for name in tickers if name not in places]
        if unknown:
            raise MarketDataError(f"the panel has no {', '.join(unknown)}; it holds {', '.join(self.tickers[:20])}")
        return np.array([places[name] for name in tickers], dtype=np.intp)

    def content_hash(self) -> str:
        """SHA-256 over tickers, sessions, values and validity, and the names of covariates."""
        digest = hashlib.sha256("\n".join(self.tickers).encode())
        digest.update("".join(f"\0{name}" for name in self.covariates).encode())
        digest.update(as_days(self.sessions).tobytes())
        digest.update(self.values.tobytes())
        digest.update(self.valid.tobytes())
        return digest.hexdigest()

    def session_digests(self) -> np.ndarray:
        """A digest of each session's values and validity, all tickers: uint64 ``[2, session]``; see ``digests_of``."""
        if "_digests" in vars(self):
            return vars(self)["_digests"]
        held: Layout | None = vars(self).get("layout")
        known = np.empty((LANES, 0), dtype=np.uint64) if held is None else held.digests
        first, count = known.shape[1], len(self.sessions)
        new = digests_by_session(self._sections().between(first, count), self.valid_between(first, count))
        vars(self)["_digests"] = np.concatenate([known, new], axis=1)
        return vars(self)["_digests"]

    def version(self) -> str:
        """Names the content, as ``content_hash`` does, from ``session_digests``: those of stored sessions are kept.

        Models and their cards are known by ``content_hash``, which reads the whole panel.
        """
        digest = hashlib.sha256("\n".join(self.tickers).encode())
        digest.update("".join(f"\0{name}" for name in self.covariates).encode())
        digest.update(as_days(self.sessions).tobytes())
        digest.update(self.session_digests().tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write to ``path`` (NumPy archive), atomically."""
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **self.arrays())

    def arrays(self) -> dict[str, Any]:
        """What ``save`` writes, by name."""
        named = {"covariates": np.array(self.covariates, dtype=np.str_)} if self.covariates else {}
        return {
            "tickers": np.array(self.tickers, dtype=np.str_),
            "days": as_days(self.sessions),
            "values": self.values,
            "valid": self.valid,
            **named,
        }

    @classmethod
    def load(cls, path: Path) -> PricePanel:
        """Read what ``save`` or ``StoredPanel.save`` wrote.

        Raises
        ------
        MarketDataError
            There is no such file, or it holds something else.
        """
        try:
            held, _ = read_arrays(path, ("tickers", "days", "values", "valid"), optional=("covariates",))
            return cls(
                tickers=tuple(map(str, held["tickers"])),
                sessions=pd.DatetimeIndex(held["days"].astype("datetime64[D]").astype("datetime64[ns]")),
                values=held["values"],
                valid=held["valid"],
                covariates=tuple(map(str, held.get("covariates", ()))),
            )
        except FileNotFoundError:
            raise MarketDataError(f"there is no price panel at {path}; materialize price_panel first") from None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise MarketDataError(f"{path} is not a price panel ({error}); materialize price_panel again") from error


def build_panel(prices: pd.DataFrame, members: Members | None = None) -> PricePanel:
    """Lay a checked price frame out as a panel.

    Prices are multiplied by ``adj_close / close`` and volume by its inverse, so that raw and split-adjusted sources
    give the same panel.

    Parameters
    ----------
    members
        Who belongs to the universe when (``Universe.members``); ``None``: everybody, always. While a ticker does not,
        its bars are known, but it is not valid and does not count in the market's index.

    Raises
    ------
    PriceDataError
        The frame is empty, or breaks a rule without which no panel can be laid out (keys unique, values possible,
        dates sessions of the calendar).
    """
    return panel_of(build_layout(prices, members))


def panel_of(layout: Layout) -> PricePanel:
    """The panel of the same tickers and sessions."""
    return PricePanel.of_layout(layout)
