"""What must hold for workloads; each rule gives its violations in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tests.k8s.k8s_objects import (
    COMPONENT,
    NAME,
    SELDON_CONTAINERS,
    SELDON_SERVICES,
    Object,
    Pod,
    of_kind,
    one,
    pods,
)

PART_OF = "app.kubernetes.io/part-of"
# The alert ExporterDown is about the first: a second program under that job would hide that the exporter is gone.
JOBS = {"financial-assets": "financial-assets", "desk-api": "desk-api"}


def limits(objects: Sequence[Object]) -> Iterator[str]:
    """Every container asks for something and is limited in both processor and memory."""
    for pod in pods(objects):
        for container in pod.containers:
            for kind in ("requests", "limits"):
                given = container.get("resources", {}).get(kind, {})
                yield from (f"{pod.where(container)}: no {kind}.{r}" for r in ("cpu", "memory") if r not in given)


def hardened(objects: Sequence[Object]) -> Iterator[str]:
    """No root, no way to become it, no capability; a read-only root wherever the image is ours or known to allow it."""
    for pod in pods(objects):
        whole = pod.spec.get("securityContext", {})
        if whole.get("runAsNonRoot") is not True:
            yield f"{pod.where()}: may run as root"
        if not whole.get("runAsUser"):
            yield f"{pod.where()}: runs as root, or as whom its image says"
        if whole.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{pod.where()}: no seccomp profile"
        for name in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.spec.get(name):
                yield f"{pod.where()}: {name}"
        for volume in pod.spec.get("volumes", []):
            if "hostPath" in volume:
                yield f"{pod.where()}: hostPath"
        for container in pod.containers:
            own = container.get("securityContext", {})
            if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
                yield f"{pod.where(container)}: privileges may grow"
            if own.get("capabilities", {}).get("drop") != ["ALL"] or own.get("capabilities", {}).get("add"):
                yield f"{pod.where(container)}: keeps capabilities"
            if "image" in container and own.get("readOnlyRootFilesystem") is not True:
                yield f"{pod.where(container)}: writable root"


def probed(objects: Sequence[Object]) -> Iterator[str]:
    """What runs for ever says whether it lives, what is asked says whether it can answer; at a port that is its own."""
    for pod in pods(objects):
        if pod.kind not in ("Deployment", "StatefulSet"):
            continue
        for container in pod.containers:
            wanted = ["livenessProbe", *(["readinessProbe"] if container.get("ports") else [])]
            yield from (f"{pod.where(container)}: no {probe}" for probe in wanted if probe not in container)
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                for how in ("httpGet", "tcpSocket", "grpc"):
                    port = container.get(probe, {}).get(how, {}).get("port")
                    if port is not None and port not in {*pod.ports, *pod.ports.values()}:
                        yield f"{pod.where(container)}: {probe} asks port {port}"


def labelled(objects: Sequence[Object]) -> Iterator[str]:
    """The recommended labels, on workloads and on their pods."""
    for item in of_kind(objects, "Deployment", "StatefulSet"):
        for labels in (item["metadata"].get("labels", {}), item["spec"]["template"]["metadata"]["labels"]):
            missing = [label for label in (NAME, COMPONENT, PART_OF) if label not in labels]
            if missing:
                yield f"{item['kind']} {item['metadata']['name']}: no label {', '.join(missing)}"


def disruption(objects: Sequence[Object]) -> Iterator[str]:
    """Of two or more, one stays up when nodes are drained; every budget is for somebody."""
    budgets = of_kind(objects, "PodDisruptionBudget")
    for pod in pods(objects):
        covered = [b for b in budgets if selects(b["spec"]["selector"], b, pod)]
        if pod.replicas >= 2 and not covered:
            yield f"{pod.where()}: {pod.replicas} replicas and no PodDisruptionBudget"
    for budget in budgets:
        if not any(selects(budget["spec"]["selector"], budget, pod) for pod in pods(objects)):
            yield f"PodDisruptionBudget {budget['metadata']['name']} selects nothing"
        if budget["spec"].get("maxUnavailable") != 1:
            yield f"PodDisruptionBudget {budget['metadata']['name']}: maxUnavailable must be 1, or a drain may hang"


def services(objects: Sequence[Object]) -> Iterator[str]:
    """A Service leads to a port of a pod, an Ingress to a port of a Service, a monitor to both."""
    ports: dict[tuple[str, str], set[object]] = {
        ("financial-inference", name): set(known) for name, known in SELDON_SERVICES.items()
    }
    for service in of_kind(objects, "Service"):
        key = (service["metadata"]["namespace"], service["metadata"]["name"])
        chosen = [pod for pod in pods(objects) if selects({"matchLabels": service["spec"]["selector"]}, service, pod)]
        if not chosen:
            yield f"Service {key[1]} selects no pod"
        for port in service["spec"]["ports"]:
            ports.setdefault(key, set()).update({port["name"], port["port"]})
            if any(port["targetPort"] not in {*pod.ports, *pod.ports.values()} for pod in chosen):
                yield f"Service {key[1]}: its pods have no port {port['targetPort']}"
    for ingress in of_kind(objects, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                wanted = backend["port"].get("name") or backend["port"].get("number")
                if wanted not in ports.get((ingress["metadata"]["namespace"], backend["name"]), set()):
                    yield f"Ingress {ingress['metadata']['name']}: no Service {backend['name']} with port {wanted}"
    yield from _monitors(objects)


def _monitors(objects: Sequence[Object]) -> Iterator[str]:
    for monitor in of_kind(objects, "ServiceMonitor"):
        for endpoint in monitor["spec"]["endpoints"]:
            chosen = [s for s in of_kind(objects, "Service") if selects(monitor["spec"]["selector"], monitor, s)]
            if not any(endpoint["port"] in [p["name"] for p in s["spec"]["ports"]] for s in chosen):
                yield f"ServiceMonitor {monitor['metadata']['name']}: no Service with port {endpoint['port']}"
            jobs = {service["metadata"]["labels"].get(monitor["spec"].get("jobLabel")) for service in chosen}
            wanted = JOBS[monitor["metadata"]["name"]]
            if jobs != {wanted}:
                yield f"ServiceMonitor {monitor['metadata']['name']}: the rules know job {wanted}, not {jobs}"
    for monitor in of_kind(objects, "PodMonitor"):
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            chosen_pods = [pod for pod in pods(objects) if selects(monitor["spec"]["selector"], monitor, pod)]
            if not any(endpoint["port"] in pod.ports for pod in chosen_pods):
                yield f"PodMonitor {monitor['metadata']['name']}: no pod with port {endpoint['port']}"


def images(objects: Sequence[Object]) -> Iterator[str]:
    """One tag for each image, never ``latest``; a run is made of the image that its code location has."""
    found: dict[str, set[str]] = {}
    for pod in pods(objects):
        for container in pod.containers:
            if (image := container.get("image")) is None:
                continue
            name, _, tag = image.rpartition(":")
            found.setdefault(name, set()).add(tag)
            if not re.fullmatch(r"[\w][\w.-]*", tag) or tag == "latest" or not name:
                yield f"{pod.where(container)}: image {image} names no version"
    yield from (f"image {name} has tags {', '.join(sorted(tags))}" for name, tags in found.items() if len(tags) > 1)


def seldon_names(objects: Sequence[Object]) -> Iterator[str]:
    """A container under another name than Seldon's would be added beside it instead of being merged into it."""
    for pod in pods(objects):
        if pod.kind == "Seldon":
            wanted = SELDON_CONTAINERS[pod.labels[NAME]]
            names = {container["name"] for container in pod.containers}
            if names != wanted:
                yield f"{pod.where()}: containers {', '.join(sorted(names))}; Seldon's are {', '.join(sorted(wanted))}"


