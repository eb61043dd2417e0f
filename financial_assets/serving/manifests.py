"""Model, Experiment and Server manifests of ``mlops.seldon.io/v1alpha1``: plain dicts, checked before use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from financial_assets.errors import ManifestError
from financial_assets.serving.manifest_rules import (
    API_VERSION,
    CAPABILITY,
    EXPERIMENT_NAME,
    NAMESPACE,
    Manifest,
    is_experiment,
    validate,
)

__all__ = [
    "API_VERSION",
    "CAPABILITY",
    "EXPERIMENT_NAME",
    "MANAGED_BY",
    "NAMESPACE",
    "ExperimentSpec",
    "Manifest",
    "check_kind",
    "experiment_manifest",
    "is_experiment",
    "is_ours",
    "kind_and_name",
    "model_manifest",
    "model_name",
    "parse_experiment",
    "validate",
]


MANAGED_BY = ("app.kubernetes.io/managed-by", "financial-assets")
"""Label of every object of this program: on a shared cluster, nothing without it is changed or deleted."""


@dataclass(frozen=True)
class ExperimentSpec:
    """The values of an Experiment manifest.

    Attributes
    ----------
    name
        The experiment's name.
    default
        The candidate whose ordinary endpoint shares the split; ``None``: the split has only an endpoint of its own.
    weights
        Relative weight of each candidate, in the manifest's order (``default`` first).
    mirror
        ``(model, percent)``: the shadow model and the share of requests that it gets a copy of.
    """

    name: str
    default: str | None
    weights: Mapping[str, int]
    mirror: tuple[str, int] | None = None


def model_name(variant: str, version: int) -> str:
    """The name of the Model that serves one registered version of a variant: ``<variant>-predictor-v<version>``."""
    return f"{variant}-predictor-v{version}"


def model_manifest(
    name: str,
    storage_uri: str,
    *,
    namespace: str = NAMESPACE,
    parameters: Mapping[str, str] | None = None,
    secret_name: str | None = None,
    requirements: Sequence[str] = (CAPABILITY,),
    labels: Mapping[str, str] | None = None,
) -> Manifest:
    """A validated Model.

    Parameters
    ----------
    name
        Immutable name of exactly one artefact, see :func:`model_name`.
    storage_uri
        Folder that holds ``model.onnx``; must be unique to this artefact.
    namespace
        Where the Model lives; all of an experiment share one.
    parameters
        Passed to the runtime, e.g. ``{"max_batch": "4096"}``.
    secret_name
        Kubernetes Secret, of the same namespace, with which the model servers read ``storage_uri``.
    requirements
        Capabilities that a server must have.
    labels
        Kubernetes labels beside :data:`MANAGED_BY`.

    Raises
    ------
    ManifestError
        A value breaks a rule.
    """
    spec: Manifest = {"storageUri": storage_uri, "requirements": list(requirements)}
    if secret_name:
        spec["secretName"] = secret_name
    if parameters:
        spec["parameters"] = [{"name": key, "value": value} for key, value in parameters.items()]
    return _manifest("Model", name, namespace, spec, labels)


def experiment_manifest(
    name: str = EXPERIMENT_NAME,
    *,
    default: str | None,
    weights: Mapping[str, int],
    mirror: tuple[str, int] | None = None,
    namespace: str = NAMESPACE,
    labels: Mapping[str, str] | None = None,
) -> Manifest:
    """A validated Experiment; ``default`` is listed first whatever the order of ``weights``.

    A Model may be the default of one Experiment only; further ones with the same candidates have none (``None``).

    Raises
    ------
    ManifestError
        A value breaks a rule.
    """
    ordered = sorted(weights, key=lambda candidate: candidate != default)
    spec: Manifest = {} if default is None else {"default": default}
    spec |= {
        "resourceType": "model",
        "candidates": [{"name": candidate, "weight": weights[candidate]} for candidate in ordered],
    }
    if mirror is not None:
        spec["mirror"] = {"name": mirror[0], "percent": mirror[1]}
    return _manifest("Experiment", name, namespace, spec, labels)


def is_ours(document: Manifest) -> bool:
    """Whether this program made an object of a cluster."""
    label, value = MANAGED_BY
    return (document["metadata"].get("labels") or {}).get(label) == value


def check_kind(kind: str) -> None:
    """Refuse a kind that no target serves.

    Raises
    ------
    ManifestError
        Names the kinds that are allowed.
    """
    if kind not in ("Model", "Experiment", "Server"):
        raise ManifestError(f"kind is {kind!r}; allowed: Model, Experiment, Server")


def kind_and_name(manifest: Manifest) -> tuple[str, str]:
    """Kind and name of a validated manifest."""
    return manifest["kind"], manifest["metadata"]["name"]


def parse_experiment(manifest: Manifest) -> ExperimentSpec:
    """The values of an Experiment; of one that others wrote, what is optional may be missing."""
    spec = manifest["spec"]
    mirror = spec.get("mirror")
    return ExperimentSpec(
        name=manifest["metadata"]["name"],
        default=spec.get("default") or None,
        weights={candidate["name"]: int(candidate.get("weight", 0)) for candidate in spec.get("candidates") or []},
        mirror=(mirror["name"], mirror["percent"]) if mirror else None,
    )


def _manifest(kind: str, name: str, namespace: str, spec: Manifest, labels: Mapping[str, str] | None) -> Manifest:
    metadata: Manifest = {"name": name, "namespace": namespace, "labels": {**(labels or {}), **dict([MANAGED_BY])}}
    return validate({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec})
