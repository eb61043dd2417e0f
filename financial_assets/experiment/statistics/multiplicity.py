"""Several challengers at once: which of them may be called better, with one error rate for all."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from financial_assets.errors import ExperimentError


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values: reject those of at most alpha, and no true null is rejected with probability 1 - alpha.

    Valid under any dependence (Holm 1979, Scand. J. Stat. 6). Order of ``p_values`` is kept. For planned looks adjust
    at the horizon or at equal looks; anytime-valid p-values may be adjusted at any time.
    """
    if any(not 0 <= p <= 1 for p in p_values.values()):
        raise ExperimentError(f"p-values must lie in [0, 1]: {dict(p_values)}")
    # Step-down: the smallest p-value pays for all hypotheses, the next one for those left. The running maximum keeps a
    # larger p-value from being adjusted to less than a smaller one.
    names = sorted(p_values, key=lambda name: p_values[name])
    adjusted, largest = dict.fromkeys(p_values, 1.0), 0.0
    for rank, name in enumerate(names):
        largest = max(largest, min(1.0, (len(names) - rank) * p_values[name]))
        adjusted[name] = largest
    return adjusted


def e_bh(log_e_values: Mapping[str, float], alpha: float) -> tuple[str, ...]:
    """Hypotheses rejected with a false discovery rate of at most ``alpha``, whatever the dependence.

    The k largest e-values are rejected, k the largest with ``e_(k) >= m / (alpha k)`` (Wang and Ramdas 2022, False
    discovery rate control with e-values, JRSS-B 84). Give *present* e-values: their running maxima are none.

    Parameters
    ----------
    log_e_values
        Name -> logarithm of its e-value.
    alpha
        False discovery rate.
    """
    if not 0 < alpha < 1:
        raise ExperimentError(f"alpha must lie strictly between 0 and 1, not {alpha}")
    if any(np.isnan(value) for value in log_e_values.values()):
        raise ExperimentError(f"an e-value is missing: {dict(log_e_values)}")
    names = sorted(log_e_values, key=lambda name: -log_e_values[name])
    passing = [rank for rank, name in enumerate(names, 1) if log_e_values[name] >= np.log(len(names) / (alpha * rank))]
    return tuple(names[: passing[-1]]) if passing else ()
