"""A hyper-parameter search with the configured resources: for the assets ``search/...`` and the command ``search``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from financial_assets.errors import TrainingError
from financial_assets.installation.market import MarketState
from financial_assets.installation.models import ModelStore
from financial_assets.models.search.adoption import write_candidate
from financial_assets.models.search.result import SearchResult, TrialRecord
from financial_assets.models.search.search import SearchBudget
from financial_assets.models.search.tracked import TrialRuns
from financial_assets.models.variants import VARIANTS


def search_variant(
    name: str,
    market: MarketState,
    models: ModelStore,
    *,
    minutes: float | None = None,
    trials: int | None = None,
    on_trial: Callable[[TrialRecord], None] = lambda _: None,
    parent: str | None = None,
    tags: Mapping[str, str] = MappingProxyType({}),
) -> tuple[SearchResult, Path | None]:
    """Go on with the search of a variant, and write the best settings so far as a candidate file.

    The file is written also when the search is interrupted; nothing adopts it.

    Parameters
    ----------
    name
        Of the variant.
    market, models
        Prices and settings.
    minutes, trials
        Budget; default: ``SEARCH_BUDGET`` and ``SEARCH_TRIALS``.
    on_trial
        Told of every trial that ends.
    parent
        Id of the MLflow run that the runs of the trials are nested below; it gets the lowest loss as a metric.
    tags
        Of the runs of the trials.

    Returns
    -------
    tuple
        What the study holds, and the candidate file; ``None`` where no trial is better than the present settings, or
        none is complete yet.

    Raises
    ------
    TrainingError
        The variant is unknown, nothing was ingested yet, or there is too little to train on.
    TrackingError
        MLflow cannot be reached.
    """
    if name not in VARIANTS:
        raise TrainingError(f"there is no variant {name!r}; there are {', '.join(VARIANTS)}")
    cutoff = market.cutoff_of(f"models/{name}")
    if cutoff is None:
        raise TrainingError("there is no data cut-off yet; run `financial-assets run`")
    variant, tracker = models.lifecycle().as_trained(VARIANTS[name]), models.tracker()
    search = replace(models.search(), runs=TrialRuns(tracker, parent, tags))
    panel, path = market.load_panel(), models.candidate_path(name)
    try:
        result = search.run(
            variant,
            market.load_features(),
            panel,
            cutoff=cutoff,
            evaluation_after=cutoff,
            budget=SearchBudget(minutes or models.search_budget, trials or models.search_trials),
            on_trial=on_trial,
        )
    except KeyboardInterrupt:
        write_candidate(path, search.result(variant, panel, cutoff=cutoff))
        raise
    if parent is not None and result.best is not None:  # its page then compares the variants
        tracker.opened(parent).log_metrics({f"{name}/search_best_stop_loss": result.best.loss})
    return result, path if write_candidate(path, result) else None
