"""Conformal shifts of quantiles, by horizon and by how volatile the times are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from financial_assets.models.calibration.rows import check_rows
from financial_assets.models.calibration.shrinkage import credibility, independent_sessions, network_weights
from financial_assets.scoring.quantiles import QUANTILE_LEVELS

TERCILES = 3

MINIMUM_TERCILE_ROWS = 300
"""Independent rows that a tercile of volatility needs for shifts of its own: three of them are expected beyond the 1 %
quantile."""

_ARRAYS = ("centres", "shifts", "weights", "constants", "credibility")

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
    """What becomes of a network's quantiles of one horizon, in calm, ordinary and wild times.

    ``weights * multiples + shifts``: towards the constant quantiles where the network's own are mostly chance, and
    conformal shifts as far as they are believed.

    Attributes
    ----------
    centres
        Rising logs of the forecast volatility ``[tercile]``, the median of each tercile of the rows.
    shifts
        ``[tercile, level]``, to be added to the weighted multiples at a centre; in between they are interpolated,
        beyond the outer ones they are theirs. They hold the constants' share and the conformal shift, as far as it is
        believed.
    rows, effective_rows
        Rows of the block, and as many independent ones as they are worth: the tickers of a session count as one, and
        so do five neighbouring sessions whose outcomes over five sessions overlap.
    pooled
        Whether all terciles have the same shifts, because a tercile has fewer than ``MINIMUM_TERCILE_ROWS`` effective
        rows, or volatility hardly varies.
    weights, constants
        ``[level]``: how much the network's multiples count, and the constants that have the rest of the weight. An
        earlier version left the multiples as they were.
    credibility
        ``[tercile, level]``: how far the conformal shifts were believed.
    """

    centres: np.ndarray
    shifts: np.ndarray
    rows: int
    effective_rows: int
    pooled: bool
    weights: np.ndarray = field(default_factory=lambda: np.ones(len(QUANTILE_LEVELS)))
    constants: np.ndarray = field(default_factory=lambda: np.zeros(len(QUANTILE_LEVELS)))
    credibility: np.ndarray = field(default_factory=lambda: np.ones((TERCILES, len(QUANTILE_LEVELS))))

    @classmethod
    def none(cls) -> QuantileShifts:
        """Shifts by nothing."""
        return cls(np.arange(TERCILES, dtype=np.float64), np.zeros((TERCILES, len(QUANTILE_LEVELS))), 0, 0, True)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """What ``to_dict`` made, or an earlier version, which had neither weights nor credibility."""
        fields: dict[str, Any] = {name: np.array(value) if name in _ARRAYS else value for name, value in stored.items()}
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers and lists."""
        return {name: value.tolist() if name in _ARRAYS else value for name, value in vars(self).items()}

    @classmethod
    def fit(
        cls,
        multiples: np.ndarray,
        scaled_returns: np.ndarray,
        volatility: np.ndarray,
        days: np.ndarray,
        constants: np.ndarray,
        horizon: int,
    ) -> Self:
        """``network_weights``, then ``conformal_shifts`` of each tercile of the forecast volatility.

        A quantile that is right on average is too narrow in some times and too wide in others: an error that the
        forecast volatility leaves is corrected where it occurs (Mondrian conformal prediction, Vovk et al. 2005, with
        terciles of volatility for categories). Where a tercile has too few rows all of them are pooled. A block of
        some months is one draw of calm or wild times: shifts are applied as far as the error of the coverage exceeds
        its chance error (``credibility``).

        Parameters
        ----------
        multiples, scaled_returns
            As for ``conformal_shifts``.
        volatility
            Forecast ``[n]``.
        days
            ``[n]``, the decision session of each row.
        constants
            ``[level]``, from ``constant_multiples``.
        horizon
            Sessions over which the outcomes of neighbouring rows overlap.

        Raises
        ------
        TrainingError
            If there are too few rows, or a number is not finite.
        """
        check_rows(multiples)
        returns, days = np.asarray(scaled_returns, dtype=np.float64).ravel(), np.asarray(days).ravel()
        weights = network_weights(multiples, returns, days, constants, horizon)
        shrunk = constants + weights * (multiples - constants)
        logs = np.log(np.asarray(volatility, dtype=np.float64))
        # Equal sizes whatever the ties.
        parts = np.array_split(np.argsort(logs, kind="stable"), TERCILES)
        centres = np.array([np.median(logs[part]) for part in parts])
        effective = int(independent_sessions(days, horizon))
        narrow = bool((np.diff(centres) < _NARROWEST).any())
        pooled = effective < TERCILES * MINIMUM_TERCILE_ROWS or narrow
        if narrow:
            centres = centres[1] + np.arange(-1.0, 2.0)
        if pooled:
            parts = [np.arange(len(logs))] * TERCILES
        believed = np.stack([credibility(shrunk[part], returns[part], days[part], horizon) for part in parts])
        shifts = np.stack([conformal_shifts(shrunk[part], returns[part]) for part in parts])
        total = (1.0 - weights) * constants + believed * shifts
        return cls(centres, total, len(logs), effective, pooled, weights, constants, believed)
