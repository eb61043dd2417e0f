"""The verdict on the loss: judged as it is, since its mean is what counts, and upwards only.

Measured by what its answers put at stake (``streams``), a loss does not cluster as features do, so the plain AR(1)
whitening of ``cusum`` and the thresholds of ``thresholds`` serve it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from financial_assets.monitoring.drift import cusum
from financial_assets.monitoring.drift.rows import blank_row, distances
from financial_assets.monitoring.drift.thresholds import drift_free_chance, threshold


def judge_loss(
    reference: pd.DataFrame, monitored: pd.DataFrame, budget: float, folder: Path | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Row and path of ``DriftReport`` for the loss, the only column of both frames; see ``detect_drift``."""
    (name,) = monitored.columns
    before, after = reference.to_numpy(np.float64).T, monitored.to_numpy(np.float64).T
    fitted = cusum.fit_autoregression(before)
    sessions, coefficient = int(fitted.sessions[0]), float(fitted.coefficient[0])
    simulated = threshold(budget, 1, sessions, coefficient, sides=1, folder=folder)
    # A stream unlike the simulated processes shows on its own reference how far it goes without drift.
    highest = cusum.run_cusum(fitted.innovations(before[:, 1:], start=before[:, 0])).upper.max(initial=0.0)
    bound = max(simulated, float(highest))
    upper = cusum.run_cusum(fitted.innovations(after), bounds=np.array([bound])).upper[0]
    row = blank_row(name, "constant" if fitted.constant[0] else "waiting", sessions)
    path = upper / bound
    path[np.isnan(after[0]) | fitted.constant[0]] = np.nan
    paths = pd.DataFrame({name: path}, index=monitored.index)
    if fitted.constant[0] or not np.isfinite(after).any():
        return pd.DataFrame([row if fitted.constant[0] else {**row, "threshold": bound}]), paths
    row = {
        **row,
        "state": "watched",
        "aspect": "level",
        "statistic": float(upper.max()),
        "threshold": bound,
        "now": float(upper[-1] / bound),
        **distances(before[0], after[0]),
        "coefficient": coefficient,
    }
    alarm = cusum.last_alarm(upper, bound)
    if alarm is not None:
        span = slice(alarm.onset, alarm.end)
        known = before[0][np.isfinite(before[0])]
        row |= {
            "alarmed": alarm.end is None,
            "since": monitored.index[alarm.crossed],
            "ended": pd.NaT if alarm.end is None else monitored.index[alarm.end],
            "onset": monitored.index[alarm.onset],
            "direction": "up",
            "shift": (float(np.nanmean(after[0, span])) - float(known.mean())) / float(known.std(ddof=1)),
            "chance": drift_free_chance(float(upper[span].max()), 1, sessions, coefficient, sides=1, folder=folder),
        }
    return pd.DataFrame([row]), paths
