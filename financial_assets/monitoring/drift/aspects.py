"""What can be wrong with a feature: its level or scale has changed, it is stuck or out of range.

The first two are streams with a CUSUM each. The last two are plain faults of a pipeline, which take no statistics to
see and should not wait for any: a value that repeats, and values far beyond all that the reference has held.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from financial_assets.monitoring.drift import robust
from financial_assets.monitoring.drift.cusum import Cusum, run_cusum
from financial_assets.monitoring.drift.memory import Memory
from financial_assets.monitoring.drift.robust import (
    level_class,
    robust_threshold,
    scale_class,
    whiten_ranks,
    whiten_sizes,
)
from financial_assets.monitoring.drift.samples import normal_scores
from financial_assets.monitoring.drift.whitening import Whitened

SHARES = {"level": 0.4, "scale": 0.55}
"""Of the budget of all features; the rest covers the two plain faults."""

_WINDOW, _OUTSIDE = 3, 2
"""Out of range: on so many of so many sessions."""

_FAR = 20.0
"""Widths of the reference's range: one crash stays in a window of 60 sessions, and takes a beta beyond five of them."""

_LEAST_REPEATS = 5.0
"""A value at its bound, such as a spread of 0, repeats for some sessions without a fault."""

_USUAL_REFERENCE = 250


@dataclass(frozen=True, eq=False)
class Aspect:
    """One way to judge features.

    Attributes
    ----------
    name
        ``level``, ``scale``, ``stuck`` or ``range``.
    sums
        Evidence ``[stream, session]``: beyond its bound is an alarm, 0 its end.
    bounds
        float64 ``[stream]``; infinite where a stream is not judged by this aspect.
    memory
        Of the streams; ``None`` where no threshold depends on it.
    classes
        Whose thresholds the streams have, int ``[stream]``; ``None`` likewise.
    plain
        The sums without any end of an alarm: how far a year without drift goes is known of these. ``None`` for faults.
    sizes
        What the streams are sums of, ``(reference, later)``, each ``[stream, session]``; ``None`` for faults.
    """

    name: str
    sums: Cusum
    bounds: np.ndarray
    memory: Memory | None = None
    classes: np.ndarray | None = None
    sizes: tuple[np.ndarray, np.ndarray] | None = None
    plain: Cusum | None = None

    @property
    def kind(self) -> int:
        """Which thresholds it has."""
        return robust.LEVEL if self.name == "level" else robust.SCALE

    @property
    def sides(self) -> int:
        """Directions that alarm: a level's both. Sizes alarm upwards only: markets calm down."""
        return 2 if self.name == "level" else 1

    @property
    def judged(self) -> np.ndarray:
        """Streams that it judges, bool ``[stream]``."""
        return np.isfinite(self.bounds)


