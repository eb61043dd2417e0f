"""The trials of a search in the tracker: one run each, nested below the run that the search belongs to.

The run is open while its trial trains, so that it ends as the trial did: FINISHED where the trial is complete or was
pruned, FAILED where it diverged or broke, KILLED where it was interrupted or its process died. The tag ``STATE`` says
which of these in the words of the search. The study remains the truth about what was tried; a trial has one run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from financial_assets.errors import TrackingError
from financial_assets.models.artifacts.tracked import shown_settings
from financial_assets.models.search.result import DIVERGED, TrialRecord
from financial_assets.models.variants import Variant
from financial_assets.tracking import KIND_TAG, MlflowRun, MlflowTracker, owner_is_alive

STUDY = "search.study"
NUMBER = "search.trial"
STATE = "search.state"
"""Tag of a run: ``complete``, ``pruned``, ``diverged``, or ``failed``: the trial did not finish and is tried again."""
FAILED = "failed"


@dataclass(frozen=True)
class TrialRuns:
    """Tracks the trials of a search.

    Parameters
    ----------
    tracker
        Where.
    parent
        Id of the run that they are nested below; ``None``: of none.
    tags
        Of each run, beside its own.
    """

    tracker: MlflowTracker
    parent: str | None
    tags: Mapping[str, str]

    @contextmanager
    def trial(
        self, study: str, number: int, variant: Variant, made_with: Mapping[str, object]
    ) -> Generator[Callable[[TrialRecord], None], None, None]:
        """The run of a trial that begins; yields what is told of the trial once it is finished.

        Parameters
        ----------
        study, number
            Which trial.
        variant
            With the settings of the trial.
        made_with
            Further parameters, which all trials of the study share.

        Raises
        ------
        TrackingError
            The tracker cannot be reached.
        """
        with self._opened(study, number, variant.name, {**variant.hyperparameters(), **made_with}) as run:
            try:
                yield lambda record: _log(run, record)
            except BaseException as error:
                try:
                    run.set_tags({STATE: FAILED})
                except TrackingError as unreachable:  # what went wrong in the trial matters more
                    error.add_note(f"the run {run.id} was not marked {FAILED}: {unreachable}")
                raise

    def complete(self, study: str, finished: Iterable[TrialRecord], made_with: Mapping[str, object]) -> None:
        """Track what the tracker does not know of earlier trials of a study, because their process has died.

        A finished trial without a run gets one, one with a run that was not concluded has it concluded; runs of trials
        that did not finish are marked ``failed``. Whoever calls this holds the study against others who would, too.
        """
        self.tracker.end_stale(owner_is_alive)
        recorded = {int(run.tags[NUMBER]): run for run in reversed(self.tracker.runs_with(STUDY, study))}
        settled = {at for at, run in recorded.items() if run.goes_on or run.tags.get(STATE, FAILED) != FAILED}
        unsettled = {trial.number: trial for trial in finished if trial.number not in settled}
        for number, trial in unsettled.items():
            with (
                self.tracker.resume(recorded[number].id)
                if number in recorded
                else self._opened(study, number, trial.variant, {**trial.hyperparameters, **made_with})
            ) as run:
                run.set_tags({"financial_assets.tracked_again": "true"})
                _log(run, trial)
        for number, run in recorded.items():
            if number not in settled | unsettled.keys() and STATE not in run.tags:
                self.tracker.opened(run.id).set_tags({STATE: FAILED})

    def _opened(
        self, study: str, number: int, variant: str, settings: Mapping[str, object]
    ) -> AbstractContextManager[MlflowRun]:
        tags = {KIND_TAG: "trial", **self.tags, "variant": variant, STUDY: study, NUMBER: str(number)}
        name, params = f"{variant} trial {number}", shown_settings(settings)
        return self.tracker.run(name, tags=tags, params=params, parent=self.parent)


def _log(run: MlflowRun, trial: TrialRecord) -> None:
    """The learning curve on the stop block, its best epoch, and the state, by which the run ends."""
    losses = [(epoch, loss) for epoch, loss in enumerate(trial.losses, 1) if math.isfinite(loss)]
    run.log_history((epoch, {"stop_loss": loss}) for epoch, loss in losses)
    best = {"best_stop_loss": trial.loss, "best_epoch": float(trial.best_epoch)} if losses else {}
    spent = {} if math.isnan(trial.seconds) else {"training_seconds": trial.seconds}
    run.log_metrics({**best, "epochs": float(trial.epochs), **spent})
    run.set_tags({STATE: trial.outcome})
    if trial.outcome == DIVERGED:
        run.conclude("FAILED", f"after {trial.epochs} epochs the loss was no longer finite")
