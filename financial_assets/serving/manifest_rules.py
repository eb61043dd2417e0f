"""Rules for a single Model, Experiment or Server manifest.

The control plane behind these kinds checks little: it accepts a split whose weights sum to zero, or a name with a dot,
which then break routing for everybody. So these rules are ours.
"""

from __future__ import annotations

import re
from typing import Any

from financial_assets.errors import ManifestError

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
_REPLICAS = {"replicas", "minReplicas", "maxReplicas"}
_FIELDS = {
    "Model": {"storageUri", "secretName", "requirements", "memory", "server", "parameters", "logger"} | _REPLICAS,
    "Experiment": {"default", "candidates", "mirror", "resourceType"},
    "Server": {"serverConfig", "extraCapabilities", "capabilities", "podSpec"} | _REPLICAS,
}


def is_experiment(name: str) -> bool:
    """Whether ``name`` is an experiment's: by :func:`validate` those end in ``-experiment``, a Model's never."""
    return name.removesuffix(".experiment").endswith(_EXPERIMENT_SUFFIX)


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
    if document.get("apiVersion") != API_VERSION or not isinstance(kind, str) or kind not in _FIELDS:
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
    for field in sorted(_REPLICAS & set(spec)):
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
        raise ManifestError(
            f"Experiment {name}: spec.resourceType is {spec['resourceType']!r}; only model is supported"
        )
    candidates = _check_candidates(name, spec.get("candidates"))
    if "default" in spec and spec["default"] != candidates[0]:
        raise ManifestError(
            f"Experiment {name}: spec.default is {spec['default']!r}; it must be the first candidate, {candidates[0]}, "
            "or left out"
        )
    members = [*candidates, *_check_mirror(name, spec.get("mirror"))]
    repeated = sorted({member for member in members if members.count(member) > 1})
    if repeated:
        raise ManifestError(f"Experiment {name}: {', '.join(repeated)} appears twice among candidates and mirror")


def _check_candidates(name: str, candidates: object) -> list[str]:
    """Names of the candidates, whose weights must leave something to route to."""
    if (
        not isinstance(candidates, list)
        or not candidates
        or not all(isinstance(item, dict) and set(item) == {"name", "weight"} for item in candidates)
    ):
        raise ManifestError(f"Experiment {name}: spec.candidates must be a non-empty list of {{name, weight}}")
    names = [_check_name(item["name"], f"Experiment {name}: a candidate's name") for item in candidates]
    weights = [
        _check_integer(item["weight"], f"Experiment {name}: weight of {item['name']}", 0, _MAX_WEIGHT)
        for item in candidates
    ]
    if not 0 < sum(weights) <= _MAX_TOTAL_WEIGHT:
        raise ManifestError(f"Experiment {name}: the weights sum to {sum(weights)}; allowed: 1 to {_MAX_TOTAL_WEIGHT}")
    return names


def _check_mirror(name: str, mirror: object) -> list[str]:
    """The mirror's name, if there is one."""
    if mirror is None:
        return []
    if not isinstance(mirror, dict) or set(mirror) != {"name", "percent"}:
        raise ManifestError(f"Experiment {name}: spec.mirror must be {{name, percent}}")
    _check_integer(mirror["percent"], f"Experiment {name}: spec.mirror.percent", 0, 100)
    return [_check_name(mirror["name"], f"Experiment {name}: the mirror's name")]


def _check_server(name: str, spec: Manifest) -> None:
    if not isinstance(spec.get("serverConfig"), str) or not spec["serverConfig"]:
        raise ManifestError(f"Server {name}: spec.serverConfig must name a ServerConfig")
    offered = (spec.get("capabilities"), spec.get("extraCapabilities"))
    if not any(isinstance(capabilities, list) and CAPABILITY in capabilities for capabilities in offered):
        raise ManifestError(f"Server {name}: its capabilities must include {CAPABILITY}")
