"""The serving target of a single machine: applies manifests to the local plane."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import httpx

from financial_assets.errors import NotReadyError, TargetError
from financial_assets.locking import exclusive
from financial_assets.serving.deadline import Deadline
from financial_assets.serving.local import control
from financial_assets.serving.local.desired import DesiredState
from financial_assets.serving.local.envoy.gateway import EnvoyPublisher
from financial_assets.serving.local.layout import LOOPBACK, Layout, Ports
from financial_assets.serving.local.repository import Repository, artefact, is_sound
from financial_assets.serving.local.restoring import Restore, mend_models
from financial_assets.serving.manifest_sets import members, validate_set
from financial_assets.serving.manifests import Manifest, check_kind, kind_and_name
from financial_assets.serving.target import Endpoint, ExperimentStatus, ModelStatus, ProcessStatus, TargetStatus


class LocalTarget:
    """Serves Models and Experiments from processes of this machine; implements ``ServingTarget``.

    Parameters
    ----------
    home
        State folder; one plane per home.
    timeout_s
        How long any one step may take before ``NotReadyError``.
    restore
        Restores a served file that is lost together with its artefact; default: nothing does.
    """

    name = "local"

    def __init__(self, home: Path, *, timeout_s: float = 90.0, restore: Restore | None = None) -> None:
        self.home = home
        self._restore = restore
        self._layout = Layout(home)
        self._timeout_s = timeout_s

    def apply(self, manifests: Sequence[Manifest]) -> None:
        """Create or update objects, starting the plane if it does not run; applied on return."""
        validate_set(manifests, closed=False)
        digests = {id(m): artefact(m["spec"]["storageUri"])[1] for m in manifests if m["kind"] == "Model"}
        with self._applying():
            wanted = DesiredState.read(self._layout.desired)
            for manifest in manifests:
                if manifest["kind"] == "Model":
                    wanted = wanted.with_model(manifest, digests[id(manifest)])
                elif manifest["kind"] == "Experiment":
                    wanted = wanted.with_experiment(manifest)
            self._reach(wanted, _models_of(manifests))

    def delete(self, kind: str, name: str) -> None:
        """Delete one object: its routes first, then its running requests end, then the model is unloaded."""
        check_kind(kind)
        with self._applying():
            wanted = DesiredState.read(self._layout.desired)
            if name not in (wanted.models if kind == "Model" else wanted.experiments):
                return
            self._reach(wanted.without(kind, name), set())

    def wait_ready(self, names: Sequence[str], timeout_s: float) -> None:
        """Wait until each named Model and Experiment is ready."""
        missing: list[str] = []
        problems: list[str] = []
        for _ in Deadline(timeout_s).polls(0.1):
            status = self.status()
            ready = {item.name: item.ready for item in (*status.models, *status.experiments)}
            missing = [name for name in names if not ready.get(name)]
            if not missing:
                return
            problems = [*(f"{name} was never applied" for name in missing if name not in ready), *status.problems]
        why = "; ".join(problems) or "not ready"
        raise NotReadyError(f"waited {timeout_s:g} s for {', '.join(missing)}: {why}")

    def endpoint(self) -> Endpoint:
        """Where the gateway answers."""
        ports = control.running_ports(self.home)
        if ports is None:
            raise NotReadyError(f"no plane runs for {self.home}; `financial-assets serve` starts it")
        return _endpoint(ports, DesiredState.read(self._layout.desired))

    def status(self) -> TargetStatus:
        """How the plane is."""
        desired = DesiredState.read(self._layout.desired)
        ports = control.running_ports(self.home)
        if ports is None:
            models, experiments = _objects(desired, set(), in_force=False)
            problem = f"no plane runs for {self.home}; `financial-assets serve` starts it"
            return TargetStatus(self.name, False, None, models, experiments, (), (problem,))
        repository = self._repository(ports)
        answering = {route for route in desired.routes.values() if _is_ready(repository, route)}
        revision = EnvoyPublisher(self._layout, ports).revision()
        models, experiments = _objects(desired, answering, in_force=revision == desired.revision)
        processes = tuple(
            ProcessStatus(
                child.name, child.identity.pid if child.identity else None, child.state, child.restarts, child.last_exit
            )
            for child in control.children(self.home)
        )
        problems = [
            f"{p.name} is {p.state}; last exit: {p.last_exit or 'none'}" for p in processes if p.state != "running"
        ]
        if not control.is_running(self.home):
            problems.insert(0, "serving, but its supervisor is gone: `financial-assets serve` restores it")
        problems += [f"Model {model.name} does not answer" for model in models if model.route not in answering]
        if revision != desired.revision:
            problems.append(f"the gateway runs revision {revision}, wanted is {desired.revision}")
        return TargetStatus(
            self.name, not problems, _endpoint(ports, desired), models, experiments, processes, tuple(problems)
        )

    def mend(self) -> Mapping[str, str]:
        """Restore every served file that is not the one that was applied, also while the plane runs.

        Returns
        -------
        Mapping
            Name of each Model that is lost -> why, and what to materialize.
        """
        with self._applying():
            return mend_models(self._layout, self._restore)

    def load(self) -> None:
        """Load the models that were restored while the plane ran: MLServer does not look for them by itself."""
        ports = control.running_ports(self.home)
        if ports is not None:
            repository = self._repository(ports)
            for model in DesiredState.read(self._layout.desired).models.values():
                if is_sound(self._layout.models, model):
                    repository.load(model, self._timeout_s)

    def _reach(self, wanted: DesiredState, needed: Collection[str]) -> None:
        """Make before break: load, publish, then remove what nothing names.

        A model whose files are lost does not prevent the others from being served, unless it is among ``needed``.
        """
        wanted.check()
        lost = mend_models(self._layout, self._restore)
        ports = control.start(self.home, timeout_s=self._timeout_s)
        repository, gateway = self._repository(ports), EnvoyPublisher(self._layout, ports)
        before = DesiredState.read(self._layout.desired)
        try:
            for name, model in wanted.models.items():
                if name in needed or name not in lost:
                    repository.install(model)
                    repository.load(model, self._timeout_s)
        except TargetError:
            repository.remove_all_but(before.routes.values())
            raise
        # Written before it is published: an apply that dies in between is completed by the next one.
        wanted = replace(wanted, revision=before.revision + 1)
        wanted.write(self._layout.desired)
        retiring = set(before.routes.values()) - set(wanted.routes.values())
        gateway.publish(wanted.topology, retiring=retiring, timeout_s=self._timeout_s)
        repository.remove_all_but(wanted.routes.values())

    def _applying(self):
        return exclusive(self._layout.apply_lock, self._timeout_s, error=NotReadyError, purpose="applying manifests")

    def _repository(self, ports: Ports) -> Repository:
        return Repository(self._layout.models, f"http://{LOOPBACK}:{ports.mlserver_http}", self._restore)


def _endpoint(ports: Ports, desired: DesiredState) -> Endpoint:
    return Endpoint(f"http://{LOOPBACK}:{ports.gateway}", f"{LOOPBACK}:{ports.gateway}", desired.routes)


def _objects(
    desired: DesiredState, answering: set[str], *, in_force: bool
) -> tuple[tuple[ModelStatus, ...], tuple[ExperimentStatus, ...]]:
    models = tuple(
        ModelStatus(name, model.route, in_force and model.route in answering, model.manifest["spec"]["storageUri"])
        for name, model in desired.models.items()
    )
    experiments = tuple(
        ExperimentStatus.of(
            manifest, in_force and all(desired.models[member].route in answering for member in members(manifest))
        )
        for manifest in desired.experiments.values()
    )
    return models, experiments


def _models_of(manifests: Sequence[Manifest]) -> set[str]:
    """The models that the manifests are about."""
    names: set[str] = set()
    for manifest in manifests:
        if manifest["kind"] == "Model":
            names.add(kind_and_name(manifest)[1])
        elif manifest["kind"] == "Experiment":
            names |= set(members(manifest))
    return names


def _is_ready(repository: Repository, route: str) -> bool:
    try:
        return repository.is_ready(route, timeout_s=2)
    except httpx.TransportError:
        return False
