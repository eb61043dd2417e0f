"""Draws the pictures of docs/dashboards.md from what a running Prometheus answers to the panels' queries.

``python docs/draw_dashboards.py --url http://127.0.0.1:9090`` draws the last hour of a system that runs
(``financial-assets serve --with-monitoring`` prints the address); ``--minutes`` says how much of the past. The boards
are those that Grafana gets; only the drawing is matplotlib's, because Grafana is not needed to build the manual.
"""

from __future__ import annotations

import argparse
import io
import sys
import textwrap
import time
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.dates as mdates
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.gridspec import SubplotSpec
from PIL import Image

from financial_assets.monitoring.boards import BOARDS, Board, Panel
from financial_assets.monitoring.boards.values import words
from financial_assets.monitoring.prometheus import PrometheusClient, Series

IMAGES = Path(__file__).parent / "images"
MOST_BYTES = 150_000
STEPS = 120
"""Points in time of a line."""
MOST_LINES = 9
"""Values that have room in a panel of the present; the others are counted."""
COLORS = {"green": "#2b8a3e", "orange": "#d9730d", "red": "#c92a2a", "blue": "#1c5d99"}
LEGENDS = 8


def main() -> None:
    """Draw all boards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="base URL of the Prometheus that is asked")
    parser.add_argument("--minutes", type=float, default=60.0, help="how much of the past (default: 60)")
    chosen = parser.parse_args()
    client, end = PrometheusClient(chosen.url), time.time()
    for board in BOARDS:
        path = IMAGES / f"dashboard-{board.name}.png"
        draw(board, client, end - 60 * chosen.minutes, end, path)
        size = path.stat().st_size
        print(f"docs/images/{path.name}: {size:,} bytes")
        if size > MOST_BYTES:
            sys.exit(f"{path.name} is larger than {MOST_BYTES:,} bytes: make it smaller")


def draw(board: Board, client: PrometheusClient, start: float, end: float, path: Path) -> None:
    """Draw one board; a panel without data ends the program: its picture would show what nobody sees."""
    rows = [(row.title if not place else "", line) for row in board.rows for place, line in enumerate(row.lines)]
    # Lines over time need more room than a few values.
    heights = [2.75 if any(panel.kind == "series" for panel in panels) else 1.5 for _, panels in rows]
    with plt.rc_context({"font.size": 7, "axes.spines.top": False, "axes.spines.right": False}):
        figure = plt.figure(figsize=(13.0, sum(heights) + 0.6), layout="constrained")
        figure.suptitle(f"{board.title}: {board.question}", fontsize=11, fontweight="bold", x=0.01, ha="left")
        grid = figure.add_gridspec(len(rows), 1, height_ratios=heights)
        for place, (title, panels) in enumerate(rows):
            _draw_row(figure, grid[place, 0], panels, title, client, start, end)
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=95)
        plt.close(figure)
    Image.open(buffer).convert("RGB").quantize(96).save(path, optimize=True)


def _draw_row(
    figure: plt.Figure,
    where: SubplotSpec,
    panels: tuple[Panel, ...],
    title: str,
    client: PrometheusClient,
    start: float,
    end: float,
) -> None:
    inner, step = where.subgridspec(1, len(panels)), (end - start) / STEPS
    for column, panel in enumerate(panels):
        axes = figure.add_subplot(inner[0, column])
        found = [
            (query.named(series.labels), series)
            for query in panel.queries
            for series in client.over(query.promql, start, end, step)
            # Of what no longer is there nothing is shown as of now.
            if panel.kind == "series" or end - series.times[-1] <= 2 * step
        ]
        if not found:
            sys.exit(f"{panel.title} has no data: does all of it run ({panel.needs or 'the exporter'})?")
        above = f"{title.upper()}\n" if title and not column else "\n"
        axes.set_title(
            above + textwrap.fill(panel.title, 200 // len(panels)), loc="left", fontsize=7.5, fontweight="bold"
        )
        if panel.kind == "series":
            _lines(axes, panel, found)
        else:
            _values(axes, panel, found)


def _lines(axes: Axes, panel: Panel, found: list[tuple[str, Series]]) -> None:
    for place, (name, series) in enumerate(found):
        times = mdates.date2num([datetime.fromtimestamp(instant, UTC) for instant in series.times])
        label = textwrap.shorten(name, 44, placeholder="...") if place < LEGENDS else None
        axes.plot(times, series.values, linewidth=1.1, label=label)
    axes.xaxis.set_major_formatter(mdates.DateFormatter("%H:%M"))
    axes.xaxis.set_major_locator(mdates.AutoDateLocator(minticks=2, maxticks=6))
    axes.yaxis.set_major_formatter(lambda value, _: words(panel, value))
    axes.set_ylim(panel.lowest, panel.highest)
    axes.grid(alpha=0.25)
    axes.margins(y=0.15)
    more = f"and {len(found) - LEGENDS} more" if len(found) > LEGENDS else None
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.1), fontsize=5.5, frameon=False, ncols=2, title=more)


def _values(axes: Axes, panel: Panel, found: list[tuple[str, Series]]) -> None:
    axes.set_axis_off()
    shown = found[:MOST_LINES]
    size = 13 if len(shown) <= 3 else 9 if len(shown) <= 5 else 7
    for place, (name, series) in enumerate(shown):
        height = 0.9 - place * min(0.3, 0.98 / len(shown))
        value, color = words(panel, series.values[-1]), COLORS[panel.color(series.values[-1])]
        axes.text(
            0, height, value, transform=axes.transAxes, fontsize=size, color=color, fontweight="bold", va="center"
        )
        axes.text(0.36, height, textwrap.shorten(name, 42, placeholder="..."), transform=axes.transAxes, va="center")
    if len(found) > MOST_LINES:
        axes.text(0.36, -0.1, f"and {len(found) - MOST_LINES} more", transform=axes.transAxes, va="center")


if __name__ == "__main__":
    main()
