"""The page: all worlds, their tables, and what they show."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.results import sentences, tables
from benchmarks.results.judging import (
    Comparison,
    best_ranking,
    coverages,
    direction_comparisons,
    level_for,
    risk_comparisons,
)
from benchmarks.results.worlds import World
from financial_assets.models.walk_forward.quantile_heads import realised_variances
from financial_assets.models.walk_forward.report import WalkForwardReport, make_report
from financial_assets.models.walk_forward.run import WalkForward
from financial_assets.portfolio.economics.assumptions import Assumptions
from financial_assets.portfolio.economics.evaluate import economics_of
from financial_assets.portfolio.figures import Confidence

HOW_TO_READ = """\
Every model is fitted on the sessions up to the cut-off of a fold, as in production, and judged on decisions after it
([how](walk-forward.md)). Scores are over the decisions of all folds, with 95 % intervals in brackets; the day is the
unit, because stocks move together. QLIKE, log loss, Brier, pinball (in units of the causal volatility) and FZ0 (the
joint loss of value at risk and expected shortfall) are losses: lower is better. QLIKE is of the variance that the 5 and
95 % quantiles imply, against that of the sessions' ranges.

"The best variant" is chosen on the sessions that it is judged on. Its intervals are therefore wider: those of each
comparison hold for all variants at once (Bonferroni). A gain is the rival's loss less the variant's: above 0, the
variant is better. A value at risk in bold is off: the promised share lies outside its 95 % band, which of twenty
happens to one by chance. Sentences are made from the intervals by the program.

The heavier variants are left out for their time; `make results RESULTS="--variants ... --output mine.md"` has any of
them. The simulated universe has three folds of 50 decisions in place of five of 30, for the same reason.
"""


def results_page(worlds: Sequence[tuple[World, WalkForward]], command: str) -> str:
    """The page in Markdown; the same forecasts give the same text.

    Parameters
    ----------
    worlds
        Each with a walk-forward whose folds are there.
    command
        That makes the page.
    """
    sections = [_section(world, walk) for world, walk in worlds]
    lines = [
        "# Results",
        "",
        f"Written by `{command}`: change the models and run it again, do not edit.",
        "",
        "## What the intervals carry",
        "",
        *(f"**{world.title}.** {' '.join(said)}\n" for (world, _), (said, _) in zip(worlds, sections, strict=True)),
        "## How to read this page",
        "",
        HOW_TO_READ,
    ]
    for _, body in sections:
        lines += body
    return "\n".join(lines).rstrip() + "\n"


def _section(world: World, walk: WalkForward) -> tuple[list[str], list[str]]:
    """Sentences and body of one world."""
    report, variants = make_report(walk), [name for name in walk.models if name != "baselines"]
    order = [*variants, *sorted(set(report.forecasts["model"]) - set(variants))]
    risks = risk_comparisons(report.forecasts, realised_variances(walk.panel), variants)
    directions = direction_comparisons(report.forecasts, variants)
    covered = coverages(report.forecasts)
    safest = next(one.best for one in risks if one.loss == "pinball")
    # The variant that trades is chosen by what it says of directions, never by what it earned.
    trading = [name for name in variants if name != directions[0].best]
    economics = economics_of(
        report.forecasts[report.forecasts["model"].isin(variants)],
        walk.panel,
        Assumptions(books=("direction", "market_neutral")),
        leading=[directions[0].best, *trading],
        confidence=Confidence(level=level_for(len(variants))),
    )
    said = [
        *sentences.direction_sentences(directions),
        sentences.ranking_sentence(best_ranking(report.forecasts, variants), len(walk.panel.tickers)),
        *sentences.risk_sentences(risks),
        sentences.coverage_sentence(covered, safest),
        f"Money: {economics.sentence}",
    ]
    body = [f"## {world.title}", "", world.description, "", *tables.fold_lines(walk), ""]
    body += _direction_and_ranking(report, order, len(walk.panel.tickers))
    for head, title in (("return_quantiles", "the next session"), ("return_quantiles_5d", "five sessions")):
        body += [f"### Risk: {title}", "", *tables.risk_lines(report.scores, order, head), ""]
        tested = tables.coverage_lines(covered, order, head)
        body += [*(tested or ["Too few sessions for tests of the value at risk."]), ""]
    body += _rivalry([*directions, *risks], report)
    body += [
        "### Money",
        "",
        f"After commission, spread, impact and borrowing; {level_for(len(variants)):.1%} intervals.",
        "",
        *tables.economics_lines(economics),
        "",
    ]
    return said, [*body, *_silent(report)]


def _direction_and_ranking(report: WalkForwardReport, order: Sequence[str], tickers: int) -> list[str]:
    ranked = tables.ranking_lines(report.scores, order) or [f"{tickers} tickers are too few to rank."]
    return [
        "### Direction",
        "",
        *tables.direction_lines(report.scores, order),
        "",
        "### Ranking",
        "",
        *ranked,
        "",
    ]


def _rivalry(comparisons: Sequence[Comparison], report: WalkForwardReport) -> list[str]:
    return [
        "### The best variant against its rivals",
        "",
        *tables.comparison_lines(comparisons),
        "",
        "### Model confidence sets",
        "",
        "Among whom the best model is, at an error rate of 10 %.",
        "",
        *tables.confidence_set_lines(report.sets),
        "",
    ]


def _silent(report: WalkForwardReport) -> list[str]:
    silent = sorted({reason for reasons in report.folds["silent"] if reasons for reason in str(reasons).split("; ")})
    return [f"Without a forecast in some fold: {', '.join(silent)}.", ""] if silent else []
