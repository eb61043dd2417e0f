"""One self-contained ONNX file per model: raw bars in, calibrated answer out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import helper

from financial_assets.atomic import atomic_write_bytes
from financial_assets.errors import ExportError
from financial_assets.models.onnx.builder import ML_DOMAIN
from financial_assets.models.onnx.lowering.features import AnswerOfFeatures, write_features
from financial_assets.models.onnx.tracing import trace
from financial_assets.models.onnx.writer import write_onnx
from financial_assets.models.predictor import QUANTILE_LEVELS, SERVED_LOOKBACK, Predictor

OPSET = 20
INPUT_NAME = "bars"
OUTPUT_WIDTHS = {
    "probability_up": 1,
    "return_quantiles": len(QUANTILE_LEVELS),
    "return_quantiles_5d": len(QUANTILE_LEVELS),
    "excess_return": 1,
}
"""The served outputs in their order, ``ServedAnswer``, and how many numbers each has."""
OUTPUT_NAMES = tuple(OUTPUT_WIDTHS)


def export_onnx(predictor: Predictor, path: Path, *, metadata: Mapping[str, str] | None = None) -> str:
    """Write ``predictor`` as one ONNX file with a dynamic batch axis and no side file.

    Features are written by ``lowering`` as few operations on many numbers, what follows them operation by operation as
    it is traced; equal values are computed once and equal constants stored once.

    ``python benchmarks/onnx_export.py`` compares the file with others. Written operation by operation, the whole graph
    has 9 times the nodes, takes 10 times as long to load, and 7 times as long or more for a row, alone and in a batch.
    From ours, onnxslim and onnxoptimizer remove 2 % of the nodes and less. ``python benchmarks/onnx_parity.py``
    compares it with torch on thousands of adversarial windows.

    Parameters
    ----------
    predictor
        In evaluation mode.
    path
        Where to write, atomically.
    metadata
        Text to carry in the file's ``metadata_props``, for example variant and fingerprint; lookback and opset are
        added.

    Returns
    -------
    str
        SHA-256 of the file.

    Raises
    ------
    ExportError
        If an operation cannot be exported, the ONNX checker refuses the graph, or its interface is not the served one.
    """
    if predictor.training:
        raise ExportError("a predictor in training mode would be exported with its dropout: call eval() first")
    answer, channels = AnswerOfFeatures(predictor).eval(), len(predictor.channels)
    model = write_onnx(
        trace(answer, lambda batch: torch.ones((batch, *answer.shape))),
        source=(INPUT_NAME, ("batch", SERVED_LOOKBACK, channels)),
        outputs={name: ("batch", width) for name, width in OUTPUT_WIDTHS.items()},
        opset=OPSET,
        before=lambda builder, bars: write_features(builder, predictor, bars),
    )
    carried = {"bars_needed": str(predictor.bars_needed), "opset": str(OPSET), **(metadata or {})}
    helper.set_model_props(model, carried)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the exported graph is not valid ONNX: {error}") from error
    _check_interface(model, channels)
    data = model.SerializeToString(deterministic=True)
    atomic_write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def onnx_session(path: Path, *, threads: int = 1) -> ort.InferenceSession:
    """An onnxruntime CPU session on ``path``; those of equal content and threads are one, which may be run at any time.

    Raises
    ------
    OSError
        If the file cannot be read; other faults have exceptions of onnxruntime's own.
    """
    return _session(path.read_bytes(), threads)


@lru_cache(maxsize=8)
def _session(content: bytes, threads: int) -> ort.InferenceSession:
    # Kept, because onnxruntime takes half a second of processor time to prepare the thousands of nodes of the features,
    # and a file is looked at when it is exported, deployed, and examined.
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


class OnnxAnswer(NamedTuple):
    """``ServedAnswer`` as arrays ``[n, width]``; ``None`` for what the file of an earlier version does not answer."""

    probability_up: np.ndarray
    return_quantiles: np.ndarray
    return_quantiles_5d: np.ndarray | None = None
    excess_return: np.ndarray | None = None


def run_onnx(session: ort.InferenceSession, bars: np.ndarray) -> OnnxAnswer:
    """The answer of a served graph for ``bars`` ``[n, 256, channel]``."""
    outputs = [output.name for output in session.get_outputs()]
    arrays = session.run(outputs, {INPUT_NAME: np.ascontiguousarray(bars, dtype=np.float32)})
    return OnnxAnswer(**{name: np.asarray(array) for name, array in zip(outputs, arrays, strict=True)})


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_interface(model: onnx.ModelProto, channels: int) -> None:
    """The served contract: names, order and shapes; nothing outside the file; no domain but ONNX's own two."""
    names = [value.name for value in model.graph.input], [value.name for value in model.graph.output]
    if names != ([INPUT_NAME], list(OUTPUT_NAMES)):
        raise ExportError(f"the graph's inputs and outputs are {names}, not {INPUT_NAME} -> {OUTPUT_NAMES}")
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    if [d.dim_value for d in dimensions[1:]] != [SERVED_LOOKBACK, channels] or not dimensions[0].dim_param:
        raise ExportError(f"the graph's input shape is not [batch, {SERVED_LOOKBACK}, {channels}]")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ExportError("the graph keeps weights outside its file")
    used = {node.domain for node in model.graph.node} - {"", "ai.onnx", ML_DOMAIN}
    if used:
        raise ExportError(f"the graph uses operators of {sorted(used)}, which onnxruntime need not have")
