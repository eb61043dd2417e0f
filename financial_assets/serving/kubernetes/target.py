"""Models and Experiments of a Kubernetes cluster that runs Seldon Core v2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from kubernetes.client import ApiClient

from financial_assets.errors import ManifestError, NotReadyError, TargetError
from financial_assets.serving.client.probe import GatewayProbe
from financial_assets.serving.kubernetes.api import PLURALS, Deadline, SeldonApi
from financial_assets.serving.kubernetes.conditions import judge, members, restarts
from financial_assets.serving.kubernetes.status import experiment_status, model_status
from financial_assets.serving.kubernetes.waiting import Awaited, wait_absent, wait_for
from financial_assets.serving.manifests import (
    MANAGED_BY,
    NAMESPACE,
    Manifest,
    is_experiment,
    is_ours,
    kind_and_name,
    validate_set,
)
from financial_assets.serving.target import Endpoint, TargetStatus

__all__ = ["KubernetesTarget"]


class KubernetesTarget:
    """Serves Models and Experiments from a cluster; implements ``ServingTarget``.

    The cluster may be shared: objects without our label are respected (their names, their defaults), but never changed,
    removed or reported.

    Parameters
    ----------
    connection
        An authenticated client, see :func:`~financial_assets.serving.kubernetes.api.connect`.
    http_url
        Base URL of the mesh's V2 REST protocol as reached from here.
    grpc_target
        ``host:port`` of its gRPC protocol.
    namespace
        Where the objects live.
    volume
        Folder that the model servers mount at the same path as this machine; ``None``: there is none.
    timeout_s
        How long one call of this class may take in all.
    request_timeout_s
        Longest wait for one answer of the API server.
    settle_s
        How long a changed Experiment must go unrejected before it counts as in force: the operator keeps its
        conditions ``True`` throughout, so no transition tells.
    """

    name = "kubernetes"

    def __init__(
        self,
        connection: ApiClient,
        *,
        http_url: str,
        grpc_target: str,
        namespace: str = NAMESPACE,
        volume: Path | None = None,
        timeout_s: float = 120.0,
        request_timeout_s: float = 10.0,
        settle_s: float = 2.0,
    ) -> None:
        self._api = SeldonApi(connection, namespace, request_timeout_s=request_timeout_s)
        self._mesh = GatewayProbe(http_url)
        self._endpoint = Endpoint(http_url, grpc_target)
        self._volume = volume
        self._timeout_s = timeout_s
        self._settle_s = settle_s

    def apply(self, manifests: Sequence[Manifest]) -> None:
        """Create or update objects: Servers, then Models, then Experiments, each in force before the next kind."""
        validate_set(manifests, closed=False)
        for manifest in manifests:
            self._check_reachable(manifest)
        deadline = Deadline(self._timeout_s)
        self._check_against_cluster(manifests, deadline)
        for kind in PLURALS:
            chosen = [manifest for manifest in manifests if manifest["kind"] == kind]
            if kind == "Experiment":
                # An Experiment whose default is not up yet leaves its own route undefined.
                needed = dict.fromkeys(name for manifest in chosen for name in members(manifest))
                self._wait([Awaited("Model", name) for name in needed], deadline)
            self._wait([self._write(manifest, deadline) for manifest in chosen], deadline)

    def wait_ready(self, names: Sequence[str], timeout_s: float) -> None:
        """Wait until each named Model and Experiment is ready; Models must also answer through the mesh."""
        awaited = [Awaited("Experiment" if is_experiment(name) else "Model", name) for name in names]
        self._wait(awaited, Deadline(timeout_s))

    def status(self) -> TargetStatus:
        """How the cluster's objects are; what cannot be read is a problem in words."""
        deadline = Deadline(min(self._timeout_s, 10.0))
        try:
            found = {kind: self._api.list(kind, deadline, MANAGED_BY) for kind in ("Model", "Experiment")}
        except TargetError as error:
            return TargetStatus(self.name, False, self.endpoint(), problems=(str(error),))
        problems: list[str] = []
        ready: set[str] = set()
        for kind, items in found.items():
            for item in items:
                name, verdict = item["metadata"]["name"], judge({"kind": kind, **item})
                mesh = self._mesh.problem(name) if kind == "Model" and verdict.state == "ready" else ""
                if verdict.state == "ready" and not mesh:
                    ready.add(f"{kind} {name}")
                else:
                    problems.append(f"{kind} {name}: {mesh or verdict.why}")
        models = tuple(model_status(item, ready, self._mesh.seen) for item in found["Model"])
        experiments = tuple(experiment_status(item, ready) for item in found["Experiment"])
        return TargetStatus(self.name, not problems, self.endpoint(), models, experiments, (), tuple(problems))

    def delete(self, kind: str, name: str) -> None:
        """Remove one object and wait until its finalizers let it go."""
        if kind not in PLURALS:
            raise ManifestError(f"kind is {kind!r}; allowed: Model, Experiment, Server")
        deadline = Deadline(self._timeout_s)
        stored = self._api.read(kind, name, deadline)
        if stored is None:
            return
        self._check_ours({"kind": kind, **stored})
        if kind == "Model":
            using = [e["metadata"]["name"] for e in self._api.list("Experiment", deadline) if name in members(e)]
            if using:
                raise ManifestError(
                    f"Experiment {', '.join(using)} names Model {name}; give it other candidates or delete it first"
                )
        self._api.delete(kind, name, deadline)
        wait_absent(self._api, kind, name, deadline)

    def endpoint(self) -> Endpoint:
        """Where the mesh answers, with the routes that its answers named so far; a client learns the others."""
        return replace(self._endpoint, routes=self._mesh.seen)

    def _write(self, manifest: Manifest, deadline: Deadline) -> Awaited:
        kind, name = kind_and_name(manifest)
        before = self._api.read(kind, name, deadline)
        if before is not None:
            self._check_ours({"kind": kind, **before})
        if before is not None and before["metadata"].get("deletionTimestamp"):
            raise NotReadyError(
                f"apply {kind} {self._api.namespace}/{name}: it is being deleted; apply it again once it is gone"
            )
        written = {"kind": kind, **self._api.apply(manifest, deadline)}
        return Awaited(kind, name, written if restarts(before, written) else None)

    def _wait(self, awaited: Sequence[Awaited], deadline: Deadline) -> None:
        wait_for(self._api, self._mesh, awaited, deadline, self._settle_s)

    def _check_ours(self, stored: Manifest) -> None:
        if not is_ours(stored):
            label, value = MANAGED_BY
            kind, name = kind_and_name(stored)
            raise ManifestError(
                f"{kind} {self._api.namespace}/{name} was not made by this program and is left as it is; choose "
                f"another namespace (KUBERNETES_NAMESPACE), or hand it over: kubectl -n {self._api.namespace} "
                f"label {PLURALS[kind]} {name} {label}={value}"
            )

    def _check_reachable(self, manifest: Manifest) -> None:
        kind, name = kind_and_name(manifest)
        namespace = manifest["metadata"]["namespace"]
        if namespace != self._api.namespace:
            raise ManifestError(f"{kind} {name} is for namespace {namespace}; this target is {self._api.namespace}")
        if kind != "Model" or urlsplit(manifest["spec"]["storageUri"]).scheme not in ("", "file"):
            return
        path = Path(manifest["spec"]["storageUri"])
        if self._volume is None or self._volume not in path.parents or ".." in path.parts:
            raise ManifestError(
                f"Model {name}: spec.storageUri {manifest['spec']['storageUri']} lies on this machine, where no "
                "cluster can read it; publish the artefact (ARTIFACT_STORE_URI) and give its address, e.g. s3://bucket/..."
            )

    def _check_against_cluster(self, manifests: Sequence[Manifest], deadline: Deadline) -> None:
        """The rules of a set, extended to what the cluster already holds (which others may have written)."""
        given = {kind_and_name(manifest) for manifest in manifests}
        all_models, all_experiments = self._by_name("Model", deadline), self._by_name("Experiment", deadline)
        for kind, found in (("Model", all_models), ("Experiment", all_experiments)):
            for name, item in found:
                if (kind, name) in given:
                    self._check_ours({"kind": kind, **item})
        stored = {name: item for name, item in all_models if ("Model", name) not in given}
        owners = {str(item["spec"].get("storageUri")).rstrip("/"): name for name, item in stored.items()}
        known = {*stored, *(name for kind, name in given if kind == "Model")}
        experiments = [m for m in manifests if m["kind"] == "Experiment"]
        for manifest in manifests:
            owner = owners.get(str(manifest["spec"].get("storageUri")).rstrip("/"))
            if manifest["kind"] == "Model" and owner:
                raise ManifestError(
                    f"Models {owner} and {manifest['metadata']['name']} share storageUri "
                    f"{manifest['spec']['storageUri']}; each artefact needs its own"
                )
        others = [item for name, item in all_experiments if ("Experiment", name) not in given]
        taken = {item["spec"].get("default"): item["metadata"]["name"] for item in others}
        for manifest in experiments:
            name, default = manifest["metadata"]["name"], manifest["spec"].get("default")
            missing = [member for member in members(manifest) if member not in known]
            if missing:
                raise ManifestError(f"Experiment {name} names {', '.join(missing)}, which is no Model of the cluster")
            if default is not None and default in taken:
                raise ManifestError(f"{default} is the default of both {taken[default]} and {name}; one is allowed")

    def _by_name(self, kind: str, deadline: Deadline) -> list[tuple[str, Manifest]]:
        return [(item["metadata"]["name"], item) for item in self._api.list(kind, deadline)]
