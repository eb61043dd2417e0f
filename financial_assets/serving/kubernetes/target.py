"""Models and Experiments of a Kubernetes cluster that runs Seldon Core v2."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kubernetes.client import ApiClient

from financial_assets.errors import ManifestError, NotReadyError, TargetError
from financial_assets.serving.client.probe import GatewayProbe
from financial_assets.serving.deadline import Deadline
from financial_assets.serving.kubernetes.api import PLURALS, SeldonApi
from financial_assets.serving.kubernetes.conditions import judge, restarts
from financial_assets.serving.kubernetes.waiting import Awaited, wait_absent, wait_for
from financial_assets.serving.manifest_sets import check_against, check_reachable, check_unused, members, validate_set
from financial_assets.serving.manifests import (
    MANAGED_BY,
    NAMESPACE,
    Manifest,
    check_kind,
    is_experiment,
    is_ours,
    kind_and_name,
)
from financial_assets.serving.target import Endpoint, TargetStatus, report

_log = logging.getLogger(__name__)


class KubernetesTarget:
    """Serves Models and Experiments from a cluster; implements ``ServingTarget``.

    The cluster may be shared: objects without our label are never changed, deleted or reported, but their names and
    defaults count as taken. An Experiment with our label is ours as a whole, as with GitOps: what somebody else wrote
    into it is overwritten, and said in the log.

    Parameters
    ----------
    connection
        An authenticated client, see :func:`~financial_assets.serving.kubernetes.api.connect`.
    http_url
        Base URL of the gateway's V2 REST protocol as reached from here.
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
        How long a changed Experiment must go unrejected before the change counts as applied: the operator keeps its
        conditions ``True`` throughout, so there is no transition to wait for.
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
        self._gateway = GatewayProbe(http_url)
        self._endpoint = Endpoint(http_url, grpc_target)
        self._volume = volume
        self._timeout_s = timeout_s
        self._settle_s = settle_s

    def apply(self, manifests: Sequence[Manifest]) -> None:
        """Create or update objects: Servers, then Models, then Experiments; each kind is ready before the next."""
        validate_set(manifests, closed=False)
        check_reachable(manifests, self._api.namespace, self._volume)
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
        """Wait until each named Model and Experiment is ready; Models must also answer through the gateway."""
        awaited = [Awaited("Experiment" if is_experiment(name) else "Model", name) for name in names]
        self._wait(awaited, Deadline(timeout_s))

    def status(self) -> TargetStatus:
        """How the cluster's objects are; what cannot be read is a problem in words."""
        deadline = Deadline(min(self._timeout_s, 10.0))
        try:
            objects = {kind: self._api.list(kind, deadline, MANAGED_BY) for kind in ("Model", "Experiment")}
        except TargetError as error:
            return TargetStatus(self.name, False, self.endpoint(), problems=(str(error),), readable=False)
        return report(self.name, self.endpoint, objects, self._problem)

    def delete(self, kind: str, name: str) -> None:
        """Remove one object and wait until its finalizers let it go."""
        check_kind(kind)
        deadline = Deadline(self._timeout_s)
        stored = self._api.read(kind, name, deadline)
        if stored is None:
            return
        self._check_ours({"kind": kind, **stored})
        check_unused(kind, name, self._stored("Experiment", deadline) if kind == "Model" else {})
        self._api.delete(kind, name, deadline)
        wait_absent(self._api, kind, name, deadline)

    def endpoint(self) -> Endpoint:
        """Where the gateway answers, with the routes that its answers named so far; a client learns the others."""
        return replace(self._endpoint, routes=self._gateway.seen)

    def _problem(self, kind: str, stored: Manifest) -> str:
        verdict = judge({"kind": kind, **stored})
        if verdict.state != "ready":
            return verdict.why
        # A Model's status may be wrong after a scheduler's restart: the gateway has the last word.
        return self._gateway.problem(stored["metadata"]["name"]) if kind == "Model" else ""

    def _write(self, manifest: Manifest, deadline: Deadline) -> Awaited:
        kind, name = kind_and_name(manifest)
        before = self._api.read(kind, name, deadline)
        if before is not None:
            self._check_ours({"kind": kind, **before})
        if before is not None and before["metadata"].get("deletionTimestamp"):
            raise NotReadyError(
                f"apply {kind} {self._api.namespace}/{name}: it is being deleted; apply it again once it is gone"
            )
        written = {"kind": kind, **self._api.apply(manifest, deadline, take_over=kind == "Experiment")}
        if kind == "Experiment" and "mirror" in written["spec"] and "mirror" not in manifest["spec"]:
            _log.warning("%s %s: a mirror that was added by hand is removed", kind, name)
            written = {"kind": kind, **self._api.clear(kind, name, "mirror", deadline)}
        return Awaited(kind, name, written if restarts(before, written) else None)

    def _wait(self, awaited: Sequence[Awaited], deadline: Deadline) -> None:
        wait_for(self._api, self._gateway, awaited, deadline, self._settle_s)

    def _check_ours(self, stored: Manifest) -> None:
        if not is_ours(stored):
            label, value = MANAGED_BY
            kind, name = kind_and_name(stored)
            raise ManifestError(
                f"{kind} {self._api.namespace}/{name} was not made by this program and is left as it is; choose "
                f"another namespace (KUBERNETES_NAMESPACE), or hand it over: kubectl -n {self._api.namespace} "
                f"label {PLURALS[kind]} {name} {label}={value}"
            )

    def _check_against_cluster(self, manifests: Sequence[Manifest], deadline: Deadline) -> None:
        stored = {kind: self._stored(kind, deadline) for kind in ("Model", "Experiment")}
        for manifest in manifests:
            kind, name = kind_and_name(manifest)
            if name in stored.get(kind, {}):
                self._check_ours(stored[kind][name])
        check_against(manifests, stored["Model"], stored["Experiment"], "is not a Model of the cluster")

    def _stored(self, kind: str, deadline: Deadline) -> dict[str, Manifest]:
        """The cluster's objects of a kind by name, other people's included; a list leaves their kind out."""
        return {item["metadata"]["name"]: {"kind": kind, **item} for item in self._api.list(kind, deadline)}
