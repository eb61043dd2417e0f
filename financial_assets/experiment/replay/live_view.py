"""The live view of a replay: a table on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from financial_assets.experiment.replay.scoreboard import ArmLine, Scoreboard, Snapshot
from financial_assets.scoring.intervals import Interval

_WAIT_LINE_S = 10.0
_LINES = 10  # plain lines per replay


class LiveView:
    """Shows a scoreboard while a replay runs; use as a context manager.

    Parameters
    ----------
    board
        What is shown.
    console
        Where; ``None`` for silence.
    """

    def __init__(self, board: Scoreboard, console: Console | None) -> None:
        self._board, self._console = board, console
        self._printed_at = 0.0
        self._live: Live | None = None
        if console is not None and console.is_terminal:
            self._live = Live(get_renderable=lambda: as_table(board.snapshot()), console=console, refresh_per_second=4)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def advance(self) -> None:
        """One session is done."""
        board = self._board
        board.done += 1
        step = max(1, board.total // _LINES)
        if board.done % step == 0 or board.done == board.total:
            self._print(lambda: as_line(board.snapshot()))

    def waits(self, text: str) -> None:
        """What the replay waits for, and how long already; empty when the wait is over."""
        is_new, now = not self._board.waiting, time.monotonic()
        self._board.waiting = text
        if text and (is_new or now > self._printed_at + _WAIT_LINE_S):
            self._printed_at = now
            self._print(lambda: f"replay: {text}")

    def _print(self, line: Callable[[], str]) -> None:
        """Print where no live table shows it already; the line is made only then."""
        if self._console is not None and self._live is None:
            self._console.print(line(), highlight=False, markup=False, soft_wrap=True)


def as_table(snapshot: Snapshot) -> Group:
    """A snapshot for a terminal."""
    day = "-" if snapshot.session is None else f"{snapshot.session:%Y-%m-%d}"
    title = f"session {day}, {snapshot.done} of {snapshot.total} done; weight epoch {snapshot.epoch}"
    table = Table(title=title, title_justify="left")
    for name in ("arm", "share", "weight", "requests", "failed", "p50 ms", "p95 ms", "right directions, same bars"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for arm in snapshot.arms:
        table.add_row(
            f"{arm.model} ({arm.role})",
            _percent(arm.share),
            f"{arm.weight:.0%}",
            f"{arm.requests:,}",
            f"{arm.failed:,}",
            _ms(arm, "p50"),
            _ms(arm, "p95"),
            _interval(arm.accuracy),
        )
    no_arm = f", {snapshot.unattributed} without an arm" if snapshot.unattributed else ""
    totals = f"{snapshot.requests:,} requests, {snapshot.failed:,} failed{no_arm}"
    return Group(
        table,
        Text(totals, style="red" if snapshot.failed else ""),
        *map(Text, _differences(snapshot.differences)),
        Text(snapshot.verdict, style="bold"),
        *([Text(snapshot.waiting, style="yellow")] if snapshot.waiting else []),
    )


def as_line(snapshot: Snapshot) -> str:
    """A snapshot in one line, for logs."""
    arms = "; ".join(
        f"{arm.model} {_percent(arm.share)} of {arm.weight:.0%}, p50 {_ms(arm, 'p50')} p95 {_ms(arm, 'p95')} ms"
        for arm in snapshot.arms
    )
    day = "-" if snapshot.session is None else f"{snapshot.session:%Y-%m-%d}"
    progress = f"replay {day} {snapshot.done}/{snapshot.total}"
    totals = f"{snapshot.requests} requests, {snapshot.failed} failed"
    return f"{progress}: {totals}; {arms}; {'; '.join(_differences(snapshot.differences))}; {snapshot.verdict}"


def _differences(differences: Mapping[str, Interval]) -> list[str]:
    """One line per challenger; the last one adds what the figures are."""
    if not differences:
        return ["challenger minus champion: not known yet"]
    names = list(differences) if len(differences) > 1 else ["challenger"]
    lines = [
        f"{name} minus champion {100 * interval.estimate:+.1f} pp [{100 * interval.low:+.1f}, "
        f"{100 * interval.high:+.1f}] on {interval.days} days"
        for name, interval in zip(names, differences.values(), strict=True)
    ]
    return [*lines[:-1], f"{lines[-1]} (95 %, by day; for information, not for a decision)"]


def _interval(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.estimate:.1%} [{interval.low:.1%}, {interval.high:.1%}]"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _ms(arm: ArmLine, name: str) -> str:
    return f"{1000 * arm.latency[name]:.1f}" if arm.latency else "-"
