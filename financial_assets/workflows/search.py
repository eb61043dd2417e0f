"""A hyper-parameter search with the configured resources: for the assets ``search/...`` and the command ``search``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
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
from financial_assets.tracking import MlflowRun


def search_variant(
    name: str,
    market: MarketState,
    models: ModelStore,
    *,
    minutes: float | None = None,
    trials: int | None = None,
    on_trial: Callable[[TrialRecord], None] = lambda _: None,
    parent: AbstractContextManager[MlflowRun | None] | None = None,
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
        The MLflow run that those of the trials are nested below; it gets the lowest loss as a metric. It is entered
        when it is sure that there is something to search.
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
    budget = SearchBudget(minutes or models.search_budget, trials or models.search_trials)
    panel, features, path = market.load_panel(), market.load_features(), models.candidate_path(name)
    with parent or nullcontext() as run:
        search = replace(models.search(), runs=TrialRuns(tracker, None if run is None else run.id, tags))
        try:
            result = search.run(
                variant, features, panel, cutoff=cutoff, evaluation_after=cutoff, budget=budget, on_trial=on_trial
            )
        except KeyboardInterrupt:
            write_candidate(path, search.result(variant, panel, cutoff=cutoff))
            raise
        if run is not None and result.best is not None:  # its page then compares the variants
            run.log_metrics({f"{name}/search_best_stop_loss": result.best.loss})
    return result, path if write_candidate(path, result) else None
