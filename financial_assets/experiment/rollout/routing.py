"""Applying a weight epoch: the gateway's routes first, the registry's aliases last."""

from __future__ import annotations

from collections.abc import Collection

from financial_assets.errors import ExperimentError
from financial_assets.experiment.allocation.regimes import regime_experiment
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.plan.policy import MOST_CHALLENGERS
from financial_assets.serving.manifests import NAMESPACE, Manifest, experiment_manifest, parse_experiment
from financial_assets.serving.target import ExperimentStatus, ServingTarget
from financial_assets.tracking import ModelRegistry


def manifest_of(epoch: WeightEpoch, namespace: str = NAMESPACE) -> Manifest:
    """The Experiment of an epoch; a challenger without a share of the requests is a mirror and gets copies of them."""
    weights = {model: weight for model, weight in epoch.weights.items() if weight > 0}
    mirror = next(((arm.model, 100) for arm in epoch.challengers if arm.weight == 0), None)
    return experiment_manifest(
        epoch.experiment, default=epoch.champion.model, weights=weights, mirror=mirror, namespace=namespace
    )


def regime_manifests(epoch: WeightEpoch, namespace: str = NAMESPACE) -> list[Manifest]:
    """One Experiment per regime with weights of its own.

    They have no default model: a model may be the default of one Experiment only, which is the epoch's main one.
    """
    return [
        experiment_manifest(
            regime_experiment(epoch.experiment, label), default=None, weights=dict(weights), namespace=namespace
        )
        for label, weights in epoch.regimes.items()
    ]


def apply_epoch(
    epoch: WeightEpoch, target: ServingTarget, namespace: str, timeout_s: float, *, former: Collection[str] = ()
) -> Manifest:
    """Make the target route as the epoch says; repeating it changes nothing.

    Parameters
    ----------
    epoch
        Current epoch of the log.
    target, namespace, timeout_s
        Where, and how long it may take.
    former
        Regimes whose Experiments are removed, once all others are ready.

    Raises
    ------
    NotReadyError
        Not ready in time. The log keeps the epoch, and the next run continues here.
    TargetError
        The target refused.
    """
    manifests = [manifest_of(epoch, namespace), *regime_manifests(epoch, namespace)]
    target.apply(manifests)
    target.wait_ready([manifest["metadata"]["name"] for manifest in manifests], timeout_s)
    # Last, because a client that asks by a former regime must not be left without any route in between.
    for name in _obsolete(epoch, target.status().experiments, former) if former else ():
        target.delete("Experiment", name)
    return manifests[0]


def repair_routing(
    epoch: WeightEpoch, target: ServingTarget, namespace: str, timeout_s: float, *, former: Collection[str] = ()
) -> bool:
    """Apply an epoch if the target's routes differ from it, as after a step that was killed; whether they did.

    A target without the experiment is left alone: the asset ``experiment`` creates it.
    """
    present = target.status().experiments
    splits = {status.name: (status.default, dict(status.weights), status.mirror) for status in present}
    expected = {
        spec.name: (spec.default, dict(spec.weights), spec.mirror)
        for spec in map(parse_experiment, (manifest_of(epoch, namespace), *regime_manifests(epoch, namespace)))
    }
    if epoch.experiment not in splits:
        return False
    if expected.items() <= splits.items() and not _obsolete(epoch, present, former):
        return False
    apply_epoch(epoch, target, namespace, timeout_s, former=former)
    return True


def _obsolete(epoch: WeightEpoch, present: Collection[ExperimentStatus], former: Collection[str]) -> list[str]:
    """Names of the Experiments of regimes that no longer have weights of their own."""
    names = {status.name for status in present}
    return [name for label in sorted(former) if (name := regime_experiment(epoch.experiment, label)) in names]


def point_aliases(registry: ModelRegistry, epoch: WeightEpoch) -> None:
    """Point the registry's aliases at the versions in those roles; called after the routes are applied.

    ``champion``, ``challenger``, and for further challengers ``challenger-2`` and so on.

    Raises
    ------
    ExperimentError
        The registry does not hold an arm's version.
    TrackingError
        The registry cannot be reached, or refuses.
    """
    registered = {version.version for version in registry.versions()}
    lost = [arm.model for arm in (epoch.champion, *epoch.challengers) if arm.version not in registered]
    if lost:
        raise ExperimentError(
            f"the registry does not hold {', '.join(lost)} of weight epoch {epoch.number} (another tracking server, or "
            "deleted there): materialize `experiment`, which follows the registry or names another fix"
        )
    registry.set_alias("champion", epoch.champion.version)
    for position in range(max(MOST_CHALLENGERS, len(epoch.challengers))):
        alias = "challenger" if position == 0 else f"challenger-{position + 1}"
        if position < len(epoch.challengers):
            registry.set_alias(alias, epoch.challengers[position].version)
        else:
            registry.remove_alias(alias)
