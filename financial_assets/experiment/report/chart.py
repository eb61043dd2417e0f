"""What a plot of the page consists of, and what plots share."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from financial_assets.experiment.evaluation.evaluation import Evaluation
from financial_assets.experiment.report.style import FURTHER_COLOURS, ROLE_COLOURS

__all__ = ["Chart", "chart", "colours_of", "percent"]


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