def volumes(objects: Sequence[Object]) -> Iterator[str]:
    """Every mount has its volume, every volume its claim or ConfigMap."""
    stored = {(i["kind"], i["metadata"].get("namespace"), i["metadata"]["name"]) for i in objects}
    for pod in pods(objects):
        named = {volume["name"] for volume in pod.spec.get("volumes", [])}
        if pod.kind == "StatefulSet":
            workload = one(objects, "StatefulSet", pod.name)
            named |= {claim["metadata"]["name"] for claim in workload["spec"]["volumeClaimTemplates"]}
        for container in pod.containers:
            for mounted in container.get("volumeMounts", []):
                if mounted["name"] not in named:
                    yield f"{pod.where(container)}: no volume {mounted['name']}"
        for volume in pod.spec.get("volumes", []):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            config = volume.get("configMap", {}).get("name")
            for kind, name in (("PersistentVolumeClaim", claim), ("ConfigMap", config)):
                if name and (kind, pod.namespace, name) not in stored:
                    yield f"{pod.where()}: no {kind} {name}"


def selects(selector: Object, owner: Object, target: Pod | Object) -> bool:
    """Whether a selector of ``owner`` means ``target``, a pod or an object of the same namespace."""
    if isinstance(target, Pod):
        namespace, labels = target.namespace, target.labels
    else:
        namespace, labels = target["metadata"]["namespace"], target["metadata"].get("labels", {})
    return namespace == owner["metadata"]["namespace"] and labels_match(selector, labels)


def labels_match(selector: Object, labels: object) -> bool:
    """Whether labels fit ``matchLabels`` and ``matchExpressions`` (operator ``In`` only, the one that we use)."""
    given = dict(labels) if hasattr(labels, "keys") else {}  # type: ignore[call-overload]
    exact = all(given.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", expression
        exact = exact and given.get(expression["key"]) in expression["values"]
    return exact
