"""Argo Rollouts, Flagger and Kayenta's clients ask the running application, with the manifests of ``k8s/examples``."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml

from financial_assets.api.keys import add_key
from financial_assets.experiment.judge.plan import JudgePlan
from financial_assets.installation import open_installation
from financial_assets.settings import load_settings
from tests.api.judge_contracts import (
    ANALYSIS_TEMPLATE,
    CANARY,
    FLAGGER_PAYLOAD,
    HOOKS,
    KAYENTA_REQUEST,
    KAYENTA_RESULT,
    metric_mistakes,
    mistakes,
    password_of,
    phase_of,
    substituted,
)
from tests.api.judging import PLAN, START, Clock, judged, register, series
from tests.api.local_client import LocalClient

FOLDER = Path(__file__).parents[2] / "k8s" / "examples" / "judge"
ELSEWHERE = ("10.1.2.3", 40000)
WORDS = {"good": 0.04, "bad": -0.04, "same": 0.0}


def manifest(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return found


class Guarded:
    """An application with keys, asked from elsewhere; its judge has a good, a bad and an equal candidate."""

    def __init__(self, folder: Path, make: Callable[..., LocalClient]) -> None:
        keys = folder / "keys.json"
        self.judge_key = add_key(keys, "pipeline", ["judge"])
        self.key = add_key(keys, "deployments", ["verdicts"])
        settings = load_settings(financial_assets_home=folder, api_keys_file=keys)
        self.client = make(open_installation(settings), clock=Clock(), client=ELSEWHERE)
        self.client.asynchronous.headers["X-API-Key"] = self.judge_key
        for name, edge in WORDS.items():
            judged(self.client, name, edge)
        self.client.asynchronous.headers.pop("X-API-Key")

    def post(self, path: str, body: object, **more: Any) -> Any:
        # Bytes as Go writes them, not as this library would.
        content = json.dumps(body, separators=(",", ":")).encode()
        return self.client.request("POST", path, content=content, **more)


@pytest.fixture
def guarded(tmp_path: Path, open_client: Callable[..., LocalClient]) -> Guarded:
    return Guarded(tmp_path, open_client)


def measure(guarded: Guarded, template: dict[str, Any], plan: str, revision: str = "5d4f7c") -> str:
    """One measurement of Argo's web metric."""
    arguments = {"plan": plan, "revision": revision, "judge-key": guarded.key}
    assert set(arguments) == {argument["name"] for argument in template["spec"]["args"]}
    (metric,) = substituted(template["spec"]["metrics"], arguments)
    web = metric["provider"]["web"]
    headers = {header["key"]: header["value"] for header in web["headers"]} | {"Content-Type": "application/json"}
    answer = guarded.post(urlsplit(web["url"]).path, web["jsonBody"], headers=headers)
    return phase_of(metric, answer.json()) if 200 <= answer.status_code < 300 else "Error"


def test_the_template_is_one_of_argo_rollouts() -> None:
    template = manifest("analysistemplate.yaml")
    assert mistakes(ANALYSIS_TEMPLATE, template) == []
    assert [metric_mistakes(metric) for metric in template["spec"]["metrics"]] == [[]]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("apiVersion", "argoproj.io/v1"),
        ("spec.metrics.0.successConditions", 'result == "promote"'),
        ("spec.metrics.0.interval", "5 minutes"),
        ("spec.metrics.0.failureLimit", "none"),
        ("spec.metrics.0.provider.web.method", "GET"),
        ("spec.metrics.0.provider.web.jsonPath", "$.action"),
        ("spec.metrics.0.provider.web.headers", {"Authorization": "Bearer x"}),
        ("spec.metrics.0.provider.web.url", None),
        ("spec.args.2.valueFrom.secretKeyRef.key", None),
        ("spec.metrics", []),
    ],
)
def test_a_mistake_in_the_template_is_seen(place: str, value: object) -> None:
    assert mistakes(ANALYSIS_TEMPLATE, planted(manifest("analysistemplate.yaml"), place, value))


