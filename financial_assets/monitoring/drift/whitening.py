"""Innovations that look alike in calm and in wild times: what a stream does beyond its own memory and volatility.

Every session is compared with the forecast of the stream's memory (``memory``), and the difference is divided by a
running estimate of its own size. Where volatility clusters, a year is often wilder than the reference as a whole; a sum
of innovations in the reference's units then goes far without drift. In units of the weeks before it does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from financial_assets.errors import MonitoringError
from financial_assets.monitoring.drift.cusum import MINIMUM_REFERENCE, long_run_deviation
from financial_assets.monitoring.drift.memory import Memory, fit_memory

_DECAY = 0.95
"""Of the running variance: a mean age of 20 sessions."""

_FLOOR = 1.0
"""Least running variance, as a share of the reference's."""

_WILD = 4.0
_CONSTANT = 1e-9


@dataclass(frozen=True, eq=False)
class Whitened:
    """Innovations of the reference and of the sessions after it, each ``[stream, session]``.

    Attributes
    ----------
    reference, later
        In units of their running size, with mean 0 and a long-run variance of at most 1 on the reference; 0 where
        unknown.
    raw_reference, raw_later
        In units of the reference's innovations, clipped; NaN where unknown.
    memory
        What was fitted.
    """

    reference: np.ndarray
    later: np.ndarray
    raw_reference: np.ndarray
    raw_later: np.ndarray
    memory: Memory


def whiten(reference: np.ndarray, later: np.ndarray) -> Whitened:
    """Innovations of ``later`` by a memory and units that are fitted on ``reference``.

    The running variance is that of differences of neighbouring innovations (von Neumann 1941): a level that has moved
    does not raise it, so a lasting shift is not divided away.

    Parameters
    ----------
    reference, later
        float ``[stream, session]``, NaN where unknown.

    Raises
    ------
    MonitoringError
        If a stream has fewer than ``MINIMUM_REFERENCE`` known sessions of reference.
    """
    count = np.isfinite(reference).sum(axis=1)
    if count.min(initial=MINIMUM_REFERENCE) < MINIMUM_REFERENCE:
        raise MonitoringError(
            f"a reference of {int(count.min())} sessions is too short, {MINIMUM_REFERENCE} are needed: set an earlier "
            "INGESTION_START_DATE"
        )
    mean = np.nanmean(reference, axis=1, keepdims=True)
    spread = np.nanstd(reference, axis=1, keepdims=True)
    constant = spread <= _CONSTANT * np.maximum(np.abs(mean), _CONSTANT)
    unit = np.where(constant, np.inf, spread)
    standard = (np.concatenate([reference, later], axis=1) - mean) / unit
    split = reference.shape[1]
    memory = fit_memory(np.nan_to_num(standard[:, :split], nan=0.0))
    raw, scaled = _filter(standard, memory)
    known = np.isfinite(raw[:, :split])
    before = np.where(known, scaled[:, :split], np.nan)
    centre = np.nanmean(before, axis=1, keepdims=True)
    size = np.maximum(np.nanstd(before, axis=1), long_run_deviation(before))[:, None]
    units = np.where(size > 0, size, 1.0)
    scaled = np.where(np.isfinite(raw), (scaled - centre) / units, 0.0)
    return Whitened(scaled[:, :split], scaled[:, split:], raw[:, :split], raw[:, split:], memory)


def _filter(standard: np.ndarray, memory: Memory) -> tuple[np.ndarray, np.ndarray]:
    """Innovations in the reference's units and in units of their running size, both ``[stream, session]``."""
    raw, scaled = np.empty_like(standard), np.empty_like(standard)
    expected, last, variance = np.zeros(len(standard)), np.zeros(len(standard)), np.ones(len(standard))
    for session in range(standard.shape[1]):
        innovation = (standard[:, session] - expected) / memory.deviation
        known = np.isfinite(innovation)
        size = np.sqrt(np.maximum(variance, _FLOOR))
        # One wild day may move neither the level nor the size by more than four of its own deviations.
        inside = np.clip(np.where(known, innovation, 0.0), -_WILD * size, _WILD * size)
        raw[:, session] = np.clip(innovation, -2.0 * _WILD, 2.0 * _WILD)
        scaled[:, session] = inside / size
        difference = np.minimum((inside - last) ** 2 / 2.0, 9.0 * variance + 0.2)
        variance = np.where(known, _DECAY * variance + (1.0 - _DECAY) * difference, variance)
        last = np.where(known, inside, last)
        expected = memory.coefficient * (expected + memory.gain * memory.deviation * inside)
    return raw, scaled
