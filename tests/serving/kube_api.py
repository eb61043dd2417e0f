"""A small API server for the kinds that a serving target writes, over real HTTP, with scripted faults.

It keeps what matters to a client: resource versions, generations (a spec change only), field owners for server-side
apply (what another manager has written stays its own until it is taken over by force, and what it alone has set is
removed by nobody's apply), optimistic locking, finalizers, Status bodies. An ``operator`` callback plays the controller
after each write; :func:`hiccup` is what the real one writes on an Experiment for a passing error.
The same port also plays the mesh: ``GET /v2/models/<name>/ready``.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Document = dict[str, Any]
GROUP, NAMESPACE = "mlops.seldon.io", "financial-inference"
KINDS = {"models": "Model", "experiments": "Experiment", "servers": "Server"}


@dataclass
class Fault:
    """What the next matching call meets instead of an answer."""

    method: str
    status: int = 0
    body: Any = ""
    headers: dict[str, str] = field(default_factory=dict)
    hang_s: float = 0.0
    drop: bool = False
    times: int = 10**9


def status_body(code: int, reason: str, message: str, **details: Any) -> Document:
    """A refusal as the API server words it."""
    return {
        "kind": "Status",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
        "details": details,
    }


def condition(kind: str, status: str, *, message: str = "", reason: str = "", at: int = 0) -> Document:
    """One condition; ``at`` are seconds after noon."""
    moment = f"2026-01-05T12:{at // 60:02d}:{at % 60:02d}Z"
    return {"type": kind, "status": status, "message": message, "reason": reason, "lastTransitionTime": moment}


def kubeconfig(folder: Path, server: str) -> Path:
    """A file with one context, ``here``, of that server."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    }
    file = folder / "kubeconfig"
    file.write_text(json.dumps(document))
    return file


class KubeApi:
    """The server; use as a context manager."""

    def __init__(self, port: int = 0) -> None:
        self.objects: dict[tuple[str, str], Document] = {}
        self.owners: dict[tuple[str, str], dict[str, str]] = {}
        self.faults: list[Fault] = []
        self.calls: list[tuple[str, str, str, dict[str, str]]] = []
        self.bodies: list[Document] = []
        self.tokens: set[str | None] = set()
        self.mesh_down: set[str] = set()
        self.operator: Callable[[KubeApi, Document], None] = ready_at_once
        self.deleted: Callable[[KubeApi, Document], None] = lambda api, document: None
        self.before_patch: Callable[[], None] = lambda: None
        self.lock = threading.RLock()
        self.version, self.ticks = 100, 0
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> KubeApi:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def get(self, kind: str, name: str) -> Document:
        return self.objects[kind, name]

    def put(self, document: Document, *, manager: str = "kubectl", conditions: list[Document] | None = None) -> None:
        """An object that stood there before."""
        with self.lock:
            self._store(copy.deepcopy(document), manager)
            self.set_status(document["kind"], document["metadata"]["name"], conditions or [])

    def set_status(self, kind: str, name: str, conditions: list[Document], available: int = 1) -> None:
        with self.lock:
            found = self.objects[kind, name]
            found["status"] = {"conditions": conditions, "availableReplicas": available}
            self._touch(found)

    def release(self, kind: str, name: str) -> None:
        """The operator takes its finalizer away."""
        with self.lock:
            del self.objects[kind, name]

    def tick(self) -> int:
        self.ticks += 1
        return self.ticks

    def patch(self, kind: str, name: str, body: Document, query: dict[str, str], apply: bool) -> tuple[int, Document]:
        stored = self.objects.get((kind, name))
        plural = next(key for key, value in KINDS.items() if value == kind)
        if stored is None and not apply:
            return 404, status_body(404, "NotFound", f'{plural}.{GROUP} "{name}" not found', name=name, kind=plural)
        wanted = body.get("metadata", {}).get("resourceVersion")
        if stored is not None and wanted is not None and wanted != stored["metadata"]["resourceVersion"]:
            message = f'Operation cannot be fulfilled on {plural}.{GROUP} "{name}": the object has been modified'
            return 409, status_body(409, "Conflict", message)
        manager = f"{query['fieldManager']}/{'Apply' if apply else 'Update'}"
        if apply and stored is not None and query.get("force", "").lower() != "true":
            causes = self._conflicts(stored, body, manager)
            if causes:
                return 409, status_body(409, "Conflict", f"Apply failed with {len(causes)} conflicts", causes=causes)
        document = self._store(body, manager)
        answer = copy.deepcopy(document)
        self.operator(self, document)
        return 201 if stored is None else 200, answer

    def delete(self, kind: str, name: str) -> tuple[int, Document]:
        found = self.objects.get((kind, name))
        if found is None:
            return 404, status_body(404, "NotFound", f'"{name}" not found', name=name)
        found["metadata"]["deletionTimestamp"] = "2026-01-05T13:00:00Z"
        self._touch(found)
        if not found["metadata"].get("finalizers"):
            del self.objects[kind, name]
        self.deleted(self, found)
        return 200, found

    def _conflicts(self, stored: Document, body: Document, manager: str) -> list[Document]:
        owners = self.owners[stored["kind"], stored["metadata"]["name"]]
        return [
            {
                "reason": "FieldManagerConflict",
                "message": f'conflict with "{owners[key].split("/")[0]}" using {GROUP}/v1alpha1',
                "field": f".spec.{key}",
            }
            for key, value in body["spec"].items()
            if owners.get(key, manager) != manager and stored["spec"].get(key) != value
        ]

    def _store(self, body: Document, manager: str) -> Document:
        name, kind = body.get("metadata", {}).get("name"), body.get("kind")
        if name is None or kind is None:
            raise AssertionError("the handler fills name and kind in")
        fresh: Document = {"apiVersion": f"{GROUP}/v1alpha1", "kind": kind, "spec": {}, "metadata": {}}
        found = self.objects.setdefault((kind, name), fresh)
        metadata, before = found["metadata"], copy.deepcopy(found["spec"])
        metadata.setdefault("uid", f"uid-{self.version}")
        version = metadata.get("resourceVersion")
        metadata.update(body["metadata"])
        metadata["resourceVersion"] = version or ""
        found["spec"].update(body["spec"])
        for key in [key for key, value in body["spec"].items() if value is None]:  # as a merge patch removes it
            del found["spec"][key]
        owners = self.owners.setdefault((kind, name), {})
        if manager.endswith("/Apply"):
            for key in [key for key, owner in owners.items() if owner == manager and key not in body["spec"]]:
                found["spec"].pop(key, None)
        owners.update(dict.fromkeys(body["spec"], manager))
        metadata["generation"] = metadata.get("generation", 0) + (found["spec"] != before)
        self._touch(found)
        return found

    def _touch(self, document: Document) -> None:
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)


