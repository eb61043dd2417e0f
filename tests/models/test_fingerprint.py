from __future__ import annotations

import ast
import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from financial_assets.market.panel import PricePanel
from financial_assets.models.artifacts import fingerprint as module
from financial_assets.models.artifacts.fingerprint import (
    DECIDING,
    code_version,
    fingerprint,
    source_version,
    training_data_hash,
)
from financial_assets.models.variants import VARIANTS

PACKAGE = Path(module.__file__).parents[2]
PRESENT = source_version(PACKAGE)

BASE: dict[str, Any] = {
    "data_hash": "d",
    "variant": VARIANTS["baseline"],
    "seed": 1,
    "sequence_length": 10,
    "cutoff": pd.Timestamp("2010-05-03"),
    "code": "c",
}


def test_equal_arguments_give_an_equal_fingerprint() -> None:
    assert fingerprint(**BASE) == fingerprint(**BASE)
    assert len(fingerprint(**BASE)) == 20
    assert fingerprint(**{**BASE, "code": None}) == fingerprint(**{**BASE, "code": code_version()})


@pytest.mark.parametrize(
    "change",
    [
        {"data_hash": "e"},
        {"code": "other"},
        {"seed": 2},
        {"sequence_length": 11},
        {"cutoff": pd.Timestamp("2010-05-04")},
        {"variant": replace(VARIANTS["baseline"], dropout=0.06)},
        {"variant": VARIANTS["enhanced"]},
    ],
)
def test_every_ingredient_counts(change: dict[str, Any]) -> None:
    assert fingerprint(**{**BASE, **change}) != fingerprint(**BASE)


def test_later_sessions_do_not_change_the_data_hash_and_earlier_ones_do(
    panel: PricePanel, cutoff: pd.Timestamp
) -> None:
    at = panel.position(cutoff)
    known = training_data_hash(panel, cutoff)
    assert training_data_hash(panel.until(panel.sessions[at + 5]), cutoff) == known
    values = panel.values.copy()
    values[0, 3, at + 1] *= np.float32(2.0)
    assert training_data_hash(replace(panel, values=values), cutoff) == known
    values[0, 3, at] = np.nextafter(values[0, 3, at], np.float32(1e9))
    assert training_data_hash(replace(panel, values=values), cutoff) != known


HARMLESS = {
    *("atomic", "disk", "errors", "folders", "kept", "redaction"),  # how files are written and what errors say
    *("market.calendar", "market.frames"),  # how prices come to be, which have their own hash
    *(f"market.quality.{name}" for name in ("bars", "results", "sessions", "shapes", "values")),  # likewise
    *(f"market.panels.{name}" for name in ("archive", "building", "digests", "layout", "sections")),  # likewise
    # but for the definitions that DECIDING names
    *("market.panel", "models.onnx.trees", "scoring.quantiles"),
    *("models.onnx.builder", "models.onnx.tracing"),  # how trees are exported
    *("scoring.arguments", "scoring.distributions", "scoring.intervals"),  # checks, and how sure a score is
}
"""What training and prediction import and what decides no weight."""


