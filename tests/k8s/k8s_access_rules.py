"""Rights, settings and secrets; each rule gives its violations in words."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import dagster_k8s.client
import yaml

from financial_assets.errors import SettingsError
from financial_assets.serving.kubernetes import api
from financial_assets.settings import Settings, load_settings
from tests.k8s.k8s_objects import INFERENCE, TRAINING, Object, Pod, instance_files, of_kind, one, pods

GUIDE = Path(__file__).parents[2] / "docs" / "kubernetes.md"
# Server-side apply is a PATCH, and creates what is not there.
VERBS = {"read": {"get"}, "list": {"list"}, "apply": {"patch", "create"}, "clear": {"patch"}, "delete": {"delete"}}
RESOURCES = {"job": "jobs", "job_status": "jobs/status", "pod": "pods", "pod_log": "pods/log", "event": "events"}
Right = tuple[str, str, str]


def rights(objects: Sequence[Object]) -> Iterator[str]:
    """Each identity may do what its program's own calls need, no more and no less."""
    # What a run makes: a Model per version and the Experiment. The Server is applied with the manifests, by people.
    seldon = {
        ("mlops.seldon.io", api.PLURALS[kind], verb)
        for kind in ("Model", "Experiment")
        for call in api._METHODS
        for verb in VERBS[call]
    }
    yield from _compare("Role model-deployer", _granted(one(objects, "Role", "model-deployer", INFERENCE)), seldon)
    yield from _compare("Role run-launcher", _granted(one(objects, "Role", "run-launcher", TRAINING)), _launcher())
    # Whoever may create a Job reads every Secret of its namespace: not the webserver, which people reach.
    ending = {right for right in _launcher() if right[2] != "create"}
    yield from _compare("Role run-terminator", _granted(one(objects, "Role", "run-terminator", TRAINING)), ending)
    for role in of_kind(objects, "Role", "ClusterRole"):
        if "*" in str(role["rules"]):
            yield f"{role['kind']} {role['metadata']['name']}: a wildcard"
    yield from (f"{i['kind']} {i['metadata']['name']}" for i in of_kind(objects, "ClusterRole", "ClusterRoleBinding"))


def bindings(objects: Sequence[Object]) -> Iterator[str]:
    """Every binding joins a Role to an account that exist; every pod has the account of its part."""
    accounts = {(a["metadata"]["namespace"], a["metadata"]["name"]) for a in of_kind(objects, "ServiceAccount")}
    for binding in of_kind(objects, "RoleBinding"):
        name, namespace = binding["metadata"]["name"], binding["metadata"]["namespace"]
        roles = {(r["metadata"]["namespace"], r["metadata"]["name"]) for r in of_kind(objects, "Role")}
        if (namespace, binding["roleRef"]["name"]) not in roles:
            yield f"RoleBinding {name}: no such Role"
        for subject in binding["subjects"]:
            if (subject["namespace"], subject["name"]) not in accounts:
                yield f"RoleBinding {name}: no account {subject['name']}"
            if subject["name"] == "dagster-webserver" and binding["roleRef"]["name"] != "run-terminator":
                yield f"RoleBinding {name}: the webserver may not have the Role {binding['roleRef']['name']}"
    wanted = {"dagster-webserver": "dagster-webserver", "dagster-daemon": "dagster", "run": "financial-assets"}
    for pod in pods(objects):
        account = pod.spec.get("serviceAccountName")
        if pod.name in wanted and account != wanted[pod.name]:
            yield f"{pod.where()}: runs as {account}"
        if account and pod.kind != "Seldon" and (pod.namespace, account) not in accounts:
            yield f"{pod.where()}: no account {account}"
        if not account and pod.kind != "Seldon" and pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.where()}: holds a token of the namespace's default account"


def settings(objects: Sequence[Object]) -> Iterator[str]:
    """Every variable is a setting, the package accepts them all together, and they name what is deployed."""
    values = one(objects, "ConfigMap", "financial-assets-settings")["data"]
    unknown = [name for name in values if name.lower() not in Settings.model_fields or name != name.upper()]
    yield from (f"{name} is no setting" for name in unknown)
    try:
        loaded = load_settings(**{name.lower(): value for name, value in values.items() if value})
    except SettingsError as error:
        yield str(error)
        return
    if loaded.kubernetes_namespace != INFERENCE:
        yield f"KUBERNETES_NAMESPACE is {loaded.kubernetes_namespace}"
    for name, url in (("SERVING_GATEWAY_URL", loaded.serving_gateway_url), ("_GRPC", f"//{loaded.gateway_grpc}")):
        if not re.search(rf"//seldon-mesh\.{INFERENCE}\.svc\.cluster\.local(:80)?$", str(url)):
            yield f"{name} is {url}"
    for pod in pods(objects):
        for container in pod.containers:
            mounts = {mount["mountPath"] for mount in container.get("volumeMounts", [])}
            reads = "financial-assets-settings" in str(container.get("envFrom", ""))
            if reads and str(loaded.financial_assets_home) not in mounts:
                yield f"{pod.where(container)}: FINANCIAL_ASSETS_HOME is no volume of it"


