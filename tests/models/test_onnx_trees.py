"""Gradient-boosted trees: scikit-learn, torch and onnxruntime give the same scores, also on thresholds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from financial_assets.errors import ExportError
from financial_assets.models.onnx.tracing import trace
from financial_assets.models.onnx.trees import TreeEnsemble
from financial_assets.models.onnx.writer import write_onnx
from tests.models.onnx_graphs import Module

Model = HistGradientBoostingClassifier | HistGradientBoostingRegressor

FEATURES = 5
MODELS: Mapping[str, Model] = {
    "two classes": HistGradientBoostingClassifier(max_iter=80),
    "three classes": HistGradientBoostingClassifier(max_iter=30),
    "squared error": HistGradientBoostingRegressor(max_iter=150),
    "quantile": HistGradientBoostingRegressor(loss="quantile", quantile=0.05, max_iter=50),
    "stumps": HistGradientBoostingRegressor(max_iter=20, max_leaf_nodes=2),
    "no split": HistGradientBoostingRegressor(max_iter=3, min_samples_leaf=1500),
}


def data(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features with missing values and ties, and what depends on them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, FEATURES)).astype(np.float32)
    x[:, 1] = x[:, 1].round(1)
    x[:, 2] = x[:, 2] > 0
    x[rng.random(x.shape) < 0.1] = np.nan
    total = np.nan_to_num(x).sum(axis=1) + np.isnan(x[:, 3]) + 0.2 * rng.normal(size=len(x))
    targets = {"two classes": total > 0, "three classes": np.digitize(total, [-1.0, 1.0])}
    return x, targets.get(name, np.sin(total))


def questions(ensemble: TreeEnsemble) -> np.ndarray:
    """Random rows, and rows on thresholds or one float32 beside; missing values and infinities in both."""
    rng = np.random.default_rng(1)
    thresholds = np.append(ensemble.threshold.numpy(), 0.0)
    on = np.unique(thresholds[np.isfinite(thresholds)]).astype(np.float32)
    beside = [np.nextafter(on, np.float32(side)) for side in (-np.inf, np.inf)]
    rows = np.concatenate(
        [
            2.0 * rng.normal(size=(3000, FEATURES)).astype(np.float32),
            rng.choice(np.concatenate([on, *beside]), (3000, FEATURES)),
        ]
    )
    rows[rng.random(rows.shape) < 0.1] = np.nan
    return rows.astype(np.float32)


def session(ensemble: TreeEnsemble) -> ort.InferenceSession:
    model = write_onnx(
        trace(Module(ensemble), lambda batch: torch.ones(batch, FEATURES)),
        source=("x", ("batch", FEATURES)),
        outputs={"y": ("batch", len(ensemble.baseline))},
        opset=20,
    )
    onnx.checker.check_model(model, full_check=True)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def scores(model: Model, rows: np.ndarray) -> np.ndarray:
    found = model.decision_function(rows) if isinstance(model, HistGradientBoostingClassifier) else model.predict(rows)
    return np.asarray(found).reshape(len(rows), -1)


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_sklearn_on_and_beside_thresholds(name: str) -> None:
    model = MODELS[name].fit(*data(name))
    ensemble = TreeEnsemble.from_sklearn(model)
    rows = questions(ensemble)
    expected = scores(model, rows)
    eager = ensemble(torch.from_numpy(rows))
    assert eager.dtype == torch.float32
    # Sums in another order differ in the last bit of float64, which seldom shows in float32.
    assert np.abs(eager.numpy() - expected).max() <= np.spacing(np.float32(np.abs(expected).max()))
    assert np.abs(eager.numpy() - expected).max() < 1e-6
    served = session(ensemble)
    for part in (rows, rows[:2], *rows[:20, None]):
        found = np.asarray(served.run(["y"], {"x": part})[0])
        assert np.abs(found - ensemble(torch.from_numpy(part)).numpy()).max() < 1e-6


def test_a_threshold_that_float32_lacks_is_kept() -> None:
    """Rounded to float32 it would fall on the value below or above, which then goes the other way."""
    below = np.float32(0.1)
    above = np.nextafter(below, np.float32(1.0))
    nodes = np.zeros(3, dtype=_nodes_type())
    nodes["is_leaf"], nodes["depth"], nodes["value"] = [0, 1, 1], [0, 1, 1], [0.0, -1.0, 1.0]
    nodes["left"][0], nodes["right"][0] = 1, 2
    for threshold, expected in (
        (float(below), [-1.0, 1.0]),
        (np.nextafter(float(below), 0.0), [1.0, 1.0]),
        (np.nextafter(float(above), 0.0), [-1.0, 1.0]),
        (float(above), [-1.0, -1.0]),
    ):
        nodes["num_threshold"][0] = threshold
        ensemble = TreeEnsemble([nodes], np.zeros(1), 1)
        rows = np.asarray([[below], [above]])
        assert ensemble(torch.from_numpy(rows)).ravel().tolist() == expected
        model = write_onnx(
            trace(Module(ensemble), lambda batch: torch.ones(batch, 1)),
            source=("x", ("batch", 1)),
            outputs={"y": ("batch", 1)},
            opset=20,
        )
        served = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        assert np.ravel(served.run(["y"], {"x": rows})[0]).tolist() == expected


def _nodes_type() -> np.dtype:
    """The node type of the scikit-learn that is installed."""
    model = HistGradientBoostingRegressor(max_iter=1).fit(*data("squared error"))
    return model._predictors[0][0].nodes.dtype


def test_many_rows_are_evaluated_in_parts_and_none_is_an_answer_too() -> None:
    ensemble = TreeEnsemble.from_sklearn(MODELS["stumps"].fit(*data("stumps")))
    rows = torch.from_numpy(questions(ensemble))
    assert torch.equal(ensemble(rows)[700:710], ensemble(rows[700:710]))
    assert ensemble(rows[:0]).shape == (0, 1)


def test_weights_are_kept_as_a_state() -> None:
    ensemble = TreeEnsemble.from_sklearn(MODELS["stumps"].fit(*data("stumps")))
    assert not list(ensemble.parameters())
    assert ensemble.state_dict()["threshold"].dtype == torch.float64


def test_what_cannot_be_exported_is_named() -> None:
    with pytest.raises(ExportError, match="call fit"):
        TreeEnsemble.from_sklearn(HistGradientBoostingRegressor())
    x, y = data("squared error")
    categories = HistGradientBoostingRegressor(categorical_features=[2], max_iter=2).fit(x, y)
    with pytest.raises(ExportError, match="categorical_features"):
        TreeEnsemble.from_sklearn(categories)
    ensemble = TreeEnsemble.from_sklearn(HistGradientBoostingRegressor(max_iter=2).fit(x, y))
    with pytest.raises(ExportError, match="5 features"):
        ensemble(torch.ones(3, 4))
