"""Pictures of a training."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from financial_assets.models.answers import Answers
from financial_assets.models.calibration import PlattScaling
from financial_assets.models.heads import HORIZONS, QUANTILE_LEVELS
from financial_assets.models.scores import held_out_scores
from financial_assets.models.training import Epoch
from financial_assets.scoring.intervals import day_clustered_mean

_BINS = 10
"""Of the reliability plot, equally many answers in each."""


def plot_history(history: Sequence[Epoch], best_epoch: int) -> bytes:
    """Loss on the fit and the stop block by epoch, the restored epoch marked, as PNG."""
    figure = Figure(figsize=(6, 3), dpi=110, layout="constrained")
    axes = figure.subplots()
    numbers = [epoch.number for epoch in history]
    axes.plot(numbers, [epoch.fit_loss for epoch in history], label="fit")
    axes.plot(numbers, [epoch.stop_loss for epoch in history], label="stop")
    axes.axvline(best_epoch, color="0.6", linestyle=":", label=f"restored: epoch {best_epoch}")
    axes.set(xlabel="epoch", ylabel="loss of all heads")
    axes.legend(frameon=False)
    return _png(figure)


def plot_reliability(answers: Answers, platt: PlattScaling) -> bytes:
    """Share of ups among held-out answers of about the same probability, with day-clustered 95 % intervals, as PNG.

    Parameters
    ----------
    answers
        Uncalibrated, on the held-out block.
    platt
        The calibration that was then fitted on these very answers: its line shows what it does, not how good it is.
    """
    order = np.argsort(answers.logit, kind="stable")
    bins = [rows for rows in np.array_split(order, _BINS) if len(rows)]
    up = answers.up.astype(np.float64)
    shares = [day_clustered_mean(up[rows], answers.session[rows]) for rows in bins]
    centre = np.array([answers.logit[rows].mean() for rows in bins])
    seen = np.array([share.estimate for share in shares])
    low, high = np.array([share.low for share in shares]), np.array([share.high for share in shares])
    figure = Figure(figsize=(6, 3.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    error = np.nan_to_num(np.clip([seen - low, high - seen], 0.0, None))
    axes.errorbar(_sigmoid(centre), seen, yerr=error, fmt="o", capsize=2, label="held-out answers, before calibration")
    axes.plot(_sigmoid(centre), _sigmoid(platt.scale * centre + platt.bias), label="after calibration")
    ends = axes.get_xlim()
    axes.plot(ends, ends, color="0.6", linestyle=":", label="perfect")
    axes.set(xlim=ends, xlabel="probability answered", ylabel="share that went up")
    axes.legend(frameon=False)
    return _png(figure)


def plot_coverage(answers: Answers) -> bytes:
    """Share of held-out outcomes at or below each quantile, less its level, with 95 % intervals, as PNG.

    Below the 1 % and 5 % quantiles lie the days on which a loss exceeds the value at risk at 99 % and 95 %.
    """
    scores = held_out_scores(answers)
    figure = Figure(figsize=(6, 3.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(QUANTILE_LEVELS))
    axes.axhline(0.0, color="0.6", linestyle=":")
    levels = np.asarray(QUANTILE_LEVELS)
    for horizon, suffix, offset in zip(HORIZONS, ("", "_5d"), (-0.15, 0.15), strict=True):
        covered = [scores[f"coverage{suffix}_{level:.0%}"] for level in QUANTILE_LEVELS]
        seen = np.array([interval.estimate for interval in covered])
        low, high = np.array([one.low for one in covered]), np.array([one.high for one in covered])
        error = np.nan_to_num(np.clip([seen - low, high - seen], 0.0, None))
        sessions = "next session" if horizon == 1 else f"next {horizon} sessions"
        points, too_many = places + offset, 100.0 * (seen - levels)
        axes.errorbar(points, too_many, yerr=100.0 * error, fmt="o", capsize=3, label=f"{sessions}, before calibration")
        for place, height, value in zip(points, too_many, seen, strict=True):
            axes.annotate(f"{value:.1%}", (place, height), xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.set(xticks=places, xticklabels=[f"{level:.0%} quantile" for level in QUANTILE_LEVELS])
    axes.set(ylabel="outcomes below, less the level (points)")
    axes.legend(frameon=False)
    return _png(figure)


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-logit))


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
