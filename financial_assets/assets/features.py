"""Group features: the catalogue over the panel, proven causal on the very bars it was computed from."""

import hashlib
from collections.abc import Iterator
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd

from financial_assets.assets.checks.checkable import checkable_asset
from financial_assets.assets.market import price_panel
from financial_assets.errors import FeatureError
from financial_assets.features.appending import Appended, append_features, next_sessions, save_features
from financial_assets.features.causality import causality_violations, spot_violations, stored_violations
from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.features.schema import check_feature_panel, feature_schema
from financial_assets.features.stored.reading import load_features
from financial_assets.market.panel import PricePanel
from financial_assets.metadata import column_lineage, column_schema, link, quality_check, refusal, table
from financial_assets.models.artifacts.fingerprint import code_version
from financial_assets.resources import Market

_SCHEMA = "Columns, types, finite, within range"
_CUTS, _SPOTS = 3, 32
"""Sessions at which causality is tried on the real panel, and single bars of a panel that only some sessions were
appended to; the laws themselves are property tests."""

_MOST_DESCRIBED = 50_000
"""Rows from which the distributions in the metadata are taken, evenly spaced over a larger panel."""


def _judge(market: Market) -> list[dg.AssetCheckResult]:
    """Of the stored features beside the stored panel; a panel that has gone on since is cut where they end."""
    stored, panel = load_features(market.features_path), PricePanel.load(market.panel_path)
    panel = panel.until(stored.sessions[-1])
    if not panel.sessions.equals(stored.sessions) or panel.tickers != stored.tickers:
        raise FeatureError("the stored features are of other tickers or sessions than the panel: materialize features")
    graph = FeatureGraph(covariates=panel.covariates)
    if graph.names != stored.names:
        raise FeatureError("the stored features are of another catalogue than the code: materialize features")
    violations = stored_violations(stored, graph, panel, cuts=_CUTS, seed=market.seed)
    return [
        quality_check("schema", _SCHEMA, int(stored.valid.sum()), check_feature_panel(stored, graph.features)),
        quality_check("causal", "Stored features equal those of a panel that ends there", _CUTS, violations),
    ]


@checkable_asset(
    judge=_judge,
    group_name="features",
    owners=["team:quant-research"],
    kinds={"pytorch", "pandera"},
    code_version="1",
    deps=[price_panel],
    check_specs=[
        dg.AssetCheckSpec("schema", asset="features", blocking=True, description=_SCHEMA),
        dg.AssetCheckSpec("causal", asset="features", blocking=True, description="Later bars change nothing earlier"),
    ],
)
def features(context: dg.AssetExecutionContext, market: Market) -> Iterator[Any]:
    """Every indicator of the catalogue for every ticker and session that has enough bars behind it.

    Where the stored features are a beginning of the panel, only the new sessions are computed and appended. Values that
    fail a check are shown in it and never stored.
    """
    panel, lineage = market.load_panel_and_lineage()
    graph = FeatureGraph(covariates=panel.covariates, programs=market.features_path.parent)
    appended = next_sessions(market.features_path, panel, graph, lineage, code=code_version())
    computed = (compute_panel(panel, graph),) if appended is None else appended.parts
    failures = pd.concat([check_feature_panel(part, graph.features) for part in computed], ignore_index=True)
    if appended is None:
        tried, violations = _CUTS, causality_violations(graph, panel, cuts=_CUTS, seed=market.seed)
    else:
        tried, violations = _SPOTS, spot_violations(graph, panel, spots=_SPOTS, seed=market.seed)
        violations = pd.concat([violations, _unstable(appended)], ignore_index=True)
    count = sum(int(part.valid.sum()) for part in computed)
    yield quality_check("schema", _SCHEMA, count, failures)
    yield quality_check("causal", "Features of a panel cut short equal those of the whole", tried, violations)
    broken = failures if violations.empty else violations
    if not broken.empty:
        raise refusal("features break their contract; the stored ones are unchanged", broken)
    if appended is None:
        save_features(market.features_path, computed[0], panel, lineage, code=code_version())
    else:
        append_features(market.features_path, appended)
    how = "" if appended is None else f", {appended.added} new sessions appended"
    rows = int((panel.valid & (panel.listed_bars() >= graph.lookback)).sum())
    context.log.info(f"{len(graph.names)} features on {rows:,} rows (ticker and session){how}")
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(features_version(panel, graph)),
        metadata={
            "dagster/row_count": rows,
            "dagster/column_schema": column_schema(feature_schema(graph.features)),
            "dagster/column_lineage": column_lineage(price_panel.key, graph.channels_read()),
            "features": len(graph.names),
            "lookback": graph.lookback,
            "rows computed": count,
            "distribution": table(_distribution(computed[-1]), most=200),
            "file": link(market.features_path),
        },
    )


def features_version(panel: PricePanel, graph: FeatureGraph) -> str:
    """Names the content of the features: they are a function of the bars and of the code, so those are hashed.

    Hashing the features themselves would read all of them each day.
    """
    return hashlib.sha256(f"{panel.version()}\0{code_version()}\0{graph.names}".encode()).hexdigest()


def _unstable(appended: Appended) -> pd.DataFrame:
    problem = "the last stored session comes out otherwise from its last bars alone"
    rows = [{"ticker": ticker, "feature": feature, "problem": problem} for ticker, feature in appended.unstable]
    return pd.DataFrame(rows, columns=["ticker", "feature", "problem"])


def _distribution(panel: FeaturePanel) -> pd.DataFrame:
    ticker, session = np.nonzero(panel.valid)
    step = max(1, len(ticker) // _MOST_DESCRIBED)
    values = panel.values[ticker[::step], :, session[::step]]
    summary = pd.DataFrame(values, columns=list(panel.names)).describe(percentiles=[0.01, 0.5, 0.99])
    return summary.T[["mean", "std", "1%", "50%", "99%"]].rename_axis("feature").reset_index()
