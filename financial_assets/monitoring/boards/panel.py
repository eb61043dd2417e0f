"""What a board is made of: rows of panels, each with its queries, its unit, and what it tells in plain English."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

Unit = Literal["number", "percent", "ratio", "seconds", "per second", "sessions"]
"""``percent`` is out of 100, ``ratio`` out of 1; both are shown in percent."""

Kind = Literal["series", "now"]
"""How a panel is drawn: values over time, or the latest ones."""

Color = Literal["green", "orange", "red", "blue"]

_MOST_BESIDE = 4
_NAME = re.compile(r"(?<![\w:.])[A-Za-z_:][A-Za-z0-9_:]*")
_STRING, _BRACES, _DURATION = re.compile(r'"[^"]*"'), re.compile(r"\{[^}]*\}"), re.compile(r"\[[^\]]*\]")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_WORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right"}


@dataclass(frozen=True)
class Query:
    """One query of a panel.

    Attributes
    ----------
    promql
        As Prometheus takes it.
    legend
        Name of each series that it answers; ``{{label}}`` stands for the value of a label.
    """

    promql: str
    legend: str

    def named(self, labels: Mapping[str, str]) -> str:
        """The legend of a series with these labels."""
        return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), self.legend).strip()

    @property
    def metrics(self) -> frozenset[str]:
        """Names of the metrics that it reads."""
        text = self.promql
        for pattern in (_STRING, _BRACES, _DURATION, _GROUPING):
            text = pattern.sub(" ", text)
        names = ((found[0], text[found.end() :].lstrip()[:1]) for found in _NAME.finditer(text))
        # What is called is a function or an aggregation; scalar arguments are numbers.
        return frozenset(name for name, after in names if after != "(" and name not in _WORDS)


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes
    ----------
    title
        A few words.
    description
        What it tells and what to look for, in sentences.
    queries
        All are drawn into it.
    unit
        Of its values.
    kind
        See :data:`Kind`.
    thresholds
        (value, colour): from that value up; below the first one values are ``base``.
    base
        Colour below the first threshold.
    words
        Value -> what is shown instead of it.
    lowest, highest
        Ends of the axis; ``None``: as the values have it.
    needs
        Process that must run for it to have data besides the exporter: ``envoy``, ``mlserver``, ``api``; empty: none.
    """

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: Unit = "number"
    kind: Kind = "series"
    thresholds: tuple[tuple[float, Color], ...] = ()
    base: Color = "green"
    words: Mapping[float, str] = field(default_factory=dict)
    lowest: float | None = None
    highest: float | None = None
    needs: str = ""

    def color(self, value: float) -> Color:
        """The colour of a value."""
        reached: list[Color] = [color for start, color in self.thresholds if value >= start]
        return reached[-1] if reached else self.base


@dataclass(frozen=True)
class Row:
    """Panels below one heading."""

    title: str
    panels: tuple[Panel, ...]

    @property
    def lines(self) -> tuple[tuple[Panel, ...], ...]:
        """The panels line by line: at most four beside each other, and no line much shorter than the one above it."""
        count = -(-len(self.panels) // _MOST_BESIDE)
        each = -(-len(self.panels) // count) if count else 1
        return tuple(self.panels[start : start + each] for start in range(0, len(self.panels), each))


@dataclass(frozen=True)
class Board:
    """One board.

    Attributes
    ----------
    name
        Its name in addresses, file names and on the command line.
    title
        Its heading.
    question
        What it answers, in a sentence.
    rows
        From top to bottom.
    """

    name: str
    title: str
    question: str
    rows: tuple[Row, ...]

    @property
    def panels(self) -> Iterator[Panel]:
        """All panels, in order."""
        return (panel for row in self.rows for panel in row.panels)


def now(
    title: str,
    description: str,
    *queries: Query,
    unit: Unit = "number",
    thresholds: tuple[tuple[float, Color], ...] = (),
    base: Color = "green",
    words: Mapping[float, str] | None = None,
    needs: str = "",
) -> Panel:
    """A panel of the latest values; without thresholds they are blue, since nothing says which are good."""
    base = base if thresholds else "blue"
    return Panel(title, description, queries, unit, "now", thresholds, base, words or {}, needs=needs)


def series(
    title: str,
    description: str,
    *queries: Query,
    unit: Unit = "number",
    lowest: float | None = None,
    highest: float | None = None,
    needs: str = "",
) -> Panel:
    """A panel of values over time."""
    return Panel(title, description, queries, unit, lowest=lowest, highest=highest, needs=needs)
