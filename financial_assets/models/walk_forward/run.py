"""One fold: fitted as in production on the past of its cut-off, asked as in production on its test sessions, kept."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn
import torch

from financial_assets.errors import TrainingError
from financial_assets.features.graph import FeatureGraph, FeaturePanel
from financial_assets.kept import code_digest
from financial_assets.market.panel import PricePanel
from financial_assets.market.universe import Universe
from financial_assets.models.artifacts.fingerprint import code_version
from financial_assets.models.forecasts import forecasts_of
from financial_assets.models.training import Training, train
from financial_assets.models.training_data import TrainingData
from financial_assets.models.variants import VARIANTS, Variant
from financial_assets.models.walk_forward import leaks
from financial_assets.models.walk_forward.baselines import forecast_baselines
from financial_assets.models.walk_forward.folds import Fold, FoldPlan, lay_folds
from financial_assets.models.walk_forward.spans import features_of_span
from financial_assets.models.walk_forward.store import FoldStore, Provenance, fingerprint_of

BASELINES = "baselines"
"""Name of the set of all baselines, beside those of the variants."""

_OWN_CODE = (
    "models.forecasts",
    *(f"models.walk_forward.{name}" for name in ("folds", "spans", "run", "leaks")),
)
_BASELINE_CODE = (
    *(f"models.walk_forward.{name}" for name in ("baselines", "trees")),
    "models.baselines.fitted",
    *(f"models.risk.{name}" for name in ("bars", "forecast", "garch", "har", "registry", "simple")),
)


@dataclass(frozen=True, eq=False)
class FoldForecasts:
    """What one set of models forecast in one fold.

    Attributes
    ----------
    models
        Name of a variant, or ``BASELINES``.
    fold
        Which.
    forecasts
        Forecast table; ``fold`` holds the fold's name.
    provenance
        Where it comes from.
    reused
        Whether it was there already.
    """

    models: str
    fold: Fold
    forecasts: pd.DataFrame
    provenance: Provenance
    reused: bool


@dataclass(frozen=True, eq=False)
class WalkForward:
    """The folds of one panel, and how they are fitted.

    Parameters
    ----------
    folder
        Where forecasts are kept.
    panel, features
        Prices and features on the same axes, up to the data cut-off: nothing later is read.
    plan
        Of the folds.
    sequence_length, seed, device, max_epochs
        Arguments of training, as in production.
    universe
        Dated members, where they are known.
    graph
        Features of the served graph; default: the catalogue with the panel's covariates.
    variants
        By name.
    chosen_until
        Variant -> last session of the prices that its hyperparameters were chosen on, where a search chose them.
    bayes_accuracy
        What the best possible predictor of a simulated market gets right.
    """

    folder: Path
    panel: PricePanel
    features: FeaturePanel
    plan: FoldPlan
    sequence_length: int
    seed: int
    device: str = "auto"
    max_epochs: int | None = None
    universe: Universe | None = None
    graph: FeatureGraph | None = None
    variants: Mapping[str, Variant] | None = None
    chosen_until: Mapping[str, pd.Timestamp] | None = None
    bayes_accuracy: float | None = None
    threads: int = 1

    @cached_property
    def folds(self) -> tuple[Fold, ...]:
        """The folds, the earliest first.

        Raises
        ------
        TrainingError
            There are too few sessions for the plan.
        """
        return lay_folds(len(self.panel.sessions), self.plan)

    @property
    def trained(self) -> Mapping[str, Variant]:
        """The variants as they are trained here, by name."""
        return {name: self._variant(name) for name in self._variants}

    @property
    def models(self) -> tuple[str, ...]:
        """Names of all sets of models: the variants, then the baselines."""
        return (*self._variants, BASELINES)

    def fold(self, name: str) -> Fold:
        """The fold of this name.

        Raises
        ------
        TrainingError
            There is none: a partition of other settings.
        """
        for fold in self.folds:
            if fold.name == name:
                return fold
        raise TrainingError(
            f"there is no {name}: with WALK_FORWARD_SPLITS={self.plan.splits} there are {', '.join(self.plan.names)}"
        )

    def run(self, models: str, fold: Fold) -> FoldForecasts:
        """The forecasts of one set of models in one fold: those that are kept, or fitted, checked for leaks and kept.

        A process that dies meanwhile leaves nothing; two that want the same compute it once.

        Raises
        ------
        LeakAlarmError
            Something was known that could not be known; begins with what leaks (``leaks.Kind``). Nothing is kept.
        TrainingError
            It cannot be fitted, or nobody is called ``models``.
        """
        with self._store.alone_with(models, fold.name):
            kept = self.kept(models, fold)
            return kept or self._computed(models, fold)

    def kept(self, models: str, fold: Fold) -> FoldForecasts | None:
        """The forecasts on disk, if they are those of these prices, this code and these settings."""
        found = self._store.load(models, fold.name, self.fingerprint(models, fold))
        return None if found is None else FoldForecasts(models, fold, *found, reused=True)

    def all_kept(self) -> tuple[FoldForecasts, ...]:
        """All forecasts on disk that ``kept`` accepts, in order of models and time."""
        found = (self.kept(models, fold) for models in self.models for fold in self.folds)
        return tuple(one for one in found if one is not None)

    def fingerprint(self, models: str, fold: Fold) -> str:
        """Names everything that the forecasts of a fold depend on: data, code, settings, seed and fold."""
        chosen = (self.chosen_until or {}).get(models)
        return fingerprint_of(
            data=self._data_hash(fold),
            members=None if self.universe is None else [one.model_dump() for one in self.universe.memberships],
            code=[code_version(), _code(models == BASELINES)],
            features=self._graph.names,
            models=BASELINES if models == BASELINES else self._variant(models).hyperparameters(),
            sequence_length=self.sequence_length,
            seed=self.seed,
            fold=[fold.name, fold.training.start, fold.training.stop, fold.test.start, fold.test.stop],
            chosen_until=chosen,
            bayes_accuracy=self.bayes_accuracy,
        )

    def _computed(self, models: str, fold: Fold) -> FoldForecasts:
        started = time.perf_counter()
        leaks.require_leavers(self.panel, self.universe)
        if models == BASELINES:
            said = forecast_baselines(
                fold, self.features, self.panel, sequence_length=self.sequence_length, seed=self.seed
            )
            forecasts, silent = said.forecasts, dict(said.silent)
        else:
            forecasts, silent = self._of_variant(self._variant(models), fold), {}
        leaks.require_credible(forecasts, bayes_accuracy=self.bayes_accuracy)
        day = [f"{self.panel.sessions[at]:%Y-%m-%d}" for at in (fold.cutoff, fold.test[0], fold.test[-1])]
        provenance = Provenance(
            self.fingerprint(models, fold), day[0], day[1], day[2], time.perf_counter() - started, silent
        )
        self._store.save(models, fold.name, forecasts, provenance)
        return FoldForecasts(models, fold, forecasts, provenance, reused=False)

    def _of_variant(self, variant: Variant, fold: Fold) -> pd.DataFrame:
        cutoff = self.panel.sessions[fold.cutoff]
        chosen = (self.chosen_until or {}).get(variant.name)
        if chosen is not None:
            leaks.require_unseen(chosen, cutoff, f"variant {variant.name}")
        span, steps = features_of_span(self.features, fold), variant.window(self.sequence_length)
        data = TrainingData.until(cutoff, span, self.panel, sequence_length=steps)
        leaks.require_honest_features(data, self.panel.covariates, bayes_accuracy=self.bayes_accuracy)
        training = self._trained(variant, span, fold)
        leaks.require_fit_block_scaler(training, data)
        leaks.require_credible_answers(training, bayes_accuracy=self.bayes_accuracy)
        self._keep(training, fold)
        sessions = self.panel.sessions[fold.test.start : fold.test.stop]
        return forecasts_of(training, self.panel, sessions, model=variant.name, fold=fold.name, graph=self._graph)

    def _trained(self, variant: Variant, span: FeaturePanel, fold: Fold) -> Training:
        kept = self._trainings.get((fold.name, variant))
        if kept is not None:
            return kept
        return train(
            variant,
            span,
            self.panel,
            cutoff=self.panel.sessions[fold.cutoff],
            sequence_length=variant.window(self.sequence_length),
            seed=self.seed,
            device=self.device,
            threads=self.threads,
            members=[self._trained(member, span, fold) for member in variant.members],
        )

    def _keep(self, training: Training, fold: Fold) -> None:
        """Keep a training whose checks have passed while its fold lasts: an ensemble takes it as a member."""
        for other in [key for key in self._trainings if key[0] != fold.name]:
            del self._trainings[other]
        self._trainings[fold.name, training.variant] = training

    @cached_property
    def _trainings(self) -> dict[tuple[str, Variant], Training]:
        return {}

    @cached_property
    def _store(self) -> FoldStore:
        return FoldStore(self.folder)

    @cached_property
    def _graph(self) -> FeatureGraph:
        return self.graph or FeatureGraph(covariates=self.panel.covariates)

    @property
    def _variants(self) -> Mapping[str, Variant]:
        return VARIANTS if self.variants is None else self.variants

    def require(self, models: str) -> None:
        """Raise a ``TrainingError`` unless ``models`` are among ``models`` of this walk-forward."""
        if models != BASELINES:
            self._variant(models)

    def _variant(self, name: str) -> Variant:
        variant = self._variants.get(name)
        if variant is None:
            raise TrainingError(
                f"no variant is called {name!r} among VARIANTS: {', '.join(self._variants)}, or {BASELINES}"
            )
        return variant.limited(self.max_epochs)

    def _data_hash(self, fold: Fold) -> str:
        """Of the prices up to the session that settles the last label of the fold: later ones change nothing."""
        if fold.settled not in self._hashes:
            self._hashes[fold.settled] = self.panel.until(self.panel.sessions[fold.settled]).content_hash()
        return self._hashes[fold.settled]

    @cached_property
    def _hashes(self) -> dict[int, str]:
        return {}


def models_and_folds(walk: WalkForward, models: Iterable[str] | None = None) -> tuple[tuple[str, Fold], ...]:
    """What there is to run, fold by fold, so that an interrupted walk-forward has whole folds to compare.

    Raises
    ------
    TrainingError
        Nobody is called like one of ``models``.
    """
    chosen = walk.models if models is None else tuple(dict.fromkeys((*models, BASELINES)))
    for name in chosen:
        walk.require(name)
    return tuple((name, fold) for fold in walk.folds for name in chosen)


@cache
def _code(with_baselines: bool) -> str:
    """Digest of the code behind the forecasts that ``code_version`` does not cover."""
    names = (*_OWN_CODE, *(_BASELINE_CODE if with_baselines else ()))
    libraries = [np, pd, torch, *([sklearn] if with_baselines else [])]
    if with_baselines:
        libraries.append(import_module("arch"))
    return code_digest([import_module(f"financial_assets.{name}") for name in names], libraries)
