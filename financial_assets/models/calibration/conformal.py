"""Conformal shifts of quantiles, by horizon and by how volatile the times are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from financial_assets.models.calibration.rows import check_rows
from financial_assets.scoring.quantiles import QUANTILE_LEVELS

TERCILES = 3

MINIMUM_TERCILE_ROWS = 300
"""Independent rows that a tercile of volatility needs for shifts of its own: three of them are expected beyond the 1 %
quantile."""

_NARROWEST = 1e-3
"""Least distance of the centres of two terciles, in logs: closer ones are one."""


def conformal_shifts(multiples: np.ndarray, scaled_returns: np.ndarray) -> np.ndarray:
    """One additive correction per level: split conformal quantiles (Romano, Patterson & Candes 2019), one-sided.

    Under exchangeability a lower quantile is undercut with at most its level's probability, an upper one exceeded with
    at most one minus its level. Days are not exchangeable: coverage is measured, never promised.

    Parameters
    ----------
    multiples
        Predicted quantiles ``[n, 5]`` in units of volatility.
    scaled_returns
        Returns ``[n]`` in the same unit.

    Returns
    -------
    numpy.ndarray
        ``[5]``, to be added to the multiples.
    """
    check_rows(multiples)
    count = len(multiples)
    residuals = np.sort(np.asarray(scaled_returns, dtype=np.float64).reshape(-1, 1) - multiples, axis=0)
    shifts = np.empty(len(QUANTILE_LEVELS))
    for column, level in enumerate(QUANTILE_LEVELS):
        if level == 0.5:
            shifts[column] = np.median(residuals[:, column])
            continue
        # n + 1, because the next residual takes any rank among n + 1 with equal chance. Rounding goes outwards, to the
        # side on which the promise holds; with too few rows the outermost residual is all there is.
        rank = np.floor((count + 1) * level) if level < 0.5 else np.ceil((count + 1) * level)
        shifts[column] = residuals[int(np.clip(rank, 1, count)) - 1, column]
    return shifts


@dataclass(frozen=True, eq=False)
class QuantileShifts:
    """Conformal shifts of the quantiles of one horizon, in calm, ordinary and wild times.

    Attributes
    ----------
    centres
        Rising logs of the forecast volatility ``[tercile]``, the median of each tercile of the rows.
    shifts
        ``[tercile, level]``, to be added to the multiples at a centre; in between they are interpolated, beyond the
        outer ones they are theirs.
    rows, effective_rows
        Rows of the block, and as many independent ones as they are worth: outcomes over five sessions overlap, and
        five neighbours count as one.
    pooled
        Whether all terciles have the same shifts, because a tercile has fewer than ``MINIMUM_TERCILE_ROWS`` effective
        rows, or volatility hardly varies.
    """

    centres: np.ndarray
    shifts: np.ndarray
    rows: int
    effective_rows: int
    pooled: bool

    @classmethod
    def none(cls) -> QuantileShifts:
        """Shifts by nothing."""
        return cls(np.arange(TERCILES, dtype=np.float64), np.zeros((TERCILES, len(QUANTILE_LEVELS))), 0, 0, True)

    @classmethod
    def fit(cls, multiples: np.ndarray, scaled_returns: np.ndarray, volatility: np.ndarray, horizon: int) -> Self:
        """``conformal_shifts`` of each tercile of the forecast volatility.

        A quantile that is right on average is too narrow in some times and too wide in others: an error that the
        forecast volatility leaves is corrected where it occurs (Mondrian conformal prediction, Vovk et al. 2005, with
        terciles of volatility for categories). Where a tercile has too few rows all of them are pooled.

        Parameters
        ----------
        multiples, scaled_returns
            As for ``conformal_shifts``.
        volatility
            Forecast ``[n]``.
        horizon
            Sessions over which the outcomes of neighbouring rows overlap.

        Raises
        ------
        TrainingError
            If there are too few rows, or a number is not finite.
        """
        check_rows(multiples)
        logs = np.log(np.asarray(volatility, dtype=np.float64))
        # Equal sizes whatever the ties.
        parts = np.array_split(np.argsort(logs, kind="stable"), TERCILES)
        centres = np.array([np.median(logs[part]) for part in parts])
        effective = len(logs) // horizon
        pooled = effective < TERCILES * MINIMUM_TERCILE_ROWS or bool((np.diff(centres) < _NARROWEST).any())
        if pooled:
            shifts = np.tile(conformal_shifts(multiples, scaled_returns), (TERCILES, 1))
            if (np.diff(centres) < _NARROWEST).any():
                centres = centres[1] + np.arange(-1.0, 2.0)
        else:
            shifts = np.stack([conformal_shifts(multiples[part], scaled_returns[part]) for part in parts])
        return cls(centres, shifts, len(logs), effective, pooled)