def documented(objects: Sequence[Object]) -> Iterator[str]:
    """Secrets are named, never held; whoever deploys is told how to make each, with every key that is used."""
    yield from (f"Secret {item['metadata']['name']} is in the manifests" for item in of_kind(objects, "Secret"))
    told = guide_secrets()
    for namespace, name, key in _used(objects):
        if (namespace, name) not in told:
            yield f"{namespace}/{name}: docs/kubernetes.md does not say how to make it"
        elif key and key not in told[namespace, name]:
            yield f"{namespace}/{name}: docs/kubernetes.md does not say its key {key}"


def environment(objects: Sequence[Object]) -> Iterator[str]:
    """Whoever opens the instance has every variable that its file asks for; ConfigMaps asked for exist."""
    asked = set(re.findall(r"\{env: (\w+)\}", instance_files(objects)["dagster.yaml"]))
    told = guide_secrets()
    for pod in pods(objects):
        for container in pod.containers:
            given: set[str] = {entry["name"] for entry in container.get("env", [])}
            for source in container.get("envFrom", []):
                config, secret = source.get("configMapRef", {}), source.get("secretRef", {})
                found = [
                    item
                    for item in of_kind(objects, "ConfigMap")
                    if (item["metadata"]["namespace"], item["metadata"]["name"]) == (pod.namespace, config.get("name"))
                ]
                if config and not found:
                    yield f"{pod.where(container)}: no ConfigMap {config['name']}"
                given |= {key for item in found for key in item["data"]}
                given |= told.get((pod.namespace, secret.get("name", "")), set())
            if "dagster-instance" in str(pod.spec.get("volumes", "")) and not asked <= given:
                yield f"{pod.where(container)}: dagster.yaml asks for {', '.join(sorted(asked - given))}"


def workspace(objects: Sequence[Object]) -> Iterator[str]:
    """The workspace names a Service of the code location, at its port."""
    for entry in yaml.safe_load(instance_files(objects)["workspace.yaml"])["load_from"]:
        server = entry["grpc_server"]
        found = [s for s in of_kind(objects, "Service") if s["metadata"]["name"] == server["host"]]
        if not found or server["port"] not in [port["port"] for port in found[0]["spec"]["ports"]]:
            yield f"workspace.yaml: no Service {server['host']} with port {server['port']}"


def guide_secrets() -> Mapping[tuple[str, str], set[str]]:
    """Namespace and name of each Secret that the guide makes, with its keys."""
    text = GUIDE.read_text().replace("\\\n", " ")
    found: dict[tuple[str, str], set[str]] = {}
    for kind, rest in re.findall(r"^ *kubectl create secret (generic|tls) (.+)$", text, re.MULTILINE):
        name, namespace = rest.split()[0], re.search(r"--namespace (\S+)", rest)
        assert namespace, f"the guide's secret {name} has no namespace"
        keys = set(re.findall(r"--from-(?:literal|file)=([\w.-]+)=", rest))
        found[namespace[1], name] = {"tls.crt", "tls.key"} if kind == "tls" else keys
    return found


def _granted(role: Object) -> set[Right]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _launcher() -> set[Right]:
    source = inspect.getsource(dagster_k8s.client)
    calls = set(re.findall(r"(batch|core)_api\.(create|read|list|delete)_namespaced_(\w+)", source))
    assert len(calls) >= 6, calls
    return {
        ("batch" if group == "batch" else "", RESOURCES[what], "get" if verb == "read" else verb)
        for group, verb, what in calls
    }


def _compare(who: str, granted: set[Right], needed: set[Right]) -> Iterator[str]:
    yield from (f"{who} may not {verb} {resource}" for _, resource, verb in sorted(needed - granted))
    yield from (f"{who} may {verb} {resource} and never does" for _, resource, verb in sorted(granted - needed))


def _used(objects: Sequence[Object]) -> Iterator[tuple[str, str, str | None]]:
    for pod in pods(objects):
        yield from _used_by(pod)
    for ingress in of_kind(objects, "Ingress"):
        namespace = ingress["metadata"]["namespace"]
        yield from ((namespace, tls["secretName"], "tls.crt") for tls in ingress["spec"].get("tls", []))
        users = ingress["metadata"].get("annotations", {}).get("nginx.ingress.kubernetes.io/auth-secret")
        if users:
            yield namespace, users, "auth"
    store = one(objects, "ConfigMap", "financial-assets-settings")["data"].get("ARTIFACT_STORE_SECRET")
    if store:
        yield INFERENCE, store, "s3"
    for runtime in of_kind(objects, "SeldonRuntime"):
        rclone = runtime["spec"].get("config", {}).get("agentConfig", {}).get("rclone", {})
        yield from ((INFERENCE, name, None) for name in rclone.get("config_secrets", []))


def _used_by(pod: Pod) -> Iterator[tuple[str, str, str | None]]:
    for volume in pod.spec.get("volumes", []):
        if pod.kind != "Seldon" and "secret" in volume:
            yield pod.namespace, volume["secret"]["secretName"], "api-keys.json"
    for container in pod.containers:
        for source in container.get("envFrom", []):
            if "secretRef" in source:
                yield pod.namespace, source["secretRef"]["name"], None
        for entry in container.get("env", []):
            reference = entry.get("valueFrom", {}).get("secretKeyRef")
            if reference:
                yield pod.namespace, reference["name"], reference["key"]
    for volume in pod.spec.get("volumes", []):
        if "secret" in volume:
            yield pod.namespace, volume["secret"]["secretName"], None
    yield from ((pod.namespace, secret["name"], None) for secret in pod.spec.get("imagePullSecrets") or [])
