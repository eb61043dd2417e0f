"""Single Gaussian streams: time between false alarms, delays after shifts of known size, how long alarms hold."""

from __future__ import annotations

import numpy as np
from rich.progress import track
from scipy.signal import lfilter

from drift_loss.markets import YEAR
from financial_assets.monitoring.drift.cusum import Autoregression, fit_autoregression, run_cusum
from financial_assets.monitoring.drift.thresholds import threshold

LATER = (20, 60, 120)
"""Sessions after an alarm at which it is looked at again."""


def single_streams(seed: int) -> None:
    """Time between false alarms, and delays after a shift in the stream's own standard deviations."""
    print("One Gaussian stream                        bound  sessions to a    year with   delay in sessions at")
    print("                                                  false alarm      one, %      .5 / 1 / 2 sd")
    zero, one = np.zeros(1000), np.ones(1000)
    exact = Autoregression(zero, zero, one, one, one, zero, zero)
    cases = [("iid, known reference", 0, 0.0, 10.0), ("AR(.3), 250 sessions", 250, 0.3, 8.75)]
    for reference in (60, 120, 250, 500, 1000):
        bound = threshold(0.1, 1, reference, 0.3)
        cases.append((f"AR(.3), {reference} sessions, 0.1 a year", reference, 0.3, bound))
    for name, reference, coefficient, bound in track(cases, "single streams"):
        rng = np.random.default_rng([seed, reference])
        times: list[np.ndarray] = []
        for shift, length in ((0.0, 5000), (0.5, 2000), (1.0, 2000), (2.0, 500)):
            shocks = rng.standard_normal((1000, reference + length))
            shocks[:, 0] /= np.sqrt(1 - coefficient**2)
            values = np.asarray(lfilter([1.0], [1.0, -coefficient], shocks, axis=1))
            values[:, reference:] += shift / np.sqrt(1 - coefficient**2)
            fitted = fit_autoregression(values[:, :reference]) if reference else exact
            beyond = run_cusum(fitted.innovations(values[:, reference:])).larger > bound
            times.append(np.where(beyond.any(axis=1), beyond.argmax(axis=1), length) + 1)
        quiet, *delays = times
        shown = " / ".join(f"{delay.mean():.0f}" for delay in delays)
        capped = ">" if (quiet > 5000).any() else " "
        print(
            f"{name:<42} {bound:5.1f}  {capped}{quiet.mean():9.0f}  {100 * np.mean(quiet <= YEAR):10.1f}      {shown}"
        )


def holding(seed: int) -> None:
    """How long alarms hold by three rules: without a change, and with one from the first session on."""
    print("AR(.3), 250 sessions, 0.1 a year: whose alarm holds, %   by the check   back at zero   below the threshold")
    bound = threshold(0.1, 1, 250, 0.3)
    for shift in (0.0, 0.5, 1.0, 2.0):
        rng = np.random.default_rng([seed, 250])
        shocks = rng.standard_normal((4000, 250 + YEAR))
        shocks[:, 0] /= np.sqrt(1 - 0.3**2)
        values = np.asarray(lfilter([1.0], [1.0, -0.3], shocks, axis=1))
        values[:, 250:] += shift / np.sqrt(1 - 0.3**2)
        innovations = fit_autoregression(values[:, :250]).innovations(values[:, 250:])
        plain = run_cusum(innovations).upper
        renewed = run_cusum(innovations, bounds=np.full(len(innovations), bound)).upper
        crossed = (plain > bound).argmax(axis=1)
        alarmed = (plain > bound).any(axis=1)
        held = [latched(side, bound) for side in (renewed, plain)] + [plain > bound]
        if shift == 0.0:
            shares = "".join(f"{100 * np.mean(state[:, -1]):15.1f}" for state in held)
            print(f"no change: years with an alarm {100 * alarmed.mean():.1f}, ending with one {shares}")
        for later in LATER if shift else ():
            seen = np.flatnonzero(alarmed & (crossed + later < YEAR))
            shares = "".join(f"{100 * np.mean(state[seen, crossed[seen] + later]):15.1f}" for state in held)
            print(f"shift {shift} sd, {later:3} sessions after it ({len(seen)} worlds)       {shares}")


def latched(side: np.ndarray, bound: float) -> np.ndarray:
    """Where a sum has been beyond its threshold and not at zero since, bool ``[world, session]``."""
    state, states = np.zeros(len(side), dtype=bool), np.empty(side.shape, dtype=bool)
    for at in range(side.shape[1]):
        state = (state | (side[:, at] > bound)) & (side[:, at] > 0)
        states[:, at] = state
    return states
