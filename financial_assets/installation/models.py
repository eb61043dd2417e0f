"""Training, export, tracking and registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from financial_assets.errors import SettingsError, TrainingError
from financial_assets.tracking import MlflowTracker, ModelRegistry

if TYPE_CHECKING:
    from financial_assets.installation.market import MarketState
    from financial_assets.market.panel import PricePanel
    from financial_assets.models.baselines.fitted import Baselines
    from financial_assets.models.explanations.explanation import StoredExplanations
    from financial_assets.models.external.card import ExternalModel
    from financial_assets.models.lifecycle import ModelLifecycle, TrainedModel
    from financial_assets.models.search.adoption import Adopted
    from financial_assets.models.search.result import TrialRecord
    from financial_assets.models.search.search import HyperparameterSearch
    from financial_assets.models.variants import Variant
    from financial_assets.models.walk_forward.folds import FoldPlan
    from financial_assets.models.walk_forward.run import WalkForward
    from financial_assets.portfolio.trials import TrialLedger


class ModelStore(BaseModel):
    """Training, export, tracking and registry."""

    model_config = ConfigDict(frozen=True)

    home: str
    tracking_uri: str
    mlflow_experiment_name: str
    variants: list[str] = Field(
        description="The variants (VARIANTS) that have assets. To run some of them, select their assets; others appear "
        "when the code location is loaded with another VARIANTS."
    )
    external_models: str | None = None
    sequence_length: int
    seed: int
    max_epochs: int | None = None
    hyperparameters: str | None = None
    search_budget: float = 30.0
    search_trials: int = 100
    device: str
    progress: bool
    bayes_accuracy: float | None = None
    price_source: str = "unknown"
    mlflow_ui_url: str | None = None
    dagster_ui_url: str | None = None
    walk_forward_splits: int = 5
    walk_forward_gap: int = 5
    walk_forward_test_sessions: int = 30
    walk_forward_window: Literal["expanding", "rolling"] = "expanding"
    walk_forward_window_sessions: int = 1000

    def chosen_variants(self) -> tuple[Variant, ...]:
        """The variants that are made.

        Raises
        ------
        SettingsError
            ``VARIANTS`` names one that does not exist, or an ensemble without its members.
        """
        from financial_assets.models.variants import choose_variants

        return choose_variants(self.variants)

    def external(self) -> tuple[ExternalModel, ...]:
        """The models that were made elsewhere; none without a folder of them.

        Raises
        ------
        ExternalModelError
            There is no such folder, it holds no model, or a file cannot name one.
        """
        from financial_assets.models.external.card import find_external

        return () if self.external_models is None else find_external(Path(self.external_models))

    @property
    def folder(self) -> Path:
        """State of all models."""
        return Path(self.home) / "models"

    @property
    def baselines_path(self) -> Path:
        """Where the latest ``baselines`` are kept."""
        return self.folder / "baselines.json"

    def keep_baselines(self, fitted: Baselines) -> None:
        """Keep ``fitted`` as the latest, and beside those of other data cut-offs."""
        fitted.save(self.folder / "baselines" / f"{fitted.cutoff}.json")
        fitted.save(self.baselines_path)

    def baselines_for(self, cutoff: pd.Timestamp) -> Baselines:
        """The baselines to hold models against whose evidence begins after ``cutoff``.

        They are the latest that learned from no session of that evidence: a retraining fits new ones, and when it
        fails, the old arms go on being judged on sessions that those have learned from. Without any, the earliest.

        Raises
        ------
        TrainingError
            There are none, or they are damaged.
        """
        from financial_assets.models.baselines.fitted import Baselines  # scikit-learn and torch

        paths = [*sorted((self.folder / "baselines").glob("*.json")), self.baselines_path]
        fitted = sorted((Baselines.load(path) for path in paths), key=lambda baselines: baselines.cutoff)
        earlier = [baselines for baselines in fitted if pd.Timestamp(baselines.cutoff) <= cutoff]
        return earlier[-1] if earlier else fitted[0]

    def tracker(self) -> MlflowTracker:
        """MLflow runs."""
        return MlflowTracker(
            self.tracking_uri, self.mlflow_experiment_name, Path(self.home) / "mlartifacts", self.mlflow_ui_url
        )

    def registry(self) -> ModelRegistry:
        """MLflow model registry."""
        return ModelRegistry(self.tracking_uri)

    def trials(self) -> TrialLedger:
        """The record of everything that was ever tried, with every registered model in it.

        A state folder of an earlier version has no record: it begins with the models that were registered by then. A
        model whose training ended before it was recorded is added likewise.

        Raises
        ------
        TrackingError
            The registry cannot be read.
        TrialsError
            The record is damaged.
        """
        from financial_assets.portfolio.trials import TrialLedger, earlier_trials

        ledger = TrialLedger(self.folder / "trials.jsonl")
        ledger.record(*earlier_trials(version.tags for version in self.registry().versions()))
        return ledger

    def record_training(self, trained: TrainedModel, panel: PricePanel) -> None:
        """Count a training as a trial, by what the directions of its held-out answers earned before costs.

        A training that was counted already is not counted again.

        Raises
        ------
        TrackingError, TrialsError
            See :meth:`trials`.
        """
        from financial_assets.portfolio.economics.evaluate import held_out_returns
        from financial_assets.portfolio.trials import record_trial

        variant, answers = trained.training.variant, trained.training.held_out
        up = 1.0 / (1.0 + np.exp(-answers.logit))
        answered = {"date": answers.session, "ticker": answers.ticker, "model": variant.name, "probability_up": up}
        returns = held_out_returns(pd.DataFrame(answered), panel)[variant.name]
        record_trial(
            self.trials(),
            fingerprint=trained.fingerprint,
            kind="training",
            variant=variant.name,
            hyperparameters=variant.hyperparameters(),
            returns=returns,
        )

    def record_walk_forward(self, walk: WalkForward) -> None:
        """Count every variant whose folds are all there as a trial, by what its directions earned before costs.

        All folds together are one trial: they are the same strategy at different times.

        Raises
        ------
        TrackingError, TrialsError
            See :meth:`trials`.
        """
        from financial_assets.models.walk_forward.store import fingerprint_of
        from financial_assets.portfolio.economics.evaluate import held_out_returns
        from financial_assets.portfolio.trials import record_trial

        trials = self.trials()
        for name, variant in walk.trained.items():
            kept = [walk.kept(name, fold) for fold in walk.folds]
            folds = [fold for fold in kept if fold is not None]
            if len(folds) < len(kept):
                continue
            forecasts = pd.concat([fold.forecasts for fold in folds], ignore_index=True)
            record_trial(
                trials,
                fingerprint=fingerprint_of(folds=[fold.provenance.fingerprint for fold in folds]),
                kind="walk_forward",
                variant=name,
                hyperparameters=variant.hyperparameters(),
                returns=held_out_returns(forecasts, walk.panel)[name],
            )

    def lifecycle(self, *, seed: int | None = None, max_epochs: int | None = None) -> ModelLifecycle:
        """Where models are made; with another seed or limit of epochs than the settings', where these are given."""
        from financial_assets.models.lifecycle import ModelLifecycle  # torch

        return ModelLifecycle(
            folder=self.folder,
            tracker=self.tracker(),
            registry=self.registry(),
            sequence_length=self.sequence_length,
            max_epochs=self.max_epochs if max_epochs is None else max_epochs,
            adopted=lambda: self.adopted().settings,
            seed=self.seed if seed is None else seed,
            device=self.device,
            progress=self.progress,
            bayes_accuracy=self.bayes_accuracy,
            price_source=self.price_source,
        )

    def search(self) -> HyperparameterSearch:
        """Where hyper-parameters are searched."""
        from financial_assets.models.search.search import HyperparameterSearch  # optuna and torch
        from financial_assets.portfolio.trials import record_trial

        trials = self.trials()

        def count(trial: TrialRecord) -> None:
            record_trial(
                trials,
                fingerprint=trial.fingerprint,
                kind="search",
                variant=trial.variant,
                hyperparameters=trial.hyperparameters,
            )

        return HyperparameterSearch(
            folder=Path(self.home) / "search",
            sequence_length=self.sequence_length,
            seed=self.seed,
            device=self.device,
            ledger=count,
        )

    def candidate_path(self, variant: str) -> Path:
        """Where a search writes the best settings of a variant."""
        return Path(self.home) / "search" / f"{variant}.yaml"

    def explanation_path(self, variant: str) -> Path:
        """Where the latest explanation of a variant is kept."""
        return Path(self.home) / "explanations" / f"{variant}.json"

    def stored_explanations(self) -> StoredExplanations:
        """The latest explanation of every variant that has one."""
        from financial_assets.models.artifacts.tracked import read_pointer
        from financial_assets.models.explanations.explanation import Explanation, StoredExplanations

        found: list[Explanation] = []
        problems: list[str] = []
        for path in sorted((Path(self.home) / "explanations").glob("*.json")):
            try:
                explanation = Explanation.load(path)
                current = read_pointer(self.folder / explanation.variant / "current.json")["fingerprint"]
            except TrainingError as error:  # a page is made all the same, and says what is missing on it
                problems.append(str(error))
                continue
            found.append(explanation)
            if explanation.fingerprint != current:
                problems.append(f"{explanation.variant} was trained again since it was explained")
        return StoredExplanations(tuple(found), tuple(problems))

    def adopted(self) -> Adopted:
        """Settings of variants that take the place of their own; none without ``HYPERPARAMETERS``.

        Raises
        ------
        SettingsError
            The file cannot be read, or says what cannot be.
        """
        from financial_assets.models.search.adoption import Adopted, read_hyperparameters

        return (
            Adopted() if self.hyperparameters is None else read_hyperparameters(Path(self.hyperparameters).expanduser())
        )

    def adoption_problem(self) -> str | None:
        """Why nothing can be trained with ``HYPERPARAMETERS``, and what fixes it; ``None`` where it can.

        A file that has been deleted since, or was edited wrongly, stops trainings alone: signals of models that have
        long been trained must not wait for it.
        """
        try:
            self.adopted()
        except SettingsError as error:
            return f"{error}; until then nothing can be trained, and everything else goes on"
        return None

    @property
    def walk_forward_folder(self) -> Path:
        """Where the forecasts of all folds, and the tables made of them, are kept."""
        return Path(self.home) / "walk_forward"

    def fold_plan(self) -> FoldPlan:
        """How the walk-forward is cut into folds."""
        from financial_assets.models.walk_forward.folds import FoldPlan  # torch

        return FoldPlan(
            splits=self.walk_forward_splits,
            gap=self.walk_forward_gap,
            test_sessions=self.walk_forward_test_sessions,
            window=self.walk_forward_window,
            window_sessions=self.walk_forward_window_sessions,
        )

    def walk_forward(self, market: MarketState) -> WalkForward:
        """The folds over the prices and features that are materialized, up to the earliest data cut-off of a variant.

        What lies after a cut-off is evidence of the A/B test for the models that were trained there: a walk-forward
        that read it could be used to choose among them.

        Raises
        ------
        TrainingError
            Nothing was ingested yet.
        """
        from financial_assets.models.search.adoption import chosen_until
        from financial_assets.models.walk_forward.run import WalkForward
        from financial_assets.models.walk_forward.spans import known_until

        cutoffs = [market.cutoff_of(f"models/{name}") for name in self.variants]
        known = [cutoff for cutoff in cutoffs if cutoff is not None]
        if not known:
            raise TrainingError("there is no data cut-off yet; run `financial-assets run`")
        lifecycle, variants = self.lifecycle(), self.chosen_variants()
        panel, features = known_until(min(known), market.load_panel(), market.load_features())
        return WalkForward(
            folder=self.walk_forward_folder,
            panel=panel,
            features=features,
            plan=self.fold_plan(),
            sequence_length=self.sequence_length,
            seed=self.seed,
            device=self.device,
            max_epochs=self.max_epochs,
            universe=market.universe(),
            variants={variant.name: lifecycle.as_trained(variant) for variant in variants},
            chosen_until=chosen_until(variants, self.adopted()),
            bayes_accuracy=self.bayes_accuracy,
        )
