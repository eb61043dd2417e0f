"""What may be known at the data cut-off, cut into blocks: the one input of the networks and of the baselines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from financial_assets.errors import TrainingError
from financial_assets.features.bars import HAR_WINDOWS, causal_volatility, split_channels
from financial_assets.features.graph import FeaturePanel
from financial_assets.market.outcomes import next_excess_return, return_ahead
from financial_assets.market.panel import PricePanel
from financial_assets.models.dataset import Blocks, Labels, WindowDataset, chronological_blocks, usable_windows
from financial_assets.models.heads import HORIZONS
from financial_assets.models.scaling import RobustScaler
from financial_assets.models.volatility import VARIANCE_FLOOR, HarVolatility, panel_variances

MINIMUM_WINDOWS = {"fit": 200, "stop": 50, "calibrate": 100}
"""Windows a block needs before anything is trained."""

_TENSORS = ("features", "outcome", "outcome_5d", "excess", "causal_volatility", "volatility")

_SCALED_AT_ONCE = 16
"""Tickers: some megabytes, which stay in the processor's cache between the operations of the scaler."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Features, labels and blocks up to a data cut-off; matrices are float32 ``[ticker, session]``.

    Attributes
    ----------
    tickers, sessions, feature_names
        Axes; ``sessions`` ends at the cut-off.
    features
        float32 ``[ticker, session, feature]``: a view of the panel, or, from ``scaled``, contiguous.
    outcome, outcome_5d
        Log return over the next session and over five; NaN where it is not settled by the cut-off.
    excess
        Next session's log return minus the market's, in units of the causal volatility; NaN where not settled.
    causal_volatility
        EWMA volatility of a session, ``features.bars.causal_volatility``.
    volatility
        Forecasts ``[ticker, session, 2]`` of the standard deviation of the two outcomes, by ``har``.
    har
        The forecaster, fitted on the fit block.
    usable
        bool ``[ticker, session]``: the window is complete and every label settled.
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
    outcome_5d: Tensor
    excess: Tensor
    causal_volatility: Tensor
    volatility: Tensor
    har: HarVolatility
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
        ewma = panel_volatility(past)
        outcomes = [return_ahead(past, horizon) for horizon in HORIZONS]
        excess = next_excess_return(past) / ewma.double().numpy()
        settled = np.logical_and.reduce([np.isfinite(label) for label in (*outcomes, excess)])
        usable = usable_windows(features.valid[:, :count], settled, sequence_length)
        if not usable.any():
            raise TrainingError(
                f"no usable window of SEQUENCE_LENGTH={sequence_length} among {count} sessions up to the data cut-off "
                f"{cutoff:%Y-%m-%d} for TICKERS={','.join(panel.tickers)}: set an earlier INGESTION_START_DATE"
                + (f", or give longer covariates ({', '.join(panel.covariates)})" if panel.covariates else "")
            )
        blocks = chronological_blocks(count, int(usable.any(axis=0).argmax()))
        har, volatility = fit_volatility(past, usable, blocks.fit)
        one, five, own = (torch.from_numpy(label.astype(np.float32)) for label in (*outcomes, excess))
        data = cls(
            tickers=panel.tickers,
            sessions=past.sessions,
            feature_names=tuple(features.names),
            features=torch.from_numpy(features.values[:, :, :count]).transpose(1, 2),
            outcome=one,
            outcome_5d=five,
            excess=own,
            causal_volatility=ewma,
            volatility=volatility,
            har=har,
            usable=usable,
            blocks=blocks,
            sequence_length=sequence_length,
        )
        data._check_counts()
        return data

    @property
    def cutoff(self) -> pd.Timestamp:
        """The last session used for anything."""
        return self.sessions[-1]

    @property
    def spans(self) -> dict[str, tuple[pd.Timestamp, pd.Timestamp]]:
        """First and last decision session of each block."""
        blocks = {"fit": self.blocks.fit, "stop": self.blocks.stop, "calibrate": self.blocks.calibrate}
        return {name: (self.sessions[span.start], self.sessions[span.stop - 1]) for name, span in blocks.items()}

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
        labels = Labels(self.outcome, self.outcome_5d, self.excess, self.volatility)
        return WindowDataset(self.features, labels, self.usable, span, self.sequence_length, device)

    def scaled(self, scaler: RobustScaler) -> TrainingData:
        """The same with scaled features, a contiguous copy of the panel in which the steps of a window are neighbours.

        Scaling here instead of in each batch is the same arithmetic, once instead of in every epoch and window.
        """
        # Allocated by numpy, which asks Linux for large pages: windows are gathered from everywhere, and most of them
        # would otherwise wait for the address of their page.
        features = torch.from_numpy(np.empty(tuple(self.features.shape), dtype=np.float32))
        for start in range(0, len(features), _SCALED_AT_ONCE):
            chunk = slice(start, start + _SCALED_AT_ONCE)
            features[chunk] = scaler(self.features[chunk])
        return replace(self, features=features)

    def to(self, device: torch.device) -> TrainingData:
        """The same with its tensors on ``device``."""
        return replace(self, **{name: getattr(self, name).to(device) for name in _TENSORS})

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


def fit_volatility(past: PricePanel, usable: np.ndarray, fit: range) -> tuple[HarVolatility, Tensor]:
    """The HAR forecaster of a fit block, and its forecasts for the whole panel ``[ticker, session, horizon]``.

    Parameters
    ----------
    past
        Prices up to the cut-off.
    usable
        bool ``[ticker, session]``: windows whose labels are settled. Sessions that a ticker misses among those ahead
        count as sessions without a move, as they do in the bars that are served.
    fit
        The fit block. The sessions ahead of its last decision lie before the next block.

    Raises
    ------
    TrainingError
        If no price of the block moves.
    """
    variances = panel_variances(past)
    rows = np.zeros_like(usable)
    rows[:, fit.start : fit.stop] = usable[:, fit.start : fit.stop]
    # A ticker that has not moved for a month, such as one that is halted, says nothing about how volatility goes on;
    # a single move of it would outweigh all others.
    month = variances[..., len(HAR_WINDOWS) - 1].numpy()
    rows &= month > VARIANCE_FLOOR
    own = np.maximum(variances[..., 0].numpy(), VARIANCE_FLOOR).astype(np.float64)
    ahead = np.stack([following_mean(own, horizon)[rows] for horizon in HORIZONS], axis=1)
    outcomes = np.stack([return_ahead(past, horizon)[rows] for horizon in HORIZONS], axis=1)
    har = HarVolatility.fit(variances.numpy()[rows].astype(np.float64), ahead, outcomes)
    return har, har.of_variances(variances)


def following_mean(values: np.ndarray, count: int) -> np.ndarray:
    """Mean of the ``count`` sessions after each, ``[ticker, session]``; NaN where they are not all known."""
    padded = np.pad(values, ((0, 0), (0, count)), constant_values=np.nan)
    return np.lib.stride_tricks.sliding_window_view(padded[:, 1:], count, axis=1).mean(axis=-1)


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
