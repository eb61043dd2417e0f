"""One statistic for a shifted mean: the prewhitened two-sided CUSUM.

A daily stream is judged against a reference: AR(1) mean, coefficient and innovation deviation are estimated on it, the
stream's innovations are divided by that deviation, and their excess over an allowance is summed (Page 1954). Without
the whitening an autocorrelated stream alarms many times as often as it should.

An AR(1) model knows only the day before. Dependence beyond it shows in the long-run variance of the innovations
(prewhitened kernel estimate: Andrews and Monahan 1992); where that exceeds their variance, the innovations are divided
by its root, so that a stream that wanders for months is not taken for one that forgets overnight.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from financial_assets.errors import MonitoringError

ALLOWANCE = 0.25
"""Innovation deviations per day that are forgiven (k): tuned to shifts of twice that size."""

MINIMUM_REFERENCE = 60
"""Sessions of reference: with fewer, the estimation error exceeds the shifts that are looked for."""

_LARGEST_COEFFICIENT = 0.99
_WILD = 4.0
"""Innovations, and the value before them, are clipped at this many deviations: one wild day is not drift."""

_LONGEST_BATCH = 63
_BATCHES = 10
"""The long-run variance is that of sums over a tenth of the reference, at most a quarter of a year."""

_CONSTANT = 1e-9
"""A stream that moves less than this, relative to its size, is constant."""


@dataclass(frozen=True, eq=False)
class Autoregression:
    """AR(1) processes, one per stream: ``x_t - mean = coefficient (x_{t-1} - mean) + deviation e_t``.

    Attributes
    ----------
    mean, coefficient, deviation
        float64 ``[stream]``; ``deviation`` is that of the innovations, 0 for a constant stream.
    inflation
        Long-run deviation of the innovations over ``deviation``, at least 1, float64 ``[stream]``.
    spread
        Standard deviation of the streams themselves, float64 ``[stream]``.
    sessions
        Sessions of reference with a value, int ``[stream]``.
    last
        Last value of the reference, float64 ``[stream]``.
    """

    mean: np.ndarray
    coefficient: np.ndarray
    deviation: np.ndarray
    inflation: np.ndarray
    spread: np.ndarray
    sessions: np.ndarray
    last: np.ndarray

    @property
    def constant(self) -> np.ndarray:
        """Streams that did not move in the reference, bool ``[stream]``: nothing can be standardised by them."""
        return self.deviation == 0.0

    def innovations(self, values: np.ndarray, *, start: np.ndarray | None = None) -> np.ndarray:
        """Standardised innovations of ``values`` ``[stream, session]``.

        They are clipped at four deviations, divided by ``inflation``, and 0 where the value or the one before is
        unknown or the reference was constant: such a session carries no information. The value before is clipped at
        four of its own deviations, or a wild day would count again on the next.

        Parameters
        ----------
        values
            Later values of the same streams; NaN where unknown.
        start
            The values before the first ones ``[stream]``; default: the last ones of the reference.
        """
        before = np.column_stack([self.last if start is None else start, values[:, :-1]])
        return np.nan_to_num(self.clipped(values, before) / self.inflation[:, None], nan=0.0)

    def clipped(self, values: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Innovations over their deviation ``[stream, session]``, 0 for a constant stream, NaN where unknown."""
        reach = _WILD * self.spread[:, None]
        past = np.clip(before - self.mean[:, None], -reach, reach)
        residual = values - self.mean[:, None] - self.coefficient[:, None] * past
        scaled = np.zeros_like(residual)
        moving = self.deviation > 0
        scaled[moving] = residual[moving] / self.deviation[moving, None]
        return np.clip(scaled, -_WILD, _WILD)


