"""A cluster's objects as a target's status."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from financial_assets.serving.manifests import Manifest
from financial_assets.serving.target import Endpoint, ExperimentStatus, ModelStatus, TargetStatus

__all__ = ["report"]


def report(
    target: str,
    endpoint: Callable[[], Endpoint],
    objects: Mapping[str, Sequence[Manifest]],
    problem_of: Callable[[str, Manifest], str],
    problems: Sequence[str] = (),
) -> TargetStatus:
    """The status of a target, each of whose objects is asked about once.

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
        models=tuple(_model(item, problem, where.routes) for item in objects["Model"]),
        experiments=tuple(_experiment(item, problem) for item in objects["Experiment"]),
        problems=(*problems, *(f"{kind} {name}: {text}" for (kind, name), text in problem.items() if text)),
    )


def _model(document: Manifest, problem: Mapping[tuple[str, str], str], routes: Mapping[str, str]) -> ModelStatus:
    # The scheduler numbers versions by its own count, so a route is known only once the gateway has named it.
    name = document["metadata"]["name"]
    uri = str(document["spec"].get("storageUri", ""))
    return ModelStatus(name, routes.get(name), not problem["Model", name], uri)


def _experiment(document: Manifest, problem: Mapping[tuple[str, str], str]) -> ExperimentStatus:
    name, spec = document["metadata"]["name"], document["spec"]
    mirror = spec.get("mirror")
    return ExperimentStatus(
        name,
        str(spec["default"]) if spec.get("default") else None,
        {item["name"]: int(item.get("weight", 0)) for item in spec.get("candidates") or []},
        (mirror["name"], mirror["percent"]) if mirror else None,
        not problem["Experiment", name],
    )
