"""A cluster's objects as a target's status."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from financial_assets.serving.manifests import Manifest
from financial_assets.serving.target import ExperimentStatus, ModelStatus

__all__ = ["experiment_status", "model_status"]


def model_status(document: Manifest, ready: Collection[str], routes: Mapping[str, str]) -> ModelStatus:
    """One Model; its route is known once the gateway named it, the scheduler numbers versions by its own count."""
    name = document["metadata"]["name"]
    uri = str(document["spec"].get("storageUri", ""))
    return ModelStatus(name, routes.get(name), f"Model {name}" in ready, uri)


def experiment_status(document: Manifest, ready: Collection[str]) -> ExperimentStatus:
    """One Experiment; others may have written it, so nothing but its name is taken for granted."""
    name, spec = document["metadata"]["name"], document["spec"]
    mirror = spec.get("mirror")
    return ExperimentStatus(
        name,
        str(spec["default"]) if spec.get("default") else None,
        {item["name"]: int(item.get("weight", 0)) for item in spec.get("candidates") or []},
        (mirror["name"], mirror["percent"]) if mirror else None,
        f"Experiment {name}" in ready,
    )
