"""Which training of a variant is the current one, and its run in the tracker."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import TrainingError
from financial_assets.market.panel import PricePanel
from financial_assets.models.scores import held_out_scores
from financial_assets.models.training import Epoch, Training
from financial_assets.models.variants import Variant
from financial_assets.tracking import KIND_TAG, MlflowRun, MlflowTracker, TrackedDataset

CONTEXTS = {"fit": "fit", "stop": "stop", "calibrate": "held_out"}
"""What console, Dagster and MLflow call the results on each block; the answers on the last are held out."""


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


def live_run(
    tracker: MlflowTracker,
    run_id: str,
    training: Training,
    identity: str,
    tags: Mapping[str, str],
    datasets: Sequence[TrackedDataset] = (),
    parent: str | None = None,
) -> str:
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
        tracker,
        training.variant,
        training.cutoff,
        training.sequence_length,
        training.seed,
        identity,
        tags,
        parent=parent,
    ) as run:
        log_training(run, training, datasets)
        return run.id


def training_run(
    tracker: MlflowTracker,
    variant: Variant,
    cutoff: pd.Timestamp,
    sequence_length: int,
    seed: int,
    identity: str,
    tags: Mapping[str, str],
    *,
    parent: str | None = None,
) -> AbstractContextManager[MlflowRun]:
    """Open the run of a training: what it is made with are its parameters, its fingerprint is among its tags.

    ``parent`` is the id of the run that it is nested below, e.g. that of the pipeline.
    """
    day = f"{cutoff:%Y-%m-%d}"
    made_with = {"data_cutoff": day, "sequence_length": sequence_length, "seed": seed}
    tags = {KIND_TAG: "training", **tags, "variant": variant.name, "fingerprint": identity}
    params = shown_settings(variant.hyperparameters()) | made_with
    return tracker.run(f"{variant.name} to {day}", tags=tags, params=params, parent=parent)


def shown_settings(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a variant has, each as one line of text can say it.

    Parameters
    ----------
    hyperparameters
        As ``Variant.hyperparameters`` gives them. What most variants have no value of (steps, members) is left out, and
        of its members, an ensemble tells the names.
    """
    members = {"members": ", ".join(member["name"] for member in hyperparameters.get("members") or ())}
    return {name: value for name, value in {**hyperparameters, **members}.items() if value not in (None, "")}


def log_training(run: MlflowRun, training: Training, datasets: Sequence[TrackedDataset] = ()) -> None:
    """Record what was read, the learning curve, the restored epoch (``best_*``) and the held-out scores."""
    if datasets:
        run.log_datasets(datasets)
    run.log_history((epoch.number, epoch_metrics(epoch)) for epoch in training.history)
    best = next(epoch for epoch in training.history if epoch.number == training.best_epoch)
    run.log_metrics(
        {
            "best_epoch": float(training.best_epoch),
            "training_seconds": training.seconds,
            # MLflow's headline of `stop_loss` is that of the last epoch, which is not the model that is kept.
            **{f"best_{name}": value for name, value in epoch_metrics(best).items()},
            **held_out_metrics(training),
        }
    )


def epoch_metrics(epoch: Epoch) -> dict[str, float]:
    """Losses and accuracy of an epoch: ``fit_loss``, ``stop_loss``, ``stop_accuracy``, and losses by head.

    Those of a head are ``fit_loss_<head>`` and ``stop_loss_<head>``.
    """
    return {
        "fit_loss": epoch.fit_loss,
        "stop_loss": epoch.stop_loss,
        "stop_accuracy": epoch.stop_accuracy,
        **{f"fit_loss_{head}": loss for head, loss in epoch.fit_losses.items()},
        **{f"stop_loss_{head}": loss for head, loss in epoch.stop_losses.items()},
    }


def held_out_metrics(training: Training) -> dict[str, float]:
    """The held-out scores, by names that MLflow takes."""
    scores = held_out_scores(training.held_out)
    return {f"held_out_{name.replace('%', 'pct')}": interval.estimate for name, interval in scores.items()}


def training_datasets(training: Training, panel: PricePanel, data_hash: str, source: str) -> list[TrackedDataset]:
    """The blocks of the price panel that a training has read, as MLflow lists them.

    Parameters
    ----------
    training
        Names the blocks and their spans; the block ``calibrate`` is the one that the held-out scores are of.
    panel
        What was read.
    data_hash
        Of all that was read.
    source
        Where the prices are from, as ``PRICE_SOURCE`` names it.
    """
    return [
        TrackedDataset(
            name=f"prices-{context}",
            digest=hashlib.sha256(f"{data_hash} {first:%Y-%m-%d} {last:%Y-%m-%d}".encode()).hexdigest(),
            context=context,
            source={"price source": source, "digest of the panel": data_hash},
            profile={
                "first session": f"{first:%Y-%m-%d}",
                "last session": f"{last:%Y-%m-%d}",
                "windows": training.windows[block],
                "tickers": len(training.tickers),
            },
            columns=panel.channels,
        )
        for block, (first, last) in training.spans.items()
        for context in [CONTEXTS[block]]
    ]
