"""The progress bar of a replay."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["ReplayProgress"]


class ReplayProgress:
    """A bar over sessions with the routed requests so far; shows nothing when disabled or off a terminal."""

    def __init__(self, sessions: int, *, enabled: bool, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._progress = Progress(
            TextColumn("replay {task.fields[session]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not (enabled and console.is_terminal and sessions),
        )
        self._task = self._progress.add_task("replay", total=sessions, session="", said="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, session: pd.Timestamp, sent: int, failed: int) -> None:
        """One session is done."""
        said = f"{sent} requests" + (f", [red]{failed} failed[/red]" if failed else "")
        self._progress.update(self._task, advance=1, session=str(session.date()), said=said)
