"""Group features: the catalogue over the panel, proven causal on the very bars it was computed from."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from financial_assets.assets.market import price_panel
from financial_assets.features.causality import causality_violations
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.features.schema import check_features, feature_schema
from financial_assets.metadata import column_schema, link, quality_check, refusal, table
from financial_assets.resources import Market

__all__ = ["features"]

_SCHEMA = "Columns, types, finite, within range"
_SPOT_CHECKS = 3
"""Sessions at which causality is tried on the real panel; the laws themselves are property tests."""


@dg.asset(
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

    Values that fail a check are shown in it and never stored.
    """
    panel, graph = market.load_panel(), FeatureGraph()
    computed = compute_panel(panel, graph)
    frame = computed.to_frame()
    failures = check_features(frame)
    violations = causality_violations(graph, panel, cuts=_SPOT_CHECKS, seed=market.seed)
    yield quality_check("schema", _SCHEMA, len(frame), failures)
    yield quality_check("causal", "Features of a panel cut short equal those of the whole", _SPOT_CHECKS, violations)
    broken = failures if violations.empty else violations
    if not broken.empty:
        raise refusal("features break their contract; the stored ones are unchanged", broken)
    computed.save(market.features_path)
    context.log.info(f"{len(graph.names)} features on {len(frame):,} rows (ticker and session)")
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(computed.content_hash()),
        metadata={
            "dagster/row_count": len(frame),
            "dagster/column_schema": column_schema(feature_schema()),
            "features": len(graph.names),
            "lookback": graph.lookback,
            "distribution": table(_distribution(frame, graph.names), most=200),
            "file": link(market.features_path),
        },
    )


def _distribution(frame: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    summary = frame[list(names)].describe(percentiles=[0.01, 0.5, 0.99]).T[["mean", "std", "1%", "50%", "99%"]]
    return summary.rename_axis("feature").reset_index()
