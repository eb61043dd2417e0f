"""Group walk_forward: every model fitted and judged fold by fold on the past, and the report over all folds.

The forecasts are partitioned by fold. A run of one partition computes that fold; a run without a partition, such as
``dagster job execute -j walk_forward``, computes all of them one after the other and records each as its partition.
Folds that are there are reused either way.
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg
import pandas as pd

from financial_assets.assets.features import features
from financial_assets.assets.training import lineage_tags, mlflow_metadata
from financial_assets.metadata import link, plot, rounded, table
from financial_assets.models.walk_forward import plots
from financial_assets.models.walk_forward.folds import FoldPlan
from financial_assets.models.walk_forward.quantile_heads import ALL
from financial_assets.models.walk_forward.report import WalkForwardReport, make_report
from financial_assets.models.walk_forward.run import BASELINES, FoldForecasts
from financial_assets.models.walk_forward.store import fingerprint_of
from financial_assets.models.walk_forward.tracked import FoldRuns
from financial_assets.resources import Market, Models
from financial_assets.resources.pipeline_run import pipeline_run_of

GROUP = "walk_forward"
OWNERS = ["team:quant-research"]
POOL = "walk_forward"

_HEADLINES = {
    "direction": ("accuracy", "log_loss", "auc", "timing"),
    "excess_return": ("rank_ic", "rank_icir"),
    "return_quantiles": ("pinball_normalised", "coverage_5%", "qlike", "fz_lower_5%"),
    "return_quantiles_5d": ("pinball_normalised", "coverage_5%", "qlike", "fz_lower_5%"),
}


def make_walk_forward_assets(variants: Sequence[str], plan: FoldPlan) -> list[dg.AssetsDefinition]:
    """The forecasts of each of ``variants`` and of the reference models, partitioned by fold, and the report."""
    folds = dg.StaticPartitionsDefinition(list(plan.names))
    forecasts = [_make_forecasts(models, folds) for models in (*variants, BASELINES)]
    return [*forecasts, _make_report(forecasts)]


def _make_forecasts(models_name: str, folds: dg.StaticPartitionsDefinition) -> dg.AssetsDefinition:
    key = dg.AssetKey(["walk_forward", "reference_models" if models_name == BASELINES else models_name])
    who = "All reference models" if models_name == BASELINES else f"The variant {models_name}"

    @dg.asset(
        key=key,
        group_name=GROUP,
        owners=OWNERS,
        kinds={"scikitlearn" if models_name == BASELINES else "pytorch", "mlflow"},
        code_version="1",
        deps=[features],
        partitions_def=folds,
        pool=POOL,
        description=f"{who}, fitted as in production on the past of each fold; forecasts of the sessions after it.",
    )
    def forecasts(context: dg.AssetExecutionContext, market: Market, models: Models) -> dg.MaterializeResult:
        walk = models.walk_forward(market)
        pipeline = pipeline_run_of(context.instance, context.run.run_id)
        runs = FoldRuns(walk, models.tracker(), pipeline, lineage_tags(context, models))
        chosen = [walk.fold(context.partition_key)] if context.has_partition_key else list(walk.folds)
        fingerprints: list[str] = []
        shown: dict[str, Any] = {}
        for fold in chosen:
            found, run_id = runs.run(models_name, fold)
            fingerprints.append(found.provenance.fingerprint)
            how = "reused" if found.reused else f"computed in {found.provenance.seconds:.1f} s"
            context.log.info(f"{fold.name}: {how}, cut-off {found.provenance.cutoff}")
            shown = _metadata(found) | mlflow_metadata(models, run_id)
            if not context.has_partition_key:
                context.log_event(dg.AssetMaterialization(key, partition=fold.name, metadata=shown))
                shown = {"folds": len(fingerprints)}
        version = fingerprint_of(folds=fingerprints)
        return dg.MaterializeResult(data_version=dg.DataVersion(version), metadata=shown)

    return forecasts


def _metadata(found: FoldForecasts) -> dict[str, Any]:
    provenance = found.provenance
    silent = pd.DataFrame(sorted(provenance.silent.items()), columns=["model", "reason"])
    return {
        "dagster/row_count": len(found.forecasts),
        "fingerprint": provenance.fingerprint,
        "reused": str(found.reused),
        "seconds": rounded(provenance.seconds),
        "cut-off": provenance.cutoff,
        "first test session": provenance.first,
        "last test session": provenance.last,
        **({} if silent.empty else {"without a forecast": table(silent)}),
    }


def _make_report(forecasts: list[dg.AssetsDefinition]) -> dg.AssetsDefinition:
    @dg.asset(group_name=GROUP, owners=OWNERS, kinds={"pandas"}, code_version="1", deps=forecasts, pool=POOL)
    def walk_forward_report(context: dg.AssetExecutionContext, market: Market, models: Models) -> dg.MaterializeResult:
        """Scores, value-at-risk tests, rivals and confidence sets of all folds that are there."""
        walk = models.walk_forward(market)
        report = make_report(walk)
        models.record_walk_forward(walk)
        folder = models.walk_forward_folder / "report"
        report.save(folder)
        there = int(report.folds["there"].sum())
        context.log.info(f"{there} of {len(report.folds)} folds, {len(report.forecasts):,} forecasts")
        return dg.MaterializeResult(metadata={"folder": link(folder), **_report_metadata(report)})

    return walk_forward_report


def _report_metadata(report: WalkForwardReport) -> dict[str, Any]:
    universe = report.coverage[(report.coverage["ticker"] == "(universe)") & (report.coverage["fold"] == ALL)]
    best = report.sets[(report.sets["fold"] == ALL) & report.sets["included"]]
    return {
        "folds there": int(report.folds["there"].sum()),
        "folds": table(report.folds),
        **{f"{head}, all folds": table(headlines(report.scores, head)) for head in _HEADLINES},
        "value at risk, all folds": table(universe.drop(columns=["fold", "ticker"])),
        "models among which the best may be": table(best),
        "scores by fold": plot(plots.plot_scores(report.scores), "scores by fold"),
        "reliability": plot(plots.plot_reliability(report.forecasts), "reliability"),
        "breaches over time": plot(plots.plot_breaches(report.forecasts), "breaches over time"),
        "rank correlation over time": plot(plots.plot_rank_correlations(report.forecasts), "rank correlation"),
    }


def headlines(scores: pd.DataFrame, head: str) -> pd.DataFrame:
    """The scores of a head that a person reads first, each as text with its interval: one row per model."""
    rows = scores[(scores["fold"] == ALL) & (scores["head"] == head) & scores["score"].isin(_HEADLINES[head])]
    text = [f"{row.estimate:.4g} [{row.low:.4g}, {row.high:.4g}]" for row in rows.itertuples()]
    if rows.empty:
        return pd.DataFrame({"model": ["none"]})
    wide = rows.assign(text=text).pivot(index="model", columns="score", values="text")
    return wide.reindex(columns=list(_HEADLINES[head])).reset_index()
