"""Artefacts where a cluster can read them: an object store, or a volume that both sides mount at the same path.

An artefact's address holds the digest of its content, so the content of an address never changes: publishing again
is harmless, two publishers of the same artefact cannot disturb each other, and new content gets a new address, which
makes a model server load it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec

from financial_assets.atomic import atomic_write_bytes
from financial_assets.errors import ArtifactStoreError, SettingsError
from financial_assets.serving.model_settings import MODEL_FILE, SETTINGS_FILE, model_settings

_DIGEST_CHARACTERS = 12
_CLIENTS = {"s3": ("s3fs", "financial-assets[cluster]"), "gs": ("gcsfs", "gcsfs")}
_CONNECT_S, _READ_S = 10, 60
_SPOILT = "nothing names it yet: materialize again, and check the network and proxies between here and the store"


class ArtifactStore:
    """A place for artefacts; making one reaches nothing.

    Parameters
    ----------
    uri
        ``s3://bucket/path`` (endpoint and credentials by the environment variables of AWS), ``gs://bucket/path``, or
        ``file:///path`` of a volume.

    Raises
    ------
    SettingsError
        Another scheme, or the package that speaks to such a store is not installed.
    """

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        self.uri = uri.rstrip("/")
        self._scheme = parts.scheme
        if parts.scheme == "file":
            self._root = unquote(parts.path).rstrip("/")
            return
        if parts.scheme not in _CLIENTS:
            raise SettingsError(f"ARTIFACT_STORE_URI: {uri!r}; allowed: s3://, gs:// and file:///")
        module, package = _CLIENTS[parts.scheme]
        if importlib.util.find_spec(module) is None:
            raise SettingsError(
                f'ARTIFACT_STORE_URI: {parts.scheme}:// needs the package {module}: pip install "{package}"'
            )
        self._root = f"{parts.netloc}{parts.path}".rstrip("/")

    @property
    def volume(self) -> Path | None:
        """The folder of a volume; ``None`` for an object store."""
        return Path(self._root) if self._scheme == "file" else None

    def publish(self, folder: Path, name: str) -> str:
        """Put an artefact into the store, whole and verified; existing files are only verified.

        Parameters
        ----------
        folder
            Holds ``model.onnx``; all files directly in it are published, and ``model-settings.json`` is added.
        name
            The Model that is to serve it.

        Returns
        -------
        str
            The ``storageUri`` for the Model: ``<uri>/<name>-<digest>``, without the scheme for a volume.

        Raises
        ------
        ArtifactStoreError
            There is no artefact, the store refuses or cannot be reached, or holds something else than was written.
        """
        files = _contents(folder, name)
        address = f"{self._root}/{name}-{_digest(files)}"
        shown = address if self._scheme == "file" else f"{self._scheme}://{address}"
        try:
            client = _client(self._scheme)
            missing = {path: data for path, data in files.items() if _read(client, f"{address}/{path}") != data}
            for path, data in missing.items():
                if self._scheme == "file":
                    # Unlike folders of state, these are for other users: the model servers.
                    Path(address).mkdir(parents=True, exist_ok=True)
                    atomic_write_bytes(Path(address, path), data)
                else:
                    client.pipe_file(f"{address}/{path}", data)
            # Read back: a store may accept an upload and keep something else.
            spoilt = [path for path, data in missing.items() if _read(client, f"{address}/{path}") != data]
        except Exception as error:  # the stores' clients share no public base class of errors
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ArtifactStoreError(
                f"ARTIFACT_STORE_URI: {shown} cannot be written and verified ({type(error).__name__}: {reason}); "
                + _remedy(self._scheme, error)
            ) from error
        if spoilt:
            raise ArtifactStoreError(
                f"ARTIFACT_STORE_URI: {shown} holds something else than was written ({', '.join(spoilt)}); {_SPOILT}"
            )
        return shown


def _client(scheme: str) -> Any:
    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    if scheme == "s3":
        options["config_kwargs"] = {"connect_timeout": _CONNECT_S, "read_timeout": _READ_S}
    return fsspec.filesystem(scheme, **options)


def _read(client: Any, path: str) -> bytes | None:
    """The content of a file or an object, ``None`` if there is none."""
    try:
        return client.cat_file(path)
    except FileNotFoundError:
        return None


def _contents(folder: Path, name: str) -> dict[str, bytes]:
    """Published path to content, in order of path."""
    if not (folder / MODEL_FILE).is_file():
        raise ArtifactStoreError(f"{folder} holds no {MODEL_FILE}: materialize onnx/<variant> first")
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    files.setdefault(SETTINGS_FILE, json.dumps(model_settings(name), indent=1, sort_keys=True).encode())
    return dict(sorted(files.items()))


def _digest(files: Mapping[str, bytes]) -> str:
    lines = [f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in files.items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:_DIGEST_CHARACTERS]


def _remedy(scheme: str, error: Exception) -> str:
    if scheme == "file":
        return "mount the volume there, writable for this user"
    if isinstance(error, FileNotFoundError):
        return "make the bucket, or name another"
    kind = type(error).__name__  # the clients' own classes cannot be imported where they are not installed
    if "Checksum" in kind:
        return _SPOILT
    if isinstance(error, PermissionError) or "Credential" in kind:
        return "give credentials that may read and write there (AWS_ACCESS_KEY_ID, AWS_PROFILE, a service account ...)"
    return "check that the store is up and reachable from here (AWS_ENDPOINT_URL for stores other than AWS)"
