"""Rendered manifests, and the pods that they will become: ours, those of Dagster's run launcher, those of Seldon."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from dagster import DagsterRun
from dagster._core.instance.ref import InstanceRef
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import construct_dagster_k8s_job
from kubernetes import client

Object = dict[str, Any]

TRAINING, INFERENCE = "financial-mlops-pytorch", "financial-inference"
NAME, COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"

# Facts of Seldon Core v2: its ServerConfig `mlserver`, its SeldonConfig `default`, its Services; by name of the pod.
SELDON_PORTS: Mapping[str, Mapping[str, int]] = {
    "seldon-scheduler": {"xds": 9002, "scheduler": 9004, "scheduler-mtls": 9044, "agent": 9005, "agent-mtls": 9055},
    "seldon-envoy": {"http": 9000, "envoy-stats": 9003, "mirror": 9001},
    "seldon-server": {"http": 9001, "grpc": 9501, "metrics": 9006, "server-http": 9000, "server-grpc": 9500},
}
SELDON_CONTAINERS = {
    "seldon-scheduler": {"scheduler"},
    "seldon-envoy": {"envoy"},
    "seldon-server": {"mlserver", "agent", "rclone"},
}
SELDON_SERVICES = {"seldon-mesh": {80: "http", 9003: "envoy-stats"}}
# What stands outside of our two namespaces: namespace, labels, ports.
OUTSIDE: Mapping[str, tuple[str, Mapping[str, str], Sequence[int]]] = {
    "dns": ("kube-system", {"k8s-app": "kube-dns"}, (53,)),
    "ingress": ("ingress-nginx", {NAME: "ingress-nginx"}, ()),
    "prometheus": ("monitoring", {NAME: "prometheus"}, (9090,)),
    "alertmanager": ("monitoring", {NAME: "alertmanager"}, (9093,)),
    "mlflow": ("mlflow", {NAME: "mlflow"}, (5000,)),
    "seldon-operator": ("seldon-mesh", {"control-plane": "v2-controller-manager"}, (9443, 8081)),
    "stranger": ("default", {NAME: "stranger"}, (8080,)),
}


@dataclass(frozen=True)
class Pod:
    """A pod as a manifest describes it."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    spec: Object = field(default_factory=dict)
    replicas: int = 1
    ports: Mapping[str, int] = field(default_factory=dict)
    kind: str = "Deployment"

    @property
    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", []), *self.spec.get("containers", [])]

    def where(self, container: Object | None = None) -> str:
        return f"{self.namespace}/{self.name}" + (f"/{container['name']}" if container else "")


def of_kind(objects: Sequence[Object], *kinds: str) -> list[Object]:
    return [item for item in objects if item["kind"] in kinds]


def one(objects: Sequence[Object], kind: str, name: str, namespace: str | None = None) -> Object:
    found = [
        item
        for item in of_kind(objects, kind)
        if item["metadata"]["name"] == name and namespace in (None, item["metadata"].get("namespace"))
    ]
    assert len(found) == 1, f"{len(found)} {kind} {name}"
    return found[0]


def pods(objects: Sequence[Object]) -> list[Pod]:
    """Every pod in our two namespaces."""
    found = [_workload(item) for item in of_kind(objects, "Deployment", "StatefulSet")]
    return [*found, run_pod(objects), *_seldon(objects)]


def outside() -> list[Pod]:
    return [
        Pod(name, namespace, labels, ports={str(port): port for port in ports})
        for name, (namespace, labels, ports) in OUTSIDE.items()
    ]


def instance_files(objects: Sequence[Object]) -> Mapping[str, str]:
    return one(objects, "ConfigMap", "dagster-instance", TRAINING)["data"]


def instance(configuration: str, folder: Path) -> InstanceRef:
    """Dagster's own reading of the instance's file, checked against its schema; nothing is contacted."""
    (folder / "dagster.yaml").write_text(configuration)
    return InstanceRef.from_dir(str(folder), config_dir=str(folder))


def run_pod(objects: Sequence[Object]) -> Pod:
    """The pod of a run, made by the launcher's own code from its configuration."""
    location = one(objects, "Deployment", "dagster-code-location")["spec"]["template"]["spec"]["containers"][0]
    image = next(entry["value"] for entry in location["env"] if entry["name"] == "DAGSTER_CURRENT_IMAGE")
    return _run_pod(instance_files(objects)["dagster.yaml"], image)


@cache
def _run_pod(configuration: str, image: str) -> Pod:
    with tempfile.TemporaryDirectory() as folder, mock.patch("kubernetes.config.load_incluster_config"):
        launcher: Any = instance(configuration, Path(folder)).run_launcher
    run = DagsterRun(job_name="daily", run_id="4c2d3a6e-0000-4000-8000-000000000000")
    context = K8sContainerContext.create_for_run(run, launcher, include_run_tags=False)
    job = construct_dagster_k8s_job(
        context.get_k8s_job_config(image, launcher),
        args=["dagster", "api", "execute_run"],
        job_name="dagster-run-daily",
        component="run_worker",
        user_defined_k8s_config=context.run_k8s_config,
    )
    template = client.ApiClient().sanitize_for_serialization(job)["spec"]["template"]
    return Pod("run", str(context.namespace), template["metadata"]["labels"], template["spec"], kind="Job")


def _workload(item: Object) -> Pod:
    template = item["spec"]["template"]
    return Pod(
        item["metadata"]["name"],
        item["metadata"]["namespace"],
        template["metadata"]["labels"],
        template["spec"],
        item["spec"]["replicas"],
        {port["name"]: port["containerPort"] for port in _ports(template["spec"])},
        item["kind"],
    )


def _ports(spec: Object) -> Iterator[Object]:
    for container in spec["containers"]:
        yield from container.get("ports", [])


def _seldon(objects: Sequence[Object]) -> Iterator[Pod]:
    for runtime in of_kind(objects, "SeldonRuntime"):
        for override in runtime["spec"]["overrides"]:
            name = override["name"]
            if override.get("disable") or override.get("replicas", 1) == 0:
                continue
            yield Pod(
                name,
                runtime["metadata"]["namespace"],
                {NAME: name},
                override.get("podSpec", {}),
                override.get("replicas", 1),
                SELDON_PORTS[name],
                "Seldon",
            )
    for server in of_kind(objects, "Server"):
        spec, name = server["spec"]["podSpec"], server["metadata"]["name"]
        yield Pod(
            name,
            server["metadata"]["namespace"],
            {NAME: "seldon-server", "seldon-server-name": name},
            spec,
            server["spec"]["replicas"],
            {**SELDON_PORTS["seldon-server"], **{port["name"]: port["containerPort"] for port in _ports(spec)}},
            "Seldon",
        )


def load_all(text: str) -> list[Object]:
    return [item for item in yaml.safe_load_all(text) if item]
