"""The walk-forward over one world: folds that are there are reused, the others are fitted as in production."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results.worlds import World
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.models.variants import choose_variants
from financial_assets.models.walk_forward.folds import FoldPlan
from financial_assets.models.walk_forward.run import WalkForward, models_and_folds
from financial_assets.settings.training import TrainingSettings

DEFAULT_VARIANTS = ("baseline", "enhanced", "lightweight", "linear", "boosted", "ensemble")
"""Those that train quickly; the others look back over longer windows or have several times the weights."""


def walk_over(
    world: World,
    plan: FoldPlan,
    variants: Sequence[str] = DEFAULT_VARIANTS,
    *,
    folder: Path,
    max_epochs: int | None = None,
) -> WalkForward:
    """The walk-forward of some variants, with the settings that production has where nobody sets any.

    Parameters
    ----------
    world
        Prices.
    plan
        Of the folds.
    variants
        By name.
    folder
        Where the folds of all worlds are kept.
    max_epochs
        As ``MAX_EPOCHS``.

    Raises
    ------
    SettingsError
        Nobody is called so.
    """
    fields = TrainingSettings.model_fields
    return WalkForward(
        folder=folder / world.name,
        panel=world.panel,
        features=compute_panel(world.panel, FeatureGraph()),
        plan=plan,
        sequence_length=fields["sequence_length"].default,
        seed=fields["seed"].default,
        device="cpu",  # the same bits on every run; a GPU does not promise that
        max_epochs=max_epochs,
        variants={variant.name: variant for variant in choose_variants(variants)},
        bayes_accuracy=world.bayes_accuracy,
    )


def compute(walk: WalkForward, world: World) -> None:
    """All folds of all models, the missing ones fitted; each is named on stderr as it is begun."""
    todo = models_and_folds(walk)
    for place, (models, fold) in enumerate(todo, 1):
        print(f"{world.name}: {place} of {len(todo)}, {fold.name} {models}", file=sys.stderr, flush=True)
        walk.run(models, fold)
