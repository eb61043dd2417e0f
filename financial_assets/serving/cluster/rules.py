"""Rules between new manifests and the objects that a cluster or its repository already holds.

Other people may have written those objects, so nothing but their names is taken for granted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from financial_assets.errors import ManifestError
from financial_assets.serving.manifests import Manifest, kind_and_name

__all__ = ["check_against", "check_reachable", "check_unused", "members"]


def members(experiment: Manifest) -> tuple[str, ...]:
    """Models that an Experiment names, the mirror included."""
    spec = experiment.get("spec") or {}
    named = [*(spec.get("candidates") or []), *([spec["mirror"]] if spec.get("mirror") else [])]
    return tuple(str(item.get("name")) for item in named)


def check_reachable(manifests: Sequence[Manifest], namespace: str, volume: Path | None) -> None:
    """Every object is for ``namespace``, and every artefact lies where a cluster can read it.

    Parameters
    ----------
    manifests
        What is to be applied.
    namespace
        The target's.
    volume
        Folder that the model servers mount at the same path as this machine; ``None``: there is none.

    Raises
    ------
    ManifestError
        Another namespace, or an artefact on this machine's own disk.
    """
    for manifest in manifests:
        kind, name = kind_and_name(manifest)
        if manifest["metadata"]["namespace"] != namespace:
            raise ManifestError(
                f"{kind} {name} is for namespace {manifest['metadata']['namespace']}; this target is {namespace}"
            )
        uri = manifest["spec"]["storageUri"] if kind == "Model" else ""
        if kind != "Model" or urlsplit(uri).scheme not in ("", "file"):
            continue
        if volume is None or volume not in Path(uri).parents or ".." in Path(uri).parts:
            raise ManifestError(
                f"Model {name}: spec.storageUri {uri} lies on this machine, where no cluster can read it; publish the "
                "artefact (ARTIFACT_STORE_URI) and give its address, e.g. s3://bucket/..."
            )


def check_against(
    manifests: Sequence[Manifest], models: Mapping[str, Manifest], experiments: Mapping[str, Manifest], holder: str
) -> None:
    """The rules of a set of manifests, extended to what is stored already.

    Parameters
    ----------
    manifests
        What is to be applied.
    models, experiments
        What is stored, by name; those that ``manifests`` replace are passed over.
    holder
        Names the store in messages: ``cluster`` or ``overlay``.

    Raises
    ------
    ManifestError
        Two Models share an artefact, an Experiment names an unknown Model, or a Model is the default of two.
    """
    given = {kind_and_name(manifest) for manifest in manifests}
    kept_models = {name: model for name, model in models.items() if ("Model", name) not in given}
    kept_experiments = {name: other for name, other in experiments.items() if ("Experiment", name) not in given}
    owner_of = {_storage(model): name for name, model in kept_models.items()}
    default_of = {(other.get("spec") or {}).get("default"): name for name, other in kept_experiments.items()}
    available = {*kept_models, *(name for kind, name in given if kind == "Model")}
    for manifest in manifests:
        kind, name = kind_and_name(manifest)
        if kind == "Model" and (owner := owner_of.get(_storage(manifest))):
            raise ManifestError(
                f"Models {owner} and {name} share storageUri {manifest['spec']['storageUri']}; each artefact needs "
                "its own"
            )
        if kind == "Experiment":
            _check_experiment(manifest, available, default_of, holder)


def _check_experiment(
    manifest: Manifest, available: set[str], default_of: Mapping[str | None, str], holder: str
) -> None:
    name, default = manifest["metadata"]["name"], manifest["spec"].get("default")
    missing = [member for member in members(manifest) if member not in available]
    if missing:
        raise ManifestError(f"Experiment {name} names {', '.join(missing)}, which is not a Model of the {holder}")
    if default is not None and default in default_of:
        raise ManifestError(f"{default} is the default of both {default_of[default]} and {name}; one is allowed")


def _storage(model: Manifest) -> str:
    return str((model.get("spec") or {}).get("storageUri")).rstrip("/")


def check_unused(kind: str, name: str, experiments: Mapping[str, Manifest]) -> None:
    """No Experiment names the Model that is to be deleted.

    Raises
    ------
    ManifestError
        One does.
    """
    users = [user for user, experiment in experiments.items() if kind == "Model" and name in members(experiment)]
    if users:
        raise ManifestError(
            f"Experiment {', '.join(users)} names Model {name}; give it other candidates or delete it first"
        )
