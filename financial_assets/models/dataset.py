"""Training windows by index, and the chronological blocks they are drawn from.

A window is a pair (ticker, session). Its ``sequence_length`` feature vectors are gathered from the feature tensor when
a batch is made, so memory stays that of the panel however long the windows are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from financial_assets.errors import TrainingError
from financial_assets.models.heads import HORIZONS

LABEL_HORIZON = max(HORIZONS)
"""Sessions between a decision and the close that settles the last of its labels."""

BLOCK_SHARES = (0.70, 0.15, 0.15)
"""Shares of the usable sessions before the data cut-off: fit, stop, calibrate."""


@dataclass(frozen=True)
class Blocks:
    """Half-open ranges of session indices in which the *decisions* of each block lie.

    The label of every decision is settled before the next block begins (for the last block: by the data cut-off).
    """

    fit: range
    stop: range
    calibrate: range


def chronological_blocks(
    sessions: int, first_usable: int, shares: Sequence[float] = BLOCK_SHARES, horizon: int = LABEL_HORIZON
) -> Blocks:
    """Cut the usable sessions up to the cut-off into fit, stop and calibrate.

    The last ``horizon`` decisions of each block are purged: their labels would be settled inside the next block (Lopez
    de Prado 2018, chapter 7). Inputs may look back across a border, which is what is known at that time; no embargo is
    needed since no training data follow test data.

    Parameters
    ----------
    sessions
        Number of sessions up to and including the cut-off.
    first_usable
        Index of the first session with a complete window.
    shares
        Relative sizes of the three blocks; positive.
    horizon
        Label horizon in sessions.

    Raises
    ------
    TrainingError
        If a block would be empty.
    """
    if len(shares) != 3 or min(shares) <= 0 or horizon < 1:
        raise TrainingError(
            f"three positive shares and a horizon of at least 1 are needed, not {tuple(shares)} and {horizon}"
        )
    usable = sessions - first_usable
    total = float(sum(shares))
    first = first_usable + int(usable * shares[0] / total)
    second = first_usable + int(usable * (shares[0] + shares[1]) / total)
    borders = (first_usable, first, second, sessions)
    blocks = [range(start, stop - horizon) for start, stop in itertools.pairwise(borders)]
    if not all(blocks):
        raise TrainingError(
            f"{max(usable, 0)} usable sessions before the data cut-off are too few for fit, stop and calibrate blocks: "
            "set an earlier INGESTION_START_DATE, a shorter SEQUENCE_LENGTH or TICKERS with a longer history"
        )
    return Blocks(*blocks)


def usable_windows(valid: np.ndarray, settled: np.ndarray, sequence_length: int) -> np.ndarray:
    """Where a window can be answered and scored.

    Parameters
    ----------
    valid
        bool ``[ticker, session]``: the ticker traded and has enough bars since its listing for every feature.
    settled
        bool ``[ticker, session]``: every label is known.
    sequence_length
        Feature vectors in a window; each of them needs that many bars, traded or carried forward.

    Returns
    -------
    numpy.ndarray
        bool ``[ticker, session]``.
    """
    # A ticker that halts keeps its carried-forward bars: once its features are complete they stay so. Only the session
    # of the decision must have traded.
    ready = np.maximum.accumulate(valid, axis=1)
    first_step_ready = np.zeros_like(ready)
    first_step_ready[:, sequence_length - 1 :] = ready[:, : max(ready.shape[1] - sequence_length + 1, 0)]
    return valid & first_step_ready & settled


class Labels(NamedTuple):
    """What became of a decision, and the volatility that was forecast at it; one row or one cell each.

    Attributes
    ----------
    outcome, outcome_5d
        Log return over the next session and over five.
    excess
        Next session's log return minus the market's, in units of the stock's causal volatility.
    volatility
        ``[..., 2]``: forecast standard deviations of the two outcomes, positive.
    """

    outcome: Tensor
    outcome_5d: Tensor
    excess: Tensor
    volatility: Tensor


class Batch(NamedTuple):
    """One batch of windows: inputs ``[B, L, F]``, labels ``[B, 1]`` and the forecast volatility ``[B, 2]``.

    Attributes
    ----------
    inputs
        Scaled features, oldest step first.
    up
        1 where the next close was higher, else 0.
    scaled_return, scaled_return_5d
        Log returns over the next session and over five, in units of the volatility forecast for them.
    excess, volatility
        As in ``Labels``.
    """

    inputs: Tensor
    up: Tensor
    scaled_return: Tensor
    scaled_return_5d: Tensor
    excess: Tensor
    volatility: Tensor


class WindowDataset:
    """Windows of one block, gathered batch by batch from the feature tensor.

    Parameters
    ----------
    features
        float32 ``[ticker, session, feature]``; shared, never copied. Windows can be gathered where it is contiguous.
    labels
        Of every ``[ticker, session]``.
    usable
        bool ``[ticker, session]``, from ``usable_windows``.
    span
        Session indices of the block.
    sequence_length
        Feature vectors in a window.
    device
        Where batches are wanted; default: where ``features`` are.

    Raises
    ------
    TrainingError
        If a window would begin before the first session, or an input or target is not finite.
    """

    def __init__(
        self,
        features: Tensor,
        labels: Labels,
        usable: np.ndarray,
        span: range,
        sequence_length: int,
        device: torch.device | None = None,
    ) -> None:
        inside = np.zeros(usable.shape[1], dtype=bool)
        inside[span.start : span.stop] = True
        # Session-major order: neighbours in a batch are neighbours in time, as the day-clustered scores want them.
        session, ticker = np.nonzero((usable & inside).T)
        if session.size and session.min() < sequence_length - 1:
            raise TrainingError(f"a window of SEQUENCE_LENGTH={sequence_length} begins before the first session")
        self._features = features
        self._device = features.device if device is None else device
        self.tickers = ticker
        self.sessions = session
        at = torch.from_numpy(ticker).to(features.device), torch.from_numpy(session).to(features.device)
        # Of the last step, in the view of the features as rows.
        self._row = at[0] * features.shape[1] + at[1]
        self._length = sequence_length
        # One row per window: what a batch needs of it lies in one place.
        self._known = torch.cat([*(label[at].unsqueeze(1) for label in labels[:3]), labels.volatility[at]], dim=1)
        self.labels = _as_labels(self._known)
        if not all(bool(torch.isfinite(label).all()) for label in self.labels) or bool(
            (self.labels.volatility <= 0).any()
        ):
            raise TrainingError(
                "a usable window has no finite outcome or no positive volatility: the panel and its mask disagree"
            )

    def __len__(self) -> int:
        return int(self.sessions.size)

    @property
    def outcome(self) -> Tensor:
        """Next session's log return of every window ``[n, 1]``."""
        return self.labels.outcome

    @property
    def last_step(self) -> Tensor:
        """The feature vectors of the decision sessions themselves ``[n, feature]``."""
        return self._features[torch.from_numpy(self.tickers), torch.from_numpy(self.sessions)]

    def gather(self, index: Tensor) -> Batch:
        """The windows at positions ``index`` ``[B]``."""
        index = index.to(self._row.device)
        return self._assemble(self._row.index_select(0, index), *self._targets(index))

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Batch]:
        """The windows at positions ``order``, default all in chronological order, in batches of ``size``."""
        chosen = (torch.arange(len(self)) if order is None else order).to(self._row.device)
        # The small columns are gathered once for all batches; the inputs, which are large, batch by batch.
        columns = self._row.index_select(0, chosen), *self._targets(chosen)
        for parts in zip(*(column.split(size) for column in columns), strict=True):
            yield self._assemble(*parts)

    def _targets(self, index: Tensor) -> tuple[Tensor, ...]:
        """What a batch holds beside its inputs, of the windows at ``index``."""
        # Columns of their own: the loss of a batch reads them again and again.
        known = (label.contiguous() for label in _as_labels(self._known.index_select(0, index)))
        outcome, outcome_5d, excess, volatility = known
        up = (outcome > 0).to(self._features.dtype)
        return up, outcome / volatility[:, :1], outcome_5d / volatility[:, 1:], excess, volatility

    def _assemble(self, row: Tensor, *targets: Tensor) -> Batch:
        inputs = gather_windows(self._features, row, self._length)
        batch = Batch(inputs, *targets)
        return batch if self._device == self._features.device else Batch(*(part.to(self._device) for part in batch))


