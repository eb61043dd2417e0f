"""The rule of the product and its rivals: session of the first alarm of any feature, by panel."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from financial_assets.monitoring.drift.aspects import feature_aspects
from financial_assets.monitoring.drift.cusum import fit_autoregression, run_cusum
from financial_assets.monitoring.drift.samples import normal_scores
from financial_assets.monitoring.drift.thresholds import threshold

BUDGET, WINDOW = 0.1, 60
NEVER = 10**6
FOLDER = Path(tempfile.gettempdir()) / "drift-benchmark-thresholds"


def first_alarm(beyond: np.ndarray, panels: int) -> np.ndarray:
    """Session of the first alarm, counted from 1, ``[panel]``; ``NEVER`` without one."""
    any_feature = np.any(beyond.reshape(panels, -1, beyond.shape[1]), axis=1)
    return np.where(any_feature.any(axis=1), any_feature.argmax(axis=1) + 1, NEVER)


def product(before: np.ndarray, after: np.ndarray, panels: int) -> np.ndarray:
    """The check as it is."""
    moving = np.ones(len(before), dtype=bool)
    aspects = feature_aspects(before, after, moving, BUDGET, FOLDER, panels)
    return first_alarm(np.any([one.sums.larger > one.bounds[:, None] for one in aspects], axis=0), panels)


def earlier(before: np.ndarray, after: np.ndarray, panels: int) -> np.ndarray:
    """The check as it was: AR(1) whitening of normal scores, one scale for the reference and the year."""
    scores, later = normal_scores(before, before), normal_scores(before, after)
    fitted = fit_autoregression(scores)
    features = len(before) // panels
    simulated = [
        threshold(BUDGET, features, int(count), float(coefficient), folder=FOLDER)
        for count, coefficient in zip(fitted.sessions, fitted.coefficient, strict=True)
    ]
    highest = run_cusum(fitted.innovations(scores[:, 1:], start=scores[:, 0])).peak()
    bounds = np.maximum(simulated, highest)
    return first_alarm(run_cusum(fitted.innovations(later)).larger > bounds[:, None], panels)


def page(before: np.ndarray, after: np.ndarray, panels: int) -> np.ndarray:
    """Page's sums of standardised values, with the threshold of white noise."""
    mean, spread = before.mean(axis=1, keepdims=True), before.std(axis=1, keepdims=True)
    bound = threshold(BUDGET, len(before) // panels, before.shape[1], 0.0, folder=FOLDER)
    return first_alarm(run_cusum(np.clip((after - mean) / spread, -4.0, 4.0)).larger > bound, panels)


def beyond_deviations(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Distance of each value from the reference's mean, in its standard deviations ``[stream, session]``."""
    return np.abs(after - before.mean(axis=1, keepdims=True)) / before.std(axis=1, keepdims=True)


def stability(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """PSI of the last 60 sessions over tenths of the reference ``[stream, session]``; 0 before there are as many."""
    found = np.zeros(after.shape)
    for row, reference, values in zip(found, before, after, strict=True):
        edges = np.quantile(reference, np.linspace(0, 1, _BINS + 1)[1:-1])
        own, later = (np.searchsorted(edges, part, side="right") for part in (reference, values))
        usual = np.maximum(np.bincount(own, minlength=_BINS) / len(own), _LEAST_SHARE)[:, None]
        counts = np.cumsum(later == np.arange(_BINS)[:, None], axis=1)
        counts = np.pad(counts, ((0, 0), (1, 0)))
        share = np.maximum((counts[:, WINDOW:] - counts[:, :-WINDOW]) / WINDOW, _LEAST_SHARE)
        row[WINDOW - 1 :] = np.sum((share - usual) * np.log(share / usual), axis=0)
    return found


def distance(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Kolmogorov and Smirnov's distance of the last 60 sessions ``[stream, session]``; 0 before there are as many."""
    found, steps = np.zeros(after.shape), np.arange(WINDOW + 1) / WINDOW
    for row, reference, values in zip(found, before, after, strict=True):
        ordered, windows = np.sort(reference), np.sort(sliding_window_view(values, WINDOW), axis=1)
        below, upto = (np.searchsorted(ordered, windows, side=side) / len(ordered) for side in ("left", "right"))
        row[WINDOW - 1 :] = np.maximum(np.abs(steps[1:] - upto), np.abs(steps[:-1] - below)).max(axis=1)
    return found


Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]


@cache
def white_noise_bound(statistic: Statistic, sessions: int, year: int, features: int) -> float:
    """What the highest of so many features reaches in a year of white noise as often as the budget allows."""
    rng, peaks = np.random.default_rng(7), list[float]()
    for _ in range(_PANELS):
        values = rng.standard_normal((features, sessions + year))
        peaks.append(float(statistic(values[:, :sessions], values[:, sessions:]).max()))
    return float(np.quantile(peaks, math.exp(-BUDGET)))


def daily(before: np.ndarray, after: np.ndarray, panels: int, *, statistic: Statistic) -> np.ndarray:
    """A custom looked at every day, with the threshold that keeps the budget on white noise."""
    bound = white_noise_bound(statistic, before.shape[1], after.shape[1], len(before) // panels)
    return first_alarm(statistic(before, after) > bound, panels)


def custom(before: np.ndarray, after: np.ndarray, panels: int) -> np.ndarray:
    """PSI above 0.2, as is the custom."""
    return first_alarm(stability(before, after) > 0.2, panels)


_BINS, _LEAST_SHARE, _PANELS = 10, 1e-4, 400

RULES = {
    "this rule": product,
    "the rule before": earlier,
    "Page's sums, white-noise threshold": page,
    "one value, same budget": partial(daily, statistic=beyond_deviations),
    "PSI, same budget": partial(daily, statistic=stability),
    "KS, same budget": partial(daily, statistic=distance),
    "PSI > 0.2": custom,
}
"""The rivals with the same budget keep it on white noise; that is all that a threshold without a memory can promise."""
