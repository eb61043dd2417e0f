"""What may be known at the data cut-off, cut into blocks: the one input of the networks and of the baselines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from financial_assets.errors import TrainingError
from financial_assets.features.bars import causal_volatility, split_channels
from financial_assets.features.graph import FeaturePanel
from financial_assets.market.outcomes import next_session_return
from financial_assets.market.panel import PricePanel
from financial_assets.models.dataset import Blocks, WindowDataset, chronological_blocks, usable_windows
from financial_assets.models.scaling import RobustScaler

MINIMUM_WINDOWS = {"fit": 200, "stop": 50, "calibrate": 100}
"""Windows a block needs before anything is trained."""

_SCALED_AT_ONCE = 16
"""Tickers: some megabytes, which stay in the processor's cache between the operations of the scaler."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Features, outcomes and blocks up to a data cut-off.

    Attributes
    ----------
    tickers, sessions, feature_names
        Axes; ``sessions`` ends at the cut-off.
    features
        float32 ``[ticker, session, feature]``: a view of the panel, or, from ``scaled``, contiguous.
    outcome, volatility
        Next session's log return (NaN where it is not settled by the cut-off) and causal daily volatility, float32
        ``[ticker, session]``.
    usable
        bool ``[ticker, session]``.
    blocks
        Fit, stop and calibrate.
    sequence_length
        Feature vectors in a window.
    """

    tickers: tuple[str, ...]
    sessions: pd.DatetimeIndex
    feature_names: tuple[str, ...]
    features: Tensor
    outcome: Tensor
    volatility: Tensor
    usable: np.ndarray
    blocks: Blocks
    sequence_length: int

    @classmethod
    def until(
        cls, cutoff: pd.Timestamp, features: FeaturePanel, panel: PricePanel, *, sequence_length: int
    ) -> TrainingData:
        """Cut both panels at ``cutoff`` and lay the blocks.

        Nothing after the cut-off is read: not even the outcome of the cut-off session itself.

        Raises
        ------
        TrainingError
            If the panels disagree, or too little is left for a block.
        """
        _check_axes(features, panel)
        if sequence_length < 1:
            raise TrainingError(f"SEQUENCE_LENGTH must be at least 1, not {sequence_length}")
        past = panel.until(cutoff)
        count = len(past.sessions)
        outcome = np.asarray(next_session_return(past), dtype=np.float32)
        usable = usable_windows(features.valid[:, :count], outcome, sequence_length)
        if not usable.any():
            raise TrainingError(
                f"no usable window of SEQUENCE_LENGTH={sequence_length} among {count} sessions up to the data cut-off "
                f"{cutoff:%Y-%m-%d} for TICKERS={','.join(panel.tickers)}: set an earlier INGESTION_START_DATE"
                + (f", or give longer covariates ({', '.join(panel.covariates)})" if panel.covariates else "")
            )
        data = cls(
            tickers=panel.tickers,
            sessions=past.sessions,
            feature_names=tuple(features.names),
            features=torch.from_numpy(features.values[:, :, :count]).transpose(1, 2),
            outcome=torch.from_numpy(outcome),
            volatility=panel_volatility(past),
            usable=usable,
            blocks=chronological_blocks(count, int(usable.any(axis=0).argmax())),
            sequence_length=sequence_length,
        )
        data._check_counts()
        return data

    @property
    def cutoff(self) -> pd.Timestamp:
        """The last session used for anything."""
        return self.sessions[-1]

    @cached_property
    def fit(self) -> WindowDataset:
        """Windows that the gradients come from."""
        return self.windows(self.blocks.fit)

    @cached_property
    def stop(self) -> WindowDataset:
        """Windows that choose the epoch."""
        return self.windows(self.blocks.stop)

    @cached_property
    def calibrate(self) -> WindowDataset:
        """Windows that calibrate the answers; no network has seen them."""
        return self.windows(self.blocks.calibrate)

    def windows(self, span: range, device: torch.device | None = None) -> WindowDataset:
        """The usable windows whose decisions lie in ``span``; batches on ``device`` (default: where the data are)."""
        return WindowDataset(
            self.features, self.outcome, self.volatility, self.usable, span, self.sequence_length, device
        )

    def scaled(self, scaler: RobustScaler) -> TrainingData:
        """The same with scaled features, a contiguous copy of the panel in which the steps of a window are neighbours.

        Scaling here instead of in each batch is the same arithmetic, once instead of in every epoch and window.
        """
        features = torch.empty(self.features.shape, dtype=self.features.dtype)
        for start in range(0, len(features), _SCALED_AT_ONCE):
            chunk = slice(start, start + _SCALED_AT_ONCE)
            features[chunk] = scaler(self.features[chunk])
        return replace(self, features=features)

    def to(self, device: torch.device) -> TrainingData:
        """The same with its tensors on ``device``."""
        moved = {name: getattr(self, name).to(device) for name in ("features", "outcome", "volatility")}
        return replace(self, **moved)

    def _check_counts(self) -> None:
        for name, needed in MINIMUM_WINDOWS.items():
            count = len(getattr(self, name))
            if count < needed:
                raise TrainingError(
                    f"the {name} block has {count} windows, {needed} are needed: add TICKERS, set an earlier "
                    f"INGESTION_START_DATE or a SEQUENCE_LENGTH shorter than {self.sequence_length}"
                )


def panel_volatility(panel: PricePanel) -> Tensor:
    """Causal daily volatility of every ticker and session, float32 ``[ticker, session]``; NaN before a listing."""
    return causal_volatility(split_channels(torch.from_numpy(panel.values)))


def _check_axes(features: FeaturePanel, panel: PricePanel) -> None:
    if tuple(features.tickers) != tuple(panel.tickers):
        raise TrainingError(
            f"features are for {features.tickers}, prices for {panel.tickers}: materialise `features` again"
        )
    if not features.sessions.equals(panel.sessions):
        raise TrainingError(
            f"features end at {features.sessions[-1]:%Y-%m-%d} with {len(features.sessions)} sessions, prices at "
            f"{panel.sessions[-1]:%Y-%m-%d} with {len(panel.sessions)}: materialise `features` again"
        )
