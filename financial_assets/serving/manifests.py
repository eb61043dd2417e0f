"""Model, Experiment and Server manifests of ``mlops.seldon.io/v1alpha1`` as plain dicts, checked before anything sees them.

The control plane behind these kinds checks little: a split whose weights sum to zero, a candidate that does not exist or a name with
a dot is accepted and then breaks routing for everybody. These rules are therefore ours; :func:`validate` and :func:`validate_set`
apply them whatever the target is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from financial_assets.errors import ManifestError

__all__ = [
    "API_VERSION",
    "CAPABILITY",
    "EXPERIMENT_NAME",
    "NAMESPACE",
    "ExperimentSpec",
    "Manifest",
    "experiment_manifest",
    "is_experiment",
    "kind_and_name",
    "model_manifest",
    "model_name",
    "parse_experiment",
    "server_manifest",
    "validate",
    "validate_set",
]

Manifest = dict[str, Any]

API_VERSION = "mlops.seldon.io/v1alpha1"
NAMESPACE = "financial-inference"
EXPERIMENT_NAME = "financial-ab-test-experiment"
CAPABILITY = "financial-onnx"

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_MAX_NAME = 63
_EXPERIMENT_SUFFIX = "-experiment"
# Envoy refuses a weighted cluster whose weights sum to more than an unsigned 32-bit integer holds.
_MAX_TOTAL_WEIGHT = 2**32 - 1
_MAX_WEIGHT = 2**31 - 1
_FIELDS = {
    "Model": {
        "storageUri",
        "secretName",
        "requirements",
        "memory",
        "replicas",
        "minReplicas",
        "maxReplicas",
        "server",
        "parameters",
        "logger",
    },
    "Experiment": {"default", "candidates", "mirror", "resourceType"},
    "Server": {"serverConfig", "extraCapabilities", "capabilities", "replicas", "minReplicas", "maxReplicas", "podSpec"},
}


@dataclass(frozen=True)
class ExperimentSpec:
    """What an Experiment manifest says.

    Attributes
    ----------
    name
        The experiment's name.
    default
        The candidate whose ordinary endpoint shares the split.
    weights
        Relative weight of each candidate, in the manifest's order (``default`` first).
    mirror
        ``(model, percent)``: the shadow model and the share of requests that it gets a copy of.
    """

    name: str
    default: str
    weights: Mapping[str, int]
    mirror: tuple[str, int] | None = None

    @property
    def members(self) -> tuple[str, ...]:
        """Every model that takes part, the mirror included."""
        return (*self.weights, *((self.mirror[0],) if self.mirror else ()))


def model_name(variant: str, version: int) -> str:
    """The name of the Model that serves one registered version of a variant: ``<variant>-predictor-v<version>``."""
    return f"{variant}-predictor-v{version}"


def is_experiment(name: str) -> bool:
    """Whether ``name`` is an experiment's: those end in ``-experiment`` (a rule of :func:`validate`), a Model's never does."""
    return name.removesuffix(".experiment").endswith(_EXPERIMENT_SUFFIX)


def model_manifest(
    name: str,
    storage_uri: str,
    *,
    namespace: str = NAMESPACE,
    parameters: Mapping[str, str] | None = None,
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
    requirements
        Capabilities that a server must have.
    labels
        Kubernetes labels.

    Raises
    ------
    ManifestError
        A value breaks a rule.
    """
    spec: Manifest = {"storageUri": storage_uri, "requirements": list(requirements)}
    if parameters:
        spec["parameters"] = [{"name": key, "value": value} for key, value in parameters.items()]
    return _manifest("Model", name, namespace, spec, labels)


def experiment_manifest(
    name: str = EXPERIMENT_NAME,
    *,
    default: str,
    weights: Mapping[str, int],
    mirror: tuple[str, int] | None = None,
    namespace: str = NAMESPACE,
    labels: Mapping[str, str] | None = None,
) -> Manifest:
    """A validated Experiment; ``default`` is listed first whatever the order of ``weights``.

    Raises
    ------
    ManifestError
        A value breaks a rule.
    """
    ordered = sorted(weights, key=lambda candidate: candidate != default)
    spec: Manifest = {
        "default": default,
        "resourceType": "model",
        "candidates": [{"name": candidate, "weight": weights[candidate]} for candidate in ordered],
    }
    if mirror is not None:
        spec["mirror"] = {"name": mirror[0], "percent": mirror[1]}
    return _manifest("Experiment", name, namespace, spec, labels)