def test_a_mistake_that_only_the_controller_sees_is_seen() -> None:
    (metric,) = manifest("analysistemplate.yaml")["spec"]["metrics"]
    assert metric_mistakes(metric | {"failureLimit": -1, "consecutiveSuccessLimit": 0})
    assert metric_mistakes({key: value for key, value in metric.items() if key != "interval"})


def planted(whole: dict[str, Any], place: str, value: object) -> dict[str, Any]:
    """The manifest with one value changed, or taken away."""
    changed = copy.deepcopy(whole)
    *way, last = (int(part) if part.isdigit() else part for part in place.split("."))
    inner: Any = changed
    for part in way:
        inner = inner[part]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return changed


def test_argo_rollouts_reads_promote_rollback_and_hold(guarded: Guarded) -> None:
    template = manifest("analysistemplate.yaml")
    phases = {name: measure(guarded, template, name) for name in WORDS}
    assert phases == {"good": "Successful", "bad": "Failed", "same": "Inconclusive"}
    assert measure(guarded, template, "unknown") == "Error"
    assert measure(guarded, template, "good", "another") == "Error"  # a verdict about one revision promotes no other
    wrong = planted(template, "spec.metrics.0.provider.web.jsonPath", "{$.interval}")
    assert measure(guarded, wrong, "good") == "Inconclusive"


def test_argo_rollouts_goes_on_until_something_is_shown(guarded: Guarded) -> None:
    """As its controller counts: Inconclusive is asked again, the first Successful ends the analysis."""
    template, client = manifest("analysistemplate.yaml"), guarded.client
    (metric,) = template["spec"]["metrics"]
    client.asynchronous.headers["X-API-Key"] = guarded.judge_key
    register(client, "growing")
    client.app.state.clock.now = START + timedelta(days=500)
    inconclusive, phase = 0, ""
    for count in range(0, 300, 20):
        assert client.post("/v1/judge", json={"plan": "growing", **series(count, 0.04)}).status_code == 200
        phase = measure(guarded, template, "growing")
        if phase != "Inconclusive":
            break
        inconclusive += 1
    assert phase == "Successful"
    assert 0 < inconclusive <= metric["inconclusiveLimit"]
    assert metric["consecutiveSuccessLimit"] == 1
    assert measure(guarded, template, "growing") == "Successful"


def test_the_canary_is_one_of_flagger() -> None:
    canary = manifest("canary.yaml")
    assert mistakes(CANARY, canary) == []
    hooks = canary["spec"]["analysis"]["webhooks"]
    assert [hook["type"] for hook in hooks] == HOOKS
    assert all(urlsplit(hook["url"]).path == f"/v1/judge/flagger/{hook['type']}" for hook in hooks)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("kind", "Canaries"),
        ("spec.targetRef.kind", "StatefulSet"),
        ("spec.analysis.stepWeight", None),
        ("spec.analysis.interval", "5h"),
        ("spec.analysis.webhooks.0.type", "confirm"),
        ("spec.analysis.webhooks.0.url", "desk-api"),
        ("spec.analysis.webhooks.0.metadata.plan", 42),
        ("spec.analysis.webhooks.0.headers", {"X-API-Key": "x"}),
        ("spec.analysis.treshold", 3),
    ],
)
def test_a_mistake_in_the_canary_is_seen(place: str, value: object) -> None:
    assert mistakes(CANARY, planted(manifest("canary.yaml"), place, value))


def payload(hook: dict[str, Any], plan: str, checksum: str = "7c8f9b6d5") -> dict[str, Any]:
    """What Flagger's webhook sends."""
    metadata = {key: plan if key == "plan" else value for key, value in hook["metadata"].items()}
    body = {"name": "checkout", "namespace": "shop", "phase": "Progressing", "checksum": checksum, "metadata": metadata}
    assert mistakes(FLAGGER_PAYLOAD, body) == []
    return body


