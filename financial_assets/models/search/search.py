"""The search itself: trials of the production training on the fit block, judged by the loss on the stop block."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
import pandas as pd

from financial_assets.errors import DivergenceError, TrainingError
from financial_assets.features.graph import FeaturePanel
from financial_assets.locking import exclusive
from financial_assets.market.panel import PricePanel
from financial_assets.models.artifacts.fingerprint import fingerprint, training_data_hash
from financial_assets.models.fitting.gradient import Epoch
from financial_assets.models.fitting.network import fit_network
from financial_assets.models.search.blocks import SearchData, check_cutoff
from financial_assets.models.search.result import (
    DIVERGED,
    READ_UNTIL,
    SECONDS,
    SETTINGS,
    SearchResult,
    TrialRecord,
    read_result,
    record_of,
)
from financial_assets.models.search.space import (
    SearchSpace,
    Value,
    space_of,
    values_of,
    with_values,
)
from financial_assets.models.search.study import REASON, fail, finished, next_trial, open_study
from financial_assets.models.search.tracked import TrialRuns
from financial_assets.models.variants import Variant

_WAIT_S = 60.0
"""For another process that tracks the earlier trials of the same variant."""

TrialLedger = Callable[[TrialRecord], None]
"""Is told of every finished trial, so that whoever judges the winner knows among how many it was chosen.