def server_manifest(name: str, *, server_config: str, replicas: int = 1, namespace: str = NAMESPACE) -> Manifest:
    """A validated Server that offers our capability; the local plane accepts and ignores it.

    Raises
    ------
    ManifestError
        A value breaks a rule.
    """
    spec: Manifest = {"serverConfig": server_config, "extraCapabilities": [CAPABILITY], "replicas": replicas}
    return _manifest("Server", name, namespace, spec, None)


def kind_and_name(manifest: Manifest) -> tuple[str, str]:
    """Kind and name of a validated manifest."""
    return manifest["kind"], manifest["metadata"]["name"]


def parse_experiment(manifest: Manifest) -> ExperimentSpec:
    """The values of a validated Experiment."""
    spec = manifest["spec"]
    mirror = spec.get("mirror")
    return ExperimentSpec(
        name=manifest["metadata"]["name"],
        default=spec["default"],
        weights={candidate["name"]: candidate["weight"] for candidate in spec["candidates"]},
        mirror=(mirror["name"], mirror["percent"]) if mirror else None,
    )


def validate(manifest: object) -> Manifest:
    """``manifest`` itself, when it obeys every rule that needs no other manifest.

    Raises
    ------
    ManifestError
        Names the object, the field, the offending value and what is allowed.
    """
    if not isinstance(manifest, dict):
        raise ManifestError(f"a manifest is a mapping, not {type(manifest).__name__}")
    document: Manifest = manifest
    kind = document.get("kind")
    if document.get("apiVersion") != API_VERSION or kind not in _FIELDS:
        raise ManifestError(
            f"apiVersion {document.get('apiVersion')!r}, kind {kind!r}: "
            f"expected {API_VERSION} and one of {', '.join(sorted(_FIELDS))}"
        )
    metadata, spec = document.get("metadata"), document.get("spec")
    if not isinstance(metadata, dict) or not isinstance(spec, dict):
        raise ManifestError(f"{kind}: metadata and spec must be mappings")
    name = _check_name(metadata.get("name"), f"{kind} metadata.name")
    _check_name(metadata.get("namespace"), f"{kind} {name} metadata.namespace")
    unknown = sorted(map(str, set(spec) - _FIELDS[kind]))
    if unknown:
        raise ManifestError(
            f"{kind} {name}: unknown spec field {', '.join(unknown)}; known: {', '.join(sorted(_FIELDS[kind]))}"
        )
    {"Model": _check_model, "Experiment": _check_experiment, "Server": _check_server}[kind](name, spec)
    return document


def validate_set(manifests: Sequence[Manifest], *, closed: bool = True) -> None:
    """Check the rules between manifests that are to exist together.

    Parameters
    ----------
    manifests
        All objects of one namespace.
    closed
        Whether no other Model exists, so that each experiment's members must be among them.

    Raises
    ------
    ManifestError
        Names the objects that contradict each other.
    """
    seen: set[tuple[str, str]] = set()
    for manifest in manifests:
        key = kind_and_name(validate(manifest))
        if key in seen:
            raise ManifestError(f"{key[0]} {key[1]} is given twice")
        seen.add(key)
    namespaces = {manifest["metadata"]["namespace"] for manifest in manifests}
    if len(namespaces) > 1:
        raise ManifestError(f"models and experiments must share one namespace, found {', '.join(sorted(namespaces))}")
    models = {name: manifest["spec"] for manifest in manifests for kind, name in [kind_and_name(manifest)] if kind == "Model"}
    _check_storage(models)
    _check_experiments([parse_experiment(m) for m in manifests if m["kind"] == "Experiment"], models if closed else None)


def _check_storage(models: Mapping[str, Manifest]) -> None:
    owner: dict[str, str] = {}
    for name, spec in models.items():
        other = owner.setdefault(spec["storageUri"].rstrip("/"), name)
        if other != name:
            raise ManifestError(
                f"Models {other} and {name} share storageUri {spec['storageUri']}; each artefact needs its own "
                "(an overwritten storageUri is never loaded again)"
            )


def _check_experiments(experiments: Sequence[ExperimentSpec], models: Collection[str] | None) -> None:
    default_of: dict[str, str] = {}
    for experiment in experiments:
        other = default_of.setdefault(experiment.default, experiment.name)
        if other != experiment.name:
            raise ManifestError(f"{experiment.default} is the default of both {other} and {experiment.name}; one is allowed")
        missing = [] if models is None else [member for member in experiment.members if member not in models]
        if missing:
            raise ManifestError(f"Experiment {experiment.name} names {', '.join(missing)}, which no Model manifest defines")


