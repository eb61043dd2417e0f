"""Arms that the registry counts otherwise now: it is another tracking server, or a version was deleted there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import ROUTED_ROLES, Arm, WeightEpoch
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.models.artifacts.artifact import ARTIFACT_FOLDER
from financial_assets.serving.manifests import model_name
from financial_assets.tracking import ModelVersion

__all__ = ["follow_registry", "is_registered"]


def follow_registry(
    log: PredictionLog, epoch: WeightEpoch, versions: Sequence[ModelVersion], storage: Mapping[str, str]
) -> WeightEpoch:
    """Open the epoch that names each arm as the registry counts it now; ``epoch`` itself if it does already.

    The same file under another number has another name, so that evidence begins anew; what was logged stays under the
    old names.

    Parameters
    ----------
    log
        Where weight epochs are kept.
    epoch
        In force.
    versions
        All of the registry.
    storage
        Served model name -> where its artefact lies, for what the target holds.

    Raises
    ------
    ExperimentError
        The registry has no version with the files of a routed arm, under any number.
    """
    lost = [arm for arm in epoch.arms if not is_registered(arm, versions, storage.get(arm.model))]
    found = {arm.model: _same_files(arm, versions, storage.get(arm.model)) for arm in lost}
    absent = [arm for arm in lost if arm.role in ROUTED_ROLES and found[arm.model] is None]
    if absent:
        names = ", ".join(f"{arm.model} (version {arm.version})" for arm in absent)
        assets = ", ".join(dict.fromkeys(f"onnx/{arm.variant}" for arm in absent))
        raise ExperimentError(
            f"weight epoch {epoch.number} names {names}, which the registry does not hold, and no other version there "
            f"has the same files. If the tracking server is another one, set MLFLOW_TRACKING_URI to the former; if the "
            f"version was deleted, materialize {assets}; if it is lost for good, begin a new experiment: another name "
            "as `experiment` of the rollout policy (ROLLOUT_POLICY). The predictions so far stay in the log"
        )
    if not lost:
        return epoch
    renamed = {name: version for name, version in found.items() if version is not None}
    names = {name: model_name(version.tags["variant"], version.version) for name, version in renamed.items()}
    arms = tuple(
        replace(arm, model=names[arm.model], version=renamed[arm.model].version) if arm.model in names else arm
        for arm in epoch.arms
        if arm.model in names or arm not in lost
    )
    regimes = {
        label: {names.get(model, model): weight for model, weight in weights.items()}
        for label, weights in epoch.regimes.items()
    }
    changes = [f"{old} is {new} now, and its evidence begins anew" for old, new in names.items()]
    changes += [f"{arm.model} leaves" for arm in lost if arm.model not in names]
    reason = f"the registry counts its versions anew or has lost some: {'; '.join(changes)}"
    return log.open_epoch(epoch.experiment, arms, reason, after=epoch.number, regimes=regimes)


def is_registered(arm: Arm, versions: Sequence[ModelVersion], stored: str | None) -> bool:
    """Whether the registry has the arm under its number: its variant, and the files that are served, where known.

    Parameters
    ----------
    arm
        Of a weight epoch.
    versions
        All of the registry.
    stored
        Where the served artefact lies; the path of a local one names its fingerprint.
    """
    own = next((one for one in versions if one.version == arm.version), None)
    cutoff = f"{arm.data_cutoff:%Y-%m-%d}"
    if own is None or own.tags.get("variant") != arm.variant or own.tags.get("data_cutoff", cutoff) != cutoff:
        return False
    fingerprint = _fingerprint_in(stored)
    return fingerprint is None or own.tags.get("fingerprint") == fingerprint


def _same_files(arm: Arm, versions: Sequence[ModelVersion], stored: str | None) -> ModelVersion | None:
    """The newest version of the arm's variant whose fingerprint the served artefact's path names."""
    fingerprint = _fingerprint_in(stored)
    matching = [one for one in versions if one.tags.get("variant") == arm.variant]
    return next((one for one in reversed(matching) if one.tags.get("fingerprint", "") == fingerprint), None)


def _fingerprint_in(stored: str | None) -> str | None:
    """That of ``<variant>/<fingerprint>/artifact``; ``None`` for a store that names artefacts by their digest."""
    parts = (stored or "").split("/")
    return parts[-2] if len(parts) > 2 and parts[-1] == ARTIFACT_FOLDER else None
