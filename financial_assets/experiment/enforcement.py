"""Bringing a weight epoch into force: the gateway's routes first, the registry's aliases last."""

from __future__ import annotations

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.policy import MOST_CHALLENGERS
from financial_assets.serving.manifests import NAMESPACE, Manifest, experiment_manifest
from financial_assets.serving.target import ServingTarget
from financial_assets.tracking import ModelRegistry

__all__ = ["enforce", "manifest_of", "point_aliases", "restore"]


def manifest_of(epoch: WeightEpoch, namespace: str = NAMESPACE) -> Manifest:
    """The Experiment of an epoch; a challenger without a share of the requests gets a copy of each, as a mirror."""
    weights = {model: weight for model, weight in epoch.weights.items() if weight > 0}
    mirror = next(((arm.model, 100) for arm in epoch.challengers if arm.weight == 0), None)
    return experiment_manifest(
        epoch.experiment, default=epoch.champion.model, weights=weights, mirror=mirror, namespace=namespace
    )


def enforce(epoch: WeightEpoch, target: ServingTarget, namespace: str, timeout_s: float) -> Manifest:
    """Make the target route as the epoch says; repeating it changes nothing.

    Raises
    ------
    NotReadyError
        Not in force in time; the epoch stands, and the next run goes on here.
    TargetError
        The target refused.
    """
    manifest = manifest_of(epoch, namespace)
    target.apply([manifest])
    target.wait_ready([epoch.experiment], timeout_s)
    return manifest


def restore(epoch: WeightEpoch, target: ServingTarget, namespace: str, timeout_s: float) -> bool:
    """Enforce an epoch if the target splits otherwise, as a step that was killed leaves it; whether it did.

    A target that knows no such experiment is left alone: the asset ``experiment`` begins one.
    """
    wanted = manifest_of(epoch, namespace)["spec"]
    found = next((one for one in target.status().experiments if one.name == epoch.experiment), None)
    if found is None:
        return False
    weights = {one["name"]: one["weight"] for one in wanted["candidates"]}
    mirror = (wanted["mirror"]["name"], wanted["mirror"]["percent"]) if "mirror" in wanted else None
    if (found.default, dict(found.weights), found.mirror) == (wanted["default"], weights, mirror):
        return False
    enforce(epoch, target, namespace, timeout_s)
    return True


def point_aliases(registry: ModelRegistry, epoch: WeightEpoch) -> None:
    """Let the aliases name the versions in those roles; called after the routes are in force.

    ``champion``, ``challenger``, and for further challengers ``challenger-2`` and so on.
    """
    registry.set_alias("champion", epoch.champion.version)
    for place in range(max(MOST_CHALLENGERS, len(epoch.challengers))):
        alias = "challenger" if place == 0 else f"challenger-{place + 1}"
        if place < len(epoch.challengers):
            registry.set_alias(alias, epoch.challengers[place].version)
        else:
            registry.remove_alias(alias)
