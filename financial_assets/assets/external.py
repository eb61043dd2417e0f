"""Group artifacts: models made elsewhere, examined, registered and deployed; a refused one stops nobody else."""

from typing import Any

import dagster as dg

from financial_assets.assets.checks.checkable import checkable_asset
from financial_assets.assets.market import price_panel
from financial_assets.assets.serving import deploy_artifact
from financial_assets.assets.training import lineage_tags
from financial_assets.metadata import link, rounded, table
from financial_assets.models.external.card import ExternalModel
from financial_assets.models.external.examination import Examination
from financial_assets.models.external.publishing import Admission, admit, examine_model
from financial_assets.resources import Market, Models, Serving
from financial_assets.serving.manifests import model_name


def make_external_asset(model: ExternalModel) -> dg.AssetsDefinition:
    """The asset ``external/<name>``.

    One asset from file to deployment, where a variant has three: downstream of a step that gives nothing Dagster skips
    all others, and a model that is refused must not keep the experiment from the rest.
    """
    key = dg.AssetKey(["external", model.name])

    def judge(market: Market) -> list[dg.AssetCheckResult]:
        _, examination = examine_model(model, market.load_panel().until(market.clock().now()))
        return [_check(examination)]

    @checkable_asset(
        judge=judge,
        key=key,
        group_name="artifacts",
        owners=["team:ml-platform"],
        kinds={"onnx", "kubernetes"},
        code_version="1",
        deps=[price_panel],
        pool="serving",
        description=f"The model {model.name} of EXTERNAL_MODELS: examined, registered and deployed. A deployment check "
        "has compared its answers with those of its ONNX file.",
        check_specs=[dg.AssetCheckSpec("admitted", asset=key, description="It has passed its examination")],
    )
    def external(
        context: dg.AssetExecutionContext, market: Market, models: Models, serving: Serving
    ) -> dg.MaterializeResult:
        panel = market.load_panel().until(market.clock().now())
        admission = admit(
            model, panel, models.folder, models.tracker(), models.registry(), tags=lineage_tags(context, models)
        )
        if admission.artifact is None:
            context.log.error(f"{model.path} is refused: {admission.reason}")
            return dg.MaterializeResult(
                metadata=_metadata(model, admission), check_results=[_check(admission.examination)]
            )
        artifact = admission.artifact
        name = model_name(artifact.variant, artifact.version)
        _, difference = deploy_artifact(market, serving, serving.target(), artifact)
        context.log.info(f"{name} answers; deployment check: largest difference {difference:.1e}")
        return dg.MaterializeResult(
            data_version=dg.DataVersion(name),
            metadata={
                "model": name,
                "data cut-off": f"{artifact.data_cutoff:%Y-%m-%d}",
                "deployment check, largest difference": rounded(difference, 2),
                "model card": dg.MetadataValue.json(dict(artifact.card)),
                **_metadata(model, admission),
            },
            check_results=[_check(admission.examination)],
        )

    return external


def _check(examination: Examination) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name="admitted",
        passed=examination.passed,
        description=examination.reason or "Every question was answered well.",
    )


def _metadata(model: ExternalModel, admission: Admission) -> dict[str, Any]:
    return {"examination": table(admission.examination.frame()), "file": link(model.path)}
