"""Arms whose version number changed in the registry: another tracking server is used, or a version was deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import ROUTED_ROLES, Arm, WeightEpoch
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.models.artifacts.artifact import ARTIFACT_FOLDER
from financial_assets.serving.manifests import model_name
from financial_assets.tracking import ModelVersion


def follow_registry(
    log: PredictionLog, epoch: WeightEpoch, versions: Sequence[ModelVersion], storage: Mapping[str, str]
) -> WeightEpoch:
    """Open the epoch that names each arm by its current number in the registry; ``epoch`` itself if it already does.

    The same file under another number has another name, so its evidence starts again; logged predictions keep the old
    names.

    Parameters
    ----------
    log
        Where weight epochs are kept.
    epoch
        Current epoch.
    versions
        All versions of the registry.
    storage
        Served model name -> location of its artefact, for the models that the target holds.

    Raises
    ------
    ExperimentError
        The registry has no version with the files of a routed arm, under any number.
    """
    lost = [arm for arm in epoch.arms if not is_registered(arm, versions, storage.get(arm.model))]
    if not lost:
        return epoch
    same_files = {arm.model: _same_files(arm, versions, storage.get(arm.model)) for arm in lost}
    absent = [arm for arm in lost if arm.role in ROUTED_ROLES and same_files[arm.model] is None]
    if absent:
        names = ", ".join(f"{arm.model} (version {arm.version})" for arm in absent)
        assets = ", ".join(dict.fromkeys(f"onnx/{arm.variant}" for arm in absent))
        raise ExperimentError(
            f"weight epoch {epoch.number} names {names}, which the registry does not hold, and no other version there "
            f"has the same files. If the tracking server is another one, set MLFLOW_TRACKING_URI to the former; if the "
            f"version was deleted, materialize {assets}; if it is lost for good, begin a new experiment: another name "
            "as `experiment` of the rollout policy (ROLLOUT_POLICY). The predictions so far stay in the log"
        )
    renamed = {model: version for model, version in same_files.items() if version is not None}
    names = {model: model_name(version.tags["variant"], version.version) for model, version in renamed.items()}
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
    """Whether the registry holds the arm under its number, with its variant, data cut-off and, if known, served files.

    Parameters
    ----------
    arm
        Arm of a weight epoch.
    versions
        All versions of the registry.
    stored
        Location of the served artefact; the path of a local one contains its fingerprint.
    """
    tags = next((version.tags for version in versions if version.version == arm.version), None)
    cutoff = f"{arm.data_cutoff:%Y-%m-%d}"
    if tags is None or tags.get("variant") != arm.variant or tags.get("data_cutoff", cutoff) != cutoff:
        return False
    fingerprint = _fingerprint_in(stored)
    return fingerprint is None or tags.get("fingerprint") == fingerprint


def _same_files(arm: Arm, versions: Sequence[ModelVersion], stored: str | None) -> ModelVersion | None:
    """The newest version of the arm's variant with the fingerprint in the served artefact's path."""
    fingerprint = _fingerprint_in(stored)
    # Newest first: the same files may be registered more than once.
    same_variant = [version for version in versions if version.tags.get("variant") == arm.variant]
    return next((v for v in reversed(same_variant) if v.tags.get("fingerprint", "") == fingerprint), None)


def _fingerprint_in(stored: str | None) -> str | None:
    """The fingerprint in ``<variant>/<fingerprint>/artifact``; ``None`` in a store that names artefacts by digest."""
    parts = (stored or "").split("/")
    return parts[-2] if len(parts) > 2 and parts[-1] == ARTIFACT_FOLDER else None
