"""The catalogue as one module, and the features of a whole panel."""

from __future__ import annotations

import hashlib
import logging
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, fx, nn

from financial_assets.atomic import atomic_path
from financial_assets.errors import FeatureError
from financial_assets.features.bars import BAR_CHANNELS, Bars
from financial_assets.features.catalogue import catalogue
from financial_assets.features.feature import Feature
from financial_assets.features.fusion import channels_read, fuse
from financial_assets.features.panels.eager import EagerProgram
from financial_assets.features.panels.kept_program import kept_program
from financial_assets.features.panels.program import Program, read_program

if TYPE_CHECKING:
    from financial_assets.market.panel import PricePanel

_log = logging.getLogger(__name__)

_BARS_TOGETHER = 2**16
"""Bars of several tickers that are computed together: fewer, and calls weigh more; more, and they leave the cache."""


class FeatureGraph(nn.Module):
    """Raw bars in, features out: the same module computes the training panel and is exported with the network.

    Parameters
    ----------
    features
        The features in the order of the output; default: the catalogue, with those of ``covariates``.
    covariates
        Names of the channels behind the seven of every bar.
    programs
        Folder where the catalogue's program for whole panels is kept from one process to the next; ``None``: each
        records it. That of other ``features`` is never kept.

    Raises
    ------
    FeatureError
        If there is no feature or a name occurs twice.
    """

    def __init__(
        self,
        features: Sequence[Feature] | None = None,
        *,
        covariates: Sequence[str] = (),
        programs: Path | None = None,
    ) -> None:
        super().__init__()
        self._programs = programs if features is None else None
        self.covariates = tuple(covariates)
        self.channels = (*BAR_CHANNELS, *self.covariates)
        self.features = catalogue(self.covariates) if features is None else tuple(features)
        self.names = tuple(feature.name for feature in self.features)
        if not self.names or len(set(self.names)) != len(self.names):
            raise FeatureError(
                "a feature graph needs at least one feature, and each once; more than once: "
                f"{', '.join(sorted({name for name in self.names if self.names.count(name) > 1})) or 'none'}. If it is "
                "that of a covariate, rename the covariate"
            )
        self.lookback = max(feature.lookback for feature in self.features)
        bounds = torch.tensor([feature.bounds for feature in self.features], dtype=torch.float32)
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", bounds[:, :1].clone(), persistent=False)
        self.register_buffer("high", bounds[:, 1:].clone(), persistent=False)

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """Smallest and largest value of every feature."""
        return tuple(feature.bounds for feature in self.features)

    @cached_property
    def fused(self) -> fx.GraphModule:
        """The features as one module, see ``fuse``; a program for whole panels does without."""
        return fuse(self._functions(), len(self.covariates))

    def program(self) -> Program:
        """The features as a program for whole panels.

        Raises
        ------
        FeatureError
            If a feature uses an operation that no step computes.
        StorageError
            The disk refuses to keep it.
        """
        return self._program

    @cached_property
    def _program(self) -> Program:
        def record() -> Program:
            return read_program(self._functions(), len(self.covariates))

        return record() if self._programs is None else kept_program(self._programs, len(self.covariates), record)

    def channels_read(self) -> dict[str, tuple[str, ...]]:
        """Feature -> channels of the bars that its formula reads, in their order."""
        read = channels_read(self._functions(), len(self.covariates))
        return {
            name: tuple(self.channels[place] for place in sorted(places))
            for name, places in zip(self.names, read, strict=True)
        }

    def _functions(self) -> tuple[Callable[[Bars], Tensor], ...]:
        return tuple(feature.function for feature in self.features)

    def forward(self, bars: Tensor) -> Tensor:
        """Features ``[..., feature, session]`` of bars ``[..., channel, session]``: of session t from bars up to t."""
        return torch.minimum(torch.maximum(self.unclipped(bars), self.low), self.high)

    def unclipped(self, bars: Tensor) -> Tensor:
        """The formulas' values, not yet within the features' bounds.

        Raises
        ------
        FeatureError
            If the last axis but one does not have the graph's channels.
        """
        if bars.dim() < 2 or bars.shape[-2] != len(self.channels):
            raise FeatureError(
                f"bars are [..., {len(self.channels)} channels, session], not {tuple(bars.shape)}: "
                f"{', '.join(self.channels)}"
            )
        contiguous = bars.contiguous()
        channels = (contiguous[..., place : place + 1, :] for place in range(len(self.channels)))
        values: Tensor = self.fused(*channels)
        return values


