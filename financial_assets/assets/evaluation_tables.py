"""What ``ab_evaluation`` shows of an evaluation in Dagster: tables, and numbers that are plotted over time."""

import math

import pandas as pd

from financial_assets.experiment.evaluation.evaluation import Evaluation
from financial_assets.scoring.intervals import Interval


def skills_table(evaluation: Evaluation) -> pd.DataFrame:
    """Accuracy, probability score and profit of each forecaster."""
    rows = []
    for skill in evaluation.skills:
        accuracy, brier, pnl = skill.accuracy, skill.brier, skill.pnl
        rows.append(
            {
                "forecaster": skill.name,
                "role": "reference" if skill.role == "baseline" else skill.role,
                "accuracy": "" if accuracy is None else _percentages(accuracy),
                "Brier": "" if brier is None else f"{brier.estimate:.4f}",
                "share up": "" if skill.share_up is None else f"{skill.share_up:.1%}",
                "return after costs": "" if pnl is None else f"{pnl.total_return:.1%}",
                "Sharpe": "" if pnl is None else "not defined" if math.isnan(pnl.sharpe) else f"{pnl.sharpe:.2f}",
                "wiped out": "" if pnl is None else pnl.wiped_out or "no",
            }
        )
    return pd.DataFrame(rows)


def economics_table(evaluation: Evaluation) -> pd.DataFrame:
    """One row per model, book and costs; intervals in words."""
    books = () if evaluation.economics is None else evaluation.economics.books
    return pd.DataFrame(
        {
            "model": own.model,
            "book": own.book,
            "costs": own.costs,
            "return per year": _spread(figures.net.mean_return, ".1%"),
            "minus buy and hold": _spread(own.advantage_over("buy and hold"), ".1%"),
            "Sharpe": _spread(figures.net.sharpe, ".2f"),
            "deflated Sharpe": "" if figures.deflated_sharpe is None else f"{figures.deflated_sharpe:.2f}",
            "drawdown": _spread(figures.net.max_drawdown, ".1%"),
            "turnover": _spread(figures.turnover, ".1%"),
            "paid bp": f"{own.paid_bps:.1f}",
            "break-even bp": _spread(own.break_even_bps, ".1f"),
            "capacity": _spread(figures.capacity, ",.0f"),
        }
        for own in books
        if (figures := own.figures) is not None
    )


def _spread(value: Interval | None, form: str) -> str:
    return "" if value is None else f"{value.estimate:{form}} [{value.low:{form}}, {value.high:{form}}]"


def traffic_table(evaluation: Evaluation) -> pd.DataFrame:
    """Routed requests and their latency by arm."""
    return pd.DataFrame(
        {
            "model": arm.model,
            "requests": arm.requests,
            "failed": arm.failed + arm.rejected + arm.timeout,
            "p50 ms": f"{1000 * arm.latency_p50:.2f}",
            "p95 ms": f"{1000 * arm.latency_p95:.2f}",
            "p99 ms": f"{1000 * arm.latency_p99:.2f}",
        }
        for arm in evaluation.traffic
    )


def coverage_table(evaluation: Evaluation) -> pd.DataFrame:
    """Value at risk of all tickers, over one and five sessions, by arm and tail."""
    columns = ("model", "tail", "sessions", "promised beyond", "beyond", "frequency p, Holm")
    rows = [
        (
            tail.model,
            tail.name,
            tail.sessions,
            f"{tail.promised:.0%}",
            f"{tail.needed} sessions are needed" if tail.share is None else _percentages(tail.share),
            "" if tail.frequency_holm is None else f"{tail.frequency_holm:.2g}",
        )
        for tail in evaluation.coverage
    ]
    return pd.DataFrame(rows, columns=list(columns))


def ranking_table(evaluation: Evaluation) -> pd.DataFrame:
    """Rank information coefficients of the arms that have a score."""
    columns = ("model", "role", "sessions ranked", "mean rank IC", "p of no skill")
    rows = [
        (
            arm.model,
            arm.role,
            len(arm.coefficients),
            ""
            if arm.skill is None
            else f"{arm.skill.mean.estimate:+.3f} [{arm.skill.mean.low:+.3f}, {arm.skill.mean.high:+.3f}]",
            "" if arm.skill is None else f"{arm.skill.p_value:.2g}",
        )
        for arm in evaluation.rankings
    ]
    return pd.DataFrame(rows, columns=list(columns))


def _percentages(share: Interval) -> str:
    return f"{share.estimate:.1%} [{share.low:.1%}, {share.high:.1%}]"


def plotted_numbers(evaluation: Evaluation) -> dict[str, float]:
    """Numbers that Dagster and MLflow plot over time, by names that MLflow takes: no per cent signs or commas."""
    scores = {
        f"{skill.role}/{skill.name}/{title}": score.estimate
        for skill in evaluation.skills
        for title, score in (("accuracy", skill.accuracy), ("brier", skill.brier))
        if score is not None
    }
    beyond = {
        f"{tail.role}/{tail.model}/beyond VaR {100 * tail.level:g} {tail.side} {tail.horizon}d": tail.share.estimate
        for tail in evaluation.coverage
        if tail.share is not None
    }
    ranking = {f"{arm.role}/{arm.model}/rank IC": arm.skill.mean.estimate for arm in evaluation.rankings if arm.skill}
    return scores | beyond | ranking
