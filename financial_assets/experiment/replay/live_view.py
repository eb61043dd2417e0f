"""The live view of a replay: a table on a terminal, plain lines elsewhere, nothing when it is not wanted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from financial_assets.experiment.replay.scoreboard import ArmLine, Scoreboard, Snapshot
from financial_assets.scoring.intervals import Interval

__all__ = ["LiveView", "as_line", "as_table"]

_WAIT_LINE_S = 10.0
_LINES = 10  # plain lines of a whole replay


class LiveView:
    """Shows a scoreboard while a replay runs; use as a context manager.

    Parameters
    ----------
    board
        What is shown.
    enabled
        ``False``: silent.
    console
        Default: standard error, so that what a program prints stays clean.
    """

    def __init__(self, board: Scoreboard, *, enabled: bool, console: Console | None = None) -> None:
        self._board = board
        self._console = console or Console(stderr=True)
        self._enabled = enabled and board.total > 0
        self._said_at = 0.0
        self._live = (
            Live(get_renderable=self._table, console=self._console, refresh_per_second=4, transient=False)
            if self._enabled and self._console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def advance(self) -> None:
        """One session is done."""
        board = self._board
        board.done += 1
        step = max(1, board.total // _LINES)
        if self._enabled and self._live is None and (board.done % step == 0 or board.done == board.total):
            self._console.print(as_line(board.snapshot()), highlight=False, markup=False, soft_wrap=True)

    def waits(self, text: str) -> None:
        """What is waited for, and how long already; empty when the wait is over."""
        began, now = not self._board.waiting, time.monotonic()
        self._board.waiting = text
        if text and self._enabled and self._live is None and (began or now > self._said_at + _WAIT_LINE_S):
            self._said_at = now
            self._console.print(f"replay: {text}", highlight=False, markup=False, soft_wrap=True)

    def _table(self) -> Group:
        return as_table(self._board.snapshot())


def as_table(seen: Snapshot) -> Group:
    """A snapshot for a terminal."""
    day = "-" if seen.session is None else f"{seen.session:%Y-%m-%d}"
    table = Table(
        title=f"session {day}, {seen.done} of {seen.total} done; weight epoch {seen.epoch}", title_justify="left"
    )
    for name in ("arm", "share", "weight", "requests", "failed", "p50 ms", "p95 ms", "right directions, same bars"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for arm in seen.arms:
        table.add_row(*_cells(arm))
    lost = f", {seen.unattributed} of no arm" if seen.unattributed else ""
    failed = Text(f"{seen.requests:,} requests, {seen.failed:,} failed{lost}", style="red" if seen.failed else "")
    differences = [Text(line) for line in _differences(seen.differences)]
    waiting = [Text(seen.waiting, style="yellow")] if seen.waiting else []
    return Group(table, failed, *differences, Text(seen.verdict, style="bold"), *waiting)


def as_line(seen: Snapshot) -> str:
    """A snapshot in one line, for logs."""
    arms = "; ".join(
        f"{arm.model} {_percent(arm.share)} of {arm.weight:.0%}, p50 {_ms(arm, 'p50')} p95 {_ms(arm, 'p95')} ms"
        for arm in seen.arms
    )
    day = "-" if seen.session is None else f"{seen.session:%Y-%m-%d}"
    said = f"replay {day} {seen.done}/{seen.total}: {seen.requests} requests, {seen.failed} failed; {arms}"
    return f"{said}; {'; '.join(_differences(seen.differences))}; {seen.verdict}"


def _cells(arm: ArmLine) -> tuple[str, ...]:
    return (
        f"{arm.model} ({arm.role})",
        _percent(arm.share),
        f"{arm.weight:.0%}",
        f"{arm.requests:,}",
        f"{arm.failed:,}",
        _ms(arm, "p50"),
        _ms(arm, "p95"),
        _interval(arm.accuracy),
    )


def _differences(found: Mapping[str, Interval]) -> list[str]:
    """One line a challenger; the last says what they are."""
    if not found:
        return ["challenger minus champion: not known yet"]
    names = list(found) if len(found) > 1 else ["challenger"]
    said = [
        f"{name} minus champion {100 * one.estimate:+.1f} pp [{100 * one.low:+.1f}, {100 * one.high:+.1f}] on "
        f"{one.days} days"
        for name, one in zip(names, found.values(), strict=True)
    ]
    return [*said[:-1], f"{said[-1]} (95 %, by day; for the eye, not for a decision)"]


def _interval(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.estimate:.1%} [{interval.low:.1%}, {interval.high:.1%}]"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _ms(arm: ArmLine, name: str) -> str:
    return f"{1000 * arm.latency[name]:.1f}" if arm.latency else "-"
