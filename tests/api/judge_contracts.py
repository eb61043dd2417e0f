"""What Argo Rollouts, Flagger and Kayenta's clients take and send, as JSON schemas of the fields that are used here.

Written by hand after their published definitions (Argo Rollouts: AnalysisTemplate v1alpha1 and the checks of its
controller; Flagger: Canary v1beta1 and its webhook payload; Kayenta: the calls of Argo's provider). They are stricter:
a field that is not named here is a mistake, because a cluster would drop it without a word.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, urlsplit

import jsonschema

Schema = dict[str, Any]
TEXT: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer"}
GO_DURATION: Schema = {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"}
FLAGGER_DURATION: Schema = {"type": "string", "pattern": "^[0-9]+(m|s)$"}


def exactly(properties: dict[str, Schema], *, required: list[str] | None = None) -> Schema:
    """An object with these fields; all are required unless some are named."""
    needed = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


def list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items, "minItems": 1}


METADATA = exactly({"name": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}})

ANALYSIS_TEMPLATE = exactly(
    {
        "apiVersion": {"const": "argoproj.io/v1alpha1"},
        "kind": {"const": "AnalysisTemplate"},
        "metadata": METADATA,
        "spec": exactly(
            {
                "args": list_of(
                    exactly(
                        {
                            "name": TEXT,
                            "value": TEXT,
                            "valueFrom": exactly({"secretKeyRef": exactly({"name": TEXT, "key": TEXT})}),
                        },
                        required=["name"],
                    )
                ),
                "metrics": list_of(
                    exactly(
                        {
                            "name": TEXT,
                            "interval": GO_DURATION,
                            "successCondition": TEXT,
                            "failureCondition": TEXT,
                            "consecutiveSuccessLimit": {**COUNT, "minimum": 0},
                            "failureLimit": {**COUNT, "minimum": -1},
                            "inconclusiveLimit": {**COUNT, "minimum": 0},
                            "consecutiveErrorLimit": {**COUNT, "minimum": 0},
                            "provider": exactly(
                                {
                                    "web": exactly(
                                        {
                                            "method": {"const": "POST"},  # GET must not have a body
                                            "url": {"type": "string", "pattern": "^https?://"},
                                            "timeoutSeconds": COUNT,
                                            "headers": list_of(exactly({"key": TEXT, "value": TEXT})),
                                            "jsonBody": {"type": "object"},
                                            "jsonPath": {"type": "string", "pattern": r"^\{\$.*\}$"},
                                        },
                                        required=["url", "method", "jsonBody"],
                                    )
                                }
                            ),
                        },
                        required=["name", "provider"],
                    )
                ),
            }
        ),
    }
)

HOOKS = ["confirm-rollout", "rollout", "confirm-promotion", "rollback"]
CANARY = exactly(
    {
        "apiVersion": {"const": "flagger.app/v1beta1"},
        "kind": {"const": "Canary"},
        "metadata": METADATA,
        "spec": exactly(
            {
                "targetRef": exactly(
                    {"apiVersion": TEXT, "kind": {"enum": ["DaemonSet", "Deployment", "Service"]}, "name": TEXT}
                ),
                "service": exactly({"port": {"type": "number"}}),
                "analysis": exactly(
                    {
                        "interval": FLAGGER_DURATION,
                        "threshold": {"type": "number"},
                        "maxWeight": {"type": "number"},
                        "stepWeight": {"type": "number"},
                        "webhooks": list_of(
                            exactly(
                                {
                                    "name": TEXT,
                                    "type": {"enum": HOOKS},
                                    "url": {"type": "string", "pattern": "^https?://"},
                                    "timeout": FLAGGER_DURATION,
                                    "retries": {"type": "number"},
                                    "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
                                },
                                required=["name", "url"],
                            )
                        ),
                    },
                    required=["interval", "threshold", "stepWeight"],
                ),
            },
            required=["targetRef", "analysis"],
        ),
    }
)

FLAGGER_PAYLOAD = exactly(
    {
        "name": TEXT,
        "namespace": TEXT,
        "phase": {
            "enum": [
                *("", "Initializing", "Initialized", "Waiting", "Progressing", "WaitingPromotion", "Promoting"),
                *("Finalising", "Succeeded", "Failed", "Terminating", "Terminated"),
            ]
        },
        "checksum": {"type": "string"},
        "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    required=["name", "namespace", "phase", "checksum"],
)

_SCOPE = exactly(
    {"scope": {"type": "string"}, "location": {"type": "string"}, "step": COUNT, "start": TEXT, "end": TEXT},
    required=["scope", "location", "step"],
)
KAYENTA_REQUEST = exactly(
    {
        "scopes": {
            "type": "object",
            "additionalProperties": exactly({"controlScope": _SCOPE, "experimentScope": _SCOPE}),
        },
        "thresholds": exactly({"pass": COUNT, "marginal": COUNT}),
    }
)
KAYENTA_RESULT: Schema = {
    "type": "object",
    "required": ["complete", "result"],
    "properties": {
        "complete": {"const": True},
        "result": {
            "type": "object",
            "required": ["judgeResult"],
            "properties": {
                "judgeResult": {
                    "type": "object",
                    "required": ["score"],
                    "properties": {
                        "score": {
                            "type": "object",
                            "required": ["score", "classification"],
                            "properties": {
                                "score": {"type": "number", "minimum": 0, "maximum": 100},
                                "classification": {"enum": ["Pass", "Marginal", "Fail", "Nodata"]},
                            },
                        }
                    },
                }
            },
        },
    },
}


def mistakes(schema: Schema, instance: Any) -> list[str]:
    """Where an instance breaks a schema."""
    validator = jsonschema.Draft202012Validator(schema)
    return sorted(f"{error.json_path}: {error.message}" for error in validator.iter_errors(instance))


def metric_mistakes(metric: dict[str, Any]) -> list[str]:
    """Rules of Argo's controller that no schema has."""
    found = []
    if metric.get("failureLimit", 0) < 0 and not metric.get("consecutiveSuccessLimit", 0):
        found.append("failureLimit and consecutiveSuccessLimit cannot both be disabled")
    if "interval" not in metric and (metric.get("inconclusiveLimit") or metric.get("consecutiveSuccessLimit", 0) > 1):
        found.append("without an interval there is one measurement")
    return found


def substituted(value: Any, arguments: dict[str, str]) -> Any:
    """A value with Argo's placeholders resolved; ``KeyError`` for an argument that is not declared."""
    if isinstance(value, dict):
        return {key: substituted(one, arguments) for key, one in value.items()}
    if isinstance(value, list):
        return [substituted(one, arguments) for one in value]
    if isinstance(value, str):
        return re.sub(r"\{\{\s*args\.([\w-]+)\s*\}\}", lambda match: arguments[match[1]], value)
    return value


def phase_of(metric: dict[str, Any], answer: dict[str, Any]) -> str:
    """Phase of a measurement: conditions on what the JSON path finds, both given, neither met: Inconclusive."""
    path = metric["provider"]["web"]["jsonPath"].removeprefix("{$").removesuffix("}")
    result: Any = answer
    for part in path.strip(".").split("."):
        result = result[part]
    met = {}
    for condition in ("successCondition", "failureCondition"):
        wanted = re.fullmatch(r'result == "(\w+)"', metric[condition])
        assert wanted is not None, metric[condition]
        met[condition] = result == wanted[1]
    if met["failureCondition"]:
        return "Failed"
    return "Successful" if met["successCondition"] else "Inconclusive"


def password_of(url: str) -> str:
    """Of a URL: Go's client sends it as basic authentication."""
    return unquote(urlsplit(url).password or "")
