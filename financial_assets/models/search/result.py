"""What a search has found so far: its trials, the best of them, and what mattered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from financial_assets.models.search.space import SearchSpace, Value
from financial_assets.models.search.study import REASON, finished

SETTINGS, SECONDS = "hyperparameters", "seconds"
"""Attributes of a finished trial."""

READ_UNTIL = "read_until"
"""Attribute of a study: the last session whose prices its trials read, as ISO 8601."""

DIVERGED = "diverged"
_FEWEST_FOR_IMPORTANCE = 4

Outcome = Literal["complete", "pruned", "diverged"]


@dataclass(frozen=True)
class TrialRecord:
    """A finished trial, as a ledger of trials wants it.

    Attributes
    ----------
    study, variant, number
        Which trial of which study; the pair of study and number is unique.
    hyperparameters
        All settings of the variant that was trained.
    values
        The searched ones.
    outcome
        ``pruned``: ended early, being worse than half of the others at the same epoch; ``diverged``: its loss was no
        longer finite.
    loss
        Best loss on the stop block, NaN without one.
    best_epoch, epochs, seconds
        How long it trained.
    losses
        Loss on the stop block after each epoch.
    """

    study: str
    variant: str
    number: int
    hyperparameters: Mapping[str, Value]
    values: Mapping[str, Value]
    outcome: Outcome
    loss: float
    best_epoch: int
    epochs: int
    seconds: float
    losses: tuple[float, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Names the trial, for ever: the study names data, code, seed and space."""
        return f"{self.study}/{self.number}"


@dataclass(frozen=True)
class SearchResult:
    """What a study holds.

    Attributes
    ----------
    variant, study
        Which variant, and the name of its study: data, code and space in one digest.
    trials
        Finished ones, in the order in which they began.
    present
        Settings that the variant has now, as far as they are searched.
    importances
        Share of the variation of the loss that each setting explains (fANOVA: Hutter, Hoos & Leyton-Brown 2014); empty
        with too few trials.
    failed
        Trials that did not finish: their process died, or was interrupted.
    read_until
        Last session whose prices the trials read; ``None`` for a study without any.
    """

    variant: str
    study: str
    trials: tuple[TrialRecord, ...]
    present: Mapping[str, Value]
    importances: Mapping[str, float]
    failed: int
    read_until: pd.Timestamp | None = None

    @property
    def best(self) -> TrialRecord | None:
        """The complete trial with the lowest loss; ``None`` without one."""
        complete = [trial for trial in self.trials if trial.outcome == "complete"]
        return min(complete, key=lambda trial: (trial.loss, trial.number), default=None)

    @property
    def present_loss(self) -> float:
        """Loss of the present settings; NaN where they were not tried."""
        losses = [trial.loss for trial in self.trials if trial.outcome == "complete" and trial.values == self.present]
        return losses[0] if losses else math.nan

    @property
    def beats_present(self) -> bool:
        """Whether a trial was better than the present settings, or these could not be tried."""
        return self.best is not None and self.best.values != self.present

    @property
    def sentence(self) -> str:
        """The result in words."""
        counts = {kind: sum(trial.outcome == kind for trial in self.trials) for kind in ("pruned", "diverged")}
        more = "".join(f", {count} {kind}" for kind, count in counts.items() if count)
        head = f"{self.variant}: {len(self.trials)} trials{more}"
        best = self.best
        if best is None:
            return f"{head}; none is complete yet"
        if not self.beats_present:
            others = [trial.loss for trial in self.trials if trial.outcome == "complete" and trial != best]
            next_best = f"; the best other one {min(others):.5f}" if others else ""
            return (
                f"{head}; the present settings stay, because no other trial has a lower loss on the stop block than "
                f"theirs ({best.loss:.5f}{next_best})"
            )
        now = f", {self.present_loss:.5f} with the present settings"
        if math.isnan(self.present_loss):
            now = ", with the present settings unknown: they lie outside of what is searched, or diverged"
        return (
            f"{head}; lowest loss on the stop block {best.loss:.5f} (trial {best.number}){now}. It is the lowest of "
            "many, so later sessions will show a smaller gain"
        )

    def table(self, most: int = 15) -> pd.DataFrame:
        """The best trials: number, outcome, loss, epochs and searched settings."""
        order = sorted(self.trials, key=lambda trial: (trial.outcome != "complete", trial.loss, trial.number))
        columns = ["trial", "outcome", "stop loss", "best epoch", "epochs", *self.present]
        rows = [
            [trial.number, trial.outcome, trial.loss, trial.best_epoch, trial.epochs, *trial.values.values()]
            for trial in order[:most]
        ]
        return pd.DataFrame(rows, columns=columns)


def read_result(
    study: optuna.Study, variant: str, space: SearchSpace, present: Mapping[str, Value], seed: int
) -> SearchResult:
    """What the study holds now."""
    trials = finished(study)
    return SearchResult(
        variant=variant,
        study=study.study_name,
        trials=tuple(record_of(study.study_name, variant, space, trial) for trial in trials),
        present=present,
        importances=_importances(study, list(space), trials, seed),
        failed=len(study.get_trials(deepcopy=False, states=(TrialState.FAIL,))),
        read_until=None if READ_UNTIL not in study.user_attrs else pd.Timestamp(study.user_attrs[READ_UNTIL]),
    )


def record_of(study: str, variant: str, space: SearchSpace, trial: FrozenTrial) -> TrialRecord:
    """A finished trial of Optuna."""
    pruned: Outcome = "diverged" if trial.user_attrs.get(REASON) == DIVERGED else "pruned"
    losses = list(trial.intermediate_values.values())
    return TrialRecord(
        study=study,
        variant=variant,
        number=trial.number,
        hyperparameters=trial.user_attrs[SETTINGS],
        values={name: trial.params[name] for name in space},
        outcome="complete" if trial.state == TrialState.COMPLETE else pruned,
        loss=min(losses, default=math.nan),
        best_epoch=1 + losses.index(min(losses)) if losses else 0,
        epochs=len(losses),
        seconds=float(trial.user_attrs.get(SECONDS, math.nan)),
        losses=tuple(losses),
    )


def _importances(
    study: optuna.Study, names: Sequence[str], trials: Sequence[FrozenTrial], seed: int
) -> dict[str, float]:
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    varied = [name for name in names if len({trial.params[name] for trial in complete}) > 1]
    if len(complete) < _FEWEST_FOR_IMPORTANCE or not varied or len({trial.value for trial in complete}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator, params=varied)
    return {name: float(share) for name, share in shares.items()}
