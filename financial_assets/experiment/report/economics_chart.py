"""The plot of what the books would have been worth, beside what one could have held."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from financial_assets.experiment.evaluation.evaluation import Evaluation
from financial_assets.experiment.report import style
from financial_assets.portfolio.economics.assumptions import BookName
from financial_assets.portfolio.economics.words import TITLES
from financial_assets.portfolio.performance import equity_curve

_TALLEST = 1e12  # an axis cannot be drawn up to the largest float
_HEIGHT = 1.9


@style.chart(
    "What each book would have been worth, after market costs",
    "Return so far of the champion's and the challengers' books, of holding all tickers, of the benchmark where the "
    "panel has it, and of cash, one plot a book. Figures: tables of net return and risk.",
)
def economics(evaluation: Evaluation) -> Figure:
    """Equity curves of the routed arms' books under market costs, with the alternatives beside them."""
    found = evaluation.economics
    arms = {arm["model"] for arm in evaluation.arms if arm["role"] in ("champion", "challenger")}
    own = [] if found is None else [book for book in found.books if book.costs == "market" and book.model in arms]
    shown: list[BookName] = list(dict.fromkeys(book.book for book in own))
    drawing = Figure(figsize=(5.0, 0.7 + _HEIGHT * max(len(shown), 1)), layout="constrained")
    panels = drawing.subplots(max(len(shown), 1), sharex=True, squeeze=False)[:, 0]
    for axes in panels:
        axes.axhline(0, color=style.INK, linewidth=0.8)
        axes.yaxis.set_major_formatter(style.percent)
        axes.set_ylabel("return so far")
        axes.grid(axis="y")
    if found is None or not shown:
        return drawing
    colours, days = style.colours_of(evaluation), np.array(found.sessions, dtype="datetime64[D]")
    beside = [held for held in found.alternatives if held.costs == "market"]
    for axes, name in zip(panels, shown, strict=True):
        lines = [(book.model, book.daily, colours[book.model], "-") for book in own if book.book == name]
        soft = style.PALETTE["soft"][0]
        lines += [(held.name, held.daily, soft, how) for held, how in zip(beside, (":", "-.", "--"), strict=False)]
        for label, daily, colour, line in lines:
            value = np.minimum(equity_curve(daily), _TALLEST)
            axes.plot(days, value - 1, line, color=colour, linewidth=1.3, label=label)
        axes.set_title(TITLES[name], fontsize=9)
    style.time_axis(panels[-1])
    handles, labels = panels[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower left", ncols=2)
    return drawing
