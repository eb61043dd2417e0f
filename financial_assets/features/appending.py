"""New sessions appended to stored features: only they are computed, from the last ``lookback`` bars.

A feature of session t depends on the last ``lookback`` bars only, and panel and window agree bit for bit (the laws of
the catalogue). So what is stored stays true as long as a ticker's earlier bars have not changed; the panel's lineage
says so session by session. Where it is not known, a digest does that is kept with the features: the newest bars are
left out of it, as volumes settle and closes are corrected for some days, and the last ``UNSETTLED`` sessions are
computed again. Tickers whose older bars were restated are computed anew, over all sessions.

One session that should not have changed is computed again each time, and must come out as it is stored.

Beside ``features.npz`` lie up to ``MOST_PARTS`` parts ``features.<number>.npz``, each with the sessions from one on,
which it replaces. A part names the base that it belongs to: a base written anew makes its parts void, whenever the
power fails.
"""

from __future__ import annotations

import hashlib
import uuid
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from financial_assets.atomic import atomic_path
from financial_assets.errors import FeatureError
from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.features.recent import compute_recent

if TYPE_CHECKING:
    from financial_assets.market.panel import PricePanel
    from financial_assets.market.panels.lineage import Lineage

MOST_PARTS = 21
"""Parts, after which the whole is written anew: a month of sessions."""

UNSETTLED = 11
"""Sessions at the end that may still be corrected: what a live source is asked for again (fifteen calendar days)."""

_MOST_RESTATED = 0.1
"""Share of tickers up to which restated ones are computed apart; beyond, computing everything is simpler."""

_UNKNOWN = np.empty((0, 16), dtype=np.uint8)
"""Digests that nobody has computed."""

_SETTLED = "last"
"""The last settled session, which is all that earlier versions kept of the base."""

_NEWEST_OF_ROWS = "row_newest"
"""The last sessions of restated tickers: the next append looks at one of them, and not at all of their sessions."""

