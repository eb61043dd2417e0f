"""The wanted state of the local plane: manifests, and the version number under which each Model is served."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import TargetError
from financial_assets.serving.local.envoy.routes import Topology
from financial_assets.serving.manifest_sets import validate_set
from financial_assets.serving.manifests import Manifest, kind_and_name, parse_experiment


@dataclass(frozen=True)
class ServedModel:
    """A Model and the artefact it stands for.

    Attributes
    ----------
    manifest
        The Model manifest.
    version
        ``n`` of the route ``<name>_<n>``; grows whenever the artefact of a name changes, and is never used again.
    sha256
        Digest of the artefact when it was first applied.
    """

    manifest: Manifest
    version: int
    sha256: str

    @property
    def route(self) -> str:
        """``<name>_<n>``: the model's name inside MLServer and its clusters' in Envoy."""
        return f"{self.manifest['metadata']['name']}_{self.version}"


@dataclass(frozen=True)
class DesiredState:
    """Everything wanted.

    Attributes
    ----------
    revision
        Grows with every change; the gateway names the one that it runs.
    models, experiments
        By name.
    versions
        The last version number used for each model name, deleted ones included.
    """

    revision: int = 0
    models: Mapping[str, ServedModel] = field(default_factory=dict[str, ServedModel])
    experiments: Mapping[str, Manifest] = field(default_factory=dict[str, Manifest])
    versions: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def topology(self) -> Topology:
        """What the gateway has to route to."""
        experiments = [parse_experiment(manifest) for manifest in self.experiments.values()]
        return Topology(self.revision, {name: model.version for name, model in self.models.items()}, experiments)

    @property
    def routes(self) -> dict[str, str]:
        """``<model>_<n>`` of each Model."""
        return {name: model.route for name, model in self.models.items()}

    def with_model(self, manifest: Manifest, sha256: str) -> DesiredState:
        """Add or change a Model; an unchanged one keeps its version.

        Raises
        ------
        TargetError
            The content behind an unchanged ``storageUri`` is not what it was.
        """
        name = kind_and_name(manifest)[1]
        current = self.models.get(name)
        if current is not None and current.manifest["spec"] == manifest["spec"]:
            if current.sha256 != sha256:
                raise TargetError(
                    f"Model {name}: the artefact at {manifest['spec']['storageUri']} was overwritten "
                    f"(SHA-256 {sha256[:12]}, applied as {current.sha256[:12]}); artefacts are immutable, "
                    "publish it under a new storageUri"
                )
            version = current.version
        else:
            version = self.versions.get(name, 0) + 1
        return replace(
            self,
            models={**self.models, name: ServedModel(manifest, version, sha256)},
            versions={**self.versions, name: version},
        )

    def with_experiment(self, manifest: Manifest) -> DesiredState:
        """Add or replace an Experiment."""
        return replace(self, experiments={**self.experiments, kind_and_name(manifest)[1]: manifest})

    def without(self, kind: str, name: str) -> DesiredState:
        """Without one object."""
        models = {key: model for key, model in self.models.items() if (kind, name) != ("Model", key)}
        experiments = {key: value for key, value in self.experiments.items() if (kind, name) != ("Experiment", key)}
        return replace(self, models=models, experiments=experiments)

    def check(self) -> None:
        """Check that everything fits together.

        Raises
        ------
        ManifestError
            It does not.
        """
        validate_set([*(model.manifest for model in self.models.values()), *self.experiments.values()])

    def write(self, path: Path) -> None:
        """Replace the file."""
        atomic_write_text(path, json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> DesiredState:
        """The state in the file; nothing is wanted if there is none.

        Raises
        ------
        TargetError
            The file is damaged.
        """
        try:
            document = json.loads(path.read_text())
            models = {name: ServedModel(**model) for name, model in document["models"].items()}
            return cls(int(document["revision"]), models, dict(document["experiments"]), dict(document["versions"]))
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TargetError(
                f"{path} is damaged ({error!r}); stop the plane, remove the file and apply the manifests again"
            ) from error
