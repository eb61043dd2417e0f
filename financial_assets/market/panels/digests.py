"""Digests of a panel's sessions that change with a ticker by that ticker's share alone.

Each is a sum over tickers and channels of a value's 32 bits times a fixed 64-bit key, modulo 2^64, in two lanes
(multilinear hashing, Lemire and Kaser: Strongly universal string hashing is fast, 2014). When one ticker's history is
restated, its old share is subtracted and its new one added: a digest of concatenated bytes would have to read
everybody's values again. Two contents share a digest by chance in one case of 2^66; it shows that content differs, and
does not protect against somebody who forges prices on purpose.
"""

from __future__ import annotations

import numpy as np

from financial_assets.market.frames import mixed
from financial_assets.market.panels.sections import Sections

LANES = 2
"""64-bit numbers of a digest."""

_VALID = 2**16 - 1
"""In the place of a channel: the key of whether the ticker traded."""

_JOINED = 2**19
"""Values that are brought together from sections at a time."""

_BLOCK = 2**17
"""Values that are added up together: they stay in the processor's cache."""


def digests_by_session(sections: Sections, valid: np.ndarray) -> np.ndarray:
    """The digests of sessions, all tickers: uint64 ``[2, session]``; see :func:`digests_of`."""
    tickers, channels, sessions = sections.shape
    total = np.zeros((LANES, sessions), dtype=np.uint64)
    together = max(1, _JOINED // max(1, channels * sessions))
    for first in range(0, tickers if sessions else 0, together):
        places = np.arange(first, min(first + together, tickers))
        total += digests_of(sections.of_row(places), valid[places], places)
    return total


def digests_of(values: np.ndarray, valid: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The share of some tickers in the digests of their sessions: uint64 ``[2, session]``.

    Parameters
    ----------
    values
        float32 ``[ticker, channel, session]``.
    valid
        bool ``[ticker, session]``.
    places
        Of these tickers in the panel.
    """
    total = np.zeros((LANES, values.shape[-1]), dtype=np.uint64)
    together = max(1, _BLOCK // max(1, values[0].size)) if len(values) else 1
    for first in range(0, len(values), together):
        block = slice(first, first + together)
        bits = np.ascontiguousarray(values[block], dtype=np.float32).view(np.uint32).astype(np.uint64)
        traded = valid[block].astype(np.uint64)
        for lane in range(LANES):
            keys = _keys(lane, places[block], np.arange(values.shape[1]))
            total[lane] += (bits * keys[:, :, None]).sum(axis=(0, 1), dtype=np.uint64)
            total[lane] += (traded * _keys(lane, places[block], np.array([_VALID]))).sum(axis=0, dtype=np.uint64)
    return total


def _keys(lane: int, places: np.ndarray, channels: np.ndarray) -> np.ndarray:
    """uint64 ``[place, channel]``: pseudo-random, and the same in every process."""
    counter = (places.astype(np.uint64)[:, None] << np.uint64(16)) + channels.astype(np.uint64)
    return mixed(mixed(counter) + np.uint64(lane))
