"""A tracker that records nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from financial_assets.tracking.protocols import Run

__all__ = ["NullTracker"]

_numbers = itertools.count(1)


@dataclass(frozen=True)
class _NullRun:
    id: str
    url: str | None = None

    def log_params(self, params: Mapping[str, object]) -> None:
        """Forget ``params``."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Forget ``metrics``."""

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Forget the file."""

    def log_artifacts(self, directory: Path, folder: str | None = None) -> None:
        """Forget the files."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Forget ``tags``."""


class NullTracker:
    """Fulfils ``Tracker`` and keeps nothing: for tests, and for use as a library without MLflow."""

    @contextmanager
    def run(
        self, name: str, *, tags: Mapping[str, str] | None = None, params: Mapping[str, object] | None = None
    ) -> Generator[Run, None, None]:
        """Open a run that is not recorded; its id is unique in this process."""
        yield _NullRun(f"untracked-{next(_numbers)}")

    @contextmanager
    def resume(self, run_id: str) -> Generator[Run, None, None]:
        """Open a run that is not recorded, under the id given."""
        yield _NullRun(run_id)

    def is_active(self, run_id: str) -> bool:
        """Every run is as good as another, since nothing was recorded."""
        return True

    def find(self, tag: str, value: str) -> str | None:
        """Find nothing, since nothing was recorded."""
        return None

    def end_stale(self, is_alive: Callable[[Mapping[str, str]], bool]) -> int:
        """End nothing, since nothing was recorded."""
        return 0
