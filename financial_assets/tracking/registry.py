"""The model registry: versions of one registered model in MLflow."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from financial_assets.errors import TrackingError
from financial_assets.folders import make_folder
from financial_assets.tracking.connection import Connection, ignoring

REGISTERED_MODEL = "financial-direction-predictor"
FINGERPRINT_TAG = "fingerprint"
_PAGE = 1000


@dataclass(frozen=True)
class ModelVersion:
    """One immutable version of a registered model.

    Attributes
    ----------
    name
        The registered model.
    version
        Its number, from 1.
    run_id
        The tracked run that made it.
    tags
        Among them variant, data cut-off and fingerprint.
    aliases
        Names that point to this version now, for example ``champion``.
    source
        URI of the artefacts.
    description
        Text for people.
    """

    name: str
    version: int
    run_id: str
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    source: str = ""
    description: str = ""


class ModelRegistry:
    """Versions of one registered model in MLflow's registry.

    Parameters
    ----------
    tracking_uri
        As for ``MlflowTracker``; the registry lives in the same store as the runs.
    name
        The registered model; it is made with the first version.
    """

    def __init__(self, tracking_uri: str, name: str = REGISTERED_MODEL) -> None:
        self._connection = Connection(tracking_uri)
        self.name = name

    def find(self, fingerprint: str) -> ModelVersion | None:
        """The newest version registered under a fingerprint, or ``None``."""
        return next(
            (version for version in reversed(self.versions()) if version.tags.get(FINGERPRINT_TAG) == fingerprint), None
        )

    def register(
        self,
        run_id: str,
        model_dir: str,
        tags: Mapping[str, str],
        description: str = "",
        *,
        model_id: str | None = None,
        number: int = 0,
        above: int = 0,
    ) -> ModelVersion:
        """Register artefacts of a run as a new version.

        With a sqlite store, processes that register the same fingerprint at the same time get the same version.

        Parameters
        ----------
        run_id
            The run that holds the artefacts.
        model_dir
            Their folder in the run.
        tags
            Tags of the version. If a version already has the same ``fingerprint``, that one is returned.
        description
            Text for people.
        model_id
            The logged model that is registered: its files are those of the version, and the two pages of MLflow link to
            each other. ``None``: the run's files in ``model_dir`` are.
        number
            Number that the version had in a registry that is lost; it gets it unless it is taken.
        above
            Every other number up to this one is left out: it named another model once.

        Raises
        ------
        TrackingError
            The run or its artefacts do not exist, or the registry refuses.
        """
        client = self._connection.client
        with self._connection.errors(f"register {model_dir!r} of run {run_id}"), self._connection.exclusive():
            registered = self.find(tags[FINGERPRINT_TAG]) if FINGERPRINT_TAG in tags else None
            if registered is not None:
                return registered
            source = self._source(run_id, model_dir, model_id)
            with ignoring("RESOURCE_ALREADY_EXISTS"):
                client.create_registered_model(
                    self.name, description="Calibrated probability that the next session's adjusted close is higher"
                )
            while True:
                created = client.create_model_version(
                    self.name,
                    source,
                    run_id,
                    tags={name: str(value) for name, value in tags.items()},
                    description=description,
                    model_id=model_id,
                )
                given = int(created.version)
                if given == number or given > max(number, above):
                    if model_id is not None:  # by this tag the model's page leads to its version
                        link = json.dumps([{"name": self.name, "version": given}])
                        client.set_logged_model_tags(model_id, {"mlflow.modelVersions": link})
                    return _version(created, {})
                # MLflow counts by itself, and never gives a number twice.
                client.delete_model_version(self.name, created.version)

    def _source(self, run_id: str, model_dir: str, model_id: str | None) -> str:
        """Where the files of a version to be registered are."""
        client = self._connection.client
        if model_id is not None:
            return str(client.get_logged_model(model_id).artifact_location)
        artifact_uri = client.get_run(run_id).info.artifact_uri
        if not client.list_artifacts(run_id, model_dir):
            raise TrackingError(
                f"run {run_id} holds no artefacts in {model_dir!r}: upload the model before registering"
            )
        return f"{artifact_uri}/{model_dir}"

    def versions(self) -> tuple[ModelVersion, ...]:
        """All versions, oldest first; empty when the model was never registered."""
        client = self._connection.client
        with self._connection.errors(f"list versions of {self.name}"):
            from mlflow.utils import get_results_from_paginated_fn

            entries = get_results_from_paginated_fn(
                lambda size, token: client.search_model_versions(f"name = '{self.name}'", size, page_token=token), _PAGE
            )
            # A search leaves the aliases of a version empty; they belong to the registered model.
            aliases = client.get_registered_model(self.name).aliases if entries else {}
        return tuple(sorted((_version(entry, aliases) for entry in entries), key=lambda version: version.version))

    def get(self, version: int) -> ModelVersion:
        """One version; ``TrackingError`` when there is no such version."""
        with self._connection.errors(f"get version {version} of {self.name}"):
            entry = self._connection.client.get_model_version(self.name, str(version))
            return _version(entry, self._connection.client.get_registered_model(self.name).aliases)

    def set_alias(self, alias: str, version: int) -> None:
        """Point an alias to a version, away from the version that had it."""
        with self._connection.errors(f"set alias {alias!r} of {self.name} to version {version}"):
            self._connection.client.set_registered_model_alias(self.name, alias, str(version))

    def remove_alias(self, alias: str) -> None:
        """Let an alias name nothing; it is not an error if it names nothing already."""
        if self.by_alias(alias) is not None:
            with self._connection.errors(f"remove the alias {alias}"):
                self._connection.client.delete_registered_model_alias(self.name, alias)

    def by_alias(self, alias: str) -> ModelVersion | None:
        """The version that an alias points to, or ``None``."""
        return next((version for version in self.versions() if alias in version.aliases), None)

    def download(self, version: int, folder: Path) -> Path:
        """Copy the artefacts of a version to a folder, replacing what is there.

        A failing download leaves the folder as it was.

        Returns
        -------
        Path
            ``folder``.
        """
        make_folder(folder.parent)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as workplace:
            arriving = Path(workplace, "arriving")
            arriving.mkdir()
            with self._connection.errors(f"download version {version} of {self.name}"):
                files = self._files(version)
                files.download_artifacts("", str(arriving))
            if not any(arriving.iterdir()):
                raise TrackingError(
                    f"version {version} of {self.name} has no files at {files.artifact_uri}: were they deleted?"
                )
            if folder.exists():
                folder.rename(Path(workplace, "before"))
            arriving.rename(folder)
        return folder

    def holds(self, version: int, is_whole: Callable[[Path], bool], names: Sequence[str]) -> bool:
        """Whether the files ``names`` of a version are still in the artefact store and ``is_whole`` of their copy."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                with self._connection.errors(f"look at version {version} of {self.name}"):
                    for name in names:
                        self._files(version).download_artifacts(name, folder)
            except TrackingError:  # the registry itself has just answered: it is the file that is not there
                return False
            return is_whole(Path(folder))

    def upload(self, version: int, folder: Path) -> None:
        """Put the contents of ``folder`` where the artefacts of a version belong."""
        with self._connection.errors(f"upload the files of version {version} of {self.name}"):
            self._files(version).log_artifacts(str(folder))

    def _files(self, version: int) -> Any:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        uri = self._connection.client.get_model_version_download_uri(self.name, str(version))
        return get_artifact_repository(uri, tracking_uri=self._connection.uri)


def _version(entry: Any, aliases: Mapping[str, str]) -> ModelVersion:
    return ModelVersion(
        name=entry.name,
        version=int(entry.version),
        run_id=entry.run_id or "",
        tags=dict(entry.tags or {}),
        aliases=tuple(sorted(alias for alias, version in aliases.items() if int(version) == int(entry.version))),
        source=entry.source or "",
        description=entry.description or "",
    )