@dataclass(frozen=True)
class FeaturePanel:
    """Features of every ticker and session.

    Attributes
    ----------
    names, tickers, sessions
        The axes; sessions are tz-naive dates.
    values
        float32 ``[ticker, feature, session]``; NaN while a ticker has fewer bars than the longest lookback.
    valid
        bool ``[ticker, session]``: the ticker traded and has enough bars since its listing for every feature.
    """

    names: tuple[str, ...]
    tickers: tuple[str, ...]
    sessions: pd.DatetimeIndex
    values: np.ndarray
    valid: np.ndarray

    def __post_init__(self) -> None:
        shape = (len(self.tickers), len(self.names), len(self.sessions))
        if self.values.shape != shape or self.valid.shape != (shape[0], shape[2]):
            raise FeatureError(
                f"feature panel of shape {self.values.shape} with mask {self.valid.shape}; its axes say {shape}"
            )

    def to_frame(self) -> pd.DataFrame:
        """Tidy frame with columns date, ticker and one per feature: valid rows only, sorted by date and ticker."""
        session, ticker = np.nonzero(self.valid.T)
        frame = pd.DataFrame(self.values[ticker, :, session], columns=list(self.names))
        frame.insert(0, "ticker", np.asarray(self.tickers, dtype=object)[ticker])
        frame.insert(0, "date", self.sessions[session])
        return frame

    def content_hash(self) -> str:
        """SHA-256 over axes, values and mask."""
        digest = hashlib.sha256("\0".join((*self.names, "", *self.tickers)).encode())
        digest.update(self.sessions.to_numpy("datetime64[D]").astype("<i8").tobytes())
        # NaN has many bit patterns; one of them stands for all.
        digest.update(np.where(np.isnan(self.values), np.float32(np.nan), self.values).astype("<f4").tobytes())
        digest.update(np.packbits(self.valid).tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write the panel to one ``.npz`` file, atomically."""
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **self.arrays())

    def arrays(self) -> dict[str, Any]:
        """What ``save`` writes, by name."""
        return {
            "names": np.asarray(self.names, dtype=np.str_),
            "tickers": np.asarray(self.tickers, dtype=np.str_),
            "sessions": self.sessions.to_numpy("datetime64[D]"),
            "values": self.values,
            "valid": self.valid,
        }

    @classmethod
    def load(cls, path: Path) -> FeaturePanel:
        """Read a panel written by ``save``.

        Raises
        ------
        FeatureError
            If the file is missing, damaged or not a feature panel.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                return cls(
                    names=tuple(map(str, stored["names"])),
                    tickers=tuple(map(str, stored["tickers"])),
                    sessions=pd.DatetimeIndex(stored["sessions"].astype("datetime64[ns]")),
                    values=stored["values"],
                    valid=stored["valid"],
                )
        except FileNotFoundError:
            raise FeatureError(f"there are no features at {path}: materialise `features` first") from None
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise FeatureError(f"{path} is not a readable feature panel ({error}): materialise `features`") from error


def compute_panel(panel: PricePanel, graph: FeatureGraph, *, chunk: int | None = None) -> FeaturePanel:
    """The features of every ticker and session of a panel: bit for bit those of the graph, several times as fast.

    Parameters
    ----------
    panel
        Prices; NaN before a ticker's listing.
    graph
        The features.
    chunk
        Tickers computed together; by default as many as are quickest.

    Raises
    ------
    FeatureError
        If ``chunk`` is not positive, or a value that should be known is not finite.
    """
    sessions = len(panel.sessions)
    together = max(1, _BARS_TOGETHER // max(1, sessions)) if chunk is None else chunk
    if together < 1:
        raise FeatureError(f"chunk is a number of tickers, at least 1, not {chunk}")
    bars = np.ascontiguousarray(panel.values, dtype=np.float32)
    complete = panel.listed_bars() >= graph.lookback
    values = np.empty((len(panel.tickers), len(graph.names), sessions), dtype=np.float32)
    first = min(graph.lookback - 1, sessions)
    values[..., :first] = np.nan
    program = program_of(graph)
    eager: EagerProgram | None = None
    for start in range(0, len(panel.tickers) if first < sessions else 0, together):
        block, is_known = values[start : start + together, :, first:], complete[start : start + together, None, first:]
        if program is None:
            block[:] = graph(torch.from_numpy(bars[start : start + together]))[..., first:].numpy()
        else:
            if eager is None or eager.tickers != len(block):
                eager = EagerProgram(program, graph.bounds, (len(block), sessions, sessions - first))
            eager.run(bars[start : start + together], block)
        # Chunk by chunk: masks of a large panel would take as much memory as the panel. Features are bounded, so a sum
        # is finite where they are.
        if is_known.all():
            sums = block.sum(axis=-1)
        else:
            np.copyto(block, np.float32(np.nan), where=~is_known)
            sums = block.sum(axis=-1, where=is_known)
        if not np.isfinite(sums).all():
            require_finite(graph.names, panel.tickers[start:], panel.sessions[first:], block, is_known)
    return FeaturePanel(graph.names, panel.tickers, panel.sessions, values, panel.valid & complete)


def program_of(graph: FeatureGraph) -> Program | None:
    """The graph's program; ``None`` if a feature uses an operation of torch that no step computes."""
    try:
        return graph.program()
    except FeatureError as error:
        _log.warning(
            "features are computed operation by operation, with the same values, but several times as slowly: %s", error
        )
        return None


def require_finite(
    names: Sequence[str], tickers: Sequence[str], sessions: pd.DatetimeIndex, values: np.ndarray, known: np.ndarray
) -> None:
    """Refuse values ``[ticker, feature, session]`` that are ``known`` (bool, broadcast) and not finite.

    Raises
    ------
    FeatureError
        Names how many they are, and the first.
    """
    broken = ~np.isfinite(values) & known
    if broken.any():
        ticker, feature, session = (int(axis[0]) for axis in np.nonzero(broken))
        raise FeatureError(
            f"{int(broken.sum())} feature values are not finite, first {names[feature]} of {tickers[ticker]} on "
            f"{sessions[session]:%Y-%m-%d}: a price or volume there is not a number"
        )