def feature_aspects(
    reference: np.ndarray, later: np.ndarray, moving: np.ndarray, budget: float, folder: Path | None, panels: int = 1
) -> list[Aspect]:
    """All aspects of features ``[stream, session]``.

    Parameters
    ----------
    reference, later
        Daily means; NaN where unknown.
    moving
        Streams that are not constant in the reference, bool ``[stream]``; the others are not judged.
    budget
        False alarms per 252 sessions of all features and aspects together.
    folder
        Where simulated thresholds are kept; ``None``: nowhere.
    panels
        Panels of equally many features, one below the other, that have nothing to do with each other and a budget each:
        a simulation judges many at once.
    """
    level = whiten_ranks(reference, later)
    scale = whiten_sizes(level)
    streams = {
        "level": (level, level_class(level.memory), (reference, later)),
        "scale": (
            scale,
            scale_class(level.memory, scale.memory),
            (np.abs(level.raw_reference), np.abs(level.raw_later)),
        ),
    }
    judged = np.repeat(np.maximum(moving.reshape(panels, -1).sum(axis=1), 1), len(reference) // panels)
    sessions = np.isfinite(reference).sum(axis=1)
    found = [
        _summed(name, stream, moving, classes, sizes, SHARES[name] * budget, judged, sessions, folder)
        for name, (stream, classes, sizes) in streams.items()
    ]
    return [*found, _stuck(reference, later, moving), _out_of_range(reference, later, moving)]


def _summed(
    name: str,
    stream: Whitened,
    judged: np.ndarray,
    classes: np.ndarray,
    sizes: tuple[np.ndarray, np.ndarray],
    budget: float,
    count: np.ndarray,
    sessions: np.ndarray,
    folder: Path | None,
) -> Aspect:
    """One CUSUM per feature; the threshold is at least what the sum came to on the reference itself."""
    unbounded = np.full(len(judged), np.inf)
    blank = Aspect(name, Cusum(stream.later, stream.later), unbounded, stream.memory, classes, sizes)
    highest = _sums(blank, stream.reference).peak()
    for place in np.flatnonzero(judged):
        simulated = robust_threshold(
            budget,
            int(count[place]),
            int(sessions[place]),
            int(classes[place]),
            aspect=blank.kind,
            folder=folder,
        )
        blank.bounds[place] = max(simulated, highest[place])
    # Sizes have no level to go back to: a calm month after a wild one ends the alarm.
    levels = normal_scores(*sizes) if blank.sides == 2 else None
    sums = _sums(blank, stream.later, blank.bounds, levels)
    return Aspect(name, sums, blank.bounds, stream.memory, classes, sizes, _sums(blank, stream.later))


def _sums(
    aspect: Aspect, innovations: np.ndarray, bounds: np.ndarray | None = None, levels: np.ndarray | None = None
) -> Cusum:
    sums = run_cusum(innovations, robust.ALLOWANCES[aspect.kind], bounds, levels)
    return sums if aspect.sides == 2 else Cusum(sums.upper, np.zeros_like(sums.lower))


def _stuck(reference: np.ndarray, later: np.ndarray, moving: np.ndarray) -> Aspect:
    """Sessions for which a value has repeated; four times the longest run of the reference, at least 5, is allowed."""
    before = _repeats(reference)
    runs = _repeats(np.concatenate([reference, later], axis=1))[:, reference.shape[1] :]
    longest = before.max(axis=1, initial=0.0)
    bounds = np.where(moving, np.maximum(4.0 * longest, _LEAST_REPEATS), np.inf)
    return Aspect("stuck", Cusum(runs, np.zeros_like(runs)), bounds)


def _repeats(values: np.ndarray) -> np.ndarray:
    runs = np.zeros_like(values)
    for session in range(1, values.shape[1]):
        same = values[:, session] == values[:, session - 1]
        runs[:, session] = np.where(same, runs[:, session - 1] + 1.0, 0.0)
    return runs


def _out_of_range(reference: np.ndarray, later: np.ndarray, moving: np.ndarray) -> Aspect:
    """Of the last three sessions, how many lie beyond the reference's range by more than twenty times its width.

    Short references have seen little, so theirs counts as wider.
    """
    low, high = np.nanmin(reference, axis=1), np.nanmax(reference, axis=1)
    reach = _FAR * (high - low) * np.maximum(1.0, _USUAL_REFERENCE / reference.shape[1])
    sides = []
    for beyond in (later > (high + reach)[:, None], later < (low - reach)[:, None]):
        # One session too many in front, so that there is a window even before the first later session.
        padded = np.pad(beyond.astype(np.float64), ((0, 0), (_WINDOW, 0)))
        sides.append(sliding_window_view(padded, _WINDOW, axis=1).sum(axis=-1)[:, 1:])
    either = sides[0] + sides[1]
    # Either side counts, since a wrong unit blows up both; the direction is the side of most.
    upper, lower = np.where(sides[0] >= sides[1], either, 0.0), np.where(sides[0] < sides[1], either, 0.0)
    return Aspect("range", Cusum(upper, lower), np.where(moving, _OUTSIDE - 0.5, np.inf))
