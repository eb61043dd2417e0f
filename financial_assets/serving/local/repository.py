"""MLServer's model repository: folders on disk, and the calls that load and unload them."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import unquote, urlparse

import httpx

from financial_assets.atomic import sync
from financial_assets.disk import disk_errors
from financial_assets.errors import FinancialAssetsError, ManifestError, NotReadyError, TargetError
from financial_assets.serving.local.desired import ServedModel
from financial_assets.serving.local.loopback import fetch
from financial_assets.serving.model_settings import MODEL_FILE, SETTINGS_FILE, model_settings

__all__ = ["MODEL_FILE", "Repository", "artefact", "artefact_folder", "is_sound"]


def artefact(storage_uri: str) -> tuple[Path, str]:
    """The ONNX file behind a ``storageUri`` (a path or a ``file:`` URI of its folder) and its SHA-256.

    Raises
    ------
    ManifestError
        Another scheme, or no readable ``model.onnx`` there.
    """
    place = _place(storage_uri)
    path = place / MODEL_FILE if place.is_dir() else place
    if path.name != MODEL_FILE and path.suffix != ".onnx":
        raise ManifestError(f"storageUri {storage_uri!r}: {path} does not exist or holds no {MODEL_FILE}")
    try:
        return path, hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ManifestError(f"storageUri {storage_uri!r}: no readable {MODEL_FILE}: {error}") from error


def artefact_folder(storage_uri: str) -> Path:
    """The folder of the ONNX file behind a ``storageUri``, whether it exists or not.

    Raises
    ------
    ManifestError
        Another scheme.
    """
    place = _place(storage_uri)
    return place.parent if place.suffix == ".onnx" else place


def _place(storage_uri: str) -> Path:
    parsed = urlparse(storage_uri)
    if parsed.scheme not in ("", "file") or parsed.netloc not in ("", "localhost"):
        raise ManifestError(f"storageUri {storage_uri!r}: the local plane reads folders and file:// URIs only")
    return Path(unquote(parsed.path) if parsed.scheme else storage_uri)


def is_sound(folder: Path, model: ServedModel) -> bool:
    """Whether the repository in ``folder`` holds the file that was applied, and its settings."""
    place = folder / model.route
    try:
        settings = json.loads((place / SETTINGS_FILE).read_text())
    except (OSError, ValueError):
        return False
    return settings == _settings(model) and _digest(place / MODEL_FILE) == model.sha256


def _applied_file(model: ServedModel) -> tuple[Path | None, str]:
    """The file in the artefact's folder, or ``None`` and why it is not the one that was applied."""
    try:
        source, digest = artefact(model.manifest["spec"]["storageUri"])
    except ManifestError as error:
        return None, str(error)
    return (source, "") if digest == model.sha256 else (None, f"{source} has the SHA-256 {digest[:12]}")


_log = logging.getLogger(__name__)


class Repository:
    """The models of one MLServer.

    Parameters
    ----------
    folder
        Root of the repository.
    url
        Base URL of MLServer's own HTTP port.
    restore
        Restores the registered file with a SHA-256 in an artefact's folder; ``None``: nothing does.
    """

    def __init__(self, folder: Path, url: str, restore: Callable[[Path, str], None] | None = None) -> None:
        self._folder = folder
        self._url = url
        self._restore = restore

    def install(self, model: ServedModel) -> None:
        """Copy the artefact into the repository unless it is there and sound; whole or not at all.

        Raises
        ------
        TargetError
            No copy of the applied file is left.
        StorageError
            The disk refuses.
        """
        target, settings = self._folder / model.route, json.dumps(_settings(model), indent=1)
        if is_sound(self._folder, model):
            return
        source = self._good_copy(model)
        if target.exists():
            _log.warning("%s is not what was applied; restored from %s", target, source)
        with disk_errors(target, "written", needed=source.stat().st_size):
            self._folder.mkdir(parents=True, exist_ok=True)
            # With a dot: the server looks for settings in every folder whose name does not begin with one.
            partial = Path(tempfile.mkdtemp(dir=self._folder, prefix=f".{model.route}."))
            try:
                shutil.copyfile(source, partial / MODEL_FILE)
                if _digest(partial / MODEL_FILE) != model.sha256:
                    raise TargetError(f"{source} changed while it was being applied; artefacts are immutable")
                (partial / SETTINGS_FILE).write_text(settings)
                for file in (*partial.iterdir(), partial):
                    sync(file)
                # What stands there is damaged, and a restarted server could not load it.
                if target.is_dir() and not target.is_symlink():
                    shutil.rmtree(target)
                else:
                    target.unlink(missing_ok=True)
                partial.rename(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            sync(self._folder)

    def _good_copy(self, model: ServedModel) -> Path:
        """The applied file in the artefact's folder, restored there if necessary."""
        uri = model.manifest["spec"]["storageUri"]
        source, why = _applied_file(model)
        if source is None and self._restore is not None:
            try:
                self._restore(artefact_folder(uri), model.sha256)
                source, why = _applied_file(model)
                _log.warning("%s is restored from the model registry", source)
            except FinancialAssetsError as error:
                why += f"; restoring it from the registry failed: {error}"
        if source is not None:
            return source
        variant = model.manifest["metadata"].get("labels", {}).get("variant", "<variant>")
        raise TargetError(
            f"Model {model.manifest['metadata']['name']}: the file that was applied as {model.route} "
            f"(SHA-256 {model.sha256[:12]}) is lost: {why}; artefacts are immutable: materialize onnx/{variant} to "
            f"produce it again, then predictors/{variant}"
        )

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
                continue  # a server that is down has nothing loaded, and finds no folder when it starts


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
