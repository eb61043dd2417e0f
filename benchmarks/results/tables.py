"""Tables of one world in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from benchmarks.results.judging import Comparison, Coverage
from financial_assets.models.walk_forward.quantile_heads import ALL
from financial_assets.models.walk_forward.run import WalkForward
from financial_assets.portfolio.economics.results import Economics
from financial_assets.portfolio.economics.words import TITLES
from financial_assets.scoring.intervals import Interval

_LOSS_TITLES = {"log_loss": "log loss", "pinball_normalised": "pinball", "fz_lower_5%": "FZ0 of the 5 % tail"}
HEAD_TITLES = {"return_quantiles": "next session", "return_quantiles_5d": "five sessions", "direction": "direction"}

_DIRECTION = (
    ("accuracy", "accuracy"),
    ("brier", "Brier"),
    ("log_loss", "log loss"),
    ("mcc", "MCC"),
    ("auc", "AUC"),
)
_RANKING = (("rank_ic", "rank IC"), ("rank_icir", "rank ICIR, a session"), ("ic", "IC"), ("icir", "ICIR, a session"))
_RISK = (("qlike", "QLIKE"), ("pinball_normalised", "pinball, volatilities"), ("fz_lower_5%", "FZ0 of the 5 % tail"))


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table; the first column is text, the others are numbers."""
    lines = [f"| {' | '.join(header)} |", f"| --- | {' | '.join('---:' for _ in header[1:])} |"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def number(value: float, digits: int = 4) -> str:
    """A number, empty where it is unknown; zero has no sign."""
    if pd.isna(value):
        return ""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def banded(interval: Interval, digits: int = 4) -> str:
    """An estimate with its interval."""
    return f"{number(interval.estimate, digits)} [{number(interval.low, digits)}, {number(interval.high, digits)}]"


def percent(interval: Interval) -> str:
    """A share with its band."""
    return f"{interval.estimate:.1%} [{interval.low:.1%}, {interval.high:.1%}]"


def fold_lines(walk: WalkForward) -> list[str]:
    """The folds: what each learns from, and the sessions on which it is judged."""
    days = walk.panel.sessions
    rows = [
        (
            fold.name,
            f"{days[fold.training[0]]:%Y-%m-%d}",
            f"{days[fold.cutoff]:%Y-%m-%d}",
            f"{days[fold.test[0]]:%Y-%m-%d}",
            f"{days[fold.test[-1]]:%Y-%m-%d}",
            str(len(fold.test)),
        )
        for fold in walk.folds
    ]
    return markdown(("fold", "learns from", "cut-off", "first decision", "last decision", "decisions"), rows)


def direction_lines(scores: pd.DataFrame, order: Sequence[str]) -> list[str]:
    """Scores of the probabilities."""
    return _score_lines(scores, order, "direction", _DIRECTION)


def ranking_lines(scores: pd.DataFrame, order: Sequence[str]) -> list[str]:
    """Information coefficients; empty in a universe too small to rank."""
    return _score_lines(scores, order, "excess_return", _RANKING)


def risk_lines(scores: pd.DataFrame, order: Sequence[str], head: str) -> list[str]:
    """Scores of the quantiles of one horizon, and of the variance that they imply."""
    return _score_lines(scores, order, head, _RISK)


def coverage_lines(coverages: Sequence[Coverage], order: Sequence[str], head: str) -> list[str]:
    """Share below the 1 and 5 % quantiles with bands, and p-values over the universe, of one horizon."""
    own = {(one.model, one.promised): one for one in coverages if one.head == head}
    rows: list[list[str]] = []
    for model in order:
        cells: list[str] = []
        for promised in (0.01, 0.05):
            one = own.get((model, promised))
            if one is None:
                continue
            share = percent(one.share) if one.holds else f"**{percent(one.share)}**"
            cells += [share, number(one.found.coverage, 2), number(one.found.independence, 2)]
        if cells:
            rows.append([model, *cells])
    if not rows:
        return []
    return markdown(
        ("model", *(f"{name} {level} %" for level in (1, 5) for name in ("below", "coverage p,", "independence p,"))),
        rows,
    )


def comparison_lines(comparisons: Sequence[Comparison]) -> list[str]:
    """The best variant against each rival."""
    rows = [
        (HEAD_TITLES[one.head], one.loss, one.best, one.rival, banded(one.gain), one.verdict) for one in comparisons
    ]
    return markdown(("question", "loss", "best variant", "rival", "gain over the rival", "the variant is"), rows)


def confidence_set_lines(sets: pd.DataFrame) -> list[str]:
    """Who the best model may be, loss by loss."""
    pooled = sets[sets["fold"] == ALL]
    rows: list[tuple[str, str, str, str]] = []
    for key, part in pooled.groupby(["head", "loss"], sort=False):
        inside, outside = (part[part["included"] == wanted]["model"].tolist() for wanted in (True, False))
        head, loss = map(str, key)
        rows.append((HEAD_TITLES[head], _LOSS_TITLES[loss], ", ".join(inside), ", ".join(outside) or "nobody"))
    return [
        "| question | loss | may be the best | excluded |",
        "| --- | --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def economics_lines(economics: Economics) -> list[str]:
    """Net returns a year of all books under market costs."""
    rows: list[tuple[str, ...]] = []
    for own in economics.books:
        if own.costs == "market" and own.figures is not None:
            mean, sharpe = own.figures.net.mean_return, own.figures.net.sharpe
            even = own.break_even_bps
            rows.append(
                (
                    own.model,
                    TITLES[own.book],
                    "" if mean is None else percent(mean),
                    "" if sharpe is None else banded(sharpe, 2),
                    "" if even is None else banded(even, 1),
                )
            )
    for held in economics.alternatives:
        if held.costs == "market" and held.figures.mean_return is not None:
            sharpe = held.figures.sharpe
            rows.append(
                (held.name, "", percent(held.figures.mean_return), "" if sharpe is None else banded(sharpe, 2), "")
            )
    return markdown(("model", "book", "net return a year", "Sharpe ratio", "break-even cost, bp a side"), rows)


def _score_lines(scores: pd.DataFrame, order: Sequence[str], head: str, wanted: Sequence[tuple[str, str]]) -> list[str]:
    pooled = scores[(scores["fold"] == ALL) & (scores["head"] == head)].set_index(["model", "score"])
    rows: list[list[str]] = []
    for model in order:
        cells: list[str] = []
        for score, _ in wanted:
            if (model, score) in pooled.index:
                low, estimate, high = (float(pooled.loc[(model, score), name]) for name in ("low", "estimate", "high"))  # type: ignore[arg-type]
                cells.append(banded(Interval(estimate, low, high, 0, 0, 0.95)) if low == low else number(estimate))
            else:
                cells.append("")
        if any(cells):
            rows.append([model, *cells])
    return markdown(("model", *(title for _, title in wanted)), rows) if rows else []
