"""Folds in the tracker: one run for each set of models and fold, nested below the run that asked for it.

The run is open while the fold is fitted, so that it ends as the fold did. A fold whose forecasts are kept is not
tracked again: whoever goes on with a walk-forward adds the folds that were missing and no others.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from financial_assets.models.artifacts.tracked import shown_settings
from financial_assets.models.walk_forward.folds import Fold
from financial_assets.models.walk_forward.quantile_heads import realised_variances
from financial_assets.models.walk_forward.run import BASELINES, FoldForecasts, WalkForward
from financial_assets.models.walk_forward.scores import score_table
from financial_assets.models.walk_forward.store import FoldStore
from financial_assets.tracking import KIND_TAG, NOTE_TAG, MlflowRun, MlflowTracker

FINGERPRINT = "fingerprint"
"""Tag of a run: what the forecasts of its fold depend on."""


@dataclass(frozen=True, eq=False)
class FoldRuns:
    """Runs a walk-forward, each fold of it as a run of the tracker.

    Parameters
    ----------
    walk
        The walk-forward.
    tracker
        Where its folds are tracked.
    parent
        Id of the run that they are nested below; ``None``: of none.
    tags
        Of each run, beside its own.
    """

    walk: WalkForward
    tracker: MlflowTracker
    parent: str | None
    tags: Mapping[str, str]

    def run(self, models: str, fold: Fold) -> tuple[FoldForecasts, str]:
        """The forecasts as ``WalkForward.run`` gives them, and the id of the run that tracks them.

        Two processes that want the same fold compute and track it once.

        Raises
        ------
        LeakAlarmError, TrainingError
            See ``WalkForward.run``; the run has ended as FAILED.
        TrackingError
            The tracker cannot be reached. Where that came to light after the fit, the forecasts are kept, and tracked
            by whoever asks for them next.
        """
        with FoldStore(self.walk.folder).alone_with(models, f"{fold.name}.tracked"):
            kept = self.walk.kept(models, fold)
            if kept is not None:
                return kept, self._run_of(kept)
            with self._opened(models, fold) as run:
                found = self.walk.run(models, fold)
                self._log(run, found)
        return found, run.id

    def _run_of(self, kept: FoldForecasts) -> str:
        """The run of forecasts that are kept, which the tracker may have lost, or whose process has died late."""
        recorded = self.tracker.runs_with(FINGERPRINT, kept.provenance.fingerprint)
        for run in recorded:
            if run.status == "FINISHED" or run.goes_on:
                return run.id
        unfinished = self.tracker.resume(recorded[0].id) if recorded else self._opened(kept.models, kept.fold)
        with unfinished as run:
            run.set_tags({"financial_assets.tracked_again": "true"})
            self._log(run, kept)
        return run.id

    def _opened(self, models: str, fold: Fold) -> AbstractContextManager[MlflowRun]:
        first, cutoff, start, end = self._days(fold)
        tags = {
            KIND_TAG: "fold",
            **self.tags,
            "variant": models,
            "fold": fold.name,
            FINGERPRINT: self.walk.fingerprint(models, fold),
            NOTE_TAG: f"{fold.name} of the walk-forward of {models}: fitted on the sessions {first} to {cutoff}, "
            f"judged on the decisions of {start} to {end}.",
        }
        name = f"{models} {fold.name} to {cutoff}"
        return self.tracker.run(name, tags=tags, params=self._params(models, fold), parent=self.parent)

    def _params(self, models: str, fold: Fold) -> dict[str, object]:
        walk, plan, days = self.walk, self.walk.plan, self._days(fold)
        variant = None if models == BASELINES else walk.trained[models]
        return {
            **({} if variant is None else shown_settings(variant.hyperparameters())),
            **dict(zip(("first_session", "data_cutoff", "first_test", "last_test"), days, strict=True)),
            "training_sessions": len(fold.training),
            "test_sessions": len(fold.test),
            "gap": plan.gap,
            "window": plan.window,
            "splits": plan.splits,
            "sequence_length": walk.sequence_length if variant is None else variant.window(walk.sequence_length),
            "seed": walk.seed,
        }

    def _log(self, run: MlflowRun, found: FoldForecasts) -> None:
        variances = self._variances[self._variances["date"].isin(found.forecasts["date"])]
        scores = score_table(found.forecasts, variances)
        scores = scores[scores["fold"] == found.fold.name]
        run.log_history([(0, fold_metrics(scores, found.models))])
        run.log_metrics({"decisions": float(len(found.forecasts)), "fold_seconds": found.provenance.seconds})
        silent = pd.DataFrame(sorted(found.provenance.silent.items()), columns=["model", "reason"])
        with tempfile.TemporaryDirectory() as folder:
            # A metric has no interval; a score that is undefined is no metric, but has its line here.
            scores.drop(columns="fold").to_csv(Path(folder, "scores.csv"), index=False)
            run.log_artifact(Path(folder, "scores.csv"))
            if not silent.empty:
                silent.to_csv(Path(folder, "without_forecast.csv"), index=False)
                run.log_artifact(Path(folder, "without_forecast.csv"))

    def _days(self, fold: Fold) -> list[str]:
        """ISO dates: first training session, cut-off, first and last test session."""
        at = (fold.training[0], fold.cutoff, fold.test[0], fold.test[-1])
        return [f"{self.walk.panel.sessions[place]:%Y-%m-%d}" for place in at]

    @cached_property
    def _variances(self) -> pd.DataFrame:
        return realised_variances(self.walk.panel)


def fold_metrics(scores: pd.DataFrame, models: str) -> dict[str, float]:
    """Scores by names that MLflow takes: ``direction/accuracy``; of many baselines ``garch/direction/accuracy``.

    Parameters
    ----------
    scores
        Rows of ``score_table``, of one fold. Those without a finite estimate are left out.
    models
        Name of a variant, whose runs are compared by the names of their metrics, or ``BASELINES``.
    """
    finite = scores[np.isfinite(scores["estimate"])]
    names = finite["head"] + "/" + finite["score"].str.replace("%", "pct")
    if models == BASELINES:
        names = finite["model"] + "/" + names
    return dict(zip(names, finite["estimate"].astype(float), strict=True))