def undeclared(root: Path) -> set[str]:
    """Modules that training or prediction imports, directly or not, and that nobody has judged."""

    def file_of(module: str) -> Path:
        return root.joinpath(*module.split(".")).with_suffix(".py")

    reached, waiting = set[str](), ["models.training", "models.predictor"]
    while waiting:
        module = waiting.pop()
        if module in reached:
            continue
        reached.add(module)
        for node in ast.walk(ast.parse(file_of(module).read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("financial_assets"):
                origin = (node.module or "").removeprefix("financial_assets").removeprefix(".")
                inside = [f"{origin}.{alias.name}".removeprefix(".") for alias in node.names]
                waiting += [name if file_of(name).exists() else origin for name in inside]
    return reached - set(DECIDING) - HARMLESS


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("features", "market", "models", "scoring"):
        shutil.copytree(PACKAGE / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in PACKAGE.glob("*.py"):
        shutil.copy(path, tmp_path)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_every_module_behind_training_is_judged() -> None:
    assert undeclared(PACKAGE) == set(), (
        "training or prediction imports these: add those that decide the weights to DECIDING in "
        "models/artifacts/fingerprint.py, and the others to HARMLESS here"
    )


def test_a_new_module_behind_training_is_noticed(copy: Path) -> None:
    edit(
        copy / "models/networks/lstm.py",
        "import itertools\n",
        "import itertools\nfrom financial_assets.models import planted\n",
    )
    (copy / "models/planted.py").write_text("from financial_assets.features.planted import x\n")
    (copy / "features/planted.py").write_text("x = 1\n")
    assert undeclared(copy) == {"models.planted", "features.planted"}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("models/dataset.py", "# Session-major", "# In other words: session-major"),
        ("models/training.py", '"""Seeded training', '"""Reproducible training'),
        ("models/dataset.py", '"""Sessions between', '"""Trading days between'),
        ("models/fitting/gradient.py", "the loss is not finite", "the loss exploded"),
        ("models/training.py", "progress: bool", "progress: bool | None"),
        ("models/fitting/gradient.py", "import math\n", "import cmath\nimport math\n"),
        ("models/predictor.py", '__all__ = ["QUANTILE_LEVELS", ', '__all__ = ["Calibration", "QUANTILE_LEVELS", '),
        ("models/artifacts/card.py", "indent=2", "indent=3"),
        ("market/panel.py", "def save(", "def keep("),
        ("scoring/quantiles.py", "error = ", "miss = "),
    ],
    ids=[
        "comment",
        "docstring",
        "text of a constant",
        "error",
        "annotation",
        "import",
        "exports",
        "card",
        "panel",
        "score",
    ],
)
def test_what_decides_no_weight_keeps_the_version(copy: Path, name: str, old: str, new: str) -> None:
    edit(copy / name, old, new)
    assert source_version(copy) == PRESENT


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("models/scaling.py", "CLIP = 5.0", "CLIP = 5"),
        ("models/fitting/gradient.py", "_GRADIENT_NORM = 1.0", "_GRADIENT_NORM = 1.1"),
        ("models/dataset.py", "(0.70, 0.15, 0.15)", "(0.70, 0.20, 0.10)"),
        ("models/networks/lstm.py", "[:, -1, :]", "[:, -2, :]"),
        ("models/calibration/layer.py", "torch.sigmoid(", "torch.tanh("),
        ("models/fitting/gradient.py", "stop_loss.total < best_loss", "stop_loss.total <= best_loss"),
        ("features/rolling.py", "2.0 / (span + 1)", "2.0 / (span + 2)"),
        ("features/catalogue.py", "    *volume.FEATURES,\n", ""),
        ("market/outcomes.py", " - ", " + "),
        ("scoring/quantiles.py", "0.01, 0.05", "0.02, 0.05"),
    ],
    ids=lambda value: value if "/" in value else "",
)
def test_what_decides_the_weights_changes_the_version(copy: Path, name: str, old: str, new: str) -> None:
    edit(copy / name, old, new)
    assert source_version(copy) != PRESENT


def test_a_field_without_a_value_counts(copy: Path) -> None:
    """The fields of a dataclass are an order of arguments, though each is an annotation only."""
    edit(
        copy / "models/variants.py",
        "    layers: int = 1\n    hidden: int = 1\n",
        "    hidden: int = 1\n    layers: int = 1\n",
    )
    assert source_version(copy) != PRESENT


def test_moving_a_file_keeps_the_version(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copy / "models/scaling.py").rename(copy / "scoring/scaling.py")
    moved = tuple(name.replace("models.scaling", "scoring.scaling") for name in DECIDING)
    monkeypatch.setattr(module, "DECIDING", moved[::-1])
    assert source_version(copy) == PRESENT


def test_the_present_code_is_on_record() -> None:
    source = PRESENT
    assert source in module._EARLIER, (
        f"the code that decides the weights changed: its source version is {source}. Run `python "
        "benchmarks/trained_weights.py` here and in a checkout of the code before. Equal digests: let this version "
        "replace the last key of _EARLIER in models/artifacts/fingerprint.py, and existing models are reused. Other "
        f'digests: add the line "{source}": {{}}, and every state folder trains anew'
    )


def test_models_of_an_earlier_version_with_equal_weights_are_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    source = PRESENT
    own = hashlib.sha256(f"torch {torch.__version__}\n{source}".encode()).hexdigest()[:16]
    try:
        for earlier, expected in (
            ({source: {torch.__version__: "of before"}}, "of before"),
            ({source: {"1.0": "of before"}}, own),  # weights were compared under another torch
            ({}, own),
        ):
            monkeypatch.setattr(module, "_EARLIER", earlier)
            code_version.cache_clear()
            assert code_version() == expected
    finally:
        code_version.cache_clear()
