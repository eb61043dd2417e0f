"""Trainings on disk: tensors and JSON, no pickled classes; a folder is finished or it does not exist."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from financial_assets.atomic import atomic_write_bytes, atomic_write_text
from financial_assets.errors import TrainingError
from financial_assets.folders import make_folder
from financial_assets.models.answers import Answers
from financial_assets.models.artifacts.earlier import EARLIER_FORMAT, stored_volatility, upgraded
from financial_assets.models.calibration import FittedCalibration, PlattScaling, QuantileShifts, ScoreSlope
from financial_assets.models.networks.build import build_network
from financial_assets.models.scaling import RobustScaler
from financial_assets.models.training import Epoch, Training
from financial_assets.models.variants import Variant

_FORMAT = 2
_MANIFEST = "training.json"
_TENSORS = "tensors.pt"
_HELD_OUT = "held_out.npz"
_AS_IT_IS = ("seed", "sequence_length", "windows", "best_epoch", "device", "seconds")
"""Attributes of a training that JSON holds as they are."""
_ATTEMPTS = 20


def save_training(folder: Path, training: Training) -> Path:
    """Write a training into ``folder``: ``tensors.pt``, ``held_out.npz`` and ``training.json`` with their hashes.

    Everything is written beside ``folder`` and renamed onto it, so a reader never sees half of it. A folder that is
    already there is replaced.

    Returns
    -------
    Path
        ``folder``.
    """
    make_folder(folder.parent)
    files = {_TENSORS: _tensors(training), _HELD_OUT: _held_out(training.held_out)}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    with tempfile.TemporaryDirectory(
        dir=folder.parent, prefix=f".{folder.name}.", ignore_cleanup_errors=True
    ) as staging:
        new = Path(staging, "new")
        new.mkdir()
        for name, data in files.items():
            atomic_write_bytes(new / name, data)
        atomic_write_text(new / _MANIFEST, json.dumps({**_manifest(training), "files": hashes}, indent=1))
        _move_onto(new, folder, Path(staging))
    return folder


def _move_onto(new: Path, folder: Path, staging: Path) -> None:
    """Rename ``new`` to ``folder``; what is there goes to ``staging``, and comes back if the renaming fails."""
    for attempt in range(_ATTEMPTS):
        old = staging / f"old-{attempt}"
        # Somebody else may take the folder away, or put one there, between any two of these lines.
        with suppress(FileNotFoundError):
            folder.replace(old)
        try:
            new.replace(folder)
        except BaseException as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                continue
            if old.exists():
                old.replace(folder)
            raise
        return
    raise TrainingError(f"{folder} is being written by others again and again: run one training of a variant at a time")


def is_finished(folder: Path) -> bool:
    """Whether ``folder`` holds a whole, undamaged training."""
    try:
        _read_manifest(folder)
    except TrainingError:
        return False
    return True


def load_training(folder: Path) -> Training:
    """Read what ``save_training`` wrote; tensors are loaded with ``weights_only=True``, so a file cannot run code.

    A training of an earlier version answers what it did, and NaN where it had no head, see ``earlier``.

    Raises
    ------
    TrainingError
        If the folder is missing, half-written, damaged, or of another format.
    """
    manifest = _read_manifest(folder)
    try:
        tensors = torch.load(folder / _TENSORS, weights_only=True, map_location="cpu")
        with np.load(folder / _HELD_OUT, allow_pickle=False) as arrays:
            held_out = {name: arrays[name] for name in arrays.files}
        if manifest["format"] == EARLIER_FORMAT:
            manifest, tensors, held_out = upgraded(manifest, tensors, held_out)
        variant = Variant(**manifest["variant"])
        network = build_network(variant, len(manifest["feature_names"]))
        network.load_state_dict(tensors["network"])
        scaler = RobustScaler(tensors["scaler"]["center"], tensors["scaler"]["scale"])
        return Training(
            variant=variant,
            feature_names=tuple(manifest["feature_names"]),
            tickers=tuple(manifest["tickers"]),
            network=network.eval(),
            scaler=scaler.eval(),
            volatility=stored_volatility(tensors["volatility"]).eval(),
            fitted_calibration=_calibration_of(manifest["calibration"]),
            spans={
                name: (pd.Timestamp(first), pd.Timestamp(last)) for name, (first, last) in manifest["spans"].items()
            },
            cutoff=pd.Timestamp(manifest["cutoff"]),
            history=tuple(Epoch(**epoch) for epoch in manifest["history"]),
            held_out=Answers(**held_out),
            details=manifest.get("details", {}),  # earlier versions had nothing to tell
            **{name: manifest[name] for name in _AS_IT_IS},
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"{folder} does not hold a training that this code can read ({error}): delete it to train again"
        ) from error


def _manifest(training: Training) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "variant": training.variant.hyperparameters(),
        "feature_names": training.feature_names,
        "tickers": training.tickers,
        "calibration": _calibration(training.fitted_calibration),
        "spans": {name: [day.isoformat() for day in span] for name, span in training.spans.items()},
        "cutoff": training.cutoff.isoformat(),
        "details": dict(training.details),
        "history": [asdict(epoch) for epoch in training.history],
        **{name: getattr(training, name) for name in _AS_IT_IS},
    }


def _calibration(fitted: FittedCalibration) -> dict[str, Any]:
    shifts = [each.to_dict() for each in fitted.shifts]
    return {"platt": asdict(fitted.platt), "shifts": shifts, "score": asdict(fitted.score)}


def _calibration_of(stored: dict[str, Any]) -> FittedCalibration:
    shifts = tuple(QuantileShifts.from_dict(each) for each in stored["shifts"])
    return FittedCalibration(PlattScaling(**stored["platt"]), shifts, ScoreSlope(**stored["score"]))


def _tensors(training: Training) -> bytes:
    parts = {name: getattr(training, name).state_dict() for name in ("network", "scaler", "volatility")}
    buffer = io.BytesIO()
    torch.save(parts, buffer)
    return buffer.getvalue()


def _held_out(answers: Answers) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name: getattr(answers, name) for name in Answers.__dataclass_fields__})
    return buffer.getvalue()


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        if manifest["format"] not in (EARLIER_FORMAT, _FORMAT):
            raise TrainingError(
                f"{folder} is of format {manifest['format']}, this code reads {EARLIER_FORMAT} and {_FORMAT}: delete "
                "it to train again"
            )
        for name, digest in manifest["files"].items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                raise TrainingError(f"{folder / name} is damaged: delete {folder} to train again")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(f"{folder} holds no finished training ({error}): delete it to train again") from error
    return manifest