def test_flagger_opens_each_gate_on_its_verdict(guarded: Guarded) -> None:
    opened: dict[tuple[str, str], bool] = {}
    for hook in manifest("canary.yaml")["spec"]["analysis"]["webhooks"]:
        url = hook["url"].replace("${JUDGE_KEY}", guarded.key)
        for name in WORDS:
            answer = guarded.post(urlsplit(url).path, payload(hook, name), auth=("flagger", password_of(url)))
            opened[hook["type"], name] = answer.status_code <= 202
            if answer.status_code > 202:
                # Not 5xx, which Flagger's client would repeat at once; the message goes into the Kubernetes event.
                assert answer.status_code == 409
                assert name in answer.json()["error"]["message"]
    assert [gate for gate, is_open in opened.items() if not is_open] == [
        ("rollout", "bad"),
        ("confirm-promotion", "bad"),
        ("confirm-promotion", "same"),
        ("rollback", "good"),
        ("rollback", "same"),
    ]


def test_flagger_gets_through_no_gate_with_a_mistake(guarded: Guarded) -> None:
    hook = manifest("canary.yaml")["spec"]["analysis"]["webhooks"][2]
    path, auth = urlsplit(hook["url"]).path, ("flagger", guarded.key)
    assert guarded.post(path, payload(hook, "good"), auth=auth).status_code == 200
    assert guarded.post(path, payload(hook, "good"), auth=("flagger", "${JUDGE_KEY}")).status_code == 401
    assert guarded.post(path, payload(hook, "good", "another"), auth=auth).status_code == 409
    assert guarded.post(path, payload(hook, "unknown"), auth=auth).status_code == 404
    nameless = {key: value for key, value in payload(hook, "good").items() if key != "metadata"}
    answer = guarded.post(path, nameless, auth=auth)
    assert answer.status_code == 422
    assert answer.json()["error"]["problems"][0]["field"] == "metadata.plan"
    assert guarded.post("/v1/judge/flagger/post-rollout", payload(hook, "good"), auth=auth).status_code == 422
    assert guarded.post(path, "good", auth=auth).status_code == 422


def test_no_gate_acts_on_a_retrospective_plan(guarded: Guarded) -> None:
    client, template = guarded.client, manifest("analysistemplate.yaml")
    client.asynchronous.headers["X-API-Key"] = guarded.judge_key
    register(client, "past", retrospective=True)
    client.app.state.clock.now = START + timedelta(days=500)
    assert client.post("/v1/judge", json={"plan": "past", **series(300, 0.05)}).json()["verdict"] == "promote"
    assert measure(guarded, template, "past") == "Inconclusive"
    hook = manifest("canary.yaml")["spec"]["analysis"]["webhooks"][2]
    answer = guarded.post(urlsplit(hook["url"]).path, payload(hook, "past", "5d4f7c"))
    assert answer.status_code == 409
    assert "retrospective" in answer.json()["error"]["message"]


