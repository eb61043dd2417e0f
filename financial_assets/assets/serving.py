"""Group serving: each registered version as an immutable Model, and the Experiment that splits requests."""

from collections.abc import Collection, Sequence
from typing import Any

import dagster as dg
import pandas as pd

from financial_assets.assets.market import price_panel
from financial_assets.errors import ManifestError, TargetError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.words import horizon_in_words, metric_and_why, power_in_words
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.plan.whole_rule.figures import WholeRulePower
from financial_assets.experiment.plan.whole_rule.power import simulate_power
from financial_assets.experiment.rollout.controller import ExperimentController
from financial_assets.experiment.rollout.renumbering import follow_registry
from financial_assets.experiment.rollout.routing import apply_epoch, point_aliases
from financial_assets.experiment.rollout.state import AvailableModel, Rollout
from financial_assets.metadata import rounded, table
from financial_assets.models.artifacts.artifact import Artifact
from financial_assets.models.onnx.export import onnx_session, run_onnx
from financial_assets.models.request_shape import SERVED_LOOKBACK
from financial_assets.models.variants import Variant
from financial_assets.resources import ABTest, Market, Models, Serving
from financial_assets.serving.client.answers import OUTPUTS
from financial_assets.serving.deployment import check_deployment, deploy
from financial_assets.serving.manifests import Manifest, model_name
from financial_assets.serving.target import ServingTarget, TargetStatus
from financial_assets.tracking import ModelRegistry
from financial_assets.workflows.days_before import DaysBefore

GROUP = "serving"
OWNERS = ["team:ml-platform"]


