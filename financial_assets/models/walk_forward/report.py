"""All tables of a walk-forward over the folds that are there, and the files that they are kept in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from financial_assets.atomic import atomic_path
from financial_assets.errors import TrainingError
from financial_assets.models.walk_forward.quantile_heads import realised_variances
from financial_assets.models.walk_forward.run import FoldForecasts, WalkForward
from financial_assets.models.walk_forward.scores import (
    comparison_table,
    confidence_sets,
    coverage_table,
    score_table,
)


@dataclass(frozen=True, eq=False)
class WalkForwardReport:
    """What a walk-forward found.

    Attributes
    ----------
    forecasts
        Of all models and folds that are there.
    scores, coverage, comparisons, sets
        See ``scores``.
    folds
        One row per set of models and fold: its sessions, whether it is there, its time and who was silent.
    """

    forecasts: pd.DataFrame
    scores: pd.DataFrame
    coverage: pd.DataFrame
    comparisons: pd.DataFrame
    sets: pd.DataFrame
    folds: pd.DataFrame

    def save(self, folder: Path) -> None:
        """Write each table as ``<name>.parquet`` into ``folder``, each atomically."""
        for name in ("scores", "coverage", "comparisons", "sets", "folds"):
            with atomic_path(folder / f"{name}.parquet") as temporary:
                getattr(self, name).to_parquet(temporary, index=False)


def make_report(walk: WalkForward) -> WalkForwardReport:
    """Score all forecasts that are kept for the present prices, code and settings.

    Raises
    ------
    TrainingError
        There are none.
    """
    kept = walk.all_kept()
    if not kept:
        raise TrainingError(
            "no fold of the walk-forward has been computed with the present prices, code and settings: run "
            "`financial-assets walk-forward` or the job walk_forward"
        )
    forecasts = pd.concat([one.forecasts for one in kept], ignore_index=True)
    return WalkForwardReport(
        forecasts=forecasts,
        scores=score_table(forecasts, realised_variances(walk.panel)),
        coverage=coverage_table(forecasts),
        comparisons=comparison_table(forecasts),
        sets=confidence_sets(forecasts),
        folds=fold_table(walk, kept),
    )


def fold_table(walk: WalkForward, kept: tuple[FoldForecasts, ...]) -> pd.DataFrame:
    """What there is of each set of models and fold."""
    found = {(one.models, one.fold.name): one.provenance for one in kept}
    rows: list[dict[str, object]] = []
    for models in walk.models:
        for fold in walk.folds:
            provenance = found.get((models, fold.name))
            days = [walk.panel.sessions[at] for at in (fold.training[0], fold.cutoff, fold.test[0], fold.test[-1])]
            rows.append(
                {
                    "models": models,
                    "fold": fold.name,
                    **dict(zip(("learns from", "cut-off", "first test", "last test"), days, strict=True)),
                    "there": provenance is not None,
                    "seconds": float("nan") if provenance is None else provenance.seconds,
                    "silent": "" if provenance is None else "; ".join(sorted(provenance.silent)),
                }
            )
    return pd.DataFrame(rows)