def test_kayentas_clients_read_a_score(guarded: Guarded) -> None:
    """The three calls of Argo's Kayenta provider: find the configuration, begin, read the score."""
    auth = ("argo", guarded.key)
    configs = guarded.client.get(
        "/v1/judge/kayenta/canaryConfig?application=shop&configurationAccountName=s3", auth=auth
    )
    ids = {config["name"]: config["id"] for config in configs.json()}
    scope = {"scope": "checkout", "location": "eu", "step": 60, "start": "2026-01-01T00:00:00Z"}
    asked = {
        "scopes": {"default": {"controlScope": scope, "experimentScope": scope}},
        "thresholds": {"pass": 90, "marginal": 75},
    }
    assert mistakes(KAYENTA_REQUEST, asked) == []
    found, result = dict[str, str](), dict[str, Any]()
    for name in WORDS:
        begun = guarded.post(f"/v1/judge/kayenta/canary/{ids[name]}?application=shop", asked, auth=auth)
        result = guarded.client.get(f"/v1/judge/kayenta/canary/{begun.json()['canaryExecutionId']}", auth=auth).json()
        assert mistakes(KAYENTA_RESULT, result) == []
        score = result["result"]["judgeResult"]["score"]["score"]
        found[name] = "Successful" if score >= 90 else "Inconclusive" if score >= 75 else "Failed"
    assert found == {"good": "Successful", "bad": "Failed", "same": "Inconclusive"}
    assert mistakes(KAYENTA_RESULT, planted(result, "result.judgeResult.score.score", "82"))
    for thresholds in ({"pass": 50, "marginal": 50}, {"pass": 0, "marginal": 0}, {"pass": 50}):
        refused = guarded.post("/v1/judge/kayenta/canary/good", asked | {"thresholds": thresholds}, auth=auth)
        assert refused.status_code == 422
    assert guarded.post("/v1/judge/kayenta/canary/unknown", asked, auth=auth).status_code == 404
    for execution in ("good", "~5", "good~x", "unknown~5"):
        assert guarded.client.get(f"/v1/judge/kayenta/canary/{execution}", auth=auth).status_code == 404


def test_requests_and_answers_are_those_of_the_published_schema(guarded: Guarded) -> None:
    document = guarded.client.get("/openapi.json").json()

    def broken(name: str, instance: Any) -> list[str]:
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(instance)]

    headers = {"Authorization": f"Bearer {guarded.judge_key}"}
    answer = guarded.client.get("/v1/judge/plans/good/verdict", headers=headers).json()
    assert broken("JudgeAnswer", answer) == []
    assert broken("JudgeAnswer", answer | {"verdict": "ship it"})
    assert broken("JudgeAnswer", {key: value for key, value in answer.items() if key != "interval"})
    request = {"plan": "good", **series(3, 0.0)}
    assert broken("JudgeRequest", request) == []
    assert broken("JudgeRequest", request | {"treatment": []})
    assert broken("JudgeRequest", request | {"control": [{"at": "2026-01-01"}]})
    assert (
        broken("JudgePlan-Input" if "JudgePlan-Input" in document["components"]["schemas"] else "JudgePlan", PLAN) == []
    )
    hook = manifest("canary.yaml")["spec"]["analysis"]["webhooks"][0]
    assert broken("FlaggerPayload", payload(hook, "good")) == []
    assert broken("FlaggerPayload", payload(hook, "good") | {"phase": None})
    assert mistakes(FLAGGER_PAYLOAD, payload(hook, "good") | {"metadata": {"plan": 1}})


def test_the_network_lets_them_in() -> None:
    policy = manifest("networkpolicy.yaml")["spec"]
    base = FOLDER.parents[1] / "base" / "api" / "desk-api.yaml"
    deployment, service, *_ = yaml.safe_load_all(base.read_text())
    pods = deployment["spec"]["template"]
    assert policy["podSelector"]["matchLabels"].items() <= pods["metadata"]["labels"].items()
    (container,) = pods["spec"]["containers"]
    admitted = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]
    assert admitted == [port["containerPort"] for port in container["ports"]]
    (metric,) = manifest("analysistemplate.yaml")["spec"]["metrics"]
    hooks = manifest("canary.yaml")["spec"]["analysis"]["webhooks"]
    urls = [urlsplit(url) for url in (metric["provider"]["web"]["url"], *(hook["url"] for hook in hooks))]
    host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
    assert {(url.hostname, url.port or 80) for url in urls} == {(host, service["spec"]["ports"][0]["port"])}


def test_the_plan_of_the_example_is_one() -> None:
    made = JudgePlan.model_validate(manifest("plan.yaml"))
    assert made.unit == "incident"
    with pytest.raises(ValueError, match="control_share"):
        JudgePlan.model_validate(planted(manifest("plan.yaml"), "control_share", None))
