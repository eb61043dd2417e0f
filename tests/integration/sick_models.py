"""Trained models that answer right and yet must not be served: one takes too long, one fails when its day has come.

Both are registered versions of a trained model, whose ONNX graph got further nodes: a mistake of an export that tests
of answers cannot see, because on the day of the release every answer is the model's own.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from financial_assets.models.artifacts.artifact import CARD_FILE, MODEL_FOLDER, ONNX_FILE
from financial_assets.models.onnx.export import file_sha256
from financial_assets.resources import Models

__all__ = ["failing_after", "release", "slow_by"]

_ANSWER = "probability_up"
_DAY = 6
_WIDTH = 128

Change = Callable[[onnx.ModelProto], None]


def release(models: Models, variant: str, change: Change) -> int:
    """Register a version of a variant whose graph was changed, as the one to be deployed next; its number."""
    lifecycle, registry = models.lifecycle(), models.registry()
    healthy = lifecycle.current_artifact(variant)
    graph = onnx.load(str(healthy.onnx_path))
    change(graph)
    onnx.checker.check_model(graph)
    content = graph.SerializeToString()
    identity = hashlib.sha256(content).hexdigest()[:20]
    shutil.copytree(healthy.folder.parent, lifecycle.folder / variant / identity)
    folder = lifecycle.folder / variant / identity / "artifact"
    for place in (folder, folder / MODEL_FOLDER):
        (place / ONNX_FILE).write_bytes(content)
        card = json.loads((place / CARD_FILE).read_text()) | {"onnx_sha256": file_sha256(folder / ONNX_FILE)}
        (place / CARD_FILE).write_text(json.dumps(card))
    tags = dict(registry.get(healthy.version).tags) | {
        "fingerprint": identity,
        "onnx_sha256": file_sha256(folder / ONNX_FILE),
    }
    with models.tracker().run(f"{variant}, exported again", tags={"variant": variant}) as run:
        run.log_artifacts(folder / MODEL_FOLDER, MODEL_FOLDER)
        version = registry.register(run.id, MODEL_FOLDER, tags)
        pointer = {"fingerprint": identity, "run_id": run.id}
    (lifecycle.folder / variant / "current.json").write_text(json.dumps(pointer))
    return version.version


def slow_by(seconds: float) -> Change:
    """Work that takes about so long on this machine, whose result is multiplied by nothing."""

    def change(model: onnx.ModelProto) -> None:
        probe = onnx.ModelProto()
        probe.CopyFrom(model)
        _add_work(probe, 400)
        _add_work(model, max(1, round(400 * seconds / _seconds(probe))))

    return change


def failing_after(day: int) -> Change:
    """The root of what is left until ``day`` (days since 1970): after it, no number."""

    def change(model: onnx.ModelProto) -> None:
        answer = _rename_answer(model)
        constants = {"last_bar": np.int64(-1), "day": np.int64(_DAY), "limit": np.float32(day), "none": np.float32(0)}
        _constants(model, constants | {"column": np.array([-1, 1], np.int64)})
        model.graph.node.extend(
            [
                helper.make_node("Gather", ["bars", "sick_last_bar"], ["sick_bar"], axis=1),
                helper.make_node("Gather", ["sick_bar", "sick_day"], ["sick_today"], axis=1),
                helper.make_node("Sub", ["sick_limit", "sick_today"], ["sick_left"]),
                helper.make_node("Sqrt", ["sick_left"], ["sick_root"]),
                helper.make_node("Mul", ["sick_root", "sick_none"], ["sick_flat"]),
                helper.make_node("Reshape", ["sick_flat", "sick_column"], ["sick_nothing"]),
                helper.make_node("Add", [answer, "sick_nothing"], [_ANSWER]),
            ]
        )

    return change


def _add_work(model: onnx.ModelProto, rounds: int) -> None:
    answer = _rename_answer(model)
    weights = np.random.default_rng(0).normal(0, 0.1, (_WIDTH, _WIDTH)).astype(np.float32)
    _constants(model, {"weights": weights, "rounds": np.int64(rounds), "go": np.bool_(True), "none": np.float32(0)})
    matrix = [_WIDTH, _WIDTH]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["sick_on"], ["sick_on_out"]),
            helper.make_node("MatMul", ["sick_state", "sick_weights"], ["sick_product"]),
            helper.make_node("Tanh", ["sick_product"], ["sick_state_out"]),
        ],
        "sick_body",
        [
            helper.make_tensor_value_info("sick_round", TensorProto.INT64, []),
            helper.make_tensor_value_info("sick_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sick_state", TensorProto.FLOAT, matrix),
        ],
        [
            helper.make_tensor_value_info("sick_on_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sick_state_out", TensorProto.FLOAT, matrix),
        ],
    )
    model.graph.node.extend(
        [
            # It depends on the request, or it would be computed once, when the model is loaded.
            helper.make_node("ReduceMean", ["bars"], ["sick_mean"], keepdims=0),
            helper.make_node("Mul", ["sick_weights", "sick_mean"], ["sick_start"]),
            helper.make_node("Loop", ["sick_rounds", "sick_go", "sick_start"], ["sick_end"], body=body),
            helper.make_node("ReduceMean", ["sick_end"], ["sick_size"], keepdims=0),
            helper.make_node("Mul", ["sick_size", "sick_none"], ["sick_nothing"]),
            helper.make_node("Add", [answer, "sick_nothing"], [_ANSWER]),
        ]
    )


def _rename_answer(model: onnx.ModelProto) -> str:
    """Another name for the tensor that was the answer, so that the answer can be made of it."""
    healthy = f"healthy_{_ANSWER}"
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [healthy if name == _ANSWER else name for name in names]
    return healthy


def _constants(model: onnx.ModelProto, values: dict[str, np.generic | np.ndarray]) -> None:
    tensors = [numpy_helper.from_array(np.asarray(value), f"sick_{name}") for name, value in values.items()]
    model.graph.initializer.extend(tensors)


def _seconds(model: onnx.ModelProto) -> float:
    """Best of three runs, in one thread as it is served."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    bars = np.ones((1, *shape[1:]), np.float32)
    took: list[float] = []
    for _ in range(3):
        started = time.perf_counter()
        session.run(None, {"bars": bars})
        took.append(time.perf_counter() - started)
    return min(took)