def _manifest(kind: str, name: str, namespace: str, spec: Manifest, labels: Mapping[str, str] | None) -> Manifest:
    metadata: Manifest = {"name": name, "namespace": namespace}
    if labels:
        metadata["labels"] = dict(labels)
    return validate({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec})


def _check_name(value: object, where: str) -> str:
    if not isinstance(value, str) or len(value) > _MAX_NAME or not _NAME.fullmatch(value):
        raise ManifestError(
            f"{where} is {value!r}; allowed: at most {_MAX_NAME} lower-case letters, digits and hyphens, "
            "starting and ending with a letter or digit"
        )
    return value


def _check_integer(value: object, where: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ManifestError(f"{where} is {value!r}; allowed: a whole number from {low} to {high}")
    return value


def _check_model(name: str, spec: Manifest) -> None:
    if name.endswith(_EXPERIMENT_SUFFIX):
        raise ManifestError(f"Model {name}: names that end in {_EXPERIMENT_SUFFIX} are kept for experiments")
    uri = spec.get("storageUri")
    if not isinstance(uri, str) or not uri.strip():
        raise ManifestError(f"Model {name}: spec.storageUri is {uri!r}; it must name the folder that holds model.onnx")
    requirements = spec.get("requirements")
    if not isinstance(requirements, list) or CAPABILITY not in requirements:
        raise ManifestError(f"Model {name}: spec.requirements is {requirements!r}; it must include {CAPABILITY}")
    for field in ("replicas", "minReplicas", "maxReplicas"):
        if field in spec:
            _check_integer(spec[field], f"Model {name}: spec.{field}", 1, 1000)
    parameters = spec.get("parameters", [])
    if not isinstance(parameters, list) or not all(
        isinstance(item, dict) and set(item) == {"name", "value"} and all(isinstance(v, str) for v in item.values())
        for item in parameters
    ):
        raise ManifestError(f"Model {name}: spec.parameters must be a list of {{name, value}} with text values")
    if len({item["name"] for item in parameters}) != len(parameters):
        raise ManifestError(f"Model {name}: spec.parameters names a parameter twice")


def _check_experiment(name: str, spec: Manifest) -> None:
    if not name.endswith(_EXPERIMENT_SUFFIX):
        raise ManifestError(f"Experiment {name}: the name must end in {_EXPERIMENT_SUFFIX}")
    if spec.get("resourceType", "model") != "model":
        raise ManifestError(f"Experiment {name}: spec.resourceType is {spec['resourceType']!r}; only model is supported")
    candidates = spec.get("candidates")
    if not isinstance(candidates, list) or not candidates or not all(
        isinstance(item, dict) and set(item) == {"name", "weight"} for item in candidates
    ):
        raise ManifestError(f"Experiment {name}: spec.candidates must be a non-empty list of {{name, weight}}")
    names = [_check_name(item["name"], f"Experiment {name}: a candidate's name") for item in candidates]
    total = sum(_check_integer(i["weight"], f"Experiment {name}: weight of {i['name']}", 0, _MAX_WEIGHT) for i in candidates)
    if not 0 < total <= _MAX_TOTAL_WEIGHT:
        raise ManifestError(f"Experiment {name}: the weights sum to {total}; allowed: 1 to {_MAX_TOTAL_WEIGHT}")
    if spec.get("default") != names[0]:
        raise ManifestError(f"Experiment {name}: spec.default is {spec.get('default')!r}; it must be the first candidate, {names[0]}")
    mirror = spec.get("mirror")
    if mirror is not None:
        if not isinstance(mirror, dict) or set(mirror) != {"name", "percent"}:
            raise ManifestError(f"Experiment {name}: spec.mirror must be {{name, percent}}")
        names.append(_check_name(mirror["name"], f"Experiment {name}: the mirror's name"))
        _check_integer(mirror["percent"], f"Experiment {name}: spec.mirror.percent", 0, 100)
    twice = sorted({candidate for candidate in names if names.count(candidate) > 1})
    if twice:
        raise ManifestError(f"Experiment {name}: {', '.join(twice)} appears twice among candidates and mirror")


def _check_server(name: str, spec: Manifest) -> None:
    if not isinstance(spec.get("serverConfig"), str) or not spec["serverConfig"]:
        raise ManifestError(f"Server {name}: spec.serverConfig must name a ServerConfig")
    capabilities = [*(spec.get("capabilities") or []), *(spec.get("extraCapabilities") or [])]
    if CAPABILITY not in capabilities:
        raise ManifestError(f"Server {name}: its capabilities must include {CAPABILITY}")
