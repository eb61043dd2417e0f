"""How the report's plots look, and how they become images."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

__all__ = ["FURTHER_COLOURS", "INK", "ROLE_COLOURS", "RULE", "figure", "legend", "png_of", "svg_of", "time_axis"]

ROLE_COLOURS = {"champion": "#1f5fa8", "challenger": "#d1661a", "shadow": "#3a8f7b", "baseline": "#7b8794"}
FURTHER_COLOURS = {
    "challenger": ("#8a4fbf", "#b3345f", "#8c7a00", "#5a6b1f"),
    "shadow": ("#7a9a2e", "#2a9fb5", "#5c6f8a"),
}
"""Colours of the second arm of a role and those after it."""
INK, RULE = "#1f2933", "#cbd2d9"
_FEW = 4  # names that a legend inside a plot has room for
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#e4e7eb",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "none",
}


def figure(height: float = 3.2, width: float = 5.0) -> tuple[Figure, Any]:
    """An empty figure with one set of axes; inches."""
    made = Figure(figsize=(width, height), layout="constrained")
    return made, made.add_subplot()


def legend(axes: Any, *, below: bool = False) -> None:
    """A legend, if there is anything to name; below the plot if wished, or if it would cover much of it."""
    handles, labels = axes.get_legend_handles_labels()
    if below or len(labels) > _FEW:
        axes.figure.legend(handles, labels, loc="outside lower left", ncols=2)
    elif labels:
        axes.legend(loc="best")


def time_axis(axes: Any) -> None:
    """A few dates, shortly written."""
    locator = AutoDateLocator(maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def png_of(draw: Callable[[], Figure], name: str, dpi: int = 110) -> bytes:
    """A plot as a PNG image."""
    return _render(draw, name, format="png", dpi=dpi)


def svg_of(draw: Callable[[], Figure], name: str) -> str:
    """A plot as an ``<svg>`` element to be put into a page; ``name`` keeps its ids apart from other plots'."""
    text = _render(draw, name, format="svg", metadata={"Date": None}).decode()
    text = re.sub(r'<g id="[^"]*">', "<g>", text[text.index("<svg") :])  # ids would repeat from plot to plot
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r'\1 role="img"', re.sub(r' height="[^"]*pt"', "", text, count=1), count=1
    )


def _render(draw: Callable[[], Figure], name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    style: dict[Any, Any] = {**_STYLE, "svg.hashsalt": name}
    with mpl.rc_context(style):  # ids that are the same each time, and differ between plots
        draw().savefig(buffer, **options)
    return buffer.getvalue()
