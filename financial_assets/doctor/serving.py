"""The layers of serving: target, gateway, routing, attribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from financial_assets.doctor.stores import LogState
from financial_assets.doctor.walk import RUN, Checked, LayerError, materialize
from financial_assets.errors import InferenceError
from financial_assets.experiment.allocation.regimes import regime_experiment
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.serving.client.answers import ROUTE_HEADER
from financial_assets.serving.client.inference import Connect
from financial_assets.serving.manifests import model_name
from financial_assets.serving.target import TargetStatus
from financial_assets.tracking import ModelVersion

_LOOK = "the log keeps each request's error; `financial-assets status` shows restarted processes"
RESTART = "`financial-assets stop`, then `financial-assets serve`"


def check_target(status: TargetStatus) -> Checked[TargetStatus]:
    """Every process and model of the target works."""
    if status.endpoint is None:
        detail = "; ".join(status.problems) or "nothing runs"
        raise LayerError(detail, "`financial-assets serve`" if status.target == "local" else materialize("experiment"))
    if not status.ready:
        raise LayerError("; ".join(status.problems) or "not ready", _restart(status))
    if not status.models:
        raise LayerError("no model is deployed", RUN)
    names = [f"{process.name} {process.state}" for process in status.processes]
    return Checked(status, ", ".join([*names, f"{len(status.models)} models ready"]))


def _restart(status: TargetStatus) -> str:
    if status.target == "local":
        return f"{RESTART}; the reasons are in serving/logs of the state folder"
    return f"{remedy_for(status.target)}; then {materialize('experiment')}"


def remedy_for(target: str) -> str:
    """What a person looks at first when a target does not work."""
    if target == "local":
        return RESTART
    look = "`kubectl get models,experiments,pods -n $KUBERNETES_NAMESPACE` (default: financial-inference)"
    return look if target == "kubernetes" else f"look at what synchronises GITOPS_PATH with the cluster, and {look}"


def check_gateway(connect: Connect, status: TargetStatus, bars: np.ndarray) -> Checked[None]:
    """The gateway answers over HTTP and over gRPC, with finite numbers."""
    model, where = status.models[0].name, status.endpoint
    assert where is not None, "check_target lets no target without an endpoint pass"
    with connect() as client:
        for protocol, address, ask in (
            ("HTTP", where.http_url, client.infer),
            ("gRPC", where.grpc_target, client.infer_batch),
        ):
            try:
                answer = ask(model, bars)
            except InferenceError as error:
                raise LayerError(f"{protocol} at {address}: {error}", _restart(status)) from error
            spoilt = [name for name, values in answer.outputs.items() if not np.isfinite(values).all()]
            if spoilt:
                detail = f"{protocol} at {address}: {model} answers NaN or infinity in {', '.join(spoilt)}"
                raise LayerError(detail, _restart(status))
    return Checked(None, f"HTTP and gRPC answer at {where.http_url}")


def check_routing(connect: Connect, status: TargetStatus, epoch: WeightEpoch, bars: np.ndarray) -> Checked[str | None]:
    """The current weights are those of the rollout state, and a request is routed to one of its arms.

    The value is the arm that the gateway says it routed to.
    """
    absent = sorted({arm.model for arm in epoch.arms} - {model.name for model in status.models})
    if absent:
        arm = epoch.arm(absent[0])
        remedy = materialize(f"predictors/{arm.variant}" if arm else "experiment")
        raise LayerError(f"arms of weight epoch {epoch.number} that are not deployed: {', '.join(absent)}", remedy)
    _compare_weights(status, epoch)
    with connect() as client:
        try:
            route = client.infer(f"{epoch.experiment}.experiment", bars[:1]).route
        except InferenceError as error:
            raise LayerError(f"{epoch.experiment}: {error}", materialize("experiment")) from error
    if route is not None and route not in epoch.weights:
        raise LayerError(
            f"{route} answered, which is not an arm of weight epoch {epoch.number}", materialize("experiment")
        )
    return Checked(route, f"weight epoch {epoch.number} applied: {_shown(epoch.weights)}")


def _compare_weights(status: TargetStatus, epoch: WeightEpoch) -> None:
    """Refuse a split, the main one or a regime's, that differs from the weight epoch."""
    splits = {split.name: split for split in status.experiments}
    main = splits.get(epoch.experiment)
    if main is None:
        raise LayerError(f"the target has no experiment {epoch.experiment}", materialize("experiment"))
    remedy = f"{materialize('experiment')} applies the rollout state"
    if dict(main.weights) != epoch.weights or main.default != epoch.champion.model:
        detail = f"current weights: {_shown(main.weights)}, default {main.default}; weight epoch {epoch.number}: "
        raise LayerError(f"{detail}{_shown(epoch.weights)}, default {epoch.champion.model}", remedy)
    for label, weights in epoch.regimes.items():
        name = regime_experiment(epoch.experiment, label)
        current = dict(splits[name].weights) if name in splits else None
        if current != weights:
            detail = f"{name} has the weights {current}; weight epoch {epoch.number}: {_shown(weights)}"
            raise LayerError(detail, remedy)


def _shown(weights: Mapping[str, int]) -> str:
    return ", ".join(f"{model} {weight}" for model, weight in weights.items())


def check_attribution(route: str | None, versions: Sequence[ModelVersion], log: LogState) -> Checked[str]:
    """The answer names its arm, the arm is a registered version, and the log's requests have arms."""
    if route is None:
        raise LayerError(f"the answer's header {ROUTE_HEADER} is missing or names no arm", RESTART)
    registered = {model_name(version.tags.get("variant", ""), version.version) for version in versions}
    if route not in registered:
        raise LayerError(
            f"{route} answered, which the registry does not hold", "set MLFLOW_TRACKING_URI to its registry"
        )
    detail = f"answered by {route}; {log.unattributed:,} of {log.completed:,} logged requests have no arm"
    return Checked(route, detail, _LOOK if log.unattributed else "")
