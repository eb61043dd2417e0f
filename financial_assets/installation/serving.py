"""The serving target, the way to ask it, and where it finds artefacts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from financial_assets.errors import SettingsError
from financial_assets.serving.artifact_store import ArtifactStore
from financial_assets.serving.client.inference import InferenceClient
from financial_assets.serving.local.restoring import from_registry
from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.manifests import NAMESPACE, Manifest, model_manifest
from financial_assets.serving.target import ServingTarget


class ServingAccess(BaseModel):
    """The serving target, the way to ask it, and where it finds artefacts."""

    model_config = ConfigDict(frozen=True)

    home: str
    serving_target: str
    request_timeout: float
    ready_timeout: float
    artifact_store_uri: str | None = None
    artifact_store_secret: str | None = None
    serving_gateway_url: str | None = None
    gateway_grpc: str = ""
    kubernetes_context: str | None = None
    kubernetes_namespace: str = NAMESPACE
    gitops_repository: str | None = None
    gitops_branch: str = ""
    gitops_path: str = ""
    tracking_uri: str | None = None

    def check(self) -> None:
        """Look at the settings alone; nothing is reached.

        Raises
        ------
        SettingsError
            The target cannot be had with these settings, or with what is installed.
        """
        if self.serving_target not in ("local", "kubernetes", "gitops"):
            raise SettingsError(f"SERVING_TARGET: {self.serving_target!r}; allowed: local, kubernetes, gitops")
        if self.serving_target == "local":
            return
        self._needed("serving_gateway_url")
        self.store()
        if self.serving_target == "gitops":
            self._gitops()

    def target(self) -> ServingTarget:
        """The configured serving target.

        Raises
        ------
        SettingsError
            See :meth:`check`.
        TargetError
            There are no credentials for the cluster.
        """
        self.check()
        if self.serving_target == "local":
            restore = None if self.tracking_uri is None else from_registry(self.tracking_uri)
            return LocalTarget(Path(self.home), timeout_s=self.ready_timeout, restore=restore)
        return self._gitops() if self.serving_target == "gitops" else self._kubernetes()

    def connect(self) -> InferenceClient:
        """A client of the target's gateway."""
        return InferenceClient(self.target().endpoint(), timeout_s=self.request_timeout)

    def store(self) -> ArtifactStore:
        """Where a cluster finds artefacts.

        Raises
        ------
        SettingsError
            None is set, or it cannot be used.
        """
        return ArtifactStore(self._needed("artifact_store_uri"))

    def publish(self, name: str, folder: Path, labels: Mapping[str, str]) -> Manifest:
        """Put an artefact where the target can read it.

        Returns
        -------
        Manifest
            The Model that serves it.

        Raises
        ------
        ArtifactStoreError
            The store does not take it.
        """
        if self.serving_target == "local":
            return model_manifest(name, folder.as_uri(), namespace=self.kubernetes_namespace, labels=labels)
        uri, secret = self.store().publish(folder, name), self.artifact_store_secret
        return model_manifest(name, uri, namespace=self.kubernetes_namespace, secret_name=secret, labels=labels)

    def _kubernetes(self) -> ServingTarget:
        # The client of a cluster takes a second to import; most runs are local.
        from financial_assets.serving.kubernetes.api import connect
        from financial_assets.serving.kubernetes.target import KubernetesTarget

        return KubernetesTarget(
            connect(self.kubernetes_context),
            http_url=self._needed("serving_gateway_url"),
            grpc_target=self.gateway_grpc,
            namespace=self.kubernetes_namespace,
            volume=self.store().volume,
            timeout_s=self.ready_timeout,
        )

    def _gitops(self) -> ServingTarget:
        from financial_assets.serving.gitops.target import GitOpsTarget

        return GitOpsTarget(
            self._needed("gitops_repository"),
            branch=self.gitops_branch,
            path=self.gitops_path,
            clone=Path(self.home) / "gitops",
            http_url=self._needed("serving_gateway_url"),
            grpc_target=self.gateway_grpc,
            namespace=self.kubernetes_namespace,
            volume=self.store().volume,
            timeout_s=self.ready_timeout,
        )

    def _needed(self, setting: str) -> str:
        value: str | None = getattr(self, setting)
        if value is None:
            raise SettingsError(f"{setting.upper()}: not set; SERVING_TARGET={self.serving_target} needs it")
        return value
