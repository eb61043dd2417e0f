"""Sensors that request a retraining: one reads Alertmanager, one the drift check; both decide by one rule.

They keep no state: earlier requests are read from the runs themselves. Dagster reads the annotations of this module at
run time, so they are not postponed (no ``from __future__ import annotations``).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import dagster as dg
import pandas as pd

from financial_assets.automation.dead_runs import sweep
from financial_assets.automation.jobs import retrain
from financial_assets.automation.latest_checks import latest_check
from financial_assets.errors import LogNotFoundError, MarketDataError, MonitoringError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.market.calendar import session_close
from financial_assets.monitoring.incidents import Trigger
from financial_assets.monitoring.metrics import open_log
from financial_assets.monitoring.retraining import Request, Skipped, decide
from financial_assets.resources import ABTest, Retraining
from financial_assets.workflows.run_history import past_runs, request_tags

_DRIFT_CHECK = dg.AssetCheckKey(dg.AssetKey("drift"), "no_drift")
_SHOWN = 10
"""Reasons that a tick shows; the Alertmanager of a large site holds many alerts of other services."""

Answer = dg.RunRequest | dg.SkipReason


def make_retrain_sensors(interval_s: int) -> list[dg.SensorDefinition]:
    """The sensors ``retrain_on_alert`` and ``retrain_on_drift``, stopped until somebody switches them on.

    Parameters
    ----------
    interval_s
        Least seconds between two ticks.
    """

    @dg.sensor(
        job=retrain,
        minimum_interval_seconds=interval_s,
        description="Requests the job retrain for a variant whose served model Alertmanager reports as degraded. It "
        "acts once per incident, one retraining at a time, with a cool-down between two.",
    )
    def retrain_on_alert(context: dg.SensorEvaluationContext, retraining: Retraining, ab_test: ABTest) -> Answer:
        """An Alertmanager that cannot be reached fails the tick: no answer must not look like no alert."""
        # A killed retraining must count as failed, and must not block the next one in the queue.
        sweep(context.instance, context.log.warning)
        alertmanager = retraining.alertmanager()
        if alertmanager is None:
            return dg.SkipReason("ALERTMANAGER_URL is not set: there are no alerts to read")
        alerts = alertmanager.active()
        unseen = alertmanager.unseen_mutes(alerts)
        if unseen is not None:
            context.log.warning(unseen)
        triggers = [
            Trigger("alert", alert.name, alert.labels.get("experiment", ""), alert.model, alert.starts_at)
            for alert in alerts
        ]
        return _answer(context, retraining, ab_test, triggers)

    @dg.sensor(
        job=retrain,
        minimum_interval_seconds=interval_s,
        description="Requests the job retrain for the champion's variant while the latest check no_drift fails as an "
        "error. If it fails when the sensor is switched on, the first tick requests a retraining at once.",
    )
    def retrain_on_drift(context: dg.SensorEvaluationContext, retraining: Retraining, ab_test: ABTest) -> Answer:
        sweep(context.instance, context.log.warning)
        evaluation = latest_check(context.instance, _DRIFT_CHECK)
        if evaluation is None:
            return dg.SkipReason("the check no_drift of drift was never evaluated: run the job daily")
        if evaluation.passed:
            return dg.SkipReason(f"the latest drift check passed: {evaluation.description}")
        if evaluation.severity == dg.AssetCheckSeverity.WARN:  # only inputs have shifted, or the alarm has ended
            return dg.SkipReason(f"the latest drift check only warns: {evaluation.description}")
        return _answer(context, retraining, ab_test, [_drift_trigger(evaluation, ab_test.policy().experiment)])

    return [retrain_on_alert, retrain_on_drift]


def _drift_trigger(failed: dg.AssetCheckEvaluation, experiment: str) -> Trigger:
    """Raises ``MonitoringError`` if the check lacks the metadata that the asset ``drift`` writes."""
    try:
        metadata = {name: failed.metadata[name].value for name in ("model", "loss alarm", "since")}
        since = session_close(pd.Timestamp(str(metadata["since"])))
    except (KeyError, ValueError, MarketDataError) as error:
        raise MonitoringError(f"the drift check does not name model, loss alarm and since: {error!r}") from error
    cause = "loss_drift" if metadata["loss alarm"] else "feature_drift"
    return Trigger("drift", cause, experiment, str(metadata["model"]), since.to_pydatetime())


def _answer(
    context: dg.SensorEvaluationContext, retraining: Retraining, ab_test: ABTest, triggers: Sequence[Trigger]
) -> Answer:
    """The decision about the triggers, given the current arms and past runs."""
    if not triggers:
        return dg.SkipReason("no alert is active")
    try:
        with open_log(ab_test.log_url) as log:
            epochs = log.epochs(ab_test.policy().experiment)
    except LogNotFoundError as error:
        return dg.SkipReason(str(error))
    if not epochs:
        return dg.SkipReason("the experiment has not started; run `financial-assets run`")
    experiment_started_at = epochs[0].opened_at.isoformat()
    history = past_runs(context.instance, experiment_started_at)
    decision = decide(triggers, epochs[-1], history, datetime.now(UTC), retraining.policy())
    reasons = _reasons(decision.skipped)
    if decision.request is None:
        return dg.SkipReason("\n".join(reasons))
    for reason in reasons:
        context.log.info(reason)
    return _run_request(decision.request, epochs[-1], experiment_started_at)


def _reasons(skipped: Iterable[Skipped]) -> list[str]:
    """One line per reason, repeated ones counted."""
    counted = Counter(f"{skip.trigger.source} {skip.trigger.cause}: {skip.reason}" for skip in skipped)
    lines = [text if times == 1 else f"{text} ({times} times)" for text, times in counted.items()]
    more = len(lines) - _SHOWN
    return lines if more <= 0 else [*lines[:_SHOWN], f"and {more} more"]


def _run_request(request: Request, epoch: WeightEpoch, experiment_started_at: str) -> dg.RunRequest:
    """The run that trains the variant and nothing else.

    Dagster never launches a run key twice. The key holds the experiment's start, because an experiment that was begun
    again has models of the same names and could otherwise not be retrained.
    """
    chain = [dg.AssetKey([folder, request.variant]) for folder in ("models", "onnx", "predictors")]
    common = [dg.AssetKey(name) for name in ("raw_prices", "price_panel", "features", "reference_models", "experiment")]
    return dg.RunRequest(
        run_key=f"{request.incident}:{request.attempt}:{experiment_started_at}",
        tags=request_tags(request, experiment_started_at) | {"retrain/epoch": str(epoch.number)},
        asset_selection=[*common, *chain],
    )
