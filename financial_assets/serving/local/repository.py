"""MLServer's model repository: folders on disk, and the calls that load and unload them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlparse

import httpx

from financial_assets.errors import ManifestError, NotReadyError, TargetError
from financial_assets.serving.local.desired import ServedModel
from financial_assets.serving.local.loopback import fetch
from financial_assets.serving.model_settings import MODEL_FILE, SETTINGS_FILE, model_settings

__all__ = ["MODEL_FILE", "Repository", "artefact"]


def artefact(storage_uri: str) -> tuple[Path, str]:
    """The ONNX file behind a ``storageUri`` (a path or a ``file:`` URI of its folder) and its SHA-256.

    Raises
    ------
    ManifestError
        Another scheme, or no readable ``model.onnx`` there.
    """
    parsed = urlparse(storage_uri)
    if parsed.scheme not in ("", "file") or parsed.netloc not in ("", "localhost"):
        raise ManifestError(f"storageUri {storage_uri!r}: the local plane reads folders and file:// URIs only")
    folder = Path(unquote(parsed.path) if parsed.scheme else storage_uri)
    path = folder / MODEL_FILE if folder.is_dir() else folder
    if path.name != MODEL_FILE and path.suffix != ".onnx":
        raise ManifestError(f"storageUri {storage_uri!r}: {path} does not exist or holds no {MODEL_FILE}")
    try:
        return path, hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ManifestError(f"storageUri {storage_uri!r}: no readable {MODEL_FILE}: {error}") from error


class Repository:
    """The models of one MLServer.

    Parameters
    ----------
    folder
        Root of the repository.
    url
        Base URL of MLServer's own HTTP port.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url

    def install(self, model: ServedModel) -> None:
        """Copy the artefact into the repository unless it is there and sound; whole or not at all.

        Raises
        ------
        TargetError
            The artefact changed since it was read.
        """
        target = self._folder / model.route
        if target.exists():
            if _digest(target / MODEL_FILE) == model.sha256:
                return
            shutil.rmtree(target)  # damaged on disk: a restarted server could not load it
        source, digest = artefact(model.manifest["spec"]["storageUri"])
        if digest != model.sha256:
            raise TargetError(f"{source} is not what was applied as {model.route}; artefacts are immutable")
        # The server looks for settings in every folder whose name does not begin with a dot.
        partial = self._folder / f".{model.route}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        shutil.copyfile(source, partial / MODEL_FILE)
        if _digest(partial / MODEL_FILE) != model.sha256:
            raise TargetError(f"{source} changed while it was being applied; artefacts are immutable")
        (partial / SETTINGS_FILE).write_text(json.dumps(_settings(model), indent=1))
        for file in (*partial.iterdir(), partial):
            _sync(file)
        partial.rename(target)
        _sync(self._folder)

    def load(self, model: ServedModel, timeout_s: float) -> None:
        """Load a model unless it is ready; returns when it is.

        Raises
        ------
        TargetError
            MLServer refuses it; the text is the runtime's.
        NotReadyError
            MLServer does not answer, or the model does not get ready.
        """
        deadline = time.monotonic() + timeout_s
        waited_for = "MLServer to answer"
        while time.monotonic() < deadline:
            try:
                if self.is_ready(model.route):
                    return
                url = f"{self._url}/v2/repository/models/{model.route}/load"
                response = fetch(url, method="POST", timeout_s=timeout_s)
            except httpx.TransportError as error:  # it may be starting again
                waited_for = f"MLServer to answer ({error!r})"
                time.sleep(0.1)
                continue
            if response.is_error:
                raise TargetError(f"Model {model.route} cannot be loaded: {_message(response)}")
            waited_for = "the loaded model to be ready"
        raise NotReadyError(f"Model {model.route}: waited {timeout_s:g} s for {waited_for}")

    def is_ready(self, route: str, timeout_s: float = 10) -> bool:
        """Whether MLServer answers for a model.

        Raises
        ------
        httpx.TransportError
            MLServer does not answer.
        """
        return fetch(f"{self._url}/v2/models/{route}/ready", timeout_s=timeout_s).status_code == 200

    def remove_all_but(self, routes: Iterable[str]) -> None:
        """Unload and delete every model that is not among ``routes``."""
        kept = set(routes)
        for folder in sorted(self._folder.iterdir()):
            if folder.name in kept or not folder.is_dir():
                continue
            shutil.rmtree(folder)
            try:
                fetch(f"{self._url}/v2/repository/models/{folder.name}/unload", method="POST", timeout_s=30)
            except httpx.TransportError:
                continue  # a server that is down has nothing loaded, and will not find the folder when it comes back


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _settings(model: ServedModel) -> dict[str, object]:
    parameters = model.manifest["spec"].get("parameters", [])
    extra = {item["name"]: item["value"] for item in parameters}
    return model_settings(model.route, version=model.version, extra=extra)


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.text[:500]}"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
