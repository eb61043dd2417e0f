"""Pictures of a walk-forward: scores fold by fold, reliability, breaches of the value at risk, rank correlations."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from financial_assets.models.walk_forward.backtests import breaches
from financial_assets.models.walk_forward.quantile_heads import ALL, QUANTILE_HEADS
from financial_assets.models.walk_forward.ranks import rank_correlations
from financial_assets.scoring.classification import reliability_curve

_SHOWN = (
    ("direction", "log_loss", "log loss of the direction, nats"),
    ("excess_return", "rank_ic", "rank correlation of a session"),
    ("return_quantiles", "pinball_normalised", "pinball, next session, volatilities"),
    ("return_quantiles_5d", "pinball_normalised", "pinball, five sessions, volatilities"),
)
_MOST_MODELS = 10


def plot_scores(scores: pd.DataFrame) -> bytes:
    """``scores_figure`` as PNG."""
    return _png(scores_figure(scores))


def scores_figure(scores: pd.DataFrame) -> Figure:
    """One score of each head by fold with its 95 % interval, the best models of all folds first."""
    figure = Figure(figsize=(9, 7), dpi=110, layout="constrained")
    for axes, (head, score, label) in zip(figure.subplots(2, 2).flat, _SHOWN, strict=True):
        rows = scores[(scores["head"] == head) & (scores["score"] == score)]
        order = rows[rows["fold"] == ALL].sort_values("estimate", ascending=score != "rank_ic")["model"]
        models = order.head(_MOST_MODELS).tolist()
        for place, model in enumerate(models):
            own = rows[(rows["model"] == model) & (rows["fold"] != ALL)].sort_values("fold")
            at = np.arange(len(own)) + (place - len(models) / 2) * 0.07
            half = np.nan_to_num(np.stack([own["estimate"] - own["low"], own["high"] - own["estimate"]]))
            axes.errorbar(at, own["estimate"], yerr=half, fmt="o", markersize=3, linewidth=1, label=model)
            axes.set_xticks(np.arange(len(own)), own["fold"])
        axes.set(title=label)
        if models:
            axes.legend(frameon=False, fontsize=6, ncols=2)
    return figure


def plot_reliability(forecasts: pd.DataFrame) -> bytes:
    """Share of rises beside the probability that was said, of each model with probabilities, as PNG."""
    figure = Figure(figsize=(5, 5), dpi=110, layout="constrained")
    axes = figure.subplots()
    known = forecasts.dropna(subset=["probability_up", "outcome"])
    for model, rows in known.groupby("model"):
        curve = reliability_curve(rows["probability_up"], rows["outcome"] > 0, bins=20)
        axes.plot([one.predicted for one in curve], [one.observed for one in curve], "o-", markersize=3, label=model)
    axes.plot([0, 1], [0, 1], color="0.6", linestyle=":")
    said = known["probability_up"]
    reach = max(0.1, float((said - 0.5).abs().max())) if len(said) else 0.1
    axes.set(xlim=(0.5 - reach, 0.5 + reach), xlabel="probability of a rise", ylabel="share of rises")
    axes.legend(frameon=False, fontsize=7)
    return _png(figure)


def plot_breaches(forecasts: pd.DataFrame) -> bytes:
    """Breaches of the 95 % value at risk beyond the promised number, cumulated over the sessions, as PNG.

    A line that climbs is a value at risk that is exceeded too often; one that jumps, at a bad time.
    """
    figure = Figure(figsize=(9, 3.5), dpi=110, layout="constrained")
    for axes, head in zip(figure.subplots(1, 2), QUANTILE_HEADS, strict=True):
        known = forecasts.dropna(subset=[*head.columns, head.outcome])
        for model, rows in known.groupby("model"):
            share = breaches(rows, head, "lower", 0.05).mean(axis=0)
            axes.plot(share.index, (share - 0.05).cumsum(), linewidth=1, label=model)
        axes.axhline(0.0, color="0.6", linestyle=":")
        axes.set(title=f"{head.name}: breaches beyond 5 %, sessions")
        axes.tick_params(axis="x", labelrotation=30)
        if not known.empty:
            axes.legend(frameon=False, fontsize=6, ncols=2)
    return _png(figure)


def plot_rank_correlations(forecasts: pd.DataFrame) -> bytes:
    """Rank correlation of score and excess return cumulated over the sessions, as PNG; empty in a small universe."""
    figure = Figure(figsize=(7, 3.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    known = forecasts.dropna(subset=["score", "excess", "volatility"])
    for model, rows in known.groupby("model"):
        daily = rank_correlations(rows)
        if len(daily):
            axes.plot(daily.index, daily.cumsum(), linewidth=1, label=model)
    axes.axhline(0.0, color="0.6", linestyle=":")
    axes.set(ylabel="rank correlation, cumulated")
    axes.tick_params(axis="x", labelrotation=30)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=7)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
