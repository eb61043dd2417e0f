"""The calls to the Kubernetes API that a serving target needs, each repeated until it is answered or out of time."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.incluster_config import SERVICE_TOKEN_FILENAME
from yaml import YAMLError

from financial_assets.errors import TargetError
from financial_assets.serving.deadline import Deadline
from financial_assets.serving.kubernetes.faults import ApiCallError, explain, retry_after
from financial_assets.serving.manifests import API_VERSION, Manifest, kind_and_name

__all__ = ["FIELD_MANAGER", "PLURALS", "ApiCallError", "SeldonApi", "connect"]

FIELD_MANAGER = "financial-assets"
_log = logging.getLogger(__name__)

PLURALS: Mapping[str, str] = {"Server": "servers", "Model": "models", "Experiment": "experiments"}

_METHODS = {
    "read": ("GET", "application/json"),
    "list": ("GET", "application/json"),
    "apply": ("PATCH", "application/apply-patch+yaml"),
    "clear": ("PATCH", "application/merge-patch+json"),
    "delete": ("DELETE", "application/json"),
}
_BACK_OFF_S = 0.2
_LONGEST_BACK_OFF_S = 5.0


def connect(context: str | None = None, *, kubeconfig: Path | None = None) -> client.ApiClient:
    """A client with the credentials of the pod's service account, or of a kubeconfig context.

    Parameters
    ----------
    context
        Context of the kubeconfig; ``None``: its current one, but in a pod the service account.
    kubeconfig
        File; ``None``: the client's usual places.

    Raises
    ------
    TargetError
        No such context, or no credentials at all.
    """
    settings = client.Configuration()
    try:
        if context is None and kubeconfig is None and Path(SERVICE_TOKEN_FILENAME).exists():
            config.load_incluster_config(client_configuration=settings)
        else:
            file = str(kubeconfig) if kubeconfig else os.environ.get("KUBECONFIG")  # the client reads it at import
            config.load_kube_config(config_file=file, context=context, client_configuration=settings)
    except (config.ConfigException, YAMLError, OSError) as error:
        raise TargetError(
            f"no credentials for Kubernetes context {context or '(current)'}: {error}; "
            "set KUBERNETES_CONTEXT to one that `kubectl config get-contexts` lists"
        ) from error
    # The client's own retries are unbounded in time when the server names a Retry-After; ours know the deadline.
    settings.retries = False  # pyright: ignore[reportAttributeAccessIssue]
    return client.ApiClient(settings)


class SeldonApi:
    """Reads and writes Models, Experiments and Servers of one namespace.

    Parameters
    ----------
    connection
        An authenticated client, see :func:`connect`.
    namespace
        The namespace of all objects.
    request_timeout_s
        Longest wait for one answer.
    """

    def __init__(self, connection: client.ApiClient, namespace: str, *, request_timeout_s: float = 10.0) -> None:
        self.namespace = namespace
        self._connection = connection
        self._request_timeout_s = request_timeout_s

    def read(self, kind: str, name: str, deadline: Deadline) -> Manifest | None:
        """One object, ``None`` if there is none of that name.

        Raises
        ------
        ApiCallError
            Refused, or no answer.
        """
        return self._call_existing("read", kind, name, deadline)

    def list(self, kind: str, deadline: Deadline, label: tuple[str, str] | None = None) -> Sequence[Manifest]:
        """All objects of a kind, or those that carry a label.

        Raises
        ------
        ApiCallError
            Refused, or no answer.
        """
        query = {"labelSelector": "=".join(label)} if label else None
        answer = self._call("list", kind, None, deadline, query)
        return answer.get("items") or []

    def apply(self, manifest: Manifest, deadline: Deadline, *, take_over: bool = False) -> Manifest:
        """Create or update by server-side apply; returns the object as stored, its old status included.

        A contested field is taken only from this program's own earlier patches (Kubernetes counts those as another
        manager); anybody else's is left and reported.

        Parameters
        ----------
        manifest
            The object.
        deadline
            When to give up.
        take_over
            Take contested fields from whoever wrote them: the object is this program's as a whole. One write by hand
            would block every later change otherwise, even after it was taken back.

        Raises
        ------
        ApiCallError
            Refused, a field belongs to somebody else, or no answer.
        """
        kind, name = kind_and_name(manifest)

        def send(force: bool) -> Manifest:
            query = {"fieldManager": FIELD_MANAGER, "force": str(force).lower()}
            return self._call("apply", kind, name, deadline, query, manifest)

        try:
            return send(force=False)
        except ApiCallError as fault:
            others = tuple(manager for manager in fault.managers if manager != FIELD_MANAGER)
            if not fault.managers or (others and not take_over):
                raise
            if others:
                _log.warning("%s %s: what %s had written is overwritten", kind, name, ", ".join(others))
        return send(force=True)

    def clear(self, kind: str, name: str, field: str, deadline: Deadline) -> Manifest:
        """Remove one field of an object's spec, whoever wrote it; returns the object as stored.

        Server-side apply removes only what its own manager had set.

        Raises
        ------
        ApiCallError
            Refused, or no answer.
        """
        query = {"fieldManager": FIELD_MANAGER}
        return self._call("clear", kind, name, deadline, query, {"spec": {field: None}})

    def delete(self, kind: str, name: str, deadline: Deadline) -> None:
        """Ask for the removal of one object; it stays until its finalizers are gone.

        Raises
        ------
        ApiCallError
            Refused, or no answer; absence is none.
        """
        self._call_existing("delete", kind, name, deadline)

    def _call_existing(self, verb: str, kind: str, name: str, deadline: Deadline) -> Manifest | None:
        """Send one call about an object, ``None`` if it (and not its kind or namespace) is what is missing."""
        try:
            return self._call(verb, kind, name, deadline)
        except ApiCallError as fault:
            if (fault.status, fault.reason) == (404, "NotFound"):
                return None
            raise

    def _call(
        self,
        verb: str,
        kind: str,
        name: str | None,
        deadline: Deadline,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
    ) -> Manifest:
        """Send one call; every call here may be repeated without harm, so a passing fault is tried again."""
        plural, call = PLURALS[kind], f"{verb} {kind} {self.namespace}/{name or '*'}"
        path = f"/apis/{API_VERSION}/namespaces/{self.namespace}/{plural}{'' if name is None else f'/{name}'}"
        attempt = 0
        while True:
            attempt += 1
            pause = min(_BACK_OFF_S * 2 ** (attempt - 1), _LONGEST_BACK_OFF_S)
            patience = max(min(self._request_timeout_s, deadline.left), 0.05)
            try:
                answer = self._send(verb, path, query, body, patience)
                if isinstance(answer, dict):
                    return answer
                raise ApiCallError(f"{call}: the answer is no JSON object; check the address of the API server")
            except ApiException as error:
                fault = explain(call, plural, self.namespace, error)
                pause = retry_after(error) or pause
            except urllib3.exceptions.HTTPError as error:
                fault = ApiCallError(
                    f"{call}: no answer within {patience:g} s ({type(error).__name__}: {error}); "
                    "check that the API server (KUBERNETES_CONTEXT) is up and reachable from here",
                    transient=True,
                )
            if not fault.transient or pause > deadline.left:
                raise fault
            time.sleep(pause)

    def _send(
        self, verb: str, path: str, query: Mapping[str, str] | None, body: Manifest | None, patience: float
    ) -> object:
        method, content_type = _METHODS[verb]
        # Not `CustomObjectsApi`: it throws away the object of a 201, which is how a created object is answered.
        return self._connection.call_api(
            path,
            method,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
            response_types_map={200: "object", 201: "object", 202: "object"},
            _return_http_data_only=True,
            _request_timeout=patience,
        )