def fit_autoregression(reference: np.ndarray) -> Autoregression:
    """Least-squares AR(1) of every stream, its coefficient corrected for the bias of short samples (Kendall 1954).

    Parameters
    ----------
    reference
        float ``[stream, session]``, chronological; NaN where unknown.

    Raises
    ------
    MonitoringError
        If a value is infinite, or a stream has fewer than ``MINIMUM_REFERENCE`` known values.
    """
    reference = np.asarray(reference, dtype=np.float64)
    if np.isinf(reference).any():
        raise MonitoringError("a reference holds infinite values")
    # Streams have gaps (a feature that needs more history, a session without a valid ticker), so every sum runs over
    # known values only: a gap holds 0 after centring and drops out of both factors of a product.
    known = np.isfinite(reference)
    count = known.sum(axis=1)
    if reference.shape[1] == 0 or count.min(initial=MINIMUM_REFERENCE) < MINIMUM_REFERENCE:
        fewest = int(count.min()) if reference.size else 0
        raise MonitoringError(
            f"a reference of {fewest} sessions is too short, {MINIMUM_REFERENCE} are needed: set an earlier "
            "INGESTION_START_DATE"
        )
    mean = np.where(known, reference, 0.0).sum(axis=1) / count
    centred = np.where(known, reference - mean[:, None], 0.0)
    spread = np.sqrt((centred**2).sum(axis=1) / (count - 1))
    constant = spread <= _CONSTANT * np.maximum(np.abs(mean), _CONSTANT)
    paired = (known[:, 1:] & known[:, :-1]).astype(np.float64)
    past, present = centred[:, :-1] * paired, centred[:, 1:] * paired
    power = np.where(constant, 1.0, (past**2).sum(axis=1))
    raw = (past * present).sum(axis=1) / np.where(power > 0, power, 1.0)
    # Kendall (1954): the estimate is too small by (1 + 3 c) / n on average. Beyond 0.99 a stream is a random walk,
    # whose mean means nothing.
    coefficient = np.clip(raw + (1.0 + 3.0 * raw) / count, -_LARGEST_COEFFICIENT, _LARGEST_COEFFICIENT)
    coefficient = np.where(constant, 0.0, coefficient)
    freedom = np.maximum(paired.sum(axis=1) - 2.0, 1.0)
    deviation = np.sqrt(((present - coefficient[:, None] * past) ** 2).sum(axis=1) / freedom)
    deviation = np.where(constant, 0.0, deviation)
    fitted = Autoregression(mean, coefficient, deviation, np.ones_like(mean), spread, count, reference[:, -1])
    # The long-run variance is taken of the same clipped innovations that the sums will add up.
    long_run = long_run_deviation(fitted.clipped(reference[:, 1:], reference[:, :-1]))
    return replace(fitted, inflation=np.maximum(1.0, long_run))


