"""The state folder under test: made once, and put back as it was before every point."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kill_matrix import processes
from benchmarks.kill_matrix.holdings import litter
from benchmarks.kill_matrix.jobs import Job, promote_next

ROOT = Path(__file__).parents[2]
_PLANE = "serving"
_CACHES = ("drift/thresholds",)
"""What an empty folder is given: it depends on code alone, and takes longer to compute than all the rest."""


@dataclass(frozen=True)
class World:
    """Folders of one matrix.

    Attributes
    ----------
    folder
        Holds the state folder ``state``, the instance ``dagster``, logs, and the snapshots of both.
    """

    folder: Path

    @property
    def home(self) -> Path:
        """The state folder."""
        return self.folder / "state"

    @property
    def log(self) -> Path:
        """Where the latest process prints."""
        return self.folder / "logs" / "process.log"

    @property
    def modules(self) -> Path:
        """Names of the modules that jobs import."""
        return self.folder / "modules.txt"

    def snapshot_of(self, name: str) -> Path:
        """Where a snapshot is kept."""
        return self.folder / "snapshots" / name

    def prepare(self, full_pipeline: Job) -> None:
        """Make the snapshots ``empty``, ``built`` and ``won``, unless they are there."""
        dagster = self.folder / "dagster"
        if not self.snapshot_of("empty").exists():
            dagster.mkdir(parents=True, exist_ok=True)
            text = (ROOT / "dagster.yaml").read_text().replace("base_dir: .dagster", f"base_dir: {dagster}")
            (dagster / "dagster.yaml").write_text(text)
            self.home.mkdir(exist_ok=True)
            self._take("empty")
        if not self.snapshot_of("built").exists():
            self.restore("empty")
            self._done(processes.run(processes.note_modules(full_pipeline.work, self.modules), self.log))
            for cache in (name for name in _CACHES if not (self.snapshot_of("empty") / "state" / name).exists()):
                shutil.copytree(self.home / cache, self.snapshot_of("empty") / "state" / cache, dirs_exist_ok=True)
            self._take("built")
        if not self.snapshot_of("won").exists():
            self.restore("built")
            self._done(processes.run(promote_next, self.log))
            self._take("won")

    def restore(self, name: str) -> None:
        """Put everything back as the snapshot has it; a plane that runs goes on, with the models of then."""
        source = self.snapshot_of(name)
        if not (source / "state" / _PLANE).exists():
            self.stop_plane()
        for path in self.home.iterdir() if self.home.exists() else ():
            if path.name != _PLANE:
                _remove(path)
        for name in litter(self.home):
            (self.home / name).unlink()
        shutil.copytree(source / "state", self.home, dirs_exist_ok=True, ignore=_but_the_plane, symlinks=True)
        shutil.rmtree(self.folder / "dagster", ignore_errors=True)
        shutil.copytree(source / "dagster", self.folder / "dagster")
        wanted = source / "state" / _PLANE / "desired.json"
        if wanted.exists() and not self._serves(wanted):
            self._done(processes.run(lambda: _serve_again(self.home, wanted), self.log))

    def stop_plane(self) -> None:
        """End the plane and remove its folder."""
        self._done(processes.run(lambda: _stop(self.home), self.log))
        _remove(self.home / _PLANE)

    def _serves(self, wanted: Path) -> bool:
        current = self.home / _PLANE / "desired.json"
        if not current.exists():
            return False
        before, now = json.loads(wanted.read_text()), json.loads(current.read_text())
        return list(before["models"]) == list(now["models"]) and before["experiments"] == now["experiments"]

    def _take(self, name: str) -> None:
        target = self.snapshot_of(name)
        partial = target.with_name(f".{name}")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(self.home, partial / "state", symlinks=True)
        shutil.copytree(self.folder / "dagster", partial / "dagster")
        partial.rename(target)

    def _done(self, ended: processes.Ended) -> None:
        if ended.code != 0:
            raise RuntimeError(f"the world cannot be prepared: exit code {ended.code}\n{ended.output[-4000:]}")


def _but_the_plane(folder: str, names: list[str]) -> set[str]:
    return {_PLANE} & set(names) if os.path.basename(folder) == "state" else set()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _stop(home: Path) -> int:
    from financial_assets.serving.local import control

    control.stop(home)
    return 0


def _serve_again(home: Path, wanted: Path) -> int:
    """What the plane served at the time of the snapshot, and nothing else."""
    from financial_assets.serving.local.desired import DesiredState
    from financial_assets.serving.local.target import LocalTarget

    before, target = DesiredState.read(wanted), LocalTarget(home)
    now = DesiredState.read(home / "serving" / "desired.json")
    for name in now.experiments:
        if name not in before.experiments:
            target.delete("Experiment", name)
    target.apply([*(model.manifest for model in before.models.values()), *before.experiments.values()])
    for name in now.models:
        if name not in before.models:
            target.delete("Model", name)
    return 0
