"""What a tracked run and a tracker can do, whatever stores them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

__all__ = ["Run", "Tracker"]


class Run(Protocol):
    """One tracked run, open for writing."""

    @property
    def id(self) -> str:
        """The tracker's identifier of the run."""
        ...

    @property
    def url(self) -> str | None:
        """Where a browser shows the run; ``None`` when no server does."""
        ...

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record parameters; a parameter already recorded cannot change its value."""
        ...

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record metrics, at a step if given. NaN is recorded as such; an infinite value is refused."""
        ...

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload one file, into a folder of the run if given."""
        ...

    def log_artifacts(self, directory: Path, folder: str | None = None) -> None:
        """Upload the contents of a directory, into a folder of the run if given."""
        ...

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags; a tag already there is overwritten."""
        ...


class Tracker(Protocol):
    """Opens runs, and closes them as what they were."""

    def run(
        self, name: str, *, tags: Mapping[str, str] | None = None, params: Mapping[str, object] | None = None
    ) -> AbstractContextManager[Run]:
        """Open a new run: FINISHED when the block ends well, FAILED when anything is raised in it."""
        ...

    def resume(self, run_id: str) -> AbstractContextManager[Run]:
        """Open an earlier run again, under the same rule for its end."""
        ...

    def is_active(self, run_id: str) -> bool:
        """Whether there still is such a run: a store may be another one than before, and runs can be deleted."""
        ...

    def find(self, tag: str, value: str) -> str | None:
        """Id of the latest run that ended well and carries the tag, ``None`` if there is none."""
        ...

    def end_stale(self, is_alive: Callable[[Mapping[str, str]], bool]) -> int:
        """Mark as FAILED the runs still RUNNING whose owner is dead.

        Parameters
        ----------
        is_alive
            Says from a run's tags whether the process that owns it still lives (for example ``owner_is_alive``).

        Returns
        -------
        int
            How many runs were ended.
        """
        ...