def long_run_deviation(innovations: np.ndarray) -> np.ndarray:
    """Root of the long-run variance ``[stream]`` of innovations ``[stream, session]``, unknown ones passed over.

    Overlapping batch means (Meketon and Schmeiser 1984), which is the Bartlett kernel (Newey and West 1987).
    """
    known = np.isfinite(innovations)
    count = known.sum(axis=1)
    total = np.where(known, innovations, 0.0)
    centred = np.where(known, total - (total.sum(axis=1) / np.maximum(count, 1))[:, None], 0.0)
    sessions = innovations.shape[1]
    length = min(_LONGEST_BATCH, sessions // _BATCHES)
    # Sums over all windows of one length, as differences of one running sum.
    running = np.cumsum(np.pad(centred, ((0, 0), (1, 0))), axis=1)
    batches = running[:, length:] - running[:, :-length]
    # A window holds fewer known innovations than sessions; the last factor corrects for the mean that was subtracted.
    covered = np.maximum(length * count / sessions, 1.0)
    return np.sqrt((batches**2).mean(axis=1) / covered * sessions / (sessions - length))


@dataclass(frozen=True, eq=False)
class Cusum:
    """Both sums of every stream ``[stream, session]``.

    Attributes
    ----------
    upper, lower
        Evidence for a higher and for a lower mean, each at least 0.
    """

    upper: np.ndarray
    lower: np.ndarray

    @property
    def larger(self) -> np.ndarray:
        """The larger of both sums, float64 ``[stream, session]``."""
        return np.maximum(self.upper, self.lower)

    def peak(self) -> np.ndarray:
        """The largest value that either sum has reached, float64 ``[stream]``; 0 before the first session."""
        return self.larger.max(axis=1, initial=0.0)


def run_cusum(
    innovations: np.ndarray,
    allowance: float = ALLOWANCE,
    bounds: np.ndarray | None = None,
    levels: np.ndarray | None = None,
) -> Cusum:
    """Sum what innovations ``[stream, session]`` exceed the allowance by, never below zero (Page 1954).

    Parameters
    ----------
    innovations
        See ``Autoregression.innovations``.
    allowance
        Forgiven each session.
    bounds
        Thresholds ``[stream]``. With them a sum that has been beyond its threshold restarts at zero once it has come
        down from its peak by as much as the threshold. That is the same test the other way round: the evidence that
        the change is over is then as strong as the evidence for the change had to be.
    levels
        Values in deviations of the reference ``[stream, session]``, with ``bounds``. A memory gets used to a level that
        has moved, and its innovations then say that nothing happens. While an alarm holds, what is summed is therefore
        the level beyond half of the shift that raised the alarm: it goes on for as long as the level is nearer to the
        new one than to the old.
    """
    upper, lower = np.empty_like(innovations), np.empty_like(innovations)
    for side, sign in ((upper, 1.0), (lower, -1.0)):
        value, peak = np.zeros(len(innovations)), np.zeros(len(innovations))
        moved, count, half = np.zeros(len(innovations)), np.zeros(len(innovations)), np.zeros(len(innovations))
        # Session by session, because each sum depends on the one before; all streams at once.
        for session in range(innovations.shape[1]):
            more = sign * innovations[:, session] - allowance
            if levels is not None:
                level = np.where(np.isfinite(levels[:, session]), sign * levels[:, session], half)
                more = np.where(peak > 0, level - half, more)
                moved, count = np.where(value > 0, moved, 0.0) + level, np.where(value > 0, count, 0.0) + 1.0
                half = np.where(peak > 0, half, np.maximum(moved / count / 2.0, allowance / 2.0))
            value = np.maximum(0.0, value + more)
            if bounds is not None:
                # A peak of 0 means that no alarm holds; only a crossing starts one.
                peak = np.where((peak > 0) | (value > bounds), np.maximum(peak, value), 0.0)
                is_over = (peak > 0) & (peak - value >= bounds)
                value, peak = np.where(is_over, 0.0, value), np.where(is_over, 0.0, peak)
            side[:, session] = value
    return Cusum(upper, lower)


@dataclass(frozen=True)
class Alarm:
    """From a sum's last zero before an alarm to its next zero after it, as places of sessions.

    Attributes
    ----------
    onset
        The session after the zero before the alarm, the estimated change point (Page 1954).
    crossed
        First session beyond the threshold.
    end
        First session at zero after the last one beyond the threshold; ``None``: the alarm holds.
    """

    onset: int
    crossed: int
    end: int | None


def last_alarm(side: np.ndarray, bound: float) -> Alarm | None:
    """The latest alarm of one sum ``[session]``; ``None`` if it never went beyond ``bound``."""
    beyond = np.flatnonzero(side > bound)
    if not len(beyond):
        return None
    zeros = np.flatnonzero(side == 0.0)
    earlier, later = zeros[zeros < beyond[-1]], zeros[zeros > beyond[-1]]
    onset = int(earlier[-1]) + 1 if len(earlier) else 0
    return Alarm(onset, int(beyond[beyond >= onset][0]), int(later[0]) if len(later) else None)
