"""What the exporter reads of an installation besides its prediction log."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd

from financial_assets.installation import Installation
from financial_assets.monitoring.exported.drift import drift_metrics
from financial_assets.monitoring.exported.evaluation import EvaluationMetrics
from financial_assets.monitoring.exported.prices import StoredPrices, freshness_metrics, price_metrics
from financial_assets.monitoring.exported.source import Source
from financial_assets.workflows.dagster_runs import run_metrics


def state_sources(installation: Installation) -> tuple[Source, ...]:
    """The sources of an installation's exporter, each read at each scrape."""
    market, ab_test = installation.market, installation.ab_test
    stored = StoredPrices(
        coverage=market.coverage,
        notes=lambda: market.quality_notes(market.coverage().sessions),
        clock=lambda: market.clock().now(),
        ingested=market.notes_path,
        is_live=not market.is_historical,
    )
    report = ab_test.report_path.with_suffix(".json")
    files = {
        "prices": market.notes_path,
        # What a session adds to these two lies in files of its own, beside the first one.
        "price panel": market.panel_path.parent,
        "features": market.features_path.parent,
        "evaluation": report,
        "drift": market.drift_path,
        "signals": market.folder / "signals",
    }
    evaluation = EvaluationMetrics(report)
    return (
        Source("prices", lambda: price_metrics(stored, pd.Timestamp.now(tz="UTC"))),
        Source("evaluation", evaluation.read),
        Source("drift", lambda: drift_metrics(market.drift_path)),
        Source("files", lambda: freshness_metrics(files)),
        Source("runs", lambda: run_metrics(datetime.now(UTC))),
    )
