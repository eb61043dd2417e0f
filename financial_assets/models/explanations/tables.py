"""An explanation as tables, for terminals, pages and Dagster."""

from __future__ import annotations

import pandas as pd

from financial_assets.models.explanations.explanation import Explanation
from financial_assets.models.explanations.losses import COLUMNS
from financial_assets.scoring.intervals import Interval

_SHARE = "share, "
"""Beginning of the columns of a table of families that hold shares of the attribution."""


def families_table(explanation: Explanation) -> pd.DataFrame:
    """One row per family: share of the attribution of each answer; rise of the loss by permutation and ablation."""
    shares = {
        answer.answer: {family.family: f"{family.share:.0%}" for family in answer.families}
        for answer in explanation.gradients
    }
    within = {item.family: item for item in explanation.permutation if item.kind == "within days"}
    ablated = {item.family: item for item in explanation.ablation}
    rows: list[dict[str, str]] = []
    for item in explanation.across_days:
        row = {"family": item.family}
        row |= {f"{_SHARE}{answer}": by_family.get(item.family, "") for answer, by_family in shares.items()}
        row["permuted across days"] = shown(item.losses["total"])
        if within:
            row["permuted within days"] = shown(within[item.family].losses["total"])
        if ablated:
            row["trained without"] = shown(ablated[item.family].losses["total"]) if item.family in ablated else ""
        rows.append(row)
    return pd.DataFrame(rows)


def by_question(families: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """:func:`families_table` in two that a terminal has room for, by title; the first is missing without gradients."""
    shares = {name: name.removeprefix(_SHARE) for name in families.columns if name.startswith(_SHARE)}
    losses = {"Rise of the loss by families of features": families.drop(columns=list(shares))}
    if not shares:
        return losses
    return {"Share of the attribution, by answer": families[["family", *shares]].rename(columns=shares), **losses}


def heads_table(explanation: Explanation) -> pd.DataFrame:
    """Rise of the loss of each head when a family speaks of another day."""
    return pd.DataFrame(
        {"family": item.family, **{name: shown(item.losses[name]) for name in COLUMNS}}
        for item in explanation.across_days
    )


def features_table(explanation: Explanation, answer: str = "direction") -> pd.DataFrame:
    """The features that moved one answer most; empty without gradients."""
    found = next((item.features for item in explanation.gradients if item.answer == answer), ())
    return pd.DataFrame(
        [(item.feature, item.family, f"{item.magnitude:.4g}", f"{item.mean:+.4g}") for item in found],
        columns=["feature", "family", "mean size", "mean"],
    )


def segments_table(explanation: Explanation) -> pd.DataFrame:
    """Scores of every group, and which of them differ from the rest."""
    return pd.DataFrame(
        {
            "group": segment.dimension,
            "value": segment.value,
            "days": segment.days,
            "rows": segment.rows,
            **{name.replace("_", " "): shown(interval) for name, interval in segment.scores.items()},
            "differs from the rest in": ", ".join(name.replace("_", " ") for name in segment.stands_out) or "nothing",
        }
        for segment in explanation.segments.segments
    )


def shown(interval: Interval) -> str:
    """An estimate with its interval, in three digits."""
    return f"{interval.estimate:.3g} [{interval.low:.3g}, {interval.high:.3g}]"
