"""Group monitoring: whether the champion still sees data like those it was trained on."""

from typing import Any

import dagster as dg
import pandas as pd

from financial_assets.assets.checks.checkable import checkable_asset
from financial_assets.assets.evaluation import predictions
from financial_assets.assets.features import features
from financial_assets.experiment.arms import Arm
from financial_assets.experiment.evaluation.evaluate import DIRECT_COLUMNS
from financial_assets.features.catalogue import CATALOGUE
from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.market.panel import PricePanel
from financial_assets.market.panels.stored import StoredPanel
from financial_assets.metadata import plot, rounded, table
from financial_assets.monitoring.drift.detection import LOSS, DriftReport, detect_drift
from financial_assets.monitoring.drift.kept_means import kept_feature_means
from financial_assets.monitoring.drift.plots import plot_drift
from financial_assets.monitoring.drift.streams import (
    DriftReference,
    feature_means,
    served_excess_loss,
)
from financial_assets.monitoring.exported.drift import save_drift
from financial_assets.resources import ABTest, Market, Models

_CHECK = "no_drift"

CALENDAR = tuple(feature.name for feature in CATALOGUE if feature.family == "calendar")
"""Features that depend on the date alone: they vary with the season and cannot drift."""


def _judge(market: Market, models: Models, ab_test: ABTest) -> list[dg.AssetCheckResult]:
    report, champion = _detect(market, models, ab_test)
    return [drift_check(report, champion.model)]


@checkable_asset(
    judge=_judge,
    group_name="monitoring",
    owners=["team:ml-platform"],
    kinds={"python", "matplotlib"},
    code_version="3",
    deps=[features, predictions],
    check_specs=[
        dg.AssetCheckSpec(
            _CHECK,
            asset="drift",
            description="Neither the features nor the champion's loss have shifted since training. A risen loss fails "
            "this check as an error and requires a retraining: the sensor retrain_on_drift requests one at once when "
            "it is on. Shifted inputs and alarms that have ended are warnings that require no action.",
        )
    ],
)
def drift(context: dg.AssetExecutionContext, market: Market, models: Models, ab_test: ABTest) -> dg.MaterializeResult:
    """Drift: the champion's daily loss and the daily feature means since its data cut-off, compared with its training.

    One prewhitened CUSUM for the loss and two per feature (level, scale), with
    thresholds set by false alarms per year; two plain faults per feature (stuck, out of range). An alarm stays on
    until its statistic has fallen from its peak by as much as the threshold, or until a champion with a later data
    cut-off brings a new reference. A risen loss is an error and may trigger a retraining. Inputs that have shifted
    while the loss has not risen are a warning, and so is an alarm that has ended.
    """
    report, champion = _detect(market, models, ab_test)
    save_drift(report, champion.model, market.drift_path)
    context.log.info(_sentence(report, champion.model))
    return dg.MaterializeResult(
        check_results=[drift_check(report, champion.model)],
        metadata=_metadata(report, champion.model, champion.data_cutoff),
    )


def _detect(market: Market, models: Models, ab_test: ABTest) -> tuple[DriftReport, Arm]:
    """What log and bars say of the champion now, and who that is."""
    stored = market.current_panel()
    panel = stored.panel
    with ab_test.log() as log:
        champion = ab_test.current_epoch(log).champion
        direct = log.direct([champion.model], columns=DIRECT_COLUMNS)
    reference = DriftReference.of(models.lifecycle().known_model(champion.version), panel)
    means = _daily_means(market, stored).drop(columns=[*CALENDAR], errors="ignore")
    sessions = means.index
    report = detect_drift(
        feature_reference=means[(sessions >= reference.begins) & (sessions <= champion.data_cutoff)],
        features=means[sessions > champion.data_cutoff],
        loss_reference=reference.loss,
        loss=served_excess_loss(direct, champion, panel, reference.majority_up),
        folder=market.folder / "drift" / "thresholds",
    )
    return report, champion


def _daily_means(market: Market, stored: StoredPanel) -> pd.DataFrame:
    """The daily feature means; those of earlier days are kept."""
    panel, path = stored.panel, market.folder / "drift" / "feature-means.npz"
    if stored.covariates:  # the lineage is one of bars: tables may say something else of any session than they did
        return feature_means(current_features(market, panel))
    return kept_feature_means(
        path, market.features_path, panel.sessions, stored.lineage, lambda: current_features(market, panel)
    )


def current_features(market: Market, panel: PricePanel) -> FeaturePanel:
    """The stored features, or freshly computed ones where a replay has moved the clock past them."""
    stored = market.load_features()
    if stored.sessions.equals(panel.sessions) and stored.tickers == panel.tickers:
        return stored
    return compute_panel(panel, FeatureGraph(covariates=panel.covariates, programs=market.features_path.parent))


