"""A board on the terminal: the latest value of each series beside a sparkline of its recent past."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from financial_assets.monitoring.boards.panel import Board, Panel, Row
from financial_assets.monitoring.boards.values import words
from financial_assets.monitoring.prometheus import PrometheusClient, Series

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 24
"""Characters of a sparkline."""
MOST_SERIES = 12
"""Series of a panel that are shown; the others are counted."""

_STYLES = {"green": "green", "orange": "yellow", "red": "bold red", "blue": "cyan"}


def sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """``values`` as at most ``width`` bars, the latest last; infinite ones are left out."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    # Of several values that share a character the latest counts.
    places = min(width, len(finite))
    shown = [finite[math.ceil((place + 1) * len(finite) / places) - 1] for place in range(places)]
    low, high = min(shown), max(shown)
    if high == low:
        return BARS[3] * places
    scale = 0.5 if math.isinf(high - low) else 1.0
    span = scale * high - scale * low
    return "".join(BARS[round((scale * value - scale * low) / span * (len(BARS) - 1))] for value in shown)


def draw(board: Board, client: PrometheusClient, span_s: float, now: Callable[[], float] = time.time) -> RenderableType:
    """The board as it is now.

    Parameters
    ----------
    board
        Which.
    client
        Asked once for each query.
    span_s
        Seconds of the past that a sparkline shows.
    now
        The current instant in seconds since 1970-01-01 UTC.

    Raises
    ------
    PrometheusError
        Prometheus does not answer.
    """
    parts: list[RenderableType] = [Text(board.title, style="bold"), Text(board.question, style="dim")]
    # Side by side where the terminal is wide enough.
    return Group(*parts, Columns([_row(row, client, span_s, now()) for row in board.rows]))


def _row(row: Row, client: PrometheusClient, span_s: float, now: float) -> Table:
    table = Table(title=row.title, title_justify="left", title_style="bold", show_header=False, expand=False)
    table.add_column("panel", overflow="fold", max_width=34)
    table.add_column("series", overflow="fold", max_width=52)
    table.add_column("now", justify="right", no_wrap=True)
    table.add_column("past", no_wrap=True)
    for panel in row.panels:
        lines = list(_lines(panel, client, span_s, now))
        for place, (name, value, past) in enumerate(lines):
            table.add_row(
                escape(panel.title) if not place else "", name, value, past, end_section=place == len(lines) - 1
            )
    return table


def _lines(panel: Panel, client: PrometheusClient, span_s: float, now: float) -> Iterator[tuple[str, Text, str]]:
    found: list[tuple[str, Series]] = []
    for query in panel.queries:
        # One question serves both: the latest value is the last one of the past.
        answers = client.over(query.promql, now - span_s, now, span_s / WIDTH)
        found += [
            (query.named(series.labels), series) for series in answers if now - series.times[-1] <= span_s / WIDTH
        ]
    if not found:
        yield "", Text("no data", style="dim"), f"needs {panel.needs}" if panel.needs else ""
        return
    for name, series in found[:MOST_SERIES]:
        value = series.values[-1]
        text = Text(words(panel, value), style=_STYLES[panel.color(value)] if panel.kind == "now" else "")
        yield escape(name), text, sparkline(series.values)
    if len(found) > MOST_SERIES:
        yield f"{len(found) - MOST_SERIES} more", Text(""), ""
