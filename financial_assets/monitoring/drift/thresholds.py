"""From false alarms per year to the threshold of a CUSUM, estimation error of the reference included."""

from __future__ import annotations

import math
import sys
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import scipy
from scipy.signal import lfilter

from financial_assets.errors import MonitoringError
from financial_assets.kept import code_digest, kept
from financial_assets.monitoring.drift import cusum
from financial_assets.monitoring.drift.cusum import MINIMUM_REFERENCE, fit_autoregression, run_cusum

SESSIONS_A_YEAR = 252

_WORLDS = 10_000
_CHUNK = 250
_SEED = 20_150_614
_TAIL = 0.02
_REFERENCES = (60, 80, 120, 180, 250, 350, 500, 700, 1000)
_COEFFICIENTS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99)
"""Simulated lengths and AR(1) coefficients. A stream takes the next shorter length and the next larger coefficient,
which give the higher threshold."""


def threshold(
    false_alarms_a_year: float,
    streams: int,
    reference_sessions: int,
    coefficient: float,
    *,
    sides: int = 2,
    folder: Path | None = None,
) -> float:
    """The threshold h of one stream among ``streams``.

    The yearly budget is divided by the number of streams (Bonferroni: holds however they depend on each other). A
    stream's share f is the probability ``1 - exp(-f)`` of an alarm within a year, and h that quantile of the yearly
    peak of the statistic in simulated worlds without drift. Each world draws its own reference, estimates mean,
    coefficient and deviations on it and is monitored with these, so their error is paid for. Beyond the largest 2 % of
    peaks the quantile is extrapolated exponentially, which is how a CUSUM's tail falls.

    The simulation is seeded, so that the same arguments give the same threshold. It is kept for the process, and with
    a folder for those after it.

    Parameters
    ----------
    false_alarms_a_year
        Budget of all streams together, per 252 sessions.
    streams
        Number of streams that share it.
    reference_sessions
        Sessions the stream's AR(1) was estimated on.
    coefficient
        Estimated AR(1) coefficient.
    sides
        2, or 1 where only one of both sums can alarm: mirror images without drift, each has half the alarms.
    folder
        Where simulations are kept on disk; ``None``: nowhere.

    Raises
    ------
    MonitoringError
        If the budget or the number of streams is not positive, or the reference is too short.
    """
    # A one-sided stream has half the alarms of the simulated two-sided one, so its budget counts twice.
    probability = false_alarm_probability(2 / sides * false_alarms_a_year, streams)
    peaks = _peaks_at_least(reference_sessions, coefficient, folder)
    if probability >= _TAIL:
        return float(np.quantile(peaks, 1.0 - probability))
    border, excess = _tail(peaks)
    return border + excess * math.log(_TAIL / probability)


def drift_free_chance(
    statistic: float,
    streams: int,
    reference_sessions: int,
    coefficient: float,
    *,
    sides: int = 2,
    folder: Path | None = None,
) -> float:
    """Probability that one of ``streams`` such streams goes as far as ``statistic`` within a year without drift.

    The inverse of ``threshold``; see there for the arguments. An upper bound: it holds however they depend.
    """
    peaks = _peaks_at_least(reference_sessions, coefficient, folder)
    border, excess = _tail(peaks)
    if statistic > border:
        either = _TAIL * math.exp((border - statistic) / excess)
    else:
        either = float(np.mean(peaks >= statistic))
    # Both sides are mirror images without drift: 1 - either = (1 - single)².
    single = either if sides == 2 else 1.0 - math.sqrt(1.0 - either)
    return min(1.0, streams * single)


def false_alarm_probability(false_alarms_a_year: float, streams: int) -> float:
    """Probability of a false alarm within a year that one of ``streams`` streams may have.

    Raises
    ------
    MonitoringError
        If an argument is not positive, or not finite.
    """
    if not (math.isfinite(false_alarms_a_year) and false_alarms_a_year > 0) or streams < 1:
        raise MonitoringError(
            f"{false_alarms_a_year} false alarms a year over {streams} streams: both must be positive"
        )
    return -math.expm1(-false_alarms_a_year / streams)


def yearly_peaks(
    reference_sessions: int, coefficient: float, *, worlds: int, seed: int, sessions: int = SESSIONS_A_YEAR
) -> np.ndarray:
    """Largest value of the statistic within a year in worlds without drift, float64 ``[worlds]``.

    Parameters
    ----------
    reference_sessions, coefficient
        Of the Gaussian AR(1) streams that are drawn.
    worlds, seed
        How many, and from which seed.
    sessions
        Length of the monitored span.
    """
    rng = np.random.default_rng([seed, reference_sessions, round(1000 * coefficient)])
    peaks: list[np.ndarray] = []
    for start in range(0, worlds, _CHUNK):
        # In chunks that fit the processor's cache: larger ones take half as long again. The draws do not depend on it.
        shocks = rng.standard_normal((min(_CHUNK, worlds - start), reference_sessions + sessions))
        shocks[:, 0] /= math.sqrt(1.0 - coefficient**2)  # the first value has the stationary variance, not a shock's
        values = np.asarray(lfilter([1.0], [1.0, -coefficient], shocks, axis=1))
        fitted = fit_autoregression(values[:, :reference_sessions])
        peaks.append(run_cusum(fitted.innovations(values[:, reference_sessions:])).peak())
    return np.concatenate(peaks)


def _peaks_at_least(reference_sessions: int, coefficient: float, folder: Path | None) -> np.ndarray:
    """Sorted peaks of the simulated case next to a stream's own, on the safe side."""
    if reference_sessions < MINIMUM_REFERENCE:
        raise MonitoringError(
            f"a reference of {reference_sessions} sessions is too short, {MINIMUM_REFERENCE} are needed: set an "
            "earlier INGESTION_START_DATE"
        )
    shorter = max(length for length in _REFERENCES if length <= reference_sessions)
    larger = next((value for value in _COEFFICIENTS if value >= coefficient), _COEFFICIENTS[-1])
    return _sorted_peaks(shorter, larger, folder)


def _tail(peaks: np.ndarray) -> tuple[float, float]:
    """Where the extrapolated tail begins, and the mean excess beyond."""
    border = float(np.quantile(peaks, 1.0 - _TAIL))
    return border, float(np.mean(peaks[peaks > border] - border))


@lru_cache(maxsize=len(_REFERENCES) * len(_COEFFICIENTS))
def _sorted_peaks(reference_sessions: int, coefficient: float, folder: Path | None) -> np.ndarray:
    def simulate() -> np.ndarray:
        return np.sort(yearly_peaks(reference_sessions, coefficient, worlds=_WORLDS, seed=_SEED))

    if folder is None:
        return simulate()
    # Source and libraries name the whole calculation; the arguments that it is given here stand beside them.
    depends_on = f"{_code()} {reference_sessions} {coefficient} {_WORLDS} {_SEED}"
    return kept(folder, f"peaks_{reference_sessions}_{coefficient:g}", depends_on, simulate)


@cache
def _code() -> str:
    return code_digest((sys.modules[__name__], cusum), (np, scipy))
