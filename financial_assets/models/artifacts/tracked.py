"""Which training of a variant is the current one, and its run in the tracker."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import TrainingError
from financial_assets.models.scores import held_out_scores
from financial_assets.models.training import Training
from financial_assets.models.variants import Variant
from financial_assets.tracking import Run, Tracker

__all__ = ["keep_pointer", "live_run", "log_training", "read_pointer", "training_params"]


def keep_pointer(path: Path, identity: str, run_id: str) -> None:
    """Write ``current.json``: the fingerprint of the current training, and the run that the next step takes."""
    atomic_write_text(path, json.dumps({"fingerprint": identity, "run_id": run_id}))


def read_pointer(path: Path) -> dict[str, str]:
    """The content of ``current.json``: ``fingerprint`` and ``run_id``.

    Raises
    ------
    TrainingError
        It is damaged.
    """
    try:
        pointer = json.loads(path.read_text())
        return {name: pointer[name] + "" for name in ("fingerprint", "run_id")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{path} is damaged ({error!r}): materialize models/{path.parent.name} to have it again"
        ) from error


def live_run(tracker: Tracker, run_id: str, training: Training, identity: str, tags: Mapping[str, str]) -> str:
    """``run_id`` if the tracker still has that run, else another one of the same training, tracked anew if need be.

    The store may be another one than when the model was trained, and runs can be deleted there.
    """
    if run_id and tracker.is_active(run_id):
        return run_id
    run_of_same = tracker.find("fingerprint", identity)
    if run_of_same is not None:
        return run_of_same
    variant = training.variant
    with tracker.run(
        variant.name,
        tags={**tags, "variant": variant.name, "fingerprint": identity, "financial_assets.tracked_again": "true"},
        params=training_params(variant, training.cutoff, training.sequence_length, training.seed),
    ) as run:
        log_training(run, training)
        return run.id


def training_params(variant: Variant, cutoff: pd.Timestamp, sequence_length: int, seed: int) -> dict[str, object]:
    """What a training was made with, as parameters of its run."""
    return {
        **variant.hyperparameters(),
        "cutoff": f"{cutoff:%Y-%m-%d}",
        "sequence_length": sequence_length,
        "seed": seed,
    }


def log_training(run: Run, training: Training) -> None:
    """Record the learning curve and the held-out scores."""
    for epoch in training.history:
        losses = {"train_loss": epoch.fit_loss, "val_loss": epoch.stop_loss, "val_accuracy": epoch.stop_accuracy}
        run.log_metrics(losses, epoch.number)
    scores = held_out_scores(training.held_out)
    run.log_metrics(
        {
            "best_epoch": float(training.best_epoch),
            "training_seconds": training.seconds,
            **{f"held_out_{name.replace('%', 'pct')}": interval.estimate for name, interval in scores.items()},
        }
    )
