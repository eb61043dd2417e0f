"""Publishes configuration to a running Envoy and waits until it is applied."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import NotReadyError
from financial_assets.serving.deadline import Deadline
from financial_assets.serving.local.envoy import config as envoy
from financial_assets.serving.local.envoy import routes
from financial_assets.serving.local.layout import LOOPBACK, Layout, Ports
from financial_assets.serving.local.loopback import fetch

_POLL_S = 0.01


class EnvoyPublisher:
    """The Envoy of one plane.

    Parameters
    ----------
    layout, ports
        Where its files and ports are.
    """

    def __init__(self, layout: Layout, ports: Ports) -> None:
        self._layout = layout
        self._ports = ports
        self._listeners = {"mirror": ports.mirror, "public": ports.gateway}

    def static_files(self) -> dict[Path, str]:
        """Bootstrap and listeners: path -> content."""
        documents = {
            "bootstrap": envoy.bootstrap(self._layout, self._ports),
            "listeners": envoy.listeners(self._layout, self._ports),
        }
        return {self._layout.envoy / f"{name}.json": _text(document) for name, document in documents.items()}

    def write(self, topology: routes.Topology) -> None:
        """Write clusters and routes without waiting, for an Envoy that does not run yet."""
        _write(self._layout.envoy / "clusters.json", envoy.clusters(topology, self._ports))
        for name, document in routes.route_configurations(topology).items():
            _write(self._layout.envoy / f"routes-{name}.json", document)

    def publish(self, topology: routes.Topology, *, retiring: Iterable[str], timeout_s: float) -> None:
        """Apply ``topology``: make before break.

        New clusters come first, then the mirror's routes, then the public ones, so that no route ever names something
        that does not exist yet. Clusters of ``retiring`` routes go last, when no request uses them any more.

        Raises
        ------
        NotReadyError
            Envoy did not take one of the steps in time.
        """
        deadline = Deadline(timeout_s)
        leaving = sorted(set(retiring))
        self._publish_clusters(topology, leaving, deadline)
        for name, document in routes.route_configurations(topology).items():
            _write(self._layout.envoy / f"routes-{name}.json", document)
            self._wait(
                lambda name=name: self.revision(name) == topology.revision, f"routes of the {name} listener", deadline
            )
        if leaving:
            self._wait(lambda: not self._is_busy(leaving), f"the last requests of {', '.join(leaving)}", deadline)
            self._publish_clusters(topology, [], deadline)

    def revision(self, listener: str = "public") -> int | None:
        """The revision that a listener's worker thread runs, ``None`` when it does not answer."""
        try:
            response = fetch(f"http://{LOOPBACK}:{self._listeners[listener]}{routes.REVISION_PATH}")
            return int(response.text) if response.status_code == 200 else None
        except (httpx.TransportError, ValueError):
            return None

    def _publish_clusters(self, topology: routes.Topology, retiring: list[str], deadline: Deadline) -> None:
        document = envoy.clusters(topology, self._ports, retiring=retiring)
        wanted = {resource["name"] for resource in document["resources"]}
        _write(self._layout.envoy / "clusters.json", document)
        self._wait(lambda: self._clusters() == wanted, "clusters", deadline)

    def _clusters(self) -> set[str] | None:
        answer = self._admin("clusters")
        return None if answer is None else {status["name"] for status in answer.get("cluster_statuses", [])}

    def _is_busy(self, leaving: Iterable[str]) -> bool:
        # An Envoy that is down has no requests under way.
        answer = self._admin("stats", filter=r"^cluster\..*\.upstream_rq(_pending)?_active$") or {}
        active = {stat["name"]: stat["value"] for stat in answer.get("stats", []) if "value" in stat}
        return any(
            active.get(f"cluster.{route}_{kind}.upstream_rq{waiting}_active")
            for route in leaving
            for kind in routes.CLUSTER_KINDS
            for waiting in ("", "_pending")
        )

    def _admin(self, page: str, **parameters: str) -> dict[str, Any] | None:
        """What Envoy says on a page of its admin port, ``None`` when it does not answer."""
        url = f"http://{LOOPBACK}:{self._ports.admin}/{page}"
        try:
            return fetch(url, params={"format": "json", **parameters}).json()
        except (httpx.TransportError, ValueError):
            return None

    def _wait(self, done: Callable[[], bool], what: str, deadline: Deadline) -> None:
        for _ in deadline.polls(_POLL_S):
            if done():
                return
        raise NotReadyError(f"waited for {what} to be applied in Envoy; its log ends: {self._log_end()}")

    def _log_end(self) -> str:
        try:
            lines = (self._layout.logs / "envoy.log").read_text(errors="replace").splitlines()
        except OSError:
            return "(no log)"
        return " | ".join(lines[-3:]) or "(empty)"


def _write(path: Path, document: object) -> None:
    atomic_write_text(path, _text(document))


def _text(document: object) -> str:
    return json.dumps(document, indent=1)
