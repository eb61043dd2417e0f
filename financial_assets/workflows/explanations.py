"""An explanation with the configured resources: for the assets ``explanations/...`` and the command ``explain``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from financial_assets.errors import TrainingError
from financial_assets.features.graph import FeatureGraph
from financial_assets.installation.market import MarketState
from financial_assets.installation.models import ModelStore
from financial_assets.models.explanations.explain import ExplanationPlan, explain
from financial_assets.models.explanations.explanation import Explanation
from financial_assets.models.explanations.plots import plot_explanation
from financial_assets.models.variants import VARIANTS

_RUN_FOLDER = "explanations"


@dataclass(frozen=True)
class Explained:
    """An explanation, where it is kept, its pictures by title, and the tracked run that has them too."""

    explanation: Explanation
    path: Path
    plots: Mapping[str, bytes]
    run_id: str | None


def explain_variant(
    name: str,
    market: MarketState,
    models: ModelStore,
    plan: ExplanationPlan,
    on_step: Callable[[str], None] = lambda step: None,
) -> Explained:
    """Explain the current training of a variant; keep the result, and log it to the run that trained it.

    Raises
    ------
    TrainingError
        The variant is unknown or was not trained, or its features are no longer computed.
    """
    if name not in VARIANTS:
        raise TrainingError(f"there is no variant {name!r}; there are {', '.join(VARIANTS)}")
    trained, panel = models.lifecycle().current_training(name), market.load_panel()
    explanation = explain(
        trained.training,
        trained.fingerprint,
        FeatureGraph(covariates=panel.covariates),
        market.load_features(),
        panel,
        universe=market.universe(),
        plan=plan,
        device=models.device,
        on_step=on_step,
    )
    path, plots = models.explanation_path(name), plot_explanation(explanation)
    explanation.save(path)
    return Explained(explanation, path, plots, _log(models, trained.run_id, path, plots))


def _log(models: ModelStore, run_id: str, path: Path, plots: Mapping[str, bytes]) -> str | None:
    """Log JSON and pictures to the run that trained the model; ``None`` where the store has lost it."""
    tracker = models.tracker()
    if not run_id or not tracker.is_active(run_id):
        return None
    with tracker.resume(run_id) as run, tempfile.TemporaryDirectory() as folder:
        run.log_artifact(path, _RUN_FOLDER)
        for title, png in plots.items():
            picture = Path(folder) / f"{title.replace(' ', '-')}.png"
            picture.write_bytes(png)
            run.log_artifact(picture, _RUN_FOLDER)
    return run_id
