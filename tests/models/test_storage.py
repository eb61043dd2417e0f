from __future__ import annotations

import hashlib
import json
import pickletools
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from financial_assets.errors import TrainingError
from financial_assets.features.bars import KNOWN_VARIANCES
from financial_assets.features.graph import FeatureGraph, FeaturePanel
from financial_assets.market.panel import PricePanel
from financial_assets.models.answers import Answers
from financial_assets.models.artifacts import storage
from financial_assets.models.artifacts.storage import is_finished, load_training, save_training
from financial_assets.models.explanations.explain import ExplanationPlan, explain
from financial_assets.models.onnx.export import export_onnx
from financial_assets.models.onnx.parity import prove_parity
from financial_assets.models.predictor import build_predictor
from financial_assets.models.training import Training
from financial_assets.models.volatility import LONG_RUN, HarVolatility


def test_what_is_loaded_answers_alike_bit_for_bit(training: Training, tmp_path: Path) -> None:
    loaded = load_training(save_training(tmp_path / "a" / "b", training))
    inputs = torch.randn(9, training.sequence_length, len(training.feature_names))
    volatility = torch.tensor([0.01, 0.03]).expand(9, 2)
    one, other = (t.calibration(t.network(t.scaler(inputs), volatility), volatility) for t in (training, loaded))
    assert all(torch.equal(mine, its) for mine, its in zip(one, other, strict=True))
    variances = torch.rand(9, len(KNOWN_VARIANCES))
    assert torch.equal(training.volatility.of_variances(variances), loaded.volatility.of_variances(variances))
    for name in ("variant", "seed", "feature_names", "tickers", "platt", "spans", "cutoff", "windows", "history",
                 "best_epoch", "device", "seconds", "sequence_length"):  # fmt: skip
        assert getattr(loaded, name) == getattr(training, name), name
    for name in Answers.__dataclass_fields__:
        assert np.array_equal(getattr(loaded.held_out, name), getattr(training.held_out, name)), name
    fitted = loaded.fitted_calibration
    assert fitted.score == training.fitted_calibration.score
    for mine, its in zip(training.fitted_calibration.shifts, fitted.shifts, strict=True):
        for name in ("centres", "shifts", "weights", "constants", "credibility"):
            assert np.array_equal(getattr(mine, name), getattr(its, name)), name
        assert (mine.rows, mine.effective_rows, mine.pooled) == (its.rows, its.effective_rows, its.pooled)


def test_saving_again_replaces(training: Training, tmp_path: Path) -> None:
    for _ in range(2):
        save_training(tmp_path / "t", training)
    assert [path.name for path in tmp_path.iterdir()] == ["t"]
    assert is_finished(tmp_path / "t")


