from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper

from financial_assets.errors import ExportError
from financial_assets.models.artifacts.mlflow_model import save_mlflow_model
from financial_assets.models.onnx.export import OUTPUT_WIDTHS, onnx_session, run_onnx

EXAMPLE = np.linspace(1, 2, 256 * 7, dtype=np.float32).reshape(256, 7)


@pytest.fixture
def onnx_path(tmp_path: Path) -> Path:
    """A model with the served interface that needs no torch."""
    nodes = [
        helper.make_node("ReduceMean", ["bars", "axes"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["probability_up"]),
        helper.make_node("Concat", ["probability_up"] * 5, ["return_quantiles"], axis=1),
        helper.make_node("Identity", ["return_quantiles"], ["return_quantiles_5d"]),
        helper.make_node("Identity", ["probability_up"], ["excess_return"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("bars", TensorProto.FLOAT, ["batch", 256, 7])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
            for name, width in OUTPUT_WIDTHS.items()
        ],
        [
            helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        ],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_folder_has_signature_example_and_the_same_model(onnx_path: Path, tmp_path: Path) -> None:
    folder = save_mlflow_model(onnx_path, tmp_path / "deep" / "model", example=EXAMPLE, metadata={"variant": "tiny"})
    described = yaml.safe_load((folder / "MLmodel").read_text())
    inputs, outputs = (json.loads(described["signature"][side]) for side in ("inputs", "outputs"))
    assert [(i["name"], i["tensor-spec"]) for i in inputs] == [("bars", {"dtype": "float32", "shape": [-1, 256, 7]})]
    assert [(o["name"], o["tensor-spec"]["shape"]) for o in outputs] == [
        ("probability_up", [-1, 1]),
        ("return_quantiles", [-1, 5]),
        ("return_quantiles_5d", [-1, 5]),
        ("excess_return", [-1, 1]),
    ]
    assert described["metadata"] == {"variant": "tiny"}
    assert sum(path.stat().st_size for path in folder.iterdir() if "example" in path.name) < 200_000
    one, other = (run_onnx(onnx_session(path), EXAMPLE[None]) for path in (onnx_path, folder / "model.onnx"))
    assert np.array_equal(one[0], other[0])
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_an_artefact_is_never_overwritten(onnx_path: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(ExportError, match="never overwritten"):
        save_mlflow_model(onnx_path, tmp_path / "model", example=EXAMPLE)


def test_example_must_be_one_window(onnx_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"\(256, 7\)"):
        save_mlflow_model(onnx_path, tmp_path / "model", example=EXAMPLE[None])


def test_a_broken_file_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ExportError, match="not an ONNX model"):
        save_mlflow_model(tmp_path / "model.onnx", tmp_path / "model", example=EXAMPLE)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
