"""The overlay folder: which objects it holds, who wrote which file, and the result of a change. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from financial_assets.errors import ManifestError, TargetError
from financial_assets.serving.gitops.trees import Folder
from financial_assets.serving.gitops.yaml_text import listed_resources, load, render, replace_resources
from financial_assets.serving.manifests import API_VERSION, MANAGED_BY, Manifest, is_ours, kind_and_name, validate

KUSTOMIZATION = "kustomization.yaml"
_KUSTOMIZATIONS = (KUSTOMIZATION, "kustomization.yml", "Kustomization")
# Argo CD creates in this order and deletes in the reverse one; everything else ignores it.
_WAVE = "argocd.argoproj.io/sync-wave"
_WAVES = {"Server": "0", "Model": "1", "Experiment": "2"}

Key = tuple[str, str]


@dataclass(frozen=True)
class OverlayObject:
    """A Server, Model or Experiment of the folder.

    Attributes
    ----------
    file
        The file that defines it.
    manifest
        As written there; unchecked unless ``own``.
    own
        Whether this program wrote the file.
    """

    file: str
    manifest: Manifest
    own: bool


@dataclass(frozen=True)
class Overlay:
    """The folder as of one commit, with changes on top.

    Attributes
    ----------
    namespace
        Namespace of all objects.
    folder
        Names and texts as committed.
    objects
        What the kustomization lists, by kind and name; several files may define the same.
    resources
        What the kustomization lists.
    changes
        New texts by file name, ``None`` for a file to be removed.
    problems
        What cannot be read, in words.
    """

    namespace: str
    folder: Folder
    objects: Mapping[Key, OverlayObject]
    resources: tuple[str, ...]
    changes: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    problems: tuple[str, ...] = ()

    def of_kind(self, kind: str) -> Mapping[str, Manifest]:
        """Manifests of a kind by name."""
        return {name: entry.manifest for (its_kind, name), entry in self.objects.items() if its_kind == kind}

    def with_manifest(self, manifest: Manifest) -> Overlay:
        """The overlay with an object created or updated; the same if nothing changes.

        Raises
        ------
        ManifestError
            The object, or a file of its name, is somebody else's, or fields that others added to it break a rule.
        """
        key, file = kind_and_name(manifest), file_name(*kind_and_name(manifest))
        before = self._own_document(key)
        wanted = validate(_merged(before or {}, manifest))
        changes = dict(self.changes)
        if wanted != before:
            changes[file] = render(wanted)
        objects = {**self.objects, key: OverlayObject(file, wanted, True)}
        resources = list(self.resources)
        if file not in map(_plain, resources):  # before the first that sorts after it
            later = (index for index, listed in enumerate(resources) if listed > file)
            resources.insert(next(later, len(resources)), file)
        return self._with(changes, objects, tuple(resources))

    def without(self, kind: str, name: str) -> Overlay:
        """The overlay without an object; the same if there is none.

        Raises
        ------
        ManifestError
            The object is somebody else's.
        """
        key, file = (kind, name), file_name(kind, name)
        if self._own_document(key) is None:
            return self
        objects = {other: entry for other, entry in self.objects.items() if other != key}
        resources = tuple(listed for listed in self.resources if _plain(listed) != file)
        return self._with({**self.changes, file: None}, objects, resources)

    def _with(
        self, changes: Mapping[str, str | None], objects: Mapping[Key, OverlayObject], resources: tuple[str, ...]
    ) -> Overlay:
        changes = dict(changes)
        if resources != self.resources:
            name = next((name for name in _KUSTOMIZATIONS if name in self.folder), KUSTOMIZATION)
            changes[name] = replace_resources(changes.get(name) or self._kustomization(name), resources)
        return Overlay(self.namespace, self.folder, objects, resources, changes, self.problems)

    def _kustomization(self, name: str) -> str:
        if name in self.folder:
            return self._text(name)
        foreign = sorted(
            file for file, entry in self.folder.items() if file.endswith((".yaml", ".yml", ".json")) and entry.text
        )
        if foreign:
            raise TargetError(
                f"GITOPS_PATH: the folder has no {KUSTOMIZATION} but holds {', '.join(foreign)}; with one, Argo CD "
                "and Flux would no longer see those files. List them in one first, or name another path"
            )
        return "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"

    def _text(self, file: str) -> str:
        changed = self.changes.get(file)
        if changed is not None:
            return changed
        text = self.folder[file].text
        if text is None:
            raise TargetError(f"GITOPS_PATH: {file} is not a regular file in UTF-8; move it away")
        return text

    def _own_document(self, key: Key) -> Manifest | None:
        """Our document of that key, ``None`` if there is no such object at all."""
        file, entry = file_name(*key), self.objects.get(key)
        if entry is not None and (not entry.own or entry.file != file):
            raise ManifestError(
                f"{key[0]} {key[1]} is defined in {entry.file}, which this program did not write; {_HINT}"
            )
        if entry is not None:
            return entry.manifest
        # Somebody may have taken the file out of the list without deleting it.
        if file not in self.folder or self.changes.get(file, "") is None:
            return None
        documents = _documents(self._text(file))
        if len(documents) != 1 or not _is_own(file, documents[0]):
            raise ManifestError(f"{file} is a file that this program did not write; {_HINT}")
        return documents[0]


_HINT = f"rename it, or hand it over: label {': '.join(MANAGED_BY)}, alone in a file <kind>-<name>.yaml"


def file_name(kind: str, name: str) -> str:
    """The file of an object: ``model-baseline-predictor-v1.yaml``."""
    return f"{kind.lower()}-{name}.yaml"


def read_overlay(folder: Folder, namespace: str) -> Overlay:
    """Parse the folder.

    Raises
    ------
    TargetError
        Its kustomization cannot be used, or renames or moves the objects.
    """
    files = [name for name in _KUSTOMIZATIONS if name in folder]
    if len(files) > 1:
        raise TargetError(f"GITOPS_PATH: the folder holds {' and '.join(files)}; kustomize allows one")
    resources = listed_resources(files[0], folder[files[0]].text or "", namespace) if files else ()
    objects: dict[Key, OverlayObject] = {}
    problems: list[str] = []
    for file in map(_plain, resources):
        entry = folder.get(file)
        if entry is None or entry.text is None:
            continue  # a folder, an address or a patch target
        try:
            for key, defined in _objects(file, entry.text).items():
                objects.setdefault(key, defined)
        except (TargetError, ManifestError) as error:
            problems.append(f"{file}: {error}")
    return Overlay(namespace, folder, objects, resources, problems=tuple(problems))


def _objects(file: str, text: str) -> dict[Key, OverlayObject]:
    """What one file defines; ours must obey the rules, others' are taken as they are."""
    documents = _documents(text)
    objects: dict[Key, OverlayObject] = {}
    for document in documents:
        if document.get("apiVersion") == API_VERSION and document.get("kind") in _WAVES:
            own = len(documents) == 1 and _is_own(file, document)
            key = (document["kind"], str((document.get("metadata") or {}).get("name")))
            objects[key] = OverlayObject(file, validate(document) if own else document, own)
    return objects


def _merged(before: Manifest, manifest: Manifest) -> Manifest:
    """``manifest`` with what others added to the file: metadata, and fields of Models and Servers that we never set."""
    metadata, old = manifest["metadata"], before.get("metadata", {})
    kind = manifest["kind"]
    labels = {**(old.get("labels") or {}), **(metadata.get("labels") or {}), **dict([MANAGED_BY])}
    annotations = {_WAVE: _WAVES[kind], **(old.get("annotations") or {}), **(metadata.get("annotations") or {})}
    # The whole spec of an Experiment is ours: merging would keep a mirror that is no longer wanted.
    spec = {**({} if kind == "Experiment" else before.get("spec", {})), **manifest["spec"]}
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": kind,
        "metadata": {**old, **metadata, "labels": labels, "annotations": annotations},
        "spec": spec,
    }


def _is_own(file: str, document: Manifest) -> bool:
    metadata: Any = document.get("metadata")
    if not isinstance(metadata, dict) or file != file_name(str(document.get("kind")), str(metadata.get("name"))):
        return False
    return is_ours(document)


def _documents(text: str) -> list[Manifest]:
    return [document for document in load(text) if isinstance(document, dict)]


def _plain(listed: str) -> str:
    return listed.removeprefix("./")