@pytest.mark.parametrize("at", ["atomic_write_bytes", "atomic_write_text"])
def test_an_interrupt_leaves_neither_half_a_folder_nor_rubbish(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(storage, at, interrupt)
        with pytest.raises(KeyboardInterrupt):
            save_training(tmp_path / "t", training)
    assert list(tmp_path.iterdir()) == []
    save_training(tmp_path / "t", training)
    with monkeypatch.context() as patched:
        patched.setattr(storage, at, interrupt)
        with pytest.raises(KeyboardInterrupt):
            save_training(tmp_path / "t", training)
    assert is_finished(tmp_path / "t")


def test_writers_at_the_same_time_leave_one_whole_training(training: Training, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        saved = list(pool.map(lambda _: save_training(tmp_path / "t", training), range(24)))
    assert set(saved) == {tmp_path / "t"}
    assert [path.name for path in tmp_path.iterdir()] == ["t"]
    assert load_training(tmp_path / "t").best_epoch == training.best_epoch


def test_a_rename_that_fails_brings_the_old_one_back(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_training(tmp_path / "t", training)
    rename = Path.replace

    def fail(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise PermissionError("no")
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", fail)
        # The files inside are renamed too; only the folder's own renaming fails.
        with pytest.raises(PermissionError):
            save_training(folder, training)
    assert is_finished(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


SAVE_FOR_EVER = """
import sys
from pathlib import Path
from financial_assets.models.artifacts.storage import load_training, save_training
training = load_training(Path(sys.argv[1]))
while True:
    save_training(Path(sys.argv[2]), training)
    print("saved", flush=True)
"""


def test_a_killed_writer_leaves_a_whole_training_or_none(training: Training, tmp_path: Path) -> None:
    source, target = save_training(tmp_path / "source", training), tmp_path / "target"
    command = [sys.executable, "-c", SAVE_FOR_EVER, str(source), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(5):
            assert writer.stdout.readline() == "saved\n"
        writer.kill()
    assert is_finished(target) or not target.exists()
    save_training(target, training)
    assert load_training(target).cutoff == training.cutoff


SPOILS = (
    "no manifest",
    "half a manifest",
    "no tensors",
    "one bit",
    "cut short",
    "other format",
    "list",
    "unknown field",
)


@pytest.mark.parametrize("spoil", SPOILS)
def test_half_written_or_damaged_folders_are_not_mistaken_for_finished(
    training: Training, tmp_path: Path, spoil: str
) -> None:
    folder = save_training(tmp_path / "t", training)
    manifest, tensors = folder / "training.json", folder / "tensors.pt"
    content = json.loads(manifest.read_text())
    if spoil == "no manifest":
        manifest.unlink()
    elif spoil == "half a manifest":
        manifest.write_text(manifest.read_text()[:200])
    elif spoil == "no tensors":
        tensors.unlink()
    elif spoil == "one bit":
        data = bytearray(tensors.read_bytes())
        data[len(data) // 2] ^= 1
        tensors.write_bytes(data)
    elif spoil == "cut short":
        tensors.write_bytes(tensors.read_bytes()[:-100])
    elif spoil == "list":
        manifest.write_text("[]")
    else:
        content |= {"format": 99} if spoil == "other format" else {"variant": {"size": "large"}}
        manifest.write_text(json.dumps(content))
    with pytest.raises(TrainingError, match="train again"):
        load_training(folder)
    assert is_finished(folder) is (spoil == "unknown field")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert not is_finished(tmp_path / "none")
    with pytest.raises(TrainingError, match="no finished training"):
        load_training(tmp_path / "none")


def test_no_class_is_pickled(training: Training, tmp_path: Path) -> None:
    folder = save_training(tmp_path / "t", training)
    with zipfile.ZipFile(folder / "tensors.pt") as archive:
        pickle = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        names = {str(arg) for op, arg, _ in pickletools.genops(archive.read(pickle)) if op.name == "GLOBAL"}
    assert names <= {"torch._utils _rebuild_tensor_v2", "torch FloatStorage", "collections OrderedDict"}
    with np.load(folder / "held_out.npz", allow_pickle=False) as arrays:
        assert len(arrays["logit"]) == len(training.held_out)


def of_an_earlier_version(training: Training, folder: Path) -> Path:
    """The training as it was stored when a model had two heads and scaled both by its EWMA volatility."""
    folder.mkdir()
    weights = {name: value for name, value in training.network.state_dict().items() if not name.startswith("heads")}
    for part in ("weight", "bias"):
        direction, quantiles, _ = training.network.state_dict()[f"heads.linear.{part}"].split((1, 5, 6))
        weights |= {f"direction.{part}": direction.clone(), f"quantiles.{part}": quantiles.clone()}
    platt = training.platt
    calibration = {
        "scale": torch.tensor([platt.scale]),
        "bias": torch.tensor([platt.bias]),
        "shifts": torch.tensor([0.1, 0.2, 0.0, -0.1, 0.3]),
    }
    tensors = {"network": weights, "scaler": training.scaler.state_dict(), "calibration": calibration}
    torch.save(tensors, folder / "tensors.pt")
    answers = training.held_out
    kept = {name: getattr(answers, name) for name in ("session", "ticker", "logit", "multiples", "outcome")}
    np.savez(folder / "held_out.npz", **kept, volatility=answers.volatility[:, 0])
    manifest = {
        "format": 1,
        "variant": training.variant.hyperparameters(),
        "feature_names": training.feature_names,
        "tickers": training.tickers,
        "platt": {name: getattr(platt, name) for name in ("scale", "bias", "unconstrained_scale")},
        "spans": {name: [day.isoformat() for day in span] for name, span in training.spans.items()},
        "cutoff": training.cutoff.isoformat(),
        "history": [
            {name: getattr(epoch, name) for name in ("number", "fit_loss", "stop_loss", "stop_accuracy", "seconds")}
            for epoch in training.history
        ],
        **{
            name: getattr(training, name)
            for name in ("seed", "sequence_length", "windows", "best_epoch", "device", "seconds")
        },
        "files": {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("tensors.pt", "held_out.npz")
        },
    }
    (folder / "training.json").write_text(json.dumps(manifest))
    return folder


def test_a_training_of_an_earlier_version_goes_on_answering_what_it_did(training: Training, tmp_path: Path) -> None:
    folder = of_an_earlier_version(training, tmp_path / "old")
    assert is_finished(folder)
    old = load_training(folder)
    assert (old.platt, old.spans, old.cutoff, old.windows) == (
        training.platt,
        training.spans,
        training.cutoff,
        training.windows,
    )
    assert np.array_equal(old.held_out.logit, training.held_out.logit)
    assert np.array_equal(old.held_out.volatility[:, 0], training.held_out.volatility[:, 0])
    answer = old.calibrated(old.held_out)
    shifts = np.array([0.1, 0.2, 0.0, -0.1, 0.3])
    expected = np.sort(old.held_out.multiples + shifts, axis=1) * old.held_out.volatility[:, :1]
    assert np.allclose(answer.return_quantiles, expected, rtol=1e-5)
    # What it never learned is unknown, in its answers and in what its network would give.
    assert bool(torch.isnan(answer.return_quantiles_5d).all())
    assert bool(torch.isnan(answer.excess_return).all())
    inputs = torch.randn(4, training.sequence_length, len(training.feature_names))
    volatility = torch.tensor([0.01, 0.02]).expand(4, 2)
    outputs, mine = (network(inputs, volatility) for network in (old.network, training.network))
    assert torch.allclose(outputs.logit, mine.logit)
    assert torch.allclose(outputs.multiples, mine.multiples)
    assert bool(torch.isnan(torch.cat([outputs.multiples_5d, outputs.score], dim=1)).all())


def without_long_run(training: Training, folder: Path) -> Path:
    """The training as it was stored when the forecast volatility knew variances of 1, 5 and 22 sessions, and the EWMA.

    Coefficients are such as real prices give.
    """
    slopes = torch.tensor([[0.12, 0.08], [0.28, 0.22], [0.30, 0.33], [0.14, 0.16]])
    stored = HarVolatility(torch.tensor([-1.4, -1.9]), slopes, torch.tensor([1.22, 1.25]))
    return save_training(folder, replace(training, volatility=stored))


def test_a_training_without_a_long_run_variance_goes_on_forecasting_what_it_did(
    training: Training, tmp_path: Path
) -> None:
    old = load_training(without_long_run(training, tmp_path / "old"))
    variances = torch.rand(50, len(KNOWN_VARIANCES)) * 1e-3
    logs = torch.log(variances[:, [place for place in range(len(KNOWN_VARIANCES)) if place != LONG_RUN]])
    slopes = torch.tensor([[0.12, 0.08], [0.28, 0.22], [0.30, 0.33], [0.14, 0.16]]) / 2
    expected = torch.tensor([-1.4, -1.9]) / 2 + torch.log(torch.tensor([1.22, 1.25]) * torch.tensor([1.0, 5**0.5]))
    for place in range(4):
        expected = expected + logs[:, place : place + 1] * slopes[place]
    assert torch.equal(old.volatility.of_variances(variances), torch.exp(expected))
    again = load_training(save_training(tmp_path / "again", old))
    assert torch.equal(again.volatility.slopes, old.volatility.slopes)


def test_a_training_without_a_long_run_variance_is_served_and_explained(
    training: Training, features: FeaturePanel, panel: PricePanel, graph: FeatureGraph, tmp_path: Path
) -> None:
    old = load_training(without_long_run(training, tmp_path / "old"))
    predictor = build_predictor(old, graph)
    export_onnx(predictor, tmp_path / "m.onnx")
    assert prove_parity(predictor, tmp_path / "m.onnx", features, panel, windows=50).windows > 0
    quick = ExplanationPlan(gradient_windows=20, permutation_windows=100, repeats=2)
    assert explain(old, "f" * 20, graph, features, panel, plan=quick).sentences


@pytest.mark.parametrize("count", [0, 3, 6])
def test_slopes_of_other_variances_are_refused(training: Training, tmp_path: Path, count: int) -> None:
    volatility = HarVolatility(torch.zeros(2), torch.zeros(count, 2), torch.ones(2))
    folder = save_training(tmp_path / "t", replace(training, volatility=volatility))
    with pytest.raises(TrainingError, match=f"slopes of {count} variances"):
        load_training(folder)


def test_a_damaged_training_of_an_earlier_version_is_refused(training: Training, tmp_path: Path) -> None:
    folder = of_an_earlier_version(training, tmp_path / "old")
    manifest = json.loads((folder / "training.json").read_text())
    del manifest["platt"]
    (folder / "training.json").write_text(json.dumps(manifest))
    with pytest.raises(TrainingError, match="delete it to train again"):
        load_training(folder)
