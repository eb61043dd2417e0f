"""What a refusal of the API server means: which object and verb, what fixes it, whether to try again."""

from __future__ import annotations

import json
from typing import Any

from kubernetes.client.exceptions import ApiException

from financial_assets.errors import TargetError
from financial_assets.serving.manifests import API_VERSION

_GROUP = API_VERSION.split("/")[0]
_TRANSIENT = frozenset({429, 500, 502, 503, 504})


class ApiCallError(TargetError):
    """The API server refused, or gave no answer.

    Attributes
    ----------
    status
        HTTP status, ``None`` when no answer came.
    transient
        Whether the same call may succeed later.
    reason
        Kubernetes' reason word, e.g. ``Conflict``; empty if none was given.
    managers
        For a server-side-apply conflict: the managers that own the contested fields, each once.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        transient: bool = False,
        reason: str = "",
        managers: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.transient = transient
        self.reason = reason
        self.managers = managers


def explain(call: str, plural: str, namespace: str, error: ApiException) -> ApiCallError:
    """``error`` in words.

    Parameters
    ----------
    call
        Verb and object, e.g. ``apply Model financial-inference/baseline-predictor-v1``.
    plural
        Resource, e.g. ``models``.
    namespace
        Where the call went.
    error
        What the client raised.
    """
    status = int(error.status or 0)
    body = _status_object(error.body)
    message = str(body.get("message") or (error.body or "")[:200] or error.reason or "no message").strip()
    managers = _managers(body)
    remedy = _remedy(status, call.split()[0], plural, namespace, body, managers)
    return ApiCallError(
        f"{call}: HTTP {status}, {message}; {remedy}",
        status=status,
        transient=status in _TRANSIENT,
        reason=str(body.get("reason", "")),
        managers=managers,
    )


def retry_after(error: ApiException) -> float | None:
    """Seconds that the server asks to wait, ``None`` if it does not say, or says it as a date."""
    headers = {str(key).lower(): value for key, value in dict(error.headers or {}).items()}
    value = str(headers.get("retry-after", ""))
    return float(value) if value.isdigit() else None


def _remedy(
    status: int, verb: str, plural: str, namespace: str, body: dict[str, Any], managers: tuple[str, ...]
) -> str:
    resource = f"{plural}.{_GROUP}"
    if status == 404 and not body:
        return (
            f"Seldon Core v2 is not installed in this cluster (it serves no {resource}); install it, or choose another"
        )
    if status == 404 and body.get("details", {}).get("kind") == "namespaces":
        return f"create it: kubectl create namespace {namespace}"
    if status == 409 and managers:
        return f"give the fields up there ({', '.join(managers)}) or leave them out of the manifest"
    verbs = {"apply": "patch and create", "clear": "patch", "read": "get", "list": "list", "delete": "delete"}
    return {
        401: "the credentials are not accepted; renew those of the kubeconfig context or service account",
        403: f"allow {verbs[verb]} on {resource} in namespace {namespace} (Role and RoleBinding)",
        404: "the object does not exist; apply it first",
        409: "somebody else changed it meanwhile; run it again",
        422: "the cluster's schema or an admission rule refuses the manifest; correct the field named",
        429: "the API server is overloaded; run it again later",
    }.get(status, "the API server or a proxy in front of it fails; look at its log and run it again")


def _status_object(body: object) -> dict[str, Any]:
    """The ``Status`` that the API server sends with a refusal; empty if the body is something else."""
    if not isinstance(body, str):
        return {}
    try:
        parsed = json.loads(body)
    except json.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) and parsed.get("kind") == "Status" else {}


def _managers(body: dict[str, Any]) -> tuple[str, ...]:
    causes = (body.get("details") or {}).get("causes") or []
    conflicts = [str(c.get("message", "")) for c in causes if c.get("reason") == "FieldManagerConflict"]
    named = [text.split('"')[1] if text.count('"') >= 2 else text for text in conflicts]
    return tuple(dict.fromkeys(named))
