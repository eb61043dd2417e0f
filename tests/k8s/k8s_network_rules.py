"""What the NetworkPolicies let through, pod by pod and port by port; each rule gives its violations in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.k8s.k8s_objects import INFERENCE, NAME, TRAINING, Object, Pod, of_kind, outside, pods
from tests.k8s.k8s_workload_rules import labels_match, selects

NAMESPACES = (TRAINING, INFERENCE)
# Where no address is known: the API server (by its Service and by itself), the object store, the price source.
ANYWHERE = {443, 6443}
# Who must be able to reach whom, by pod name and port; everything else between these must fail.
NEEDED = {
    ("dagster-webserver", "dagster-code-location", 4000),
    ("dagster-daemon", "dagster-code-location", 4000),
    ("dagster-code-location", "alertmanager", 9093),
    ("run", "seldon-envoy", 9000),
    ("run", "mlflow", 5000),
    ("ingress", "dagster-webserver", 3000),
    ("ingress", "seldon-envoy", 9000),
    ("prometheus", "exporter", 9100),
    ("ingress", "desk-api", 8600),
    ("prometheus", "desk-api", 8600),
    ("desk-api", "mlflow", 5000),
    ("prometheus", "seldon-envoy", 9003),
    ("prometheus", "mlserver-financial", 9006),
    ("prometheus", "mlserver-financial", 8082),
    ("seldon-envoy", "seldon-scheduler", 9002),
    ("seldon-envoy", "mlserver-financial", 9001),
    ("seldon-envoy", "mlserver-financial", 9501),
    ("seldon-operator", "seldon-scheduler", 9004),
    ("seldon-operator", "seldon-scheduler", 9044),
    ("mlserver-financial", "seldon-scheduler", 9005),
    ("mlserver-financial", "seldon-scheduler", 9055),
}
DATABASE_CLIENTS = ("dagster-webserver", "dagster-daemon", "dagster-code-location", "run", "exporter", "desk-api")


def default_deny(objects: Sequence[Object]) -> Iterator[str]:
    """Both namespaces begin with nothing allowed, in and out."""
    for namespace in NAMESPACES:
        closed = [
            policy
            for policy in of_kind(objects, "NetworkPolicy")
            if policy["metadata"]["namespace"] == namespace
            and policy["spec"]["podSelector"] == {}
            and set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
            and not policy["spec"].get("ingress")
            and not policy["spec"].get("egress")
        ]
        if not closed:
            yield f"{namespace}: no default deny"


def flows(objects: Sequence[Object]) -> Iterator[str]:
    """What is needed passes at both ends, and nothing else does."""
    ours, known = pods(objects), [*pods(objects), *outside()]
    needed = set(NEEDED)
    if any(pod.name == "postgresql" for pod in ours):
        needed |= {(name, "postgresql", 5432) for name in DATABASE_CLIENTS}
    for source in known:
        for target in known:
            for port in sorted(set(target.ports.values())):
                wanted = (source.name, target.name, port) in needed
                out, into = leaves(objects, source, target, port), enters(objects, source, target, port)
                passes = out and into
                alike = _alike(source, target, port, needed)
                if source is target or not {source.namespace, target.namespace} & set(NAMESPACES):
                    continue
                if wanted and not passes:
                    end = "does not leave" if not out else "is not let in"
                    yield f"{source.where()} -> {target.where()}:{port} {end}"
                if passes and not wanted and not alike and port != 53:
                    yield f"{source.where()} -> {target.where()}:{port} passes, and nobody needs it"
    yield from _everybody(objects, ours)


def ports(objects: Sequence[Object]) -> Iterator[str]:
    """Every port that a policy names is one that a pod behind it has."""
    known = [*pods(objects), *outside()]
    for policy in of_kind(objects, "NetworkPolicy"):
        name = policy["metadata"]["name"]
        for direction, peers in (("ingress", None), ("egress", "to")):
            for rule in policy["spec"].get(direction, []):
                if not rule.get("ports"):
                    yield f"NetworkPolicy {name}: {direction} on every port"
                for port in (entry["port"] for entry in rule.get("ports", [])):
                    if peers is None:
                        behind = [pod for pod in known if selects(policy["spec"]["podSelector"], policy, pod)]
                    else:
                        behind = [pod for pod in known if any(peer(policy, p, pod) for p in rule.get("to", []))]
                    open_to_all = peers is not None and "to" not in rule
                    if open_to_all and port not in ANYWHERE:
                        yield f"NetworkPolicy {name}: {port} to anywhere"
                    database = port == 5432 and any("ipBlock" in p for p in rule.get("to", []))
                    if not open_to_all and not database and not any(port in pod.ports.values() for pod in behind):
                        yield f"NetworkPolicy {name}: nobody behind {direction} has port {port}"


def leaves(objects: Sequence[Object], source: Pod, target: Pod, port: int) -> bool:
    """Whether the source's namespace lets it go there."""
    return _allowed(objects, source, target, port, "egress", "to")


