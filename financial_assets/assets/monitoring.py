"""Group monitoring: whether what is served still lives in the world it was trained on."""

from typing import Any

import dagster as dg
import pandas as pd

from financial_assets.assets.evaluation import predictions
from financial_assets.assets.features import features
from financial_assets.experiment.evaluation.evaluate import DIRECT_COLUMNS
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
from financial_assets.resources import ABTest, Market, Models

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
        dg.AssetCheckSpec(
            _CHECK,
            asset="drift",
            description="Neither the features nor the champion's loss have moved; retrain_on_drift asks for a "
            "retraining as soon as it is on if this has failed as an error",
        )
    ],
)
def drift(context: dg.AssetExecutionContext, market: Market, models: Models, ab_test: ABTest) -> dg.MaterializeResult:
    """Daily feature means and the champion's daily loss since its data cut-off, against those it was trained on.

    One prewhitened CUSUM a stream, thresholds set by false alarms a year. An alarm holds until its sum has come down
    from its peak by as much as the threshold, or a champion with a later data cut-off brings a new reference. A risen
    loss is an error and may lead to a retraining. Inputs that have moved while the loss has not are a warning, and so
    is an alarm that no longer holds.
    """
    panel = market.panel()
    with ab_test.log() as log:
        champion = ab_test.current_epoch(log).champion
        direct = log.direct([champion.model], columns=DIRECT_COLUMNS)
    training = models.lifecycle().training_of(champion.version)
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
    """Fails while an alarm holds, and warns of one that no longer does; only a risen loss is an error."""
    since = report.since
    return dg.AssetCheckResult(
        check_name=_CHECK,
        passed=not (report.alarm or report.passed),
        # The loss settles it: outcomes are known a session later, so moved inputs need not be taken for a worse model.
        severity=dg.AssetCheckSeverity.ERROR if report.loss_alarm else dg.AssetCheckSeverity.WARN,
        description=_sentence(report, model),
        metadata={
            "model": model,
            "loss alarm": report.loss_alarm,
            "features moved": list(report.moved),
            "since": "" if since is None else f"{since:%Y-%m-%d}",
            "no longer holds": list(report.passed),
            "what to do": _advice(report),
            **_numbers(report),
        },
    )


def _numbers(report: DriftReport) -> dict[str, float]:
    """The sums of the last session over their thresholds, which Dagster plots over time; 1 is alarm."""
    now, is_loss = report.streams["now"], report.streams["name"] == LOSS
    found = {
        "statistic_over_threshold": now[is_loss].max(),
        "features/statistic_over_threshold": now[~is_loss].max(),
    }
    return {name: float(value) for name, value in found.items() if pd.notna(value)}


def _sentence(report: DriftReport, model: str) -> str:
    """What has moved, how sure that is, whether it still holds, and what to do."""
    if not report.alarm and not report.passed:
        return f"{model}: no drift"
    parts = [_loss_sentence(report), _inputs_sentence(report), _passed_sentence(report), _advice(report)]
    return f"{model}: {' '.join(part for part in parts if part)}"


def _loss_sentence(report: DriftReport) -> str:
    loss = report.streams.iloc[0]
    if not report.loss_alarm:
        return "Its loss has not risen." if report.moved else ""
    return (
        f"Its loss against the majority's has risen since {loss['since']:%Y-%m-%d}, by {loss['shift']:.2f} of its "
        f"daily standard deviation from {loss['onset']:%Y-%m-%d} on. A year without drift goes as far with a "
        f"probability {_chance(float(loss['chance']))}. The sum now stands at {loss['now']:.1f} of its threshold."
    )


def _inputs_sentence(report: DriftReport) -> str:
    if not report.moved:
        return "No input has moved." if report.loss_alarm else ""
    rows = report.streams.set_index("name")
    named = ", ".join(f"{name} {rows.at[name, 'shift']:+.1f} sd" for name in report.moved[:5])
    first = rows.loc[list(report.moved), "since"].min()
    return f"{len(report.moved)} of {len(rows) - 1} inputs have moved since {first:%Y-%m-%d} ({named})."


def _passed_sentence(report: DriftReport) -> str:
    """Alarms that were raised once and do not hold."""
    rows: dict[Any, dict[Any, Any]] = report.streams.set_index("name").to_dict("index")
    told = [
        f"The alarm of {name} of {rows[name]['since']:%Y-%m-%d} no longer holds: its sum had come down again by as "
        f"much as the threshold on {rows[name]['ended']:%Y-%m-%d}. It now stands at {rows[name]['now']:.1f} of the "
        f"threshold. A year without drift goes as far with a probability {_chance(float(rows[name]['chance']))}."
        for name in report.passed[:5]
    ]
    more = len(report.passed) - len(told)
    return " ".join([*told, *([f"{more} more alarms no longer hold."] if more > 0 else [])])


def _advice(report: DriftReport) -> str:
    if report.loss_alarm:
        return "Retrain: the job `retrain`, or the sensor retrain_on_drift, which asks for it while this check fails."
    if report.moved:
        return "This is a warning: look at the inputs that are named; nothing is retrained for it."
    return "Nothing has to be done; nothing is retrained for it." if report.passed else ""


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
    for column in ("since", "ended", "onset"):
        shown[column] = [f"{day:%Y-%m-%d}" if pd.notna(day) else "" for day in shown[column]]
    return shown.astype(object).where(shown.notna(), "")
