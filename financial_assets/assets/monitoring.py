"""Group monitoring: whether what is served still lives in the world it was trained on."""

from typing import Any

import dagster as dg
import pandas as pd

from financial_assets.assets.evaluation import predictions
from financial_assets.assets.features import features
from financial_assets.experiment.evaluation import DIRECT_COLUMNS
from financial_assets.features.catalogue import CATALOGUE
from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.market.panel import PricePanel
from financial_assets.metadata import plot, table
from financial_assets.monitoring.drift import LOSS, DriftReport, detect_drift
from financial_assets.monitoring.drift_plots import plot_drift
from financial_assets.monitoring.streams import (
    feature_means,
    held_out_excess_loss,
    majority_share,
    served_excess_loss,
)
from financial_assets.resources import Experiment, Market, Workshop

__all__ = ["CALENDAR", "drift"]

_CHECK = "no_drift"

CALENDAR = tuple(feature.name for feature in CATALOGUE if feature.family == "calendar")
"""Features that the date alone decides: they turn with the year and cannot drift."""


@dg.asset(
    group_name="monitoring",
    owners=["team:ml-platform"],
    kinds={"python", "matplotlib"},
    code_version="2",
    deps=[features, predictions],
    check_specs=[
        dg.AssetCheckSpec(_CHECK, asset="drift", description="Neither the features nor the champion's loss have moved")
    ],
)
def drift(
    context: dg.AssetExecutionContext, market: Market, workshop: Workshop, ab_test: Experiment
) -> dg.MaterializeResult:
    """Daily feature means and the champion's daily loss since its data cut-off, against those it was trained on.

    One prewhitened CUSUM a stream, thresholds set by false alarms a year. An alarm stands until a champion with a later
    data cut-off brings a new reference. A risen loss is an error and may lead to a retraining; inputs that have moved
    while the loss has not are a warning.
    """
    panel = market.panel()
    with ab_test.log() as log:
        champion = ab_test.current_epoch(log).champion
        direct = log.direct([champion.model], columns=DIRECT_COLUMNS)
    training = workshop.models().training_of(champion.version)
    majority_up = majority_share(training, panel)
    means = feature_means(_current_features(market, panel)).drop(columns=[*CALENDAR], errors="ignore")
    sessions = means.index
    report = detect_drift(
        feature_reference=means[(sessions >= training.spans["fit"][0]) & (sessions <= champion.data_cutoff)],
        features=means[sessions > champion.data_cutoff],
        loss_reference=held_out_excess_loss(training, majority_up),
        loss=served_excess_loss(direct, champion, panel, majority_up),
    )
    context.log.info(_sentence(report, champion.model))
    return dg.MaterializeResult(
        check_results=[_check(report, champion.model)], metadata=_metadata(report, champion.model, champion.data_cutoff)
    )


def _current_features(market: Market, panel: PricePanel) -> FeaturePanel:
    """The stored features, or newly computed ones where a replay has moved the clock past them."""
    stored = market.load_features()
    if stored.sessions.equals(panel.sessions) and stored.tickers == panel.tickers:
        return stored
    return compute_panel(panel, FeatureGraph())


def _check(report: DriftReport, model: str) -> dg.AssetCheckResult:
    since = report.since
    return dg.AssetCheckResult(
        check_name=_CHECK,
        passed=not report.alarm,
        severity=_severity(report),
        description=_sentence(report, model),
        metadata={
            "model": model,
            "loss alarm": report.loss_alarm,
            "features moved": list(report.moved),
            "since": "" if since is None else f"{since:%Y-%m-%d}",
        },
    )


def _severity(report: DriftReport) -> dg.AssetCheckSeverity:
    """The loss settles it: outcomes are known a session later, so moved inputs need not be taken for a worse model."""
    return dg.AssetCheckSeverity.WARN if report.moved and not report.loss_alarm else dg.AssetCheckSeverity.ERROR


def _sentence(report: DriftReport, model: str) -> str:
    """What has moved, how sure that is, and what it does and does not mean."""
    if not report.alarm:
        return f"{model}: no drift"
    inputs = "no input has moved"
    if report.moved:
        rows = report.streams.set_index("name")
        named = ", ".join(f"{name} {rows.at[name, 'shift']:+.1f} sd" for name in report.moved[:5])
        first = rows.loc[list(report.moved), "since"].min()
        inputs = f"{len(report.moved)} of {len(rows) - 1} inputs have moved since {first:%Y-%m-%d} ({named})"
    if not report.loss_alarm:
        return f"{model}: {inputs}; its loss has not risen, so this is a warning"
    loss, now = report.streams.iloc[0], report.paths[LOSS].dropna().iloc[-1]
    return (
        f"{model}: its loss against the majority's has risen since {loss['since']:%Y-%m-%d}, by {loss['shift']:.2f} of "
        f"its daily standard deviation from {loss['onset']:%Y-%m-%d} on; a year without drift goes as far with "
        f"a probability {_chance(float(loss['chance']))}; the sum now stands at {now:.1f} of its threshold; {inputs}"
    )


def _chance(share: float) -> str:
    """A probability that is simulated: none in a thousand worlds is not never."""
    return "below 0.1 %" if share < 0.001 else f"of {100 * share:.1f} %"


def _metadata(report: DriftReport, model: str, cutoff: pd.Timestamp) -> dict[str, Any]:
    streams = report.streams
    ratio = streams["statistic"] / streams["threshold"]
    return {
        "dagster/row_count": len(streams),
        "model": model,
        "reference until": f"{cutoff:%Y-%m-%d}",
        "sessions judged": int(report.paths.notna().any(axis=1).sum()),
        "verdict": _sentence(report, model),
        "features moved": ", ".join(report.moved) or "none",
        "statistic over threshold": plot(plot_drift(report), "drift"),
        "streams": table(_readable(streams), most=len(streams)),
        **{f"{LOSS}/over threshold": float(value) for value in ratio[streams["name"] == LOSS] if pd.notna(value)},
        **({"features/over threshold": float(ratio.iloc[1:].max())} if ratio.iloc[1:].notna().any() else {}),
    }


def _readable(streams: pd.DataFrame) -> pd.DataFrame:
    """Dates as text and unknown values as blanks."""
    shown = streams.copy()
    for column in ("since", "onset"):
        shown[column] = [f"{day:%Y-%m-%d}" if pd.notna(day) else "" for day in shown[column]]
    return shown.astype(object).where(shown.notna(), "")