_DAMAGED = (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Appended:
    """Features that follow the stored ones.

    Attributes
    ----------
    new
        Features of the new sessions, and of those before them whose bars may have changed, all tickers.
    added
        How many of its sessions are new.
    restated
        Features of all sessions for tickers whose earlier bars have changed; ``None``: no such ticker.
    unstable
        Ticker and feature of values of the last session before ``new`` that came out otherwise this time: a broken
        law.
    number, base
        Number of the part, and the token of the base that it belongs to.
    panel
        Name of the panel's state (``Lineage``); empty if it has none.
    digests
        See :func:`_digests`, of the bars that are settled now; empty where the lineage says what has changed.
    """

    new: FeaturePanel
    added: int
    restated: FeaturePanel | None
    unstable: tuple[tuple[str, str], ...]
    number: int
    base: str
    panel: str
    digests: np.ndarray

    @property
    def parts(self) -> tuple[FeaturePanel, ...]:
        """All that was computed."""
        return (self.new,) if self.restated is None else (self.new, self.restated)


def next_sessions(
    path: Path, panel: PricePanel, graph: FeatureGraph, lineage: Lineage | None = None, *, code: str = ""
) -> Appended | None:
    """The features of the sessions that ``panel`` has more than the stored features; nothing is written.

    Parameters
    ----------
    lineage
        Of the panel. Where the stored features were computed from one of its earlier states, it says which bars have
        changed; otherwise all are compared with the digests of those before.
    code
        Names the code of the features. Stored ones of other code are not gone on with: they may differ in rounding.

    Returns
    -------
    Appended or None
        ``None``: nothing is stored, or the stored features do not begin the same panel: compute everything.
    """
    stored = _read_ends(path)
    if stored is None:
        return None
    count, cut = len(stored.sessions), stored.cut
    is_continued = (
        stored.code == code
        and stored.names == graph.names
        and stored.tickers == panel.tickers
        and graph.lookback <= cut
        and count < len(panel.sessions)
        and stored.sessions.equals(panel.sessions[:count])
        and stored.number < MOST_PARTS
    )
    if not is_continued:
        return None
    ancestor, first = None if lineage is None else lineage.since(stored.panel, count), cut
    if ancestor is not None and ancestor.kept >= cut:
        changed, after = np.flatnonzero(np.isin(panel.tickers, ancestor.apart)), _UNKNOWN
        first = min(ancestor.kept, count) if stored.holds_last_sessions else cut
    elif len(stored.digests):
        before, after = _digests(panel, cut, _cut(panel.sessions))
        changed = np.flatnonzero((before != stored.digests).any(axis=1))
    else:
        return None
    if len(changed) > _MOST_RESTATED * len(panel.tickers):
        return None
    new = len(panel.sessions) - first
    values = compute_recent(panel, graph, new + 1)
    again, known = values[:, :, 0], _stored_values(path, stored, first - 1)
    differs = ~((again == known) | (np.isnan(again) & np.isnan(known)))
    differs[changed] = False
    features = FeaturePanel(
        graph.names,
        panel.tickers,
        panel.sessions[first:],
        np.ascontiguousarray(values[:, :, 1:]),
        panel.valid_between(first, len(panel.sessions)) & panel.has_bars(graph.lookback, new),
    )
    return Appended(
        new=features,
        added=len(panel.sessions) - count,
        restated=compute_panel(panel.of_tickers(changed), graph) if len(changed) else None,
        unstable=tuple((panel.tickers[row], graph.names[column]) for row, column in np.argwhere(differs)),
        number=stored.number + 1,
        base=stored.base,
        panel=_name(lineage),
        digests=after,
    )


def append_features(path: Path, appended: Appended) -> None:
    """Write what ``next_sessions`` computed as one more part, atomically; the stored files stay as they are."""
    new, restated = appended.new, appended.restated
    arrays = new.arrays() | {"base": np.array(appended.base), "digests": appended.digests}
    arrays |= {"panel": np.array(appended.panel)}
    if restated is not None:
        rows = np.searchsorted(np.array(new.tickers), np.array(restated.tickers))
        arrays |= {"rows": rows, "row_values": restated.values, "row_valid": restated.valid}
        arrays |= {_NEWEST_OF_ROWS: _newest(restated.values)}
    _write(_part(path, appended.number), arrays)


def save_features(
    path: Path, features: FeaturePanel, panel: PricePanel, lineage: Lineage | None = None, *, code: str = ""
) -> None:
    """Write the features of the whole ``panel``, atomically; parts of earlier ones are void from then on.

    ``lineage`` and ``code`` are for :func:`next_sessions`.
    """
    cut = _cut(features.sessions)
    ends = {"base": np.array(uuid.uuid4().hex), "digests": _digests(panel, cut, cut)[1]}
    ends |= {"panel": np.array(_name(lineage)), "code": np.array(code)}
    # Apart, because a session of all tickers lies scattered over the whole file.
    newest = _newest(features.values)
    last = {_last(len(newest) - place): values for place, values in enumerate(newest)}
    _write(path, features.arrays() | ends | last)
    for number in range(1, MOST_PARTS + 1):
        _part(path, number).unlink(missing_ok=True)


def load_features(path: Path) -> FeaturePanel:
    """The stored features with all that was appended.

    Raises
    ------
    FeatureError
        A file is missing, damaged or holds something else.
    """
    base = FeaturePanel.load(path)
    parts = _parts(path, _token(path))
    if not parts:
        return base
    try:
        sessions = _continued([base.sessions, *(_days(part["sessions"]) for part in parts)])
        values = np.empty((len(base.tickers), len(base.names), len(sessions)), dtype=np.float32)
        valid = np.empty((len(base.tickers), len(sessions)), dtype=bool)
        end = len(base.sessions)
        values[:, :, :end], valid[:, :end] = base.values, base.valid
        for part in parts:
            days = _days(part["sessions"])
            first = int(sessions.searchsorted(days[0]))
            end = first + len(days)
            values[:, :, first:end], valid[:, first:end] = part["values"], part["valid"]
            if "rows" in part:
                values[part["rows"], :, :end], valid[part["rows"], :end] = part["row_values"], part["row_valid"]
    except (KeyError, ValueError, IndexError) as error:
        raise _damage(path, error) from error
    return FeaturePanel(base.names, base.tickers, sessions, values, valid)


def recent_features(path: Path, count: int, panel: str) -> FeaturePanel | None:
    """The last ``count`` sessions of the stored features, from what was appended alone.

    ``None`` where they are not of the panel's state ``panel`` (``Lineage.name``), or some of them are not in a part.

    Raises
    ------
    FeatureError
        A file is damaged.
    """
    stored = _read_ends(path)
    if stored is None or not stored.number or not 0 < count <= len(stored.sessions) or stored.panel != panel:
        return None
    wanted = stored.sessions[len(stored.sessions) - count :]
    if wanted[0] < min(span[0] for span in stored.spans[1:]):
        return None
    values = np.empty((len(stored.tickers), len(stored.names), count), dtype=np.float32)
    valid = np.empty((len(stored.tickers), count), dtype=bool)
    for number, span in enumerate(stored.spans[1:], start=1):
        places = wanted.get_indexer(span)
        inside = places >= 0
        part = _arrays(_part(path, number), ("values", "valid", "rows") if inside.any() else ("rows",))
        if "rows" in part:  # tickers computed anew over all sessions
            return None
        if inside.any():
            values[:, :, places[inside]] = part["values"][:, :, inside]
            valid[:, places[inside]] = part["valid"][:, inside]
    return FeaturePanel(stored.names, stored.tickers, wanted, values, valid)


@dataclass(frozen=True)
class _Ends:
    """What an append needs to know of the stored files: ``spans`` has the sessions of the base and of each part."""

    code: str
    names: tuple[str, ...]
    tickers: tuple[str, ...]
    sessions: pd.DatetimeIndex
    spans: tuple[pd.DatetimeIndex, ...]
    digests: np.ndarray
    base: str
    panel: str
    holds_last_sessions: bool

    @property
    def number(self) -> int:
        """Of the last part."""
        return len(self.spans) - 1

    @property
    def cut(self) -> int:
        """Number of settled sessions."""
        return _cut(self.sessions)


def _last(back: int) -> str:
    """Name of the array of one of the last sessions: 1 for the last one."""
    return f"last_{back}"


def _newest(values: np.ndarray) -> np.ndarray:
    """The unsettled sessions and the one before of ``[ticker, feature, session]``: ``[session, ticker, feature]``."""
    return np.ascontiguousarray(np.moveaxis(values[:, :, -1 - UNSETTLED :], -1, 0))


def _cut(sessions: pd.DatetimeIndex) -> int:
    return max(0, len(sessions) - UNSETTLED)


def _continued(spans: Sequence[pd.DatetimeIndex]) -> pd.DatetimeIndex:
    """All sessions of a base and its parts, each of which begins again somewhere in what came before."""
    return pd.DatetimeIndex(np.unique(np.concatenate([span.to_numpy() for span in spans])))


def _read_ends(path: Path) -> _Ends | None:
    """``None`` without a file, or with one of an earlier version, which cannot be appended to."""
    if not path.exists():
        return None
    token = _token(path)
    if not token:
        return None
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as base:
            wanted = ("names", "tickers", "sessions", "digests", "panel", "code")
            held: dict[str, Any] = {name: base[name] for name in wanted if name in base}
            is_of_this_version = _last(1) in base
    except _DAMAGED as error:
        raise _damage(path, error) from error
    wanted = ("base", "sessions", "digests", "panel")
    parts = _parts(path, token, wanted)
    spans = (_days(held["sessions"]), *(_days(part["sessions"]) for part in parts))
    newest = parts[-1] if parts else held
    return _Ends(
        code=str(held.get("code", "")),
        names=tuple(map(str, held["names"])),
        tickers=tuple(map(str, held["tickers"])),
        sessions=_continued(spans),
        spans=spans,
        digests=newest["digests"],
        base=token,
        panel=str(newest.get("panel", "")),
        # Of an earlier version's files, the parts begin with the unsettled sessions.
        holds_last_sessions=is_of_this_version or bool(parts),
    )


def _stored_values(path: Path, stored: _Ends, session: int) -> np.ndarray:
    """Features ``[ticker, feature]`` of session number ``session``, one of the last that are stored."""
    day = stored.sessions[session]
    spans = stored.spans
    # The first session of a part is one that it replaces, if there was one.
    number = next((at for at in range(len(spans) - 1, 0, -1) if spans[at][0] <= day), 0)
    if number:
        values = _arrays(_part(path, number), ("values",))["values"][:, :, spans[number].searchsorted(day)]
    else:
        back = len(spans[0]) - session
        held = _arrays(path, (_last(back), _SETTLED))
        values = held[_last(back)] if _last(back) in held else held[_SETTLED]
    values = values.copy()
    for later in range(max(number, 1), len(spans)):
        rows = _arrays(_part(path, later), ("rows", _NEWEST_OF_ROWS))
        if _NEWEST_OF_ROWS in rows:
            end = int(stored.sessions.searchsorted(spans[later][-1])) + 1
            values[rows["rows"]] = rows[_NEWEST_OF_ROWS][session - end]
        elif rows:  # an earlier version's
            values[rows["rows"]] = _arrays(_part(path, later), ("row_values",))["row_values"][:, :, session]
    return values


def _arrays(path: Path, names: Sequence[str]) -> dict[str, Any]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as held:
            return {name: held[name] for name in names if name in held}
    except _DAMAGED as error:
        raise _damage(path, error) from error


def _token(path: Path) -> str:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as base:
            return str(base["base"]) if "base" in base else ""
    except _DAMAGED as error:
        raise _damage(path, error) from error


def _parts(path: Path, token: str, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The parts that belong to the base, in order."""
    parts: list[dict[str, Any]] = []
    for number in range(1, MOST_PARTS + 1):
        file = _part(path, number)
        if not token or not file.exists():
            break
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as part:
                if str(part["base"]) != token:
                    break
                parts.append({name: part[name] for name in part.files if names is None or name in names})
        except _DAMAGED as error:
            raise _damage(file, error) from error
    return parts


def _name(lineage: Lineage | None) -> str:
    return "" if lineage is None else lineage.name


def _digests(panel: PricePanel, first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
    """Digests of each ticker's first ``first`` and first ``second`` >= ``first`` bars: uint8 ``[ticker, 16]`` each."""
    before, after = (np.empty((len(panel.tickers), 16), dtype=np.uint8) for _ in range(2))
    for row in range(len(panel.tickers)):
        # One pass: the shorter span is the beginning of the longer one.
        bars = np.concatenate([panel.values[row, :, :second], panel.valid[row, None, :second]]).T
        digest = hashlib.blake2b(bars[:first].tobytes(), digest_size=16)
        before[row] = np.frombuffer(digest.digest(), np.uint8)
        digest.update(bars[first:].tobytes())
        after[row] = np.frombuffer(digest.digest(), np.uint8)
    return before, after


def _write(path: Path, arrays: dict[str, Any]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def _part(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}.{number:03d}{path.suffix}")


def _days(days: np.ndarray) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(days.astype("datetime64[ns]"))


def _damage(path: Path, error: Exception) -> FeatureError:
    return FeatureError(f"{path} is not a readable feature panel ({error}): materialise `features`")
