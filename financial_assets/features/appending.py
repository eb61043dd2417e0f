"""New sessions appended to stored features: only they are computed, from the last ``lookback`` bars.

A feature of session t depends on the last ``lookback`` bars only, and panel and window agree bit for bit (the laws of
the catalogue). So what is stored stays true as long as a ticker's earlier bars have not changed; the panel's lineage
says so session by session. Where it is not known, a digest does that is kept with the features: the newest bars are
left out of it, as volumes settle and closes are corrected for some days, and the last ``UNSETTLED`` sessions are
computed again. Tickers whose older bars were restated are computed anew, over all sessions.

One session that should not have changed is computed again each time, and must come out as it is stored.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.features.recent import compute_recent
from financial_assets.features.stored.parts import (
    MOST_PARTS,
    NEWEST_OF_ROWS,
    last_name,
    newest_of,
    part_path,
    read_ends,
    settled,
    stored_values,
    write_arrays,
)

if TYPE_CHECKING:
    from financial_assets.market.panel import PricePanel
    from financial_assets.market.panels.lineage import Lineage

_MOST_RESTATED = 0.1
"""Share of tickers up to which restated ones are computed apart; beyond, computing everything is simpler."""

_UNKNOWN = np.empty((0, 16), dtype=np.uint8)
"""Digests that nobody has computed."""


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
    stored = read_ends(path)
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
        before, after = _digests(panel, cut, settled(panel.sessions))
        changed = np.flatnonzero((before != stored.digests).any(axis=1))
    else:
        return None
    if len(changed) > _MOST_RESTATED * len(panel.tickers):
        return None
    new = len(panel.sessions) - first
    values = compute_recent(panel, graph, new + 1)
    again, known = values[:, :, 0], stored_values(path, stored, first - 1)
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
        arrays |= {NEWEST_OF_ROWS: newest_of(restated.values)}
    write_arrays(part_path(path, appended.number), arrays)


def save_features(
    path: Path, features: FeaturePanel, panel: PricePanel, lineage: Lineage | None = None, *, code: str = ""
) -> None:
    """Write the features of the whole ``panel``, atomically; parts of earlier ones are void from then on.

    ``lineage`` and ``code`` are for :func:`next_sessions`.
    """
    cut = settled(features.sessions)
    ends = {"base": np.array(uuid.uuid4().hex), "digests": _digests(panel, cut, cut)[1]}
    ends |= {"panel": np.array(_name(lineage)), "code": np.array(code)}
    # Apart, because a session of all tickers lies scattered over the whole file.
    newest = newest_of(features.values)
    last = {last_name(len(newest) - place): values for place, values in enumerate(newest)}
    write_arrays(path, features.arrays() | ends | last)
    for number in range(1, MOST_PARTS + 1):
        part_path(path, number).unlink(missing_ok=True)


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
