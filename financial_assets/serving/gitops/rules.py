"""Rules between what is to be committed and what the overlay holds already, which others may have written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from financial_assets.errors import ManifestError
from financial_assets.serving.gitops.overlay import Overlay
from financial_assets.serving.kubernetes.conditions import members
from financial_assets.serving.manifests import Manifest, kind_and_name

__all__ = ["check_against", "check_deletion", "check_reachable"]


def check_reachable(manifests: Sequence[Manifest], namespace: str, volume: Path | None) -> None:
    """Every object is for ``namespace``, and every artefact lies where a cluster can read it.

    Raises
    ------
    ManifestError
        One is not, or does not.
    """
    for manifest in manifests:
        kind, name = kind_and_name(manifest)
        if manifest["metadata"]["namespace"] != namespace:
            raise ManifestError(
                f"{kind} {name} is for namespace {manifest['metadata']['namespace']}; this target is {namespace}"
            )
        uri = manifest["spec"]["storageUri"] if kind == "Model" else "s3://"
        if urlsplit(uri).scheme not in ("", "file"):
            continue
        if volume is None or volume not in Path(uri).parents or ".." in Path(uri).parts:
            raise ManifestError(
                f"Model {name}: spec.storageUri {uri} lies on this machine, where no cluster can read it; publish the "
                "artefact (ARTIFACT_STORE_URI) and give its address, e.g. s3://bucket/..."
            )


def check_against(manifests: Sequence[Manifest], overlay: Overlay) -> None:
    """The rules of a set, extended to the overlay.

    Raises
    ------
    ManifestError
        Two Models share an artefact, an Experiment names a Model that is not there, or a Model is the default of two.
    """
    given = {kind_and_name(manifest) for manifest in manifests}
    models = {name: m for name, m in overlay.of_kind("Model").items() if ("Model", name) not in given}
    others = {name: m for name, m in overlay.of_kind("Experiment").items() if ("Experiment", name) not in given}
    owners = {str(_spec(model).get("storageUri")).rstrip("/"): name for name, model in models.items()}
    taken = {_spec(experiment).get("default"): name for name, experiment in others.items()}
    known = {*models, *(name for kind, name in given if kind == "Model")}
    for manifest in manifests:
        (kind, name), spec = kind_and_name(manifest), manifest["spec"]
        if kind == "Model" and (owner := owners.get(spec["storageUri"].rstrip("/"))):
            raise ManifestError(
                f"Models {owner} and {name} share storageUri {spec['storageUri']}; each artefact needs its own"
            )
        if kind != "Experiment":
            continue
        missing = [member for member in members(manifest) if member not in known]
        if missing:
            raise ManifestError(f"Experiment {name} names {', '.join(missing)}, which is no Model of the overlay")
        default = spec.get("default")
        if default is not None and default in taken:
            raise ManifestError(f"{default} is the default of both {taken[default]} and {name}; one is allowed")


def check_deletion(kind: str, name: str, overlay: Overlay) -> None:
    """No Experiment names the Model that is to go.

    Raises
    ------
    ManifestError
        One does.
    """
    if kind != "Model":
        return
    using = [found for found, experiment in overlay.of_kind("Experiment").items() if name in members(experiment)]
    if using:
        raise ManifestError(
            f"Experiment {', '.join(using)} names Model {name}; give it other candidates or delete it first"
        )


def _spec(manifest: Manifest) -> Mapping[str, object]:
    return manifest.get("spec") or {}
