"""Manifests that only tests make, and what a target reports of a split."""

from __future__ import annotations

from financial_assets.serving.manifests import API_VERSION, CAPABILITY, NAMESPACE, Manifest, validate
from financial_assets.serving.target import ServingTarget


def server_manifest(name: str) -> Manifest:
    """A Server that offers our capability: every target accepts one, the local plane ignores it."""
    spec: Manifest = {"serverConfig": "mlserver", "extraCapabilities": [CAPABILITY], "replicas": 1}
    metadata = {"name": name, "namespace": NAMESPACE}
    return validate({"apiVersion": API_VERSION, "kind": "Server", "metadata": metadata, "spec": spec})


def weights_of(target: ServingTarget, experiment: str) -> dict[str, int]:
    """The weights that the target holds for an experiment."""
    [found] = [item for item in target.status().experiments if item.name == experiment]
    return dict(found.weights)
