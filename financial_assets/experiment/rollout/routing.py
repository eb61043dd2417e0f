"""Bringing a weight epoch into force: the gateway's routes first, the registry's aliases last."""

from __future__ import annotations

from collections.abc import Collection

from financial_assets.errors import ExperimentError
from financial_assets.experiment.allocation.regimes import regime_experiment
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.plan.policy import MOST_CHALLENGERS
from financial_assets.serving.manifests import NAMESPACE, Manifest, experiment_manifest, parse_experiment
from financial_assets.serving.target import ExperimentStatus, ServingTarget
from financial_assets.tracking import ModelRegistry

__all__ = ["apply_epoch", "manifest_of", "point_aliases", "regime_manifests", "repair_routing"]


def manifest_of(epoch: WeightEpoch, namespace: str = NAMESPACE) -> Manifest:
    """The Experiment of an epoch; a challenger without a share of the requests gets a copy of each, as a mirror."""
    weights = {model: weight for model, weight in epoch.weights.items() if weight > 0}
    mirror = next(((arm.model, 100) for arm in epoch.challengers if arm.weight == 0), None)
    return experiment_manifest(
        epoch.experiment, default=epoch.champion.model, weights=weights, mirror=mirror, namespace=namespace
    )


def regime_manifests(epoch: WeightEpoch, namespace: str = NAMESPACE) -> list[Manifest]:
    """One Experiment for each regime with weights of its own.

    They have no default: a model may be that of one Experiment only, and the epoch's main one has it.
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
        In force by the log.
    target, namespace, timeout_s
        Where, and how long it may take.
    former
        Regimes whose experiments are removed, once all others are in force.

    Raises
    ------
    NotReadyError
        Not in force in time; the epoch stands, and the next run goes on here.
    TargetError
        The target refused.
    """
    manifests = [manifest_of(epoch, namespace), *regime_manifests(epoch, namespace)]
    target.apply(manifests)
    target.wait_ready([manifest["metadata"]["name"] for manifest in manifests], timeout_s)
    for name in _left_over(epoch, target.status().experiments, former) if former else ():
        target.delete("Experiment", name)
    return manifests[0]


def repair_routing(
    epoch: WeightEpoch, target: ServingTarget, namespace: str, timeout_s: float, *, former: Collection[str] = ()
) -> bool:
    """Enforce an epoch if the target splits otherwise, as a step that was killed leaves it; whether it did.

    A target that knows no such experiment is left alone: the asset ``experiment`` begins one.
    """
    found = target.status().experiments
    splits = {one.name: (one.default, dict(one.weights), one.mirror) for one in found}
    wanted = {
        spec.name: (spec.default, dict(spec.weights), spec.mirror)
        for spec in map(parse_experiment, (manifest_of(epoch, namespace), *regime_manifests(epoch, namespace)))
    }
    if epoch.experiment not in splits:
        return False
    if wanted.items() <= splits.items() and not _left_over(epoch, found, former):
        return False
    apply_epoch(epoch, target, namespace, timeout_s, former=former)
    return True


def _left_over(epoch: WeightEpoch, found: Collection[ExperimentStatus], former: Collection[str]) -> list[str]:
    """Experiments of regimes that are no longer split by weights of their own."""
    known = {one.name for one in found}
    return [name for label in sorted(former) if (name := regime_experiment(epoch.experiment, label)) in known]


def point_aliases(registry: ModelRegistry, epoch: WeightEpoch) -> None:
    """Let the aliases name the versions in those roles; called after the routes are in force.

    ``champion``, ``challenger``, and for further challengers ``challenger-2`` and so on.

    Raises
    ------
    ExperimentError
        The registry does not hold an arm's version.
    TrackingError
        It cannot be asked, or refuses.
    """
    known = {version.version for version in registry.versions()}
    lost = [arm.model for arm in (epoch.champion, *epoch.challengers) if arm.version not in known]
    if lost:
        raise ExperimentError(
            f"the registry does not hold {', '.join(lost)} of weight epoch {epoch.number} (another tracking server, or "
            "deleted there): materialize `experiment`, which follows the registry or says what else helps"
        )
    registry.set_alias("champion", epoch.champion.version)
    for place in range(max(MOST_CHALLENGERS, len(epoch.challengers))):
        alias = "challenger" if place == 0 else f"challenger-{place + 1}"
        if place < len(epoch.challengers):
            registry.set_alias(alias, epoch.challengers[place].version)
        else:
            registry.remove_alias(alias)