def make_predictor_asset(variant: Variant, artifact: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """The asset ``predictors/<variant>``."""

    @dg.asset(
        key=dg.AssetKey(["predictors", variant.name]),
        group_name=GROUP,
        owners=OWNERS,
        kinds={"kubernetes", "onnx"},
        code_version="1",
        deps=[artifact],
        pool="serving",
        description=f"The latest registered {variant.name} version, deployed. A deployment check has compared its "
        "answers with those of its ONNX file.",
    )
    def predictor(
        context: dg.AssetExecutionContext, market: Market, models: Models, serving: Serving
    ) -> dg.MaterializeResult:
        current = models.lifecycle().current_artifact(variant.name)
        name = model_name(variant.name, current.version)
        manifest, difference = deploy_artifact(market, serving, serving.target(), current)
        url = serving.target().endpoint().http_url
        context.log.info(f"{name} answers at {url}; deployment check: largest difference {difference:.1e}")
        return dg.MaterializeResult(
            data_version=dg.DataVersion(name),
            metadata={
                "model": name,
                "url": dg.MetadataValue.url(f"{url}/v2/models/{name}/infer"),
                "storage": str(manifest["spec"]["storageUri"]),
                "deployment check, largest difference": rounded(difference, 2),
                "manifest": dg.MetadataValue.json(manifest),
            },
        )

    return predictor


def deploy_artifact(
    market: Market, serving: Serving, target: ServingTarget, artifact: Artifact
) -> tuple[Manifest, float]:
    """Deploy an artefact and check its answers against its file; its Model, and the largest difference."""
    name = model_name(artifact.variant, artifact.version)
    panel = market.load_panel()
    artifact.require_channels(panel)
    manifest = serving.publish(name, artifact.folder, {"variant": artifact.variant})
    _, bars = panel.windows(panel.sessions[-1], SERVED_LOOKBACK)
    answer = run_onnx(onnx_session(artifact.onnx_path), bars)
    expected = {name: values for name, values in zip(OUTPUTS, answer, strict=True) if values is not None}

    def check() -> float:
        with serving.connect() as client:
            return check_deployment(client, name, bars, expected)

    return manifest, deploy(target, manifest, serving.ready_timeout, check)


def make_experiment_asset(predictors: Sequence[dg.AssetsDefinition], made: Collection[str]) -> dg.AssetsDefinition:
    """The asset ``experiment``, in which the predictors of the variants and external models ``made`` take part."""

    @dg.asset(
        group_name=GROUP,
        owners=OWNERS,
        kinds={"kubernetes"},
        code_version="1",
        # The panel too: `daily` leaves predictors out, and nothing may look at the clock before raw_prices has a
        # session.
        deps=[price_panel, *predictors],
        pool="serving",
    )
    def experiment(
        context: dg.AssetExecutionContext, market: Market, models: Models, serving: Serving, ab_test: ABTest
    ) -> dg.MaterializeResult:
        """The split of requests between champion and challengers, made to match the rollout state; it is never reset.

        Arms that the target has lost are deployed again, models that take no part any more are deleted, and each new
        challenger's plan is registered before its first evidence.
        """
        target, registry = serving.target(), models.registry()

        def power_of(plan: ExperimentPlan) -> WholeRulePower:
            context.log.info(f"the question of {plan.question} is decided by {metric_and_why(plan)}")
            return simulate_power(plan, progress=context.log.info)

        with ab_test.log() as log:
            rollout = Rollout(log, ab_test.policy(), ab_test.switch)
            # The registry may number the arms' versions differently by now.
            if (current := rollout.current()) is not None:
                storage = {model.name: model.storage_uri for model in _status(target).models}
                followed = follow_registry(log, current, registry.versions(), storage)
                if followed != current:
                    context.log.warning(f"weight epoch {followed.number}: {followed.reason}")
            redeployed = _deploy_lost_arms(market, models, serving, target, rollout.current())
            if rollout.is_frozen:
                context.log.warning("halted: no arm enters, and roles and weights stay as they are")
            epoch = rollout.reconcile(can_take_part(deployed_models(target, registry), rollout.current(), made))
            plans = ExperimentController(rollout).register(
                DaysBefore(market, models, epoch.champion, context.log.warning).of,
                market.clock().now(),
                whole_rule=power_of,
            )
            for unasked in ExperimentController(rollout).unasked():
                context.log.warning(unasked.sentence)
            former = rollout.former_regimes()
        manifest = apply_epoch(epoch, target, serving.kubernetes_namespace, serving.ready_timeout, former=former)
        route = _ask_once(market, serving, epoch)
        point_aliases(registry, epoch)
        removed = _remove_unused(context, target, epoch)
        for arm in epoch.arms:
            if arm.variant not in made:
                context.log.warning(
                    f"{arm.model} goes on as {arm.role}, but has no later version: neither VARIANTS nor "
                    f"EXTERNAL_MODELS has {arm.variant}"
                )
        arms = pd.DataFrame(
            {"model": arm.model, "role": arm.role, "weight": arm.weight, "data cut-off": f"{arm.data_cutoff:%Y-%m-%d}"}
            for arm in epoch.arms
        )
        shares = ", ".join(f"{model} {weight}" for model, weight in epoch.weights.items())
        context.log.info(f"weight epoch {epoch.number}: {shares}; shadows {[arm.model for arm in epoch.shadows]}")
        return dg.MaterializeResult(
            data_version=dg.DataVersion(f"{epoch.experiment}-{epoch.number}"),
            metadata={
                "weight epoch": epoch.number,
                "reason": epoch.reason,
                "arms": table(arms),
                "url": dg.MetadataValue.url(f"{target.endpoint().http_url}/v2/models/{epoch.experiment}/infer"),
                "test request answered by": route,
                "removed models": ", ".join(removed) or "none",
                "models deployed again": ", ".join(redeployed) or "none",
                **_plan_metadata(plans),
                "manifest": dg.MetadataValue.json(manifest),
            },
        )

    return experiment


def can_take_part(
    deployed: Sequence[AvailableModel], epoch: WeightEpoch | None, made: Collection[str]
) -> list[AvailableModel]:
    """The deployed models of variants that are made, and arms that get requests, whose variant may be made no more."""
    routed = set() if epoch is None else set(epoch.weights)
    return [model for model in deployed if model.variant in made or model.model in routed]


def _deploy_lost_arms(
    market: Market, models: Models, serving: Serving, target: ServingTarget, epoch: WeightEpoch | None
) -> list[str]:
    """Deploy arms of the current epoch that the target has lost; the files of the others are restored where damaged.

    No predictor asset does it, because a newer version may be the variant's latest by now.
    """
    held = {model.name for model in _status(target).models}
    arms = () if epoch is None else epoch.arms
    # Asked for every arm, because fetching an artefact also restores its files.
    artifacts = {arm.model: models.lifecycle().artifact_of(arm.version) for arm in arms}
    lost = [arm.model for arm in arms if arm.model not in held]
    for model in lost:
        deploy_artifact(market, serving, target, artifacts[model])
    return lost


def _status(target: ServingTarget) -> TargetStatus:
    status = target.status()
    # What the local plane holds is written in its own file, whether it runs or not.
    if status.problems and not status.models and status.target != "local":
        raise TargetError(f"the models of the target {status.target} cannot be listed: {'; '.join(status.problems)}")
    return status


def deployed_models(target: ServingTarget, registry: ModelRegistry) -> list[AvailableModel]:
    """Registered versions that the target holds: what a rollout can choose from."""
    deployed = {model.name for model in _status(target).models}
    models = [
        AvailableModel(
            model_name(version.tags["variant"], version.version),
            version.tags["variant"],
            version.version,
            pd.Timestamp(version.tags["data_cutoff"]),
        )
        for version in registry.versions()
    ]
    return [model for model in models if model.model in deployed]


def _ask_once(market: Market, serving: Serving, epoch: WeightEpoch) -> str:
    """One request through the split; it must come from one of its arms."""
    panel = market.load_panel()
    _, bars = panel.windows(panel.sessions[-1], SERVED_LOOKBACK)
    with serving.connect() as client:
        answer = client.infer(f"{epoch.experiment}.experiment", bars[:1])
    if answer.route not in epoch.weights:
        raise dg.Failure(
            f"the experiment answered through {answer.route!r}, not through one of {', '.join(epoch.weights)}",
            metadata={"weights": dg.MetadataValue.json(dict(epoch.weights))},
        )
    return answer.route


def _plan_metadata(plans: Sequence[ExperimentPlan]) -> dict[str, Any]:
    """The pre-registrations, before any evidence is seen."""
    metadata: dict[str, Any] = {}
    for number, plan in enumerate(plans, start=1):
        of = "" if number == 1 else f", {plan.challenger}" + ("" if plan.moves_traffic else f", {plan.question}")
        metadata[f"plan{of}"] = dg.MetadataValue.json(plan.to_dict())
        metadata[f"metric{of}"] = metric_and_why(plan)
        metadata[f"lasts{of}"] = horizon_in_words(plan)
        metadata[f"minimum detectable effect{of}"] = rounded(plan.detectable)
        metadata[f"days for the plausible effect{of}"] = plan.days_for_plausible
        metadata[f"power of the whole rule{of}"] = "\n".join(power_in_words(plan))
    return metadata


def _remove_unused(context: dg.AssetExecutionContext, target: ServingTarget, epoch: WeightEpoch) -> list[str]:
    """Delete models that no longer take part, after the last route that names them is gone.

    A target's status lists this project's models only, so those of other people on the same cluster are never deleted.
    """
    wanted = {arm.model for arm in epoch.arms}
    removed: list[str] = []
    for name in sorted(model.name for model in target.status().models if model.name not in wanted):
        try:
            target.delete("Model", name)
        except ManifestError as error:  # somebody else's experiment needs it
            context.log.warning(f"{name} is kept: {error}")
        else:
            removed.append(name)
    return removed