def drift_check(report: DriftReport, model: str) -> dg.AssetCheckResult:
    """Fails while an alarm is on, and warns of one that has ended; only a risen loss is an error."""
    since = report.since
    return dg.AssetCheckResult(
        check_name=_CHECK,
        passed=not (report.alarm or report.passed),
        # The loss decides: outcomes are known one session later, so shifted inputs need not be taken for a worse model.
        severity=dg.AssetCheckSeverity.ERROR if report.loss_alarm else dg.AssetCheckSeverity.WARN,
        description=_sentence(report, model),
        metadata={
            "model": model,
            "loss alarm": report.loss_alarm,  # this, `model` and `since` are read by the sensor retrain_on_drift
            "features shifted": list(report.moved),
            "since": "" if since is None else f"{since:%Y-%m-%d}",
            "alarms that have ended": list(report.passed),
            "action": _action(report),
            **_numbers(report),
        },
    )


def _numbers(report: DriftReport) -> dict[str, float]:
    """The sums of the last session over their thresholds, which Dagster plots over time; above 1 is an alarm."""
    now, is_loss = report.streams["now"], report.streams["name"] == LOSS
    ratios = {
        "statistic_over_threshold": now[is_loss].max(),
        "features/statistic_over_threshold": now[~is_loss].max(),
    }
    return {name: rounded(value) for name, value in ratios.items() if pd.notna(value)}


def _sentence(report: DriftReport, model: str) -> str:
    """What raised an alarm and when, where its statistic is now, whether the alarm is still on, and what to do."""
    if not report.alarm and not report.passed:
        return f"{model}: no drift"
    parts = [_loss_sentence(report), _inputs_sentence(report), _ended_sentence(report), _action(report)]
    return f"{model}: {' '.join(part for part in parts if part)}"


def _loss_sentence(report: DriftReport) -> str:
    loss = report.streams.iloc[0]
    if not report.loss_alarm:
        return "The loss has not risen." if report.moved else ""
    return (
        f"The loss alarm has been on since {loss['since']:%Y-%m-%d}: compared with always predicting the majority "
        f"class, the loss has risen by {loss['shift']:.2f} of its daily standard deviation since "
        f"{loss['onset']:%Y-%m-%d}. A year without drift goes as far with a probability "
        f"{_chance(float(loss['chance']))}. The statistic is now at {loss['now']:.1f} of its threshold. The alarm ends "
        "when the statistic has fallen from its peak by as much as the threshold, or with a champion trained on later "
        "sessions."
    )


def _inputs_sentence(report: DriftReport) -> str:
    if not report.moved:
        return "No input has shifted." if report.loss_alarm else ""
    rows = report.streams.set_index("name")
    named = ", ".join(_shifted(name, str(rows.at[name, "aspect"]), rows.at[name, "shift"]) for name in report.moved[:5])
    first = rows.loc[list(report.moved), "since"].min()
    return f"{len(report.moved)} of {len(rows) - 1} inputs have shifted since {first:%Y-%m-%d} ({named})."


def _shifted(name: str, aspect: str, shift: Any) -> str:
    """What has happened to a feature, in a few words."""
    if aspect == "level":
        return f"{name} {shift:+.1f} sd"
    if aspect == "scale":
        return f"{name} moves {shift:.1f} times as much"
    return f"{name} is stuck" if aspect == "stuck" else f"{name} is out of range"


def _ended_sentence(report: DriftReport) -> str:
    rows: dict[Any, dict[Any, Any]] = report.streams.set_index("name").to_dict("index")
    sentences = [
        f"The alarm of {name} that began on {rows[name]['since']:%Y-%m-%d} ended on {rows[name]['ended']:%Y-%m-%d}, "
        "when its statistic had fallen from its peak by as much as the threshold. It is now at "
        f"{rows[name]['now']:.1f} of the threshold. A year without drift goes as far with a probability "
        f"{_chance(float(rows[name]['chance']))}."
        for name in report.passed[:5]
    ]
    more = len(report.passed) - len(sentences)
    return " ".join([*sentences, *([f"{more} more alarms have ended."] if more > 0 else [])])


def _action(report: DriftReport) -> str:
    if report.loss_alarm:
        return (
            "Action: retrain with the job `retrain`. The sensor retrain_on_drift requests it as soon as it is on, "
            "while this check fails as an error."
        )
    if report.moved:
        return "No action is required: this is a warning to look at these inputs, and nothing is retrained for it."
    return "No action is required, and nothing is retrained for it." if report.passed else ""


def _chance(share: float) -> str:
    """A probability from a simulation: none in a thousand worlds does not mean never."""
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
        "features shifted": ", ".join(report.moved) or "none",
        "statistic over threshold": plot(plot_drift(report), "drift"),
        "streams": table(_readable(streams), most=len(streams)),
        **{f"{LOSS}/over threshold": rounded(value) for value in ratio[streams["name"] == LOSS] if pd.notna(value)},
        **({"features/over threshold": rounded(ratio.iloc[1:].max())} if ratio.iloc[1:].notna().any() else {}),
    }


def _readable(streams: pd.DataFrame) -> pd.DataFrame:
    """Dates as text and unknown values as blanks."""
    shown = streams.copy()
    for column in ("since", "ended", "onset"):
        shown[column] = [f"{day:%Y-%m-%d}" if pd.notna(day) else "" for day in shown[column]]
    return shown.astype(object).where(shown.notna(), "")
