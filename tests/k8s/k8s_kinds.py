"""Shapes: Kubernetes' own schemas for its kinds, small ones of ours for Seldon's and the Prometheus operator's.

Ours say what those APIs ask for and what we use, no more: an unknown field is a mistake until somebody adds it here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import kubernetes_validate
from jsonschema import Draft202012Validator

from financial_assets.errors import ManifestError
from financial_assets.serving.manifests import validate
from tests.k8s.k8s_objects import Object, of_kind

VERSION = "1.32"
CORE = {"v1", "apps/v1", "batch/v1", "policy/v1", "networking.k8s.io/v1", "rbac.authorization.k8s.io/v1"}
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


def _shape(required: Sequence[str] = (), **fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


def _list(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of}


TEXT, NUMBER, FLAG, ANY = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}, {"type": "object"}
DURATION = {"type": "string", "pattern": "^[0-9]+(s|m|h|d)$"}
LABELS = {"type": "object", "additionalProperties": TEXT}
SELECTOR = _shape(matchLabels=LABELS)
OVERRIDE = _shape(
    ["name"],
    name={
        "enum": [
            "seldon-scheduler",
            "seldon-envoy",
            "seldon-dataflow-engine",
            "seldon-modelgateway",
            "seldon-pipelinegateway",
            "hodometer",
        ]
    },
    disable=FLAG,
    replicas=NUMBER,
    serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    podSpec=ANY,
)
RCLONE = _shape(config_secrets=_list(TEXT), config=_list(TEXT))
ENDPOINT = {"port": TEXT, "path": TEXT, "interval": DURATION, "scrapeTimeout": DURATION}
RULE = _shape(
    ["alert", "expr"], **{"alert": TEXT, "expr": TEXT, "for": DURATION, "labels": LABELS, "annotations": LABELS}
)
SPECS: dict[tuple[str, str], dict[str, Any]] = {
    ("mlops.seldon.io/v1alpha1", "SeldonRuntime"): _shape(
        ["seldonConfig"],
        seldonConfig=TEXT,
        overrides=_list(OVERRIDE),
        disableAutoUpdate=FLAG,
        config=_shape(
            serviceConfig=_shape(serviceType=OVERRIDE["properties"]["serviceType"], grpcServicePrefix=TEXT),
            agentConfig=_shape(rclone=RCLONE),
        ),
    ),
    ("mlops.seldon.io/v1alpha1", "Server"): _shape(
        ["serverConfig"],
        serverConfig=TEXT,
        extraCapabilities=_list(TEXT),
        capabilities=_list(TEXT),
        replicas=NUMBER,
        minReplicas=NUMBER,
        maxReplicas=NUMBER,
        podSpec=ANY,
    ),
    ("monitoring.coreos.com/v1", "ServiceMonitor"): _shape(
        ["selector", "endpoints"], jobLabel=TEXT, selector=SELECTOR, endpoints=_list(_shape(["port"], **ENDPOINT))
    ),
    ("monitoring.coreos.com/v1", "PodMonitor"): _shape(
        ["selector", "podMetricsEndpoints"], selector=SELECTOR, podMetricsEndpoints=_list(_shape(["port"], **ENDPOINT))
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): _shape(
        ["groups"], groups=_list(_shape(["name", "rules"], name=TEXT, interval=DURATION, rules=_list(RULE)))
    ),
}


def shapes(objects: Sequence[Object]) -> Iterator[str]:
    """Every object is one that the API server would take."""
    for item in objects:
        where = f"{item['kind']} {item['metadata'].get('name')}"
        spec = SPECS.get((item["apiVersion"], item["kind"]))
        if item["apiVersion"] in CORE:
            yield from _core(item, where)
        elif spec is None:
            yield f"{where}: {item['apiVersion']} is not expected here"
        else:
            for error in Draft202012Validator(spec).iter_errors(item.get("spec")):
                yield f"{where}: spec{error.json_path[1:]}: {error.message}"
            yield from _pod_specs(item, where)
        if not _NAME.fullmatch(str(item["metadata"].get("name"))):
            yield f"{where}: no name"
    seen = [(i["kind"], i["metadata"].get("namespace"), i["metadata"].get("name")) for i in objects]
    yield from (f"{key} is there twice" for key in {key for key in seen if seen.count(key) > 1})


def seldon(objects: Sequence[Object]) -> Iterator[str]:
    """The rules for Servers that every target obeys, and those for the runtime that Seldon itself does not check."""
    for server in of_kind(objects, "Server"):
        try:
            validate(server)
        except ManifestError as error:
            yield str(error)
    runtimes = of_kind(objects, "SeldonRuntime")
    if len(runtimes) != 1:
        yield f"{len(runtimes)} SeldonRuntimes; a namespace has one"
    for runtime in runtimes:
        overrides = {override["name"]: override for override in runtime["spec"]["overrides"]}
        if overrides.get("hodometer", {}).get("disable") is not True:
            yield "hodometer would send usage figures out of the cluster"
        if overrides.get("seldon-scheduler", {}).get("replicas") != 1:
            yield "the scheduler must have one replica"
        for name in ("seldon-scheduler", "seldon-envoy"):
            if overrides.get(name, {}).get("serviceType") != "ClusterIP":
                yield f"{name}: its Service must stay inside of the cluster"
    yield from (
        f"{i['kind']} {i['metadata']['name']} belongs to the target" for i in of_kind(objects, "Model", "Experiment")
    )


def _core(item: Object, where: str) -> Iterator[str]:
    try:
        kubernetes_validate.validate(item, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{where}: {'.'.join(map(str, error.path))}: {error.message}"


def _pod_specs(item: Object, where: str) -> Iterator[str]:
    """Pod specifications inside of Seldon's kinds, checked as those of a Pod."""
    parts = [item["spec"], *item["spec"].get("overrides", [])]
    for spec in (part["podSpec"] for part in parts if "podSpec" in part):
        yield from _core({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}, where)
