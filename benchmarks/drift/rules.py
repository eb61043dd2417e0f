"""The rule of the product and its rivals: session of the first alarm of any feature, by panel."""

from __future__ import annotations

import math
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.stats import kstwobign

from financial_assets.monitoring.drift.aspects import feature_aspects
from financial_assets.monitoring.drift.cusum import fit_autoregression, run_cusum
from financial_assets.monitoring.drift.samples import kolmogorov_smirnov, normal_scores, population_stability
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


def by_distance(before: np.ndarray, after: np.ndarray, panels: int, *, stability: bool) -> np.ndarray:
    """PSI above 0.2, or KS at 5 % over the number of features, of the last 60 sessions, looked at every third."""
    size = kstwobign.isf(0.05 / (len(before) // panels)) * math.sqrt(1 / before.shape[1] + 1 / WINDOW)
    beyond = np.zeros(after.shape, dtype=bool)
    for stream, (reference, values) in enumerate(zip(before, after, strict=True)):
        for end, window in list(enumerate(sliding_window_view(values, WINDOW), start=WINDOW - 1))[::3]:
            beyond[stream, end] = (
                population_stability(reference, window) > 0.2
                if stability
                else kolmogorov_smirnov(reference, window) > size
            )
    return first_alarm(beyond, panels)


RULES = {
    "this rule": product,
    "the rule before": earlier,
    "Page's sums, white-noise threshold": page,
    "PSI > 0.2": partial(by_distance, stability=True),
    "KS, Bonferroni": partial(by_distance, stability=False),
}
