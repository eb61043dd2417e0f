"""Arrays that lie one after the other along the sessions, joined only for those who ask for all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Sections:
    """An array ``[..., session]`` in parts: to allocate and fill a large one takes longer than to add a session.

    Parameters
    ----------
    parts
        In the order of their sessions; all other axes are equal.
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self._parts: Sequence[np.ndarray] = tuple(parts)

    @property
    def dtype(self) -> np.dtype:
        """Of the joined array."""
        return np.result_type(*self._parts)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the joined array."""
        return (*self._parts[0].shape[:-1], sum(part.shape[-1] for part in self._parts))

    def joined(self) -> np.ndarray:
        """All sessions, C-contiguous; made once."""
        if len(self._parts) > 1 or not _is_plain(self._parts[0]):
            self._parts = (np.ascontiguousarray(np.concatenate(self._parts, axis=-1)),)
        return self._parts[0]

    def between(self, first: int, end: int) -> Sections:
        """The sessions from number ``first`` to before ``end``; they share their values with these."""
        cut: list[np.ndarray] = []
        start = 0
        for part in self._parts:
            begin, stop = max(first - start, 0), min(end - start, part.shape[-1])
            if begin < stop:
                cut.append(part[..., begin:stop])
            start += part.shape[-1]
        return Sections(cut or [self._parts[0][..., :0]])

    def with_next(self, values: np.ndarray) -> Sections:
        """These, and the sessions of ``values`` behind them."""
        return Sections([*self._parts, values])

    def of_row(self, row: int | slice | np.ndarray) -> np.ndarray:
        """All sessions of the entry ``row`` of the first axis, or of several."""
        return np.concatenate([part[row] for part in self._parts], axis=-1)

    def set_rows(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Replace the entries ``rows`` of the first axis, all sessions of them, in place."""
        start = 0
        for part in self._parts:
            part[rows] = values[..., start : start + part.shape[-1]]
            start += part.shape[-1]

    def set_channel(self, channel: int, sessions: np.ndarray, levels: np.ndarray) -> None:
        """Set one channel of ``[ticker, channel, session]`` at some sessions to the same levels for all, in place."""
        start = 0
        for part in self._parts:
            is_here = (sessions >= start) & (sessions < start + part.shape[-1])
            part[:, channel, sessions[is_here] - start] = levels[is_here]
            start += part.shape[-1]

    def take(self, rows: np.ndarray | slice, channel: int) -> np.ndarray:
        """One channel of some tickers of ``[ticker, channel, session]``: ``[ticker, session]``."""
        return np.concatenate([part[rows, channel] for part in self._parts], axis=-1)


def _is_plain(values: np.ndarray) -> bool:
    """Whether an array is one that may be given away: not a file's, and laid out as its readers expect."""
    return values.flags.c_contiguous and values.flags.aligned and values.flags.writeable