def enters(objects: Sequence[Object], source: Pod, target: Pod, port: int) -> bool:
    """Whether the target's namespace lets it in."""
    return _allowed(objects, target, source, port, "ingress", "from")


def peer(policy: Object, entry: Object, pod: Pod) -> bool:
    """Whether an entry of ``from`` or ``to`` means this pod; address blocks mean none that is known by name."""
    if "ipBlock" in entry:
        return False
    namespace = entry.get("namespaceSelector")
    inside = (
        pod.namespace == policy["metadata"]["namespace"]
        if namespace is None
        else labels_match(namespace, {"kubernetes.io/metadata.name": pod.namespace})
    )
    return inside and labels_match(entry.get("podSelector", {}), pod.labels)


def _allowed(objects: Sequence[Object], here: Pod, there: Pod, port: int, direction: str, key: str) -> bool:
    policies = [
        policy
        for policy in of_kind(objects, "NetworkPolicy")
        if selects(policy["spec"]["podSelector"], policy, here)
        and direction.capitalize() in policy["spec"]["policyTypes"]
    ]
    if not policies:
        return True  # nothing restricts this end
    return any(
        (not rule.get("ports") or port in [entry["port"] for entry in rule["ports"]])
        and (key not in rule or any(peer(policy, entry, there) for entry in rule[key]))
        for policy in policies
        for rule in policy["spec"].get(direction, [])
    )


def _alike(source: Pod, target: Pod, port: int, needed: set[tuple[str, str, int]]) -> bool:
    """Whether another pod of the same outside namespace is meant, which policies cannot tell apart by name alone."""
    group = [pod.name for pod in outside() if pod.namespace in (source.namespace, target.namespace)]
    return any(
        (name, target.name, port) in needed or (source.name, name, port) in needed
        for name in group
        if name != "stranger"
    )


def _everybody(objects: Sequence[Object], ours: Sequence[Pod]) -> Iterator[str]:
    resolver = next(pod for pod in outside() if pod.name == "dns")
    for pod in ours:
        if not leaves(objects, pod, resolver, 53):
            yield f"{pod.where()}: cannot resolve names"
    for name in DATABASE_CLIENTS:
        client = next(pod for pod in ours if pod.name == name)
        database = Pod("postgresql", TRAINING, {NAME: "postgresql"})
        if not leaves(objects, client, database, 5432):
            yield f"{client.where()}: cannot reach PostgreSQL"
    nowhere = Pod("internet", "elsewhere", {})
    for name in ("run", "dagster-webserver", "dagster-daemon", "mlserver-financial"):
        client = next(pod for pod in ours if pod.name == name)
        if not all(leaves(objects, client, nowhere, port) for port in ANYWHERE):
            yield f"{client.where()}: cannot reach the API server"
