"""Models and Experiments of a cluster that follows a Git repository (Argo CD, Flux)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from financial_assets.errors import NotReadyError, SettingsError, TargetError
from financial_assets.redaction import conceal, has_password, reveal
from financial_assets.serving.deadline import Deadline
from financial_assets.serving.gitops.clone import Clone
from financial_assets.serving.gitops.messages import describe
from financial_assets.serving.gitops.overlay import Overlay, read_overlay
from financial_assets.serving.gitops.probes import Probes
from financial_assets.serving.gitops.trees import Edit, Folder, TreeSnapshot
from financial_assets.serving.manifest_sets import check_against, check_reachable, check_unused, validate_set
from financial_assets.serving.manifests import (
    NAMESPACE,
    Manifest,
    check_kind,
    is_experiment,
    parse_experiment,
)
from financial_assets.serving.target import Endpoint, TargetStatus, report

_POLL_S = 0.5
_READ_S, _STATUS_S = 30.0, 10.0


class GitOpsTarget:
    """Commits Models and Experiments to a Git repository; implements ``ServingTarget``.

    :meth:`apply` and :meth:`delete` return when the branch holds the change, not when the cluster does.
    :meth:`wait_ready` then asks the gateway whether a Model answers, which Models an Experiment routes to, and in which
    shares.

    Parameters
    ----------
    repository
        URL or path of the repository; must not carry a password.
    branch
        Its branch; must exist.
    path
        Folder of the manifests; made when missing.
    clone
        Folder of the local cache; a lock file is kept beside it.
    http_url
        Base URL of the gateway's V2 REST protocol as reached from here.
    grpc_target
        ``host:port`` of its gRPC protocol.
    namespace
        Where the objects live.
    volume
        Folder that the model servers mount at the same path as this machine; ``None``: there is none.
    timeout_s
        How long one call of this class may take in all.

    Raises
    ------
    SettingsError
        A setting is malformed; nothing was asked of the network yet.
    """

    name = "gitops"

    def __init__(
        self,
        repository: str,
        *,
        branch: str,
        path: str,
        clone: Path,
        http_url: str,
        grpc_target: str,
        namespace: str = NAMESPACE,
        volume: Path | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        repository = reveal(repository)
        self._where = f"{_path(path) or '.'} of branch {branch} of {conceal(repository)}"
        self._clone = Clone(clone, _repository(repository), _branch(branch), _path(path))
        self._endpoint = Endpoint(http_url, grpc_target)
        self._probes = Probes(self._endpoint)
        self._namespace = namespace
        self._volume = volume
        self._timeout_s = timeout_s

    def apply(self, manifests: Sequence[Manifest]) -> None:
        """Commit new or changed objects in one commit; none if the branch holds them already."""
        validate_set(manifests, closed=False)
        check_reachable(manifests, self._namespace, self._volume)

        def edit(overlay: Overlay) -> Overlay:
            check_against(
                manifests, overlay.of_kind("Model"), overlay.of_kind("Experiment"), "is not a Model of the overlay"
            )
            for manifest in manifests:
                overlay = overlay.with_manifest(manifest)
            return overlay

        self._change(edit)

    def delete(self, kind: str, name: str) -> None:
        """Commit the removal of one object."""
        check_kind(kind)

        def edit(overlay: Overlay) -> Overlay:
            check_unused(kind, name, overlay.of_kind("Experiment"))
            return overlay.without(kind, name)

        self._change(edit)

    def endpoint(self) -> Endpoint:
        """Where the gateway answers, with the routes that its answers named so far; a client learns the others."""
        return replace(self._endpoint, routes=self._probes.gateway.seen)

    def wait_ready(self, names: Sequence[str], timeout_s: float) -> None:
        """Wait until each named Model and Experiment is in the branch and answers through the gateway."""
        deadline = Deadline(timeout_s)
        snapshot, overlay = self._read(Deadline(_READ_S))
        waiting: dict[str, str] = {}
        for _ in deadline.polls(_POLL_S):
            if any(_ABSENT in problem for problem in waiting.values()) and not deadline.passed:
                snapshot, overlay = self._read(Deadline(_READ_S))
            seen = {name: self._unready(name, overlay) for name in names}
            waiting = {name: problem for name, problem in seen.items() if problem}
            if not waiting:
                return
        why = "; ".join(f"{name}: {problem}" for name, problem in waiting.items())
        raise NotReadyError(
            f"waited {timeout_s:g} s for {self._where}, last seen: {why}. Argo CD or Flux must synchronise that path "
            f"to commit {snapshot.commit[:12]} or later; look there whether it did"
        )

    def status(self) -> TargetStatus:
        """What this program's files in the branch say, and whether the gateway agrees; never raises."""
        problems: list[str] = []
        readable, deadline = True, Deadline(min(self._timeout_s, _STATUS_S))
        try:
            overlay = self._read(deadline)[1]
        except TargetError as error:
            problems.append(str(error))
            readable, overlay = False, self._last_overlay()
        problems += overlay.problems
        objects = {
            kind: [item.manifest for key, item in overlay.objects.items() if key[0] == kind and item.own]
            for kind in ("Model", "Experiment")
        }
        return replace(report(self.name, self.endpoint, objects, self._problem, problems), readable=readable)

    def _problem(self, kind: str, manifest: Manifest) -> str:
        """What is wrong with an object, asked in one request: a status must not take as long as a readiness test."""
        name = manifest["metadata"]["name"]
        return self._probes.model(name) if kind == "Model" else self._probes.split(parse_experiment(manifest))

    def _change(self, edit: Callable[[Overlay], Overlay]) -> None:
        def edited(folder: Folder) -> Edit:
            before = read_overlay(folder, self._namespace)
            after = edit(before)
            return Edit(after.changes, describe(before, after) if after.changes else "")

        self._clone.change(edited, Deadline(self._timeout_s))

    def _read(self, deadline: Deadline) -> tuple[TreeSnapshot, Overlay]:
        snapshot = self._clone.read(deadline)
        return snapshot, read_overlay(snapshot.folder, self._namespace)

    def _last_overlay(self) -> Overlay:
        """The folder as it was last seen, for when the remote cannot be asked."""
        try:
            snapshot = self._clone.last_read(Deadline(_STATUS_S))
            return read_overlay(snapshot.folder if snapshot else {}, self._namespace)
        except TargetError:  # the caller has already reported what is wrong
            return read_overlay({}, self._namespace)

    def _unready(self, name: str, overlay: Overlay) -> str:
        """Why an object does not answer as committed yet; empty if it does."""
        kind = "Experiment" if is_experiment(name) else "Model"
        manifest = overlay.of_kind(kind).get(name)
        if manifest is None:
            return _ABSENT
        return self._probes.model(name) if kind == "Model" else self._probes.experiment(parse_experiment(manifest))


_ABSENT = "was never applied"


def _repository(repository: str) -> str:
    if not repository or repository.startswith("-"):
        raise SettingsError(f"GITOPS_REPOSITORY: {repository!r} is not the address of a Git repository")
    if has_password(repository):
        raise SettingsError(
            "GITOPS_REPOSITORY: holds a password, which every process list and log would show; "
            "use an SSH key or a Git credential helper"
        )
    return repository


def _branch(branch: str) -> str:
    # git check-ref-format, without asking it.
    if not re.fullmatch(r"(?![-/.])(?!.*(//|\.\.|@\{|/\.|\.lock(/|$)))[^\x00-\x20~^:?*\[\\\x7f]+(?<![/.])", branch):
        raise SettingsError(f"GITOPS_BRANCH: {branch!r} is not a valid branch name")
    return branch


def _path(path: str) -> str:
    """The folder without ``.`` and trailing slashes; ``""`` for the root."""
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or any(part.lower() == ".git" for part in parts) or "\0" in path:
        raise SettingsError(f"GITOPS_PATH: {path!r} lies outside the repository; give a folder relative to its root")
    return "/".join(parts)
