"""Which training of a variant is the current one, and its run in the tracker."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import TrainingError
from financial_assets.models.scores import held_out_scores
from financial_assets.models.training import Training
from financial_assets.models.variants import Variant
from financial_assets.tracking import MlflowRun, MlflowTracker


@dataclass(frozen=True)
class TrainedModel:
    """A trained variant.

    Attributes
    ----------
    fingerprint
        Identity of the training.
    run_id
        The tracked run that trained it.
    training
        The training itself.
    reused
        Nothing was trained: a training with this fingerprint exists.
    """

    fingerprint: str
    run_id: str
    training: Training
    reused: bool


def keep_pointer(path: Path, identity: str, run_id: str) -> None:
    """Write ``current.json``: the fingerprint of the current training, and the run that the next step takes."""
    atomic_write_text(path, json.dumps({"fingerprint": identity, "run_id": run_id}))


def read_pointer(path: Path) -> dict[str, str]:
    """``fingerprint`` and ``run_id`` of the current training, from ``current.json`` in the variant's folder.

    Raises
    ------
    TrainingError
        The variant was not trained, or the file is damaged.
    """
    variant = path.parent.name
    if not path.exists():
        raise TrainingError(f"variant {variant!r} was not trained: materialize models/{variant}")
    try:
        pointer = json.loads(path.read_text())
        return {name: pointer[name] + "" for name in ("fingerprint", "run_id")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} is damaged ({error!r}): materialize models/{variant} to have it again") from error


def live_run(tracker: MlflowTracker, run_id: str, training: Training, identity: str, tags: Mapping[str, str]) -> str:
    """``run_id`` if the tracker still has that run, else another one of the same training, tracked anew if need be.

    The store may be another one than when the model was trained, and runs can be deleted there.
    """
    if run_id and tracker.is_active(run_id):
        return run_id
    run_of_same = tracker.find("fingerprint", identity)
    if run_of_same is not None:
        return run_of_same
    tags = {**tags, "financial_assets.tracked_again": "true"}
    with training_run(
        tracker, training.variant, training.cutoff, training.sequence_length, training.seed, identity, tags
    ) as run:
        log_training(run, training)
        return run.id


def training_run(
    tracker: MlflowTracker,
    variant: Variant,
    cutoff: pd.Timestamp,
    sequence_length: int,
    seed: int,
    identity: str,
    tags: Mapping[str, str],
) -> AbstractContextManager[MlflowRun]:
    """Open the run of a training: what it is made with are its parameters, its fingerprint is among its tags."""
    made_with = {"cutoff": f"{cutoff:%Y-%m-%d}", "sequence_length": sequence_length, "seed": seed}
    tags = {**tags, "variant": variant.name, "fingerprint": identity}
    return tracker.run(variant.name, tags=tags, params=variant.hyperparameters() | made_with)


def log_training(run: MlflowRun, training: Training) -> None:
    """Record the learning curve and the held-out scores."""
    for epoch in training.history:
        losses = {"train_loss": epoch.fit_loss, "val_loss": epoch.stop_loss, "val_accuracy": epoch.stop_accuracy}
        by_head = {
            f"{block}_loss_{head}": loss
            for block, by_head in (("train", epoch.fit_losses), ("val", epoch.stop_losses))
            for head, loss in by_head.items()
        }
        run.log_metrics(losses | by_head, epoch.number)
    scores = held_out_scores(training.held_out)
    run.log_metrics(
        {
            "best_epoch": float(training.best_epoch),
            "training_seconds": training.seconds,
            **{f"held_out_{name.replace('%', 'pct')}": interval.estimate for name, interval in scores.items()},
        }
    )
