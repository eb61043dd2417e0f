"""Mistakes in the rendered manifests, each with the rule that must name it and a word of what it must say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.k8s.k8s_objects import INFERENCE, TRAINING, Object, one

Mutation = Callable[[list[Object]], Any]


def container(objects: list[Object], name: str, kind: str = "Deployment") -> Object:
    return one(objects, kind, name)["spec"]["template"]["spec"]["containers"][0]


def template(objects: list[Object], name: str) -> Object:
    return one(objects, "Deployment", name)["spec"]["template"]


def server(objects: list[Object], name: str) -> Object:
    containers = one(objects, "Server", "mlserver-financial")["spec"]["podSpec"]["containers"]
    return next(item for item in containers if item["name"] == name)


def override(objects: list[Object], name: str) -> Object:
    overrides = one(objects, "SeldonRuntime", "seldon")["spec"]["overrides"]
    return next(item for item in overrides if item["name"] == name)


def policy(objects: list[Object], name: str, namespace: str = TRAINING) -> Object:
    return one(objects, "NetworkPolicy", name, namespace)["spec"]


def instance(objects: list[Object], old: str, new: str, file: str = "dagster.yaml") -> None:
    data = one(objects, "ConfigMap", "dagster-instance")["data"]
    assert old in data[file]
    data[file] = data[file].replace(old, new)


def configure(objects: list[Object], **values: str) -> None:
    one(objects, "ConfigMap", "financial-assets-settings")["data"].update(values)


def remove(objects: list[Object], kind: str, name: str, namespace: str | None = None) -> None:
    objects.remove(one(objects, kind, name, namespace))


def rules_of(objects: list[Object], name: str) -> list[Object]:
    return one(objects, "Role", name)["rules"]


SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": TRAINING}}
MODEL = {
    "apiVersion": "mlops.seldon.io/v1alpha1",
    "kind": "Model",
    "metadata": {"name": "m"},
    "spec": {"storageUri": "x"},
}
ALL = {"verbs": ["*"], "apiGroups": [""], "resources": ["secrets"]}

PLANTED: list[tuple[str, str, Mutation]] = [
    ("shapes", "Additional properties", lambda o: container(o, "exporter").update(readynessProbe={})),
    ("shapes", "replicas", lambda o: one(o, "Deployment", "exporter")["spec"].update(replicas="one")),
    ("shapes", "spec.overrides[1]", lambda o: override(o, "seldon-scheduler").update(replica=1)),
    ("shapes", "is not one of", lambda o: override(o, "hodometer").update(name="odometer")),
    ("shapes", "Additional properties", lambda o: server(o, "rclone").update(limits={})),
    ("shapes", "jobLabels", lambda o: one(o, "ServiceMonitor", "financial-assets")["spec"].update(jobLabels="x")),
    ("shapes", "not expected", lambda o: o[0].update(apiVersion="v2")),
    ("shapes", "twice", lambda o: o.append(o[0])),
    (
        "seldon",
        "must include financial-onnx",
        lambda o: one(o, "Server", "mlserver-financial")["spec"].update(replicas=2, extraCapabilities=["onnx"]),
    ),
    ("seldon", "hodometer", lambda o: override(o, "hodometer").update(disable=False)),
    ("seldon", "scheduler must have one", lambda o: override(o, "seldon-scheduler").update(replicas=2)),
    ("seldon", "seldon-envoy: its Service", lambda o: override(o, "seldon-envoy").pop("serviceType")),
    ("seldon", "belongs to the target", lambda o: o.append(MODEL)),
    ("limits", "mlserver: no limits.memory", lambda o: server(o, "mlserver")["resources"]["limits"].pop("memory")),
    (
        "limits",
        "scheduler: no limits.cpu",
        lambda o: override(o, "seldon-scheduler")["podSpec"]["containers"][0]["resources"]["limits"].pop("cpu"),
    ),
    ("limits", "run/dagster: no limits.cpu", lambda o: instance(o, 'limits: {cpu: "4", memory', "limits: {memory")),
    (
        "hardened",
        "code-location: may run as root",
        lambda o: template(o, "dagster-code-location")["spec"]["securityContext"].pop("runAsNonRoot"),
    ),
    (
        "hardened",
        "seldon-envoy: runs as root, or",
        lambda o: override(o, "seldon-envoy")["podSpec"]["securityContext"].pop("runAsUser"),
    ),
    ("hardened", "run: may run as root", lambda o: instance(o, "run_as_non_root: true", "run_as_non_root: false")),
    (
        "hardened",
        "writable root",
        lambda o: container(o, "dagster-daemon")["securityContext"].update(readOnlyRootFilesystem=False),
    ),
    (
        "hardened",
        "privileges may grow",
        lambda o: server(o, "agent")["securityContext"].pop("allowPrivilegeEscalation"),
    ),
    (
        "hardened",
        "keeps capabilities",
        lambda o: container(o, "exporter")["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]),
    ),
    ("hardened", "hostNetwork", lambda o: template(o, "exporter")["spec"].update(hostNetwork=True)),
    (
        "hardened",
        "hostPath",
        lambda o: template(o, "exporter")["spec"]["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
    ),
    (
        "hardened",
        "no seccomp",
        lambda o: override(o, "seldon-envoy")["podSpec"]["securityContext"].pop("seccompProfile"),
    ),
    ("probed", "no livenessProbe", lambda o: container(o, "dagster-daemon").pop("livenessProbe")),
    ("probed", "no readinessProbe", lambda o: container(o, "dagster-webserver").pop("readinessProbe")),
    (
        "probed",
        "asks port 4001",
        lambda o: container(o, "dagster-code-location")["livenessProbe"]["grpc"].update(port=4001),
    ),
    (
        "labelled",
        "component",
        lambda o: template(o, "exporter")["metadata"]["labels"].pop("app.kubernetes.io/component"),
    ),
    ("disruption", "2 replicas and no", lambda o: remove(o, "PodDisruptionBudget", "seldon-envoy")),
    (
        "disruption",
        "selects nothing",
        lambda o: one(o, "PodDisruptionBudget", "mlserver-financial")["spec"].update(
            selector={"matchLabels": {"seldon-server-name": "mlserver"}}
        ),
    ),
    (
        "disruption",
        "drain may hang",
        lambda o: one(o, "PodDisruptionBudget", "seldon-envoy")["spec"].update(maxUnavailable=0),
    ),
    (
        "services",
        "selects no pod",
        lambda o: one(o, "Service", "exporter")["spec"]["selector"].update({"app.kubernetes.io/name": "x"}),
    ),
    ("services", "no port http", lambda o: container(o, "dagster-webserver")["ports"][0].update(name="web")),
    (
        "services",
        "no Service dagster-web ",
        lambda o: one(o, "Ingress", "dagster")["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"].update(
            name="dagster-web"
        ),
    ),
    (
        "services",
        "job desk-api, not",
        lambda o: one(o, "ServiceMonitor", "desk-api")["spec"].update(jobLabel="app.kubernetes.io/name"),
    ),
    (
        "services",
        "job financial-assets, not",
        lambda o: one(o, "ServiceMonitor", "financial-assets")["spec"].pop("jobLabel"),
    ),
    ("services", "no pod with port mlserver-metrics", lambda o: server(o, "mlserver").pop("ports")),
    ("images", "names no version", lambda o: container(o, "exporter").update(image="financial-assets-dagster")),
    ("images", "names no version", lambda o: server(o, "mlserver").update(image="financial-assets-mlserver:latest")),
    (
        "images",
        "has tags",
        lambda o: container(o, "dagster-code-location")["env"][0].update(value="financial-assets-dagster:0.0.9"),
    ),
    ("seldon_names", "Seldon's are agent", lambda o: server(o, "mlserver").update(name="server")),
    (
        "volumes",
        "no volume tmp",
        lambda o: one(o, "Server", "mlserver-financial")["spec"]["podSpec"].update(volumes=[]),
    ),
    (
        "volumes",
        "no ConfigMap dagster-home",
        lambda o: template(o, "dagster-daemon")["spec"]["volumes"][0]["configMap"].update(name="dagster-home"),
    ),
    (
        "volumes",
        "no PersistentVolumeClaim financial-assets-home",
        lambda o: remove(o, "PersistentVolumeClaim", "financial-assets-home"),
    ),
    ("default_deny", INFERENCE, lambda o: remove(o, "NetworkPolicy", "default-deny", INFERENCE)),
    ("default_deny", TRAINING, lambda o: policy(o, "default-deny").update(policyTypes=["Ingress"])),
    (
        "flows",
        "run -> financial-inference/seldon-envoy:9000 does not leave",
        lambda o: policy(o, "run")["egress"].pop(0),
    ),
    (
        "flows",
        "run -> financial-inference/seldon-envoy:9000 is not let in",
        lambda o: policy(o, "seldon-envoy", INFERENCE)["ingress"][0]["from"].pop(0),
    ),
    (
        "flows",
        "stranger -> financial-mlops-pytorch/dagster-webserver:3000 passes",
        lambda o: policy(o, "webserver")["ingress"][0].pop("from"),
    ),
    (
        "flows",
        "seldon-envoy:9003 passes",
        lambda o: policy(o, "seldon-envoy", INFERENCE)["ingress"][0]["ports"].append({"port": 9003}),
    ),
    ("flows", "mlserver-financial:9000 passes", lambda o: policy(o, "seldon-server", INFERENCE)["ingress"].append({})),
    (
        "flows",
        "mlserver-financial -> financial-inference/seldon-scheduler:9005 is not let in",
        lambda o: template(o, "exporter") and policy(o, "seldon-scheduler", INFERENCE)["ingress"].pop(2),
    ),
    ("flows", "cannot resolve names", lambda o: remove(o, "NetworkPolicy", "dns", INFERENCE)),
    (
        "flows",
        "exporter: cannot reach PostgreSQL",
        lambda o: policy(o, "to-postgresql")["podSelector"]["matchExpressions"][0].update(values=["dagster"]),
    ),
    ("flows", "cannot reach the API server", lambda o: remove(o, "NetworkPolicy", "to-https")),
    ("flows", "run -> ", lambda o: instance(o, "app.kubernetes.io/component: run", "app.kubernetes.io/component: job")),
    (
        "ports",
        "nobody behind ingress has port 3001",
        lambda o: policy(o, "webserver")["ingress"][0]["ports"][0].update(port=3001),
    ),
    (
        "ports",
        "nobody behind egress has port 5001",
        lambda o: policy(o, "run")["egress"][1]["ports"][0].update(port=5001),
    ),
    ("ports", "on every port", lambda o: policy(o, "exporter")["ingress"][0].pop("ports")),
    ("ports", "8080 to anywhere", lambda o: policy(o, "to-https")["egress"][0]["ports"].append({"port": 8080})),
    ("rights", "may not patch experiments", lambda o: rules_of(o, "model-deployer")[0]["verbs"].remove("patch")),
    ("rights", "may watch models and never does", lambda o: rules_of(o, "model-deployer")[0]["verbs"].append("watch")),
    ("rights", "may not create jobs", lambda o: rules_of(o, "run-launcher")[0]["verbs"].remove("create")),
    ("rights", "may create jobs and never does", lambda o: rules_of(o, "run-terminator")[0]["verbs"].append("create")),
    (
        "rights",
        "may get servers and never does",
        lambda o: rules_of(o, "model-deployer")[0]["resources"].append("servers"),
    ),
    (
        "bindings",
        "the webserver may not have the Role run-launcher",
        lambda o: one(o, "RoleBinding", "run-launcher")["subjects"].append(
            {"kind": "ServiceAccount", "name": "dagster-webserver", "namespace": TRAINING}
        ),
    ),
    ("rights", "a wildcard", lambda o: rules_of(o, "run-launcher").append(ALL)),
    ("bindings", "no such Role", lambda o: one(o, "RoleBinding", "run-launcher")["roleRef"].update(name="launcher")),
    (
        "bindings",
        "no account runner",
        lambda o: instance(o, "service_account_name: financial-assets", "service_account_name: runner"),
    ),
    (
        "bindings",
        "runs as dagster",
        lambda o: instance(o, "service_account_name: financial-assets", "service_account_name: dagster"),
    ),
    ("settings", "is no setting", lambda o: configure(o, KUBERNETES_NAMESPACES="x")),
    ("settings", "SERVING_GATEWAY_URL: not set", lambda o: configure(o, SERVING_GATEWAY_URL="")),
    ("settings", "READY_TIMEOUT", lambda o: configure(o, READY_TIMEOUT="soon")),
    ("settings", "KUBERNETES_NAMESPACE is", lambda o: configure(o, KUBERNETES_NAMESPACE="seldon-mesh")),
    (
        "settings",
        "SERVING_GATEWAY_URL is",
        lambda o: configure(o, SERVING_GATEWAY_URL="http://seldon-mesh.seldon-mesh.svc.cluster.local"),
    ),
    ("settings", "run/dagster: FINANCIAL_ASSETS_HOME", lambda o: configure(o, FINANCIAL_ASSETS_HOME="/data")),
    ("documented", "in the manifests", lambda o: o.append(SECRET)),
    ("documented", "does not say how to make it", lambda o: configure(o, ARTIFACT_STORE_SECRET="rclone")),
    (
        "documented",
        "does not say its key",
        lambda o: container(o, "exporter")["env"].append(
            {"name": "X", "valueFrom": {"secretKeyRef": {"name": "dagster-postgresql", "key": "password"}}}
        ),
    ),
    (
        "documented",
        "financial-mlops-pytorch/other",
        lambda o: instance(o, "env_secrets: [dagster-postgresql,", "env_secrets: [dagster-postgresql, other,"),
    ),
    (
        "environment",
        "dagster.yaml asks for DAGSTER_PG_DB",
        lambda o: one(o, "ConfigMap", "dagster-database")["data"].pop("DAGSTER_PG_DB"),
    ),
    (
        "environment",
        "run/dagster: dagster.yaml asks for",
        lambda o: instance(o, "env_secrets: [dagster-postgresql, ", "env_secrets: ["),
    ),
    ("environment", "no ConfigMap", lambda o: remove(o, "ConfigMap", "financial-assets-settings")),
    ("workspace", "no Service", lambda o: instance(o, "port: 4000", "port: 3030", "workspace.yaml")),
]
