"""The study behind a search: trials in a journal, which several processes may share and which survives any of them.

Optuna's own trials are the truth about what was tried. A trial belongs to the process that runs it; where that process
has died, the trial is marked failed, does not count, and its settings are tried again.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState

from financial_assets.disk import disk_errors
from financial_assets.errors import TrainingError
from financial_assets.folders import make_folder
from financial_assets.locking import exclusive
from financial_assets.models.search.space import SearchSpace, Value
from financial_assets.tracking import owner_is_alive
from financial_assets.tracking.owners import OWNER_PID, describe_owner, owner_tags

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
REASON = "reason"
"""Attribute of a trial: why it failed or was cut short."""

_OWNER = "owner"
_WAIT_S = 60.0
_STARTUP_TRIALS = 5
_WARMUP_EPOCHS = 3


class _KernelLock(JournalFileSymlinkLock):
    """A lock of the journal that is gone with its holder; Optuna's own stays behind for half a minute."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: AbstractContextManager[None] | None = None

    def acquire(self) -> bool:
        self._held = exclusive(self._path, _WAIT_S, error=TrainingError, purpose="writing the journal of a search")
        self._held.__enter__()
        return True

    def release(self) -> None:
        assert self._held is not None
        self._held.__exit__(None, None, None)


def open_study(path: Path, name: str, seed: int) -> optuna.Study:
    """The study ``name`` in the journal ``path``; both are made when missing.

    Raises
    ------
    TrainingError
        The file is not a journal.
    StorageError
        The disk refuses.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    lock = _KernelLock(path.with_suffix(f"{path.suffix}.lock"))
    with disk_errors(path, "written"), exclusive(_lock(path), _WAIT_S, error=TrainingError, purpose="opening a search"):
        make_folder(path.parent)
        _cut_torn_line(path, lock)
        try:
            return optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(path), lock)),
                study_name=name,
                direction="minimize",
                load_if_exists=True,
                sampler=_sampler(seed, 0),
                pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS, n_warmup_steps=_WARMUP_EPOCHS),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(path, repr(error)) from error


def _cut_torn_line(path: Path, lock: _KernelLock) -> None:
    """Remove what a writer that died, or whose disk was full, left of a line: no later line could be read."""
    lock.acquire()
    try:
        with path.open("ab+") as journal:
            journal.seek(0)
            content = journal.read()
            end = content.rfind(b"\n") + 1
            if content[end:] and not content[end:].startswith(b"{"):
                raise _damaged(path, "its last line is none of a journal")
            journal.truncate(end)
    finally:
        lock.release()


def _damaged(path: Path, reason: str) -> TrainingError:
    return TrainingError(f"{path} cannot be used as the journal of a search ({reason}): remove it to search anew")


def next_trial(
    path: Path, study: optuna.Study, space: SearchSpace, seed: int, most: int | None, present: dict[str, Value] | None
) -> tuple[optuna.Trial, dict[str, Value]] | None:
    """Take the next trial; ``None`` when the study has, or is about to have, ``most`` finished ones.

    The sampler is seeded anew for each trial, by its place among the trials that count. A search that was interrupted
    therefore goes on as if it had not been, and two processes never draw the same.

    Parameters
    ----------
    path, study
        From ``open_study``.
    space, seed
        What is drawn from, and by which seed.
    most
        Limit of finished trials; ``None``: no limit.
    present
        Settings that must be among the trials, so that the search is never worse than them; ``None``: there are none
        inside the space.
    """
    with exclusive(_lock(path), _WAIT_S, error=TrainingError, purpose="taking the next trial of a search"):
        fail_lost_trials(study)
        counted = [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.FAIL]
        if most is not None and sum(trial.state != TrialState.WAITING for trial in counted) >= most:
            return None
        if present is not None and not any(_asks_for(trial, present) for trial in counted):
            study.enqueue_trial(present)
        trial = study.ask()
        for tag, value in owner_tags().items():
            trial.set_user_attr(f"{_OWNER}.{tag}", value)
        place = sum(other.number < trial.number and other.state != TrialState.WAITING for other in counted)
        study.sampler = _sampler(seed, place)
        return trial, {name: dimension.suggest(trial, name) for name, dimension in space.items()}


def fail_lost_trials(study: optuna.Study) -> int:
    """Mark trials as failed whose process has died; how many."""
    lost = 0
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        prefix = f"{_OWNER}."
        tags = {name.removeprefix(prefix): value for name, value in trial.user_attrs.items() if name.startswith(prefix)}
        # Trials are taken under the lock together with their owner: one without an owner died in between.
        if OWNER_PID in tags and owner_is_alive(tags):
            continue
        fail(study, trial.number, f"its {describe_owner(tags)} died")
        lost += 1
    return lost


def fail(study: optuna.Study, number: int, reason: str) -> None:
    """Mark a trial as failed: it does not count, and its settings are tried again."""
    trial = study.get_trials(deepcopy=False)[number]
    study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
    study.set_user_attr(f"failed trial {trial.number}", reason)


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that count, in the order in which they began."""
    return study.get_trials(deepcopy=False, states=FINISHED)


def _asks_for(trial: FrozenTrial, values: dict[str, Value]) -> bool:
    params = trial.system_attrs.get("fixed_params", {}) if trial.state == TrialState.WAITING else trial.params
    return all(name in params and params[name] == value for name, value in values.items())


def _sampler(seed: int, place: int) -> optuna.samplers.BaseSampler:
    """The tree-structured Parzen estimator (Bergstra et al. 2011), one dimension at a time."""
    state = np.random.SeedSequence([seed, place]).generate_state(1)
    # Not multivariate: dimensions are then drawn when they are asked for, after the trial has its number.
    return optuna.samplers.TPESampler(seed=int(state[0]), multivariate=False)


def _lock(path: Path) -> Path:
    return path.with_suffix(".lock")
