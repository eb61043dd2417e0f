"""A bare repository that plays the remote, a person who works with it too, and an ssh that is none."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from financial_assets.serving.gitops.target import GitOpsTarget
from financial_assets.serving.manifests import Manifest, experiment_manifest, model_manifest

PATH = "k8s/overlays/dev/serving"
KUSTOMIZATION = f"{PATH}/kustomization.yaml"
_PERSON = {
    "GIT_AUTHOR_NAME": "A Person",
    "GIT_AUTHOR_EMAIL": "person@example.org",
    "GIT_COMMITTER_NAME": "A Person",
    "GIT_COMMITTER_EMAIL": "person@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


def git(folder: Path, *arguments: str, stdin: str | None = None) -> str:
    environment = {**os.environ, **_PERSON}
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout.rstrip("\n")


class GitRemote:
    """The remote; ``main`` exists and holds a README."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bare, self._desk = root / "remote.git", root / "desk"
        root.mkdir(parents=True, exist_ok=True)
        git(root, "init", "-q", "--bare", "-b", "main", str(self.bare))
        git(root, "clone", "-q", str(self.bare), str(self._desk))
        self.person({"README.md": "Our cluster.\n"})

    def head(self) -> str:
        return git(self.bare, "rev-parse", "main")

    def count(self) -> int:
        return int(git(self.bare, "rev-list", "--count", "main"))

    def show(self, path: str, revision: str = "main") -> str:
        return git(self.bare, "show", f"{revision}:{path}") + "\n"

    def files(self, path: str = PATH) -> list[str]:
        listed = git(self.bare, "ls-tree", "-r", "--name-only", "main", "--", f"{path}/").splitlines()
        return [name.removeprefix(f"{path}/") for name in listed]

    def message(self) -> str:
        return git(self.bare, "log", "-1", "--format=%B", "main")

    def changed(self) -> dict[str, tuple[str, str]]:
        """Lines added and removed by the last commit, by file."""
        rows = [row.split("\t") for row in git(self.bare, "diff", "--numstat", "main~1", "main").splitlines()]
        return {name.removeprefix(f"{PATH}/"): (added, removed) for added, removed, name in rows}

    def person(self, files: dict[str, str | None], *, onto: str | None = None) -> str:
        """A person's commit; ``onto`` another base, by force."""
        if git(self.bare, "for-each-ref", "--format=%(refname)", "refs/heads/main"):
            git(self._desk, "fetch", "-q", "origin")
            git(self._desk, "checkout", "-q", "--detach", onto or "origin/main")
        for name, text in files.items():
            file = self._desk / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
            if text is not None:
                file.write_text(text)
        git(self._desk, "add", "-A")
        git(self._desk, "commit", "-q", "--allow-empty", "-m", "by hand")
        git(self._desk, "push", "-q", *(["--force"] if onto else []), "origin", "HEAD:refs/heads/main")
        return self.head()

    def checkout(self, name: str) -> Path:
        """A fresh working copy of ``main``."""
        git(self.root, "clone", "-q", str(self.bare), name)
        return self.root / name

    def hook(self, name: str, script: str) -> Path:
        file = self.bare / "hooks" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        return file

    def ssh(self, monkeypatch: Any, script: str) -> str:
        """An address that is reached through ``script``; there ``$command`` is what the server is asked to run."""
        file = self.root / "ssh"
        file.write_text(f'#!/bin/sh\nfor command do :; done\n{script}\neval "exec $command"\n')
        file.chmod(0o755)
        monkeypatch.setenv("GIT_SSH_COMMAND", str(file))
        monkeypatch.setenv("GIT_SSH_VARIANT", "simple")
        return f"ssh://nowhere.invalid{self.bare}"

    def target(self, clone: str = "clone", **changes: Any) -> GitOpsTarget:
        """A target whose gateway does not answer."""
        settings: dict[str, Any] = {
            "repository": str(self.bare),
            "branch": "main",
            "path": PATH,
            "clone": self.root / clone,
            "http_url": "http://127.0.0.1:9",
            "grpc_target": "127.0.0.1:9",
            "timeout_s": 30.0,
        }
        settings.update(changes)
        return GitOpsTarget(settings.pop("repository"), **settings)


def model(name: str, **extra: Any) -> Manifest:
    return model_manifest(name, f"s3://models/{name}", **extra)


def split(prefix: str, first: int, second: int) -> list[Manifest]:
    """Two models and an experiment over them."""
    a, b = f"{prefix}-a", f"{prefix}-b"
    return [model(a), model(b), experiment_manifest(f"{prefix}-experiment", default=a, weights={a: first, b: second})]