def hiccup(code: str, text: str, *, at: int = 0) -> Document:
    """What the operator writes on an Experiment for any error of the scheduler, and never takes back."""
    return condition("ModelReady", "False", reason=f"rpc error: code = {code} desc = {text}", at=at)


def ready_at_once(api: KubeApi, document: Document) -> None:
    """An operator that finds everything well; like the real one it makes no transition for a changed Experiment."""
    kind, name = document["kind"], document["metadata"]["name"]
    replicas = document["spec"].get("replicas", 1)
    if kind == "Model":
        conditions = [condition("ModelReady", "True", message="ModelAvailable", at=api.tick())]
    elif kind == "Experiment":
        conditions = [condition(word, "True") for word in ("ExperimentReady", "CandidatesReady", "MirrorReady")]
    else:
        conditions = [condition("Ready", "True")]
    api.set_status(kind, name, conditions, replicas)


def _handler(api: KubeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._serve("GET")

        def do_PATCH(self) -> None:
            self._serve("PATCH")

        def do_DELETE(self) -> None:
            self._serve("DELETE")

        def _serve(self, method: str) -> None:
            address = urlsplit(self.path)
            query = {key: values[-1] for key, values in parse_qs(address.query).items()}
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"null") if length else None
            if address.path.startswith("/v2/models/"):
                model = address.path.split("/")[3]
                known = self.headers.get("seldon-model") == model and model not in api.mesh_down
                return self._send(200 if known else 503, {})
            with api.lock:
                kind_of_body = str(self.headers.get("Content-Type"))
                api.tokens.add(self.headers.get("Authorization"))
                api.calls.append((method, address.path, kind_of_body, query))
                if body is not None:
                    api.bodies.append(body)
                fault = next((item for item in api.faults if item.method in (method, "*") and item.times > 0), None)
                if fault is not None:
                    fault.times -= 1
            if fault is not None:
                return self._fail(fault)
            with api.lock:
                code, answer = self._answer(method, address.path.split("/"), query, body, kind_of_body)
                text = json.dumps(answer)
            self._send(code, text)

        def _answer(
            self, method: str, parts: list[str], query: dict[str, str], body: Any, content: str
        ) -> tuple[int, Any]:
            assert parts[:6] == ["", "apis", GROUP, "v1alpha1", "namespaces", NAMESPACE], parts
            kind, name = KINDS[parts[6]], parts[7] if len(parts) > 7 else None
            if name is None:
                label, _, value = query.get("labelSelector", "").partition("=")
                items = [d for (k, _), d in api.objects.items() if k == kind]
                if label:
                    items = [d for d in items if d["metadata"].get("labels", {}).get(label) == value]
                return 200, {"kind": f"{kind}List", "items": items}
            if method == "DELETE":
                return api.delete(kind, name)
            if method == "PATCH":
                api.before_patch()
                body = {**body, "kind": kind, "metadata": {**body.get("metadata", {}), "name": name}}
                return api.patch(kind, name, body, query, content == "application/apply-patch+yaml")
            found = api.objects.get((kind, name))
            missing = status_body(404, "NotFound", f'{parts[6]}.{GROUP} "{name}" not found', name=name, kind=parts[6])
            return (200, found) if found else (404, missing)

        def _fail(self, fault: Fault) -> None:
            if fault.hang_s:
                time.sleep(fault.hang_s)
            if fault.hang_s or fault.drop:
                self.close_connection = True
                return
            self._send(fault.status, fault.body, fault.headers)

        def _send(self, code: int, answer: Any, headers: dict[str, str] | None = None) -> None:
            data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(data)

    return Handler