It may be told of the same trial again, by another run of the same study: it knows trials by their ``fingerprint``.
"""


@dataclass(frozen=True)
class SearchBudget:
    """When a search ends, whichever comes first; a trial that has begun is finished.

    Attributes
    ----------
    minutes
        Of one run; ``None``: no limit.
    trials
        Finished trials that the study shall have, those of earlier runs included; ``None``: no limit.
    """

    minutes: float | None = None
    trials: int | None = None

    def __post_init__(self) -> None:
        if self.minutes is None and self.trials is None:
            raise TrainingError("a search without a limit never ends: set SEARCH_BUDGET or SEARCH_TRIALS")
        if (self.minutes is not None and not self.minutes > 0) or (self.trials is not None and self.trials < 1):
            raise TrainingError(
                f"SEARCH_BUDGET must be above 0 and SEARCH_TRIALS at least 1, not {self.minutes} and {self.trials}"
            )


@dataclass(frozen=True)
class HyperparameterSearch:
    """Searches, one study for each variant, data and code.

    Parameters
    ----------
    folder
        Of the studies; one journal per variant.
    sequence_length, seed, device, threads
        As for ``models.training.train``; the seed is also the sampler's.
    ledger
        Told of every finished trial.
    runs
        Tracks every trial; ``None``: nobody does.
    clock
        Seconds that only ever increase.
    """

    folder: Path
    sequence_length: int
    seed: int
    device: str = "auto"
    threads: int = 1
    ledger: TrialLedger = lambda _: None
    runs: TrialRuns | None = None
    clock: Callable[[], float] = time.monotonic

    def run(
        self,
        variant: Variant,
        features: FeaturePanel,
        panel: PricePanel,
        *,
        cutoff: pd.Timestamp,
        evaluation_after: pd.Timestamp,
        budget: SearchBudget,
        on_trial: Callable[[TrialRecord], None] = lambda _: None,
    ) -> SearchResult:
        """Go on with the study of ``variant`` on what is known at ``cutoff`` until the budget is used up.

        Each trial is the fit of ``models.training`` with other settings; its value is the loss of the best epoch on the
        stop block. Trials that are worse than the median of the others at the same epoch are ended. In one process the
        same arguments give the same trials, however often the search was interrupted.

        Parameters
        ----------
        variant
            With its present settings, which are tried first.
        features, panel
            On the same tickers and sessions.
        cutoff
            Data cut-off; the blocks are those of a training with it.
        evaluation_after
            Data cut-off of the models; a search must not look beyond it.
        budget
            When to end.
        on_trial
            Told of every trial that this run finishes.

        Raises
        ------
        SearchLeakError
            The search would choose settings on sessions outside of the stop block.
        TrainingError
            There is too little data, or no search space.
        TrackingError
            The tracker cannot be reached. What a trial has found by then is in the study.
        """
        check_cutoff(cutoff, evaluation_after)
        space = space_of(variant)
        steps = variant.window(self.sequence_length)
        blocks = SearchData.until(cutoff, features, panel, sequence_length=steps)
        began, path, present = self.clock(), self.path(variant.name), values_of(variant, space)
        inside = all(space[name].contains(value) for name, value in present.items())
        study = open_study(path, self._study(variant, space, panel, cutoff), self.seed)
        study.set_user_attr(READ_UNTIL, blocks.read_until.date().isoformat())
        made_with = {"data_cutoff": f"{cutoff:%Y-%m-%d}", "sequence_length": steps, "seed": self.seed}
        earlier = [record_of(study.study_name, variant.name, space, trial) for trial in finished(study)]
        for record in earlier:  # a process may have died before it told the ledger, or ended the trial's run
            self.ledger(record)
        self._complete_runs(variant.name, study.study_name, earlier, made_with)
        while budget.minutes is None or self.clock() - began < 60 * budget.minutes:
            taken = next_trial(path, study, space, self.seed, budget.trials, present if inside else None)
            if taken is None:
                break
            record = self._try(variant, blocks, study, space, *taken, made_with)
            self.ledger(record)
            on_trial(record)
        return read_result(study, variant.name, space, present, self.seed)

    def result(self, variant: Variant, panel: PricePanel, *, cutoff: pd.Timestamp) -> SearchResult:
        """What earlier runs have found."""
        space = space_of(variant)
        study = open_study(self.path(variant.name), self._study(variant, space, panel, cutoff), self.seed)
        return read_result(study, variant.name, space, values_of(variant, space), self.seed)

    def path(self, variant: str) -> Path:
        """The journal of a variant's studies."""
        return self.folder / f"{variant}.journal"

    def _study(self, variant: Variant, space: SearchSpace, panel: PricePanel, cutoff: pd.Timestamp) -> str:
        """Trials are compared only where all but the searched settings is the same."""
        unsearched = replace(variant, **{name: dimension.first for name, dimension in space.items()})
        identity = fingerprint(
            data_hash=training_data_hash(panel, cutoff),
            variant=unsearched,
            seed=self.seed,
            sequence_length=variant.window(self.sequence_length),
            cutoff=cutoff,
        )
        digest = hashlib.sha256(f"{identity} {dict(space)!r}".encode()).hexdigest()[:12]
        return f"{variant.name}-{digest}"

    def _try(
        self,
        variant: Variant,
        blocks: SearchData,
        study: optuna.Study,
        space: SearchSpace,
        trial: optuna.Trial,
        values: dict[str, Value],
        made_with: Mapping[str, object],
    ) -> TrialRecord:
        """One trial; what ends it otherwise than the training itself marks it as failed."""
        record: TrialRecord | None = None
        try:
            tried = with_values(variant, values)
            trial.set_user_attr(SETTINGS, tried.hyperparameters())
            with self._tracked(study, trial, tried, made_with) as conclude:
                state, value = self._fit(tried, blocks, trial)
                told = study.tell(trial, value, state=state)
                record = record_of(study.study_name, variant.name, space, told)
                conclude(record)
        except BaseException as error:  # also Ctrl-C: the trial must not look as if it went on
            if record is None:
                fail(study, trial.number, f"{type(error).__name__}: {error}")
            raise
        return record

    def _fit(
        self, tried: Variant, blocks: SearchData, trial: optuna.Trial
    ) -> tuple[optuna.trial.TrialState, float | None]:
        """State and value of a trial that trains."""

        def look(epoch: Epoch) -> None:
            trial.report(epoch.stop_loss, epoch.number)
            if trial.should_prune():
                raise optuna.TrialPruned

        began = self.clock()
        state, value = optuna.trial.TrialState.PRUNED, None
        try:
            fitted = fit_network(
                tried, blocks.data, seed=self.seed, device=self.device, threads=self.threads, on_epoch=look
            )
            blocks.check(fitted.scored)
            state, value = optuna.trial.TrialState.COMPLETE, fitted.stop_loss
        except DivergenceError:
            trial.set_user_attr(REASON, DIVERGED)
        except optuna.TrialPruned:
            pass
        trial.set_user_attr(SECONDS, self.clock() - began)
        return state, value

    def _tracked(
        self, study: optuna.Study, trial: optuna.Trial, tried: Variant, made_with: Mapping[str, object]
    ) -> AbstractContextManager[Callable[[TrialRecord], None]]:
        if self.runs is None:
            return nullcontext(lambda _: None)
        return self.runs.trial(study.study_name, trial.number, tried, made_with)

    def _complete_runs(
        self, variant: str, study: str, finished: Sequence[TrialRecord], made_with: Mapping[str, object]
    ) -> None:
        if self.runs is None:
            return
        lock, purpose = self.path(variant).with_suffix(".runs.lock"), "tracking the earlier trials of a search"
        with exclusive(lock, _WAIT_S, error=TrainingError, purpose=purpose):
            self.runs.complete(study, finished, made_with)