def _as_labels(known: Tensor) -> Labels:
    """Views of the columns of ``[window, 5]``."""
    return Labels(*known.split((1, 1, 1, 2), dim=1))


def gather_windows(features: Tensor, last: Tensor, length: int, *, whole: bool | None = None) -> Tensor:
    """Copy windows out of the features ``[window, step, feature]``, oldest step first.

    Parameters
    ----------
    features
        ``[ticker, session, feature]``, contiguous.
    last
        int64 ``[window]``: ``ticker * sessions + session`` of each window's last step, at least ``length - 1``.
    length
        Steps in a window.
    whole
        Whether a window is copied in one piece, or step by step; default: in one piece on a CPU. Both give the same.
    """
    width = features.shape[-1]
    if whole if whole is not None else features.device.type == "cpu":
        # The steps of a window are neighbours in memory, so that all windows are a view whose rows overlap. One copy
        # per window takes two thirds of the time of one per step. Backends that write views out before they read
        # them, as MPS does, would need the memory of all windows.
        view = features.view(-1).unfold(0, length * width, width)
        return view.index_select(0, last - (length - 1)).view(-1, length, width)
    steps = torch.arange(1 - length, 1, device=features.device)
    rows = (last.unsqueeze(1) + steps).flatten()
    return features.view(-1, width).index_select(0, rows).view(-1, length, width)


def shuffled(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Draw ``size`` of ``count`` positions again and again, int64 ``[size]``, without replacement.

    Every position is drawn once before any is drawn for a second time, as if the passes over a shuffled deck were cut
    into pieces of ``size``. With ``size = count`` each draw is a permutation.
    """
    deck = torch.empty(0, dtype=torch.int64)
    while True:
        while len(deck) < size:
            deck = torch.cat([deck, torch.randperm(count, generator=generator)])
        yield deck[:size]
        deck = deck[size:]
