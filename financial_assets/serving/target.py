"""What any serving target can do: apply manifests, wait for them, report its status, delete.

Three targets implement it: the local plane, a cluster reached by server-side apply, and a cluster that follows a Git
repository. Nothing above this module knows where models run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from financial_assets.serving.manifests import ExperimentSpec, Manifest, parse_experiment


@dataclass(frozen=True)
class Endpoint:
    """Where the gateway answers.

    Attributes
    ----------
    http_url
        Base URL of the V2 REST protocol, e.g. ``http://127.0.0.1:20017``.
    grpc_target
        ``host:port`` of the V2 gRPC protocol.
    routes
        Route (``<model>_<n>``) of each Model as far as the target knows it; lets a client reach one arm of a split
        directly.
    """

    http_url: str
    grpc_target: str
    routes: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class ModelStatus:
    """One Model: name, route ``<model>_<n>`` (``None`` before it has one), whether it answers, where it came from."""

    name: str
    route: str | None
    ready: bool
    storage_uri: str


@dataclass(frozen=True)
class ExperimentStatus(ExperimentSpec):
    """One Experiment's values, and whether exactly these are applied."""

    ready: bool = False

    @classmethod
    def of(cls, manifest: Manifest, ready: bool) -> ExperimentStatus:
        """The status of an Experiment, of which others may have left out what is optional."""
        spec = parse_experiment(manifest)
        return cls(spec.name, spec.default, spec.weights, spec.mirror, ready)


@dataclass(frozen=True)
class ProcessStatus:
    """One process of the plane (for targets that run processes).

    Attributes
    ----------
    name
        ``envoy``, ``mlserver`` ...
    pid
        Its process id, ``None`` while it is not running.
    state
        ``starting``, ``running``, ``back-off`` or ``stopped``.
    restarts
        How often it was restarted.
    last_exit
        Why the previous process ended, in words; empty if none has.
    """

    name: str
    pid: int | None
    state: str
    restarts: int
    last_exit: str


@dataclass(frozen=True)
class TargetStatus:
    """The state of a target.

    Attributes
    ----------
    target
        The target's name.
    ready
        Everything wanted is applied and answers.
    endpoint
        Where the gateway answers, ``None`` while nothing runs.
    models, experiments, processes
        What it holds.
    problems
        What is wrong, one sentence each; empty when ``ready``.
    readable
        Whether what the target holds could be read. If not, ``models`` and ``experiments`` say nothing.
    """

    target: str
    ready: bool
    endpoint: Endpoint | None
    models: tuple[ModelStatus, ...] = ()
    experiments: tuple[ExperimentStatus, ...] = ()
    processes: tuple[ProcessStatus, ...] = ()
    problems: tuple[str, ...] = ()
    readable: bool = True


class ServingTarget(Protocol):
    """A place that serves Models and splits traffic between them."""

    @property
    def name(self) -> str:
        """Short name: ``local``, ``kubernetes``, ``gitops``."""
        ...

    def apply(self, manifests: Sequence[Manifest]) -> None:
        """Create or update the given objects, leave all others alone; returns once they are applied.

        Raises
        ------
        ManifestError
            A manifest breaks a rule; nothing was changed.
        NotReadyError
            The wanted state was not reached in time; says what was waited for.
        TargetError
            The target refused, e.g. an artefact cannot be loaded.
        """
        ...

    def wait_ready(self, names: Sequence[str], timeout_s: float) -> None:
        """Wait until each named Model and Experiment answers.

        Raises
        ------
        NotReadyError
            One did not, and why.
        """
        ...

    def status(self) -> TargetStatus:
        """The state of the target; never raises because something is down."""
        ...

    def delete(self, kind: str, name: str) -> None:
        """Delete one object in the order that loses no request; deleting an absent object does nothing.

        Raises
        ------
        ManifestError
            A Model that an experiment still names.
        """
        ...

    def endpoint(self) -> Endpoint:
        """Where the gateway answers.

        Raises
        ------
        NotReadyError
            Nothing runs; says what starts it.
        """
        ...


def report(
    target: str,
    endpoint: Callable[[], Endpoint],
    objects: Mapping[str, Sequence[Manifest]],
    problem_of: Callable[[str, Manifest], str],
    problems: Sequence[str] = (),
) -> TargetStatus:
    """The status of a cluster's target, each of whose objects is asked about once.

    Parameters
    ----------
    target
        The target's name.
    endpoint
        Where the gateway answers, with the routes that it has named; called after all objects were asked about.
    objects
        Manifests by kind; others may have written them, so nothing but their names is taken for granted.
    problem_of
        What is wrong with an object of a kind, in words; empty if nothing is.
    problems
        What is wrong besides.
    """
    problem = {
        (kind, item["metadata"]["name"]): problem_of(kind, item) for kind, items in objects.items() for item in items
    }
    where = endpoint()
    return TargetStatus(
        target,
        ready=not problems and not any(problem.values()),
        endpoint=where,
        # The scheduler numbers versions by its own count, so a route is known only once the gateway has named it.
        models=tuple(
            ModelStatus(
                name, where.routes.get(name), not problem["Model", name], str(item["spec"].get("storageUri", ""))
            )
            for item in objects["Model"]
            for name in [item["metadata"]["name"]]
        ),
        experiments=tuple(
            ExperimentStatus.of(item, not problem["Experiment", item["metadata"]["name"]])
            for item in objects["Experiment"]
        ),
        problems=(*problems, *(f"{kind} {name}: {text}" for (kind, name), text in problem.items() if text)),
    )
