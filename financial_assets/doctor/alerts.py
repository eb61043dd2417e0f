"""The last layer: what the alerts of Prometheus would say of this experiment now, without Prometheus.

An alert waits until its condition has held for a while (``deploy/prometheus/rules.yml``); here the condition is looked
at once. Every finding names the page of its alert.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import httpx
import pandas as pd
import sqlalchemy as sa

from financial_assets.doctor.databases import reading_engine
from financial_assets.doctor.walk import Checked, LayerError
from financial_assets.errors import FinancialAssetsError
from financial_assets.experiment.prediction_log import schema
from financial_assets.experiment.prediction_log.reader import LogReader
from financial_assets.market.panel import PricePanel
from financial_assets.monitoring.exported.source import Source
from financial_assets.monitoring.metrics import ExperimentCollector

RUNBOOKS = "docs/runbooks"
SLOW_S = 0.2
FEWEST_REQUESTS = 10
MOST_FAILED = 0.05
"""Thresholds of HighResponseTime and HighErrorRate; a test compares them with the rules."""


@dataclass(frozen=True)
class Symptom:
    """A condition that holds now: the alert that it would raise, and what was seen."""

    alert: str
    detail: str


def check_alerts(
    log_url: str,
    panel: Callable[[], PricePanel],
    now: pd.Timestamp | None = None,
    *,
    state: Sequence[Source] = (),
    interface: str | None = None,
    halted: str = "",
) -> Checked[None]:
    """No condition of an alert holds; those that do deserve a look and break no layer.

    Parameters
    ----------
    log_url
        The prediction log's.
    panel
        Prices up to the market clock.
    now
        UTC instant; default: the present.
    state
        What the exporter reads besides the log.
    interface
        URL of the HTTP interface beside the plane; ``None``: none runs.
    halted
        Who halted trading, when and why; empty while nobody has.
    """
    instant = pd.Timestamp.now(tz="UTC") if now is None else now
    try:
        symptoms = [*_of_requests(log_url, instant), *_of_metrics(log_url, panel, instant, state)]
        symptoms += _of_interface(interface) if interface else ()
        symptoms += [Symptom("TradingHalted", halted)] if halted else []
    except FinancialAssetsError as error:
        raise LayerError(str(error), f"{RUNBOOKS}/exporter-down.md") from error
    if not symptoms:
        return Checked(None, "no alert's condition holds")
    pages = ", ".join(f"{RUNBOOKS}/{page_of(symptom.alert)}.md" for symptom in symptoms)
    return Checked(None, "; ".join(f"{symptom.alert}: {symptom.detail}" for symptom in symptoms), f"see {pages}")


def page_of(alert: str) -> str:
    """``HighErrorRate`` -> ``high-error-rate``: name of its page without the suffix."""
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in alert).lstrip("-")


def _of_requests(log_url: str, now: pd.Timestamp) -> Iterator[Symptom]:
    """Failures and lost answers of the last day, the response time of the last week."""
    table = schema.routed
    columns = (table.c.experiment, table.c.model, table.c.status, table.c.latency_s, table.c.completed_at)
    week_ago = (now - pd.Timedelta(days=7)).to_pydatetime()
    with reading_engine(log_url).connect() as connection:
        rows = pd.DataFrame(
            connection.execute(sa.select(*columns).where(table.c.completed_at > week_ago)).all(),
            columns=[column.name for column in columns],
        )
    if rows.empty:
        return
    day = rows[rows["completed_at"] > now - pd.Timedelta(days=1)]
    for experiment, status in day.groupby("experiment")["status"]:
        failed, lost = (status != "ok").mean(), (status == "unattributed").sum()
        if failed > MOST_FAILED:
            yield Symptom("HighErrorRate", f"{failed:.0%} of a day's {len(status):,} requests of {experiment} failed")
        if lost:
            yield Symptom("UnattributedRequests", f"{lost:,} of a day's requests of {experiment} named no arm")
    for (experiment, model), seconds in rows.groupby(["experiment", "model"])["latency_s"]:
        p95 = seconds.quantile(0.95)
        if len(seconds) >= FEWEST_REQUESTS and p95 > SLOW_S:
            yield Symptom("HighResponseTime", f"p95 of {model} in {experiment} is {p95:.3f} s over a week")


def _of_metrics(
    log_url: str, panel: Callable[[], PricePanel], now: pd.Timestamp, state: Sequence[Source]
) -> Iterator[Symptom]:
    """What the exporter's gauges say."""
    with LogReader(reading_engine(log_url)) as reader:
        families = list(ExperimentCollector(lambda: reader, panel, further=state, now=lambda: now).collect())
    alphas = {
        sample.labels["experiment"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "ab_test_srm_alpha"
    }
    for sample in (sample for family in families for sample in family.samples):
        labels, value = sample.labels, sample.value
        if sample.name == "ab_test_exporter_up" and value == 0:
            yield Symptom("ExporterDown", f"its {labels['source']} cannot be read")
        elif sample.name == "financial_assets_source_up" and value == 0:
            yield Symptom("StateUnreadable", f"its part {labels['source']} cannot be read")
        elif sample.name == "ab_test_accuracy_advantage_upper" and value < 0:
            yield Symptom(
                "ModelAccuracyDegraded", f"{labels['model_name']} is worse than the majority class ({value:.1f} points)"
            )
        elif sample.name == "ab_test_srm_p_value" and value <= alphas[labels["experiment"]]:
            yield Symptom("TrafficMismatch", f"{labels['experiment']} is not split as weighted (p = {value:.2g})")
        elif sample.name == "ab_test_sessions_since_last_prediction" and value > 0:
            yield Symptom("NoPredictions", f"{value:.0f} sessions have closed since the last answer")


def _of_interface(url: str) -> Iterator[Symptom]:
    """Whether the HTTP interface has signals of the current session."""
    try:
        answer = httpx.get(f"{url}/readyz", timeout=10, trust_env=False)
        problems = answer.json()["problems"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        yield Symptom("ApiSessionStale", f"{url} does not answer ({error!r})")
        return
    if problems:
        yield Symptom("ApiSessionStale", f"{url}: {problems[0]}")
