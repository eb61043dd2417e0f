"""A small cluster: the API server of ``kube_api``, and the embedded plane as its operator, agents and mesh.

As in the real one, work begins after the API server has answered, an artefact is copied from where ``storageUri``
points and must bring its own ``model-settings.json``, objects get a finalizer, and route numbers do not begin at 1.
"""

from __future__ import annotations

import json
import queue
import threading
from pathlib import Path
from typing import Any

import fsspec

from financial_assets.errors import ServingError
from financial_assets.serving.local import control
from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.manifests import model_manifest
from tests.serving.kube_api import Document, KubeApi, condition, kubeconfig

_FINALIZER = "operator.example/finalizer"


class Cluster:
    """Use as a context manager; ``environment`` are the settings that reach it.

    Parameters
    ----------
    folder
        For kubeconfig, plane and copied artefacts.
    earlier
        Folder of another artefact that each Model served first, so that its route number is 2.
    """

    def __init__(self, folder: Path, earlier: Path) -> None:
        self.folder, self.api = folder, KubeApi()
        self.target = LocalTarget(folder / "plane", timeout_s=60)
        self.loaded: dict[str, Path] = {}
        self._earlier = earlier
        self._work: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._operate)

    def __enter__(self) -> Cluster:
        control.start(self.target.home, timeout_s=60)
        self.api.operator = lambda _, document: self._enqueue(document)
        self.api.deleted = lambda _, document: self._enqueue(document)
        self.api.__enter__()
        self._worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._work.put(None)
        self._worker.join()
        self.api.__exit__()
        control.stop(self.target.home)

    @property
    def environment(self) -> dict[str, str]:
        endpoint = self.target.endpoint()
        return {
            "SERVING_TARGET": "kubernetes",
            "KUBECONFIG": str(kubeconfig(self.folder, self.api.url)),
            "SERVING_GATEWAY_URL": endpoint.http_url,
            "SERVING_GATEWAY_GRPC": endpoint.grpc_target,
        }

    def _enqueue(self, document: Document) -> None:
        kind, name = document["kind"], document["metadata"]["name"]
        document["metadata"].setdefault("finalizers", [_FINALIZER])
        self._work.put((kind, name))

    def _operate(self) -> None:
        while (item := self._work.get()) is not None:
            kind, name = item
            with self.api.lock:
                document = json.loads(json.dumps(self.api.objects.get(item)))
            if document is None:
                continue
            if document["metadata"].get("deletionTimestamp"):
                self.target.delete(kind, name)
                self.api.release(kind, name)
                continue
            try:
                conditions = self._reconcile(kind, name, document)
            except (ServingError, OSError) as error:
                conditions = [condition("ModelReady", "False", message="ModelFailed", reason=str(error))]
            with self.api.lock:
                if item in self.api.objects:
                    self.api.set_status(kind, name, conditions)

    def _reconcile(self, kind: str, name: str, document: Document) -> list[Document]:
        at = self.api.tick()
        if kind == "Experiment":
            self.target.apply([_manifest(document)])
            return [condition(word, "True", at=at) for word in ("ExperimentReady", "CandidatesReady", "MirrorReady")]
        folder = self._fetch(document["spec"]["storageUri"])
        settings = json.loads((folder / "model-settings.json").read_text())
        if settings["parameters"]["uri"] != "./model.onnx" or not settings["implementation"].endswith("Runtime"):
            raise OSError(f"the agent cannot use {settings}")
        if name not in self.loaded:
            self.target.apply([model_manifest(name, self._earlier.as_uri())])
        self.target.apply([model_manifest(name, folder.as_uri())])
        self.loaded[name] = folder
        return [condition("ModelReady", "True", message="ModelAvailable", at=at)]

    def _fetch(self, uri: str) -> Path:
        """As an agent does: everything below the address, once for each address."""
        local = self.folder / "copies" / uri.rsplit("/", 1)[-1]
        if not local.exists():
            source: Any = fsspec.filesystem(uri.split(":")[0] if "://" in uri else "file", skip_instance_cache=True)
            local.mkdir(parents=True)
            for path in source.find(uri):
                (local / path.rsplit("/", 1)[-1]).write_bytes(source.cat_file(path))
        return local


def _manifest(document: Document) -> Document:
    kept = {key: document[key] for key in ("apiVersion", "kind", "spec")}
    return {**kept, "metadata": {key: document["metadata"][key] for key in ("name", "namespace")}}
