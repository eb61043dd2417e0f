"""Rules between manifests that are to exist together, and between new ones and what a target already holds.

Other people may have written what a cluster holds, so nothing but the names of those objects is taken for granted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from financial_assets.errors import ManifestError
from financial_assets.serving.manifests import Manifest, kind_and_name, validate


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


def validate_set(manifests: Sequence[Manifest], *, closed: bool = True) -> None:
    """Check every manifest, and the rules between manifests that are to exist together.

    Parameters
    ----------
    manifests
        Objects of one namespace.
    closed
        Whether no other Model exists, so that each experiment's members must be among them.

    Raises
    ------
    ManifestError
        Names the objects that contradict each other.
    """
    keys = [kind_and_name(validate(manifest)) for manifest in manifests]
    for kind, name in keys:
        if keys.count((kind, name)) > 1:
            raise ManifestError(f"{kind} {name} is given twice")
    namespaces = {manifest["metadata"]["namespace"] for manifest in manifests}
    if len(namespaces) > 1:
        raise ManifestError(f"models and experiments must share one namespace, found {', '.join(sorted(namespaces))}")
    check_against(manifests, {}, {}, "no Model manifest defines" if closed else None)


def check_against(
    manifests: Sequence[Manifest],
    models: Mapping[str, Manifest],
    experiments: Mapping[str, Manifest],
    absent: str | None,
) -> None:
    """The rules between validated manifests and what is stored already.

    Parameters
    ----------
    manifests
        What is to be applied.
    models, experiments
        What is stored, by name; those that ``manifests`` replace are passed over.
    absent
        What a Model is that is neither given nor stored, e.g. ``is not a Model of the cluster``; ``None``:
        there may be further Models.

    Raises
    ------
    ManifestError
        Two Models share an artefact, an Experiment names an unknown Model, or a Model is the default of two.
    """
    given = {kind_and_name(manifest) for manifest in manifests}
    kept_models = {name: model for name, model in models.items() if ("Model", name) not in given}
    owner_of = {_storage(model): name for name, model in kept_models.items()}
    default_of: dict[str | None, str] = {
        (other.get("spec") or {}).get("default"): name
        for name, other in experiments.items()
        if ("Experiment", name) not in given
    }
    available = {*kept_models, *(name for kind, name in given if kind == "Model")}
    for manifest in manifests:
        kind, name = kind_and_name(manifest)
        if kind == "Model" and (owner := owner_of.setdefault(_storage(manifest), name)) != name:
            raise ManifestError(
                f"Models {owner} and {name} share storageUri {manifest['spec']['storageUri']}; each artefact needs its "
                "own (an overwritten storageUri is never loaded again)"
            )
        if kind != "Experiment":
            continue
        default = manifest["spec"].get("default")
        if default is not None and (other := default_of.setdefault(default, name)) != name:
            raise ManifestError(f"{default} is the default of both {other} and {name}; one is allowed")
        missing = [member for member in members(manifest) if member not in available]
        if missing and absent:
            raise ManifestError(f"Experiment {name} names {', '.join(missing)}, which {absent}")


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
