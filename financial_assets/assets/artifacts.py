"""Group artifacts: one ONNX file per variant, proven equal to its model before it is registered."""

from collections.abc import Mapping
from typing import Any, cast

import dagster as dg
import pandas as pd

from financial_assets.assets.features import features
from financial_assets.assets.training import lineage_tags, mlflow_metadata
from financial_assets.features.graph import FeatureGraph
from financial_assets.metadata import link, table
from financial_assets.models.artifacts.artifact import Artifact
from financial_assets.models.variants import Variant
from financial_assets.resources import Market, Models
from financial_assets.resources.pipeline_run import pipeline_run_of
from financial_assets.tracking import REGISTERED_MODEL


def make_artifact_asset(variant: Variant, model: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """The asset ``onnx/<variant>``."""

    @dg.asset(
        key=dg.AssetKey(["onnx", variant.name]),
        group_name="artifacts",
        owners=["team:ml-platform"],
        kinds={"onnx", "mlflow"},
        code_version="1",
        deps=[model, features],
        pool="training",
        description=(
            f"The {variant.name} variant as one self-contained file, raw bars in, calibrated answer out. Parity with "
            "torch is proven on real bars before the version is registered."
        ),
    )
    def artifact(context: dg.AssetExecutionContext, market: Market, models: Models) -> dg.MaterializeResult:
        panel = market.load_panel()
        graph = FeatureGraph(covariates=panel.covariates)
        published = models.lifecycle().publish(
            variant.name,
            graph,
            market.load_features(),
            panel,
            tags=lineage_tags(context, models),
            parent=pipeline_run_of(context.instance, context.run.run_id),
        )
        if published.note:
            context.log.warning(published.note)
        parity = cast("Mapping[str, float]", published.card["parity"])
        how = "already registered as" if published.reused else "registered as"
        context.log.info(
            f"{how} {REGISTERED_MODEL} version {published.version}; onnxruntime against torch: "
            f"{parity['onnx_probability']:.1e}, panel against window: {parity['panel_window']:g}"
        )
        return dg.MaterializeResult(
            data_version=dg.DataVersion(str(published.card["onnx_sha256"])),
            metadata=_metadata(published, parity, models),
        )

    return artifact


def _metadata(published: Artifact, parity: Mapping[str, float], models: Models) -> dict[str, Any]:
    proof = pd.DataFrame({"parity": list(parity), "value": [f"{value:.3g}" for value in parity.values()]})
    return {
        "version": published.version,
        "reused": str(published.reused),
        **mlflow_metadata(models, published.run_id),
        "data cut-off": str(published.card["data_cutoff"]),
        "size in bytes": published.onnx_path.stat().st_size,
        "proof of parity": table(proof),
        "model card": dg.MetadataValue.md(published.text),
        "model card as data": dg.MetadataValue.json(dict(published.card)),
        "file": link(published.onnx_path),
    }
