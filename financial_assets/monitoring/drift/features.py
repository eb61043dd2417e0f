"""Verdicts on features: each is judged in every aspect, and its row tells of the aspect that says most."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from financial_assets.monitoring.drift import cusum
from financial_assets.monitoring.drift.aspects import Aspect, feature_aspects
from financial_assets.monitoring.drift.cusum import Alarm
from financial_assets.monitoring.drift.robust import robust_chance
from financial_assets.monitoring.drift.rows import blank_row, distances


def judge_features(
    reference: pd.DataFrame, monitored: pd.DataFrame, budget: float, folder: Path | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows and paths of ``DriftReport`` for features; see ``detect_drift``.

    Parameters
    ----------
    reference, monitored
        Daily means ``[session, feature]``; at least ``MINIMUM_REFERENCE`` known sessions of reference per feature.
    budget
        False alarms per 252 sessions of all features together.
    folder
        Where simulated thresholds are kept; ``None``: nowhere.
    """
    before, after = reference.to_numpy(np.float64).T, monitored.to_numpy(np.float64).T
    moving = ~cusum.fit_autoregression(before).constant
    aspects = feature_aspects(before, after, moving, budget, folder)
    rows = [
        _row(stream, name, aspects, bool(moving[stream]), before[stream], monitored.iloc[:, stream], folder)
        for stream, name in enumerate(map(str, monitored.columns))
    ]
    signed = _signed(aspects)
    signed[np.isnan(after) | ~moving[:, None]] = np.nan
    return pd.DataFrame(rows), pd.DataFrame(signed.T, index=monitored.index, columns=list(map(str, monitored.columns)))


def _signed(aspects: list[Aspect]) -> np.ndarray:
    """Largest sum over threshold of all aspects ``[stream, session]``, negative where it is a lower one."""
    ratios = np.stack(
        [side / aspect.bounds[:, None] for aspect in aspects for side in (aspect.sums.upper, -aspect.sums.lower)]
    )
    largest = np.abs(ratios).argmax(axis=0)
    return np.take_along_axis(ratios, largest[None], axis=0)[0]


def _row(
    stream: int,
    name: str,
    aspects: list[Aspect],
    moving: bool,
    reference: np.ndarray,
    monitored: pd.Series,
    folder: Path | None,
) -> dict[str, Any]:
    sessions = int(np.isfinite(reference).sum())
    values = monitored.to_numpy(np.float64)
    if not moving:
        return blank_row(name, "constant", sessions)
    if not np.isfinite(values).any():
        return blank_row(name, "waiting", sessions)
    alarms = [found for aspect in aspects for found in _alarms(aspect, stream)]
    # An alarm that holds comes before one that does not, then the one that went furthest beyond its threshold.
    told = max(alarms, key=lambda found: (found[2].end is None, _reach(found[0], stream)), default=None)
    aspect = max(aspects, key=lambda one: _reach(one, stream)) if told is None else told[0]
    row = {
        **blank_row(name, "watched", sessions),
        "aspect": aspect.name,
        "statistic": float(aspect.sums.larger[stream].max()),
        "threshold": float(aspect.bounds[stream]),
        "now": max(float(one.sums.larger[stream, -1] / one.bounds[stream]) for one in aspects),
        **distances(reference, values),
        "coefficient": _coefficient(aspects, stream),
    }
    if told is None:
        return row
    _, direction, alarm = told
    span = slice(alarm.onset, alarm.end)
    return {
        **row,
        "alarmed": alarm.end is None,
        "since": monitored.index[alarm.crossed],
        "ended": pd.NaT if alarm.end is None else monitored.index[alarm.end],
        "onset": monitored.index[alarm.onset],
        "direction": direction,
        "shift": _shift(aspect, stream, span),
        "chance": _chance(aspect, stream, direction, span, sessions, folder),
    }


def _alarms(aspect: Aspect, stream: int) -> list[tuple[Aspect, str, Alarm]]:
    sides = {"up": aspect.sums.upper, "down": aspect.sums.lower}
    found = [(side, cusum.last_alarm(sums[stream], float(aspect.bounds[stream]))) for side, sums in sides.items()]
    return [(aspect, side, alarm) for side, alarm in found if alarm is not None]


def _coefficient(aspects: list[Aspect], stream: int) -> float:
    """First autocorrelation of the level, by its memory."""
    memory = aspects[0].memory
    return float("nan") if memory is None else float(memory.coefficient[stream] * memory.share[stream])


def _reach(aspect: Aspect, stream: int) -> float:
    return float(aspect.sums.larger[stream].max() / aspect.bounds[stream])


def _shift(aspect: Aspect, stream: int, span: slice) -> float:
    """Of a level: in standard deviations of the reference; of sizes: times the reference's mean; of faults: NaN."""
    if aspect.sizes is None:
        return float("nan")
    before, after = aspect.sizes[0][stream], aspect.sizes[1][stream, span]
    if aspect.name == "level":
        return float((np.nanmean(after) - np.nanmean(before)) / np.nanstd(before, ddof=1))
    return float(np.nanmean(after) / np.nanmean(before))


def _chance(aspect: Aspect, stream: int, direction: str, span: slice, sessions: int, folder: Path | None) -> float:
    """See ``DriftReport``; 0 for faults, which no stream without a fault shows."""
    if aspect.classes is None or aspect.plain is None:
        return 0.0
    side = aspect.plain.upper if direction == "up" else aspect.plain.lower
    return robust_chance(
        float(side[stream, span].max()),
        int(aspect.judged.sum()),
        sessions,
        int(aspect.classes[stream]),
        aspect=aspect.kind,
        folder=folder,
    )
