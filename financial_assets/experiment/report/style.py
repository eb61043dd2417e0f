"""What the report's plots share: how they look, what they consist of, and how they become images."""

from __future__ import annotations

import io
import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from financial_assets.experiment.evaluation.evaluation import Evaluation

PALETTE: Mapping[str, tuple[str, str]] = {
    "page": ("#ffffff", "#14191f"),
    "panel": ("#f5f7f9", "#1c232b"),
    "code": ("#eef1f4", "#262f39"),
    "ink": ("#1f2933", "#e6eaee"),
    "soft": ("#52606d", "#a9b4bf"),
    "rule": ("#cbd2d9", "#46525e"),
    "grid": ("#e4e7eb", "#2c353f"),
    "good": ("#17704f", "#6fcfa6"),
    "bad": ("#b3261e", "#ff9a90"),
    "open": ("#8a5c00", "#e3b341"),
    "champion": ("#1f5fa8", "#7fb2ee"),
    "challenger": ("#b8540f", "#f0a05a"),
    "challenger-2": ("#8a4fbf", "#c79df0"),
    "challenger-3": ("#b3345f", "#f28fb1"),
    "challenger-4": ("#776700", "#d3c04c"),
    "challenger-5": ("#5a6b1f", "#b3c765"),
    "shadow": ("#2b7565", "#6cc7b0"),
    "shadow-2": ("#5f7a1f", "#a9cc5a"),
    "shadow-3": ("#1b7386", "#67c5da"),
    "shadow-4": ("#5c6f8a", "#a5b6cf"),
    "reference": ("#66727f", "#9aa6b2"),
}
"""Name -> colour on a light and on a dark page. Plots are drawn in the light ones, which are all different, so that
:func:`svg_of` can put the page's variables in their place."""

INK, RULE = PALETTE["ink"][0], PALETTE["rule"][0]
ROLE_COLOURS = {
    "champion": PALETTE["champion"][0],
    "challenger": PALETTE["challenger"][0],
    "shadow": PALETTE["shadow"][0],
    "baseline": PALETTE["reference"][0],
}
FURTHER_COLOURS = {
    role: tuple(light for name, (light, _) in PALETTE.items() if name.startswith(f"{role}-"))
    for role in ("challenger", "shadow")
}
"""Colours of the second arm of a role and those after it."""

_VARIABLES = {light: f"var(--{name})" for name, (light, _) in PALETTE.items()}
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
    "grid.color": PALETTE["grid"][0],
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "none",
}


def css_variables(scheme: Literal["light", "dark"]) -> str:
    """The palette as CSS custom properties."""
    place = ("light", "dark").index(scheme)
    return " ".join(f"--{name}: {colours[place]};" for name, colours in PALETTE.items())


def figure(height: float = 3.2, width: float = 5.0) -> tuple[Figure, Any]:
    """An empty figure with one set of axes; inches."""
    drawing = Figure(figsize=(width, height), layout="constrained")
    return drawing, drawing.add_subplot()


def legend(axes: Any, *, below: bool = False) -> None:
    """A legend, if there is anything to name; below the plot on request, or if it would cover much of it."""
    handles, labels = axes.get_legend_handles_labels()
    if below or len(labels) > _FEW:
        axes.figure.legend(handles, labels, loc="outside lower left", ncols=2)
    elif labels:
        axes.legend(loc="best")


def time_axis(axes: Any) -> None:
    """A few dates in short form."""
    locator = AutoDateLocator(maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def svg_of(draw: Callable[[], Figure], name: str, title: str, description: str) -> str:
    """A plot as an ``<svg>`` element for a page that defines the palette's variables.

    Parameters
    ----------
    draw
        Draws it.
    name
        Keeps its ids apart from other plots'.
    title, description
        What a screen reader announces: the subject, and where the figures are.
    """
    text = _render(draw, name, format="svg", metadata={"Date": None}).decode()
    head, _, body = text[text.index("<svg") :].partition(">")
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*">', "<g>", body)  # Matplotlib numbers groups alike in every plot
    body = re.sub(r"#[0-9a-f]{6}\b", lambda match: _VARIABLES.get(match[0], match[0]), body)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None  # Matplotlib always writes one; without width and height the plot scales with the page
    return (
        f'<svg {box[0]} role="img" aria-labelledby="{name}-title {name}-description" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-description">{escape(description)}</desc>'
        f"{body}"
    )


def standalone(element: str) -> bytes:
    """An element of :func:`svg_of` as a picture for places without the page's palette: light, in its own size."""
    picture = re.sub(r"var\(--([a-z0-9-]+)\)", lambda match: PALETTE[match[1]][0], element)
    box = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', picture)
    if box is None:
        raise ValueError("the element has no view box that begins at its origin: it is not one of svg_of")
    width, height = (f"{float(points) * 4 / 3:.0f}" for points in box.groups())  # CSS pixels
    paper = f'<rect width="100%" height="100%" fill="{PALETTE["page"][0]}"/>'
    head, end, body = picture.partition("</desc>")
    return (head.replace("<svg ", f'<svg width="{width}" height="{height}" ', 1) + end + paper + body).encode()


def _render(draw: Callable[[], Figure], name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    style: dict[Any, Any] = {**_STYLE, "svg.hashsalt": name}  # clip paths get the same ids in every run
    with mpl.rc_context(style):
        draw().savefig(buffer, **options)
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class Chart:
    """A plot of the page.

    Attributes
    ----------
    title
        Its caption.
    description
        What somebody who does not see it is told: what it shows, and in which table the figures are.
    draw
        Draws it from an evaluation, also from one without data.
    """

    title: str
    description: str
    draw: Callable[[Evaluation], Figure]


def chart(title: str, description: str) -> Callable[[Callable[[Evaluation], Figure]], Chart]:
    """Make a plot of the function that draws it."""
    return lambda draw: Chart(title, description, draw)


def percent(value: float, _: int | None) -> str:
    """A tick, not rounded: 47.5 % is not 48 %."""
    return f"{round(100 * value, 6):g}%"


def colours_of(evaluation: Evaluation) -> dict[str, str]:
    """By forecaster: that of its role; further challengers and shadows have their own, arms of the past are grey."""
    roles = {skill.name: skill.role for skill in evaluation.skills} | {
        arm["model"]: arm["role"] for arm in evaluation.arms
    }
    colours = {name: ROLE_COLOURS[role] for name, role in roles.items()}
    for role, further in FURTHER_COLOURS.items():
        models = [arm["model"] for arm in evaluation.arms if arm["role"] == role]
        colours |= dict(zip(models[1:], itertools.cycle(further), strict=False))
    return defaultdict(lambda: ROLE_COLOURS["baseline"], colours)
