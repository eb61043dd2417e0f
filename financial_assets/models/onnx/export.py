"""One self-contained ONNX file per model: raw bars in, calibrated answer out."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx.compose
import onnxruntime as ort
import torch
from onnx import helper
from torch import Tensor, nn

from financial_assets.atomic import atomic_write_bytes
from financial_assets.errors import ExportError
from financial_assets.models.onnx.tracing import trace
from financial_assets.models.onnx.writer import write_onnx
from financial_assets.models.predictor import CHANNEL_COUNT, SERVED_LOOKBACK, Predictor

__all__ = ["INPUT_NAME", "OPSET", "OUTPUT_NAMES", "export_onnx", "file_sha256", "onnx_session", "run_onnx"]

OPSET = 20
INPUT_NAME = "bars"
OUTPUT_NAMES = ("probability_up", "return_quantiles")

_BETWEEN = ("features", "volatility")
"""Values that pass from the feature part to the answer part."""


def export_onnx(predictor: Predictor, path: Path, *, metadata: Mapping[str, str] | None = None) -> str:
    """Write ``predictor`` as one ONNX file with a dynamic batch axis and no side file.

    The feature graph is traced and written by ``writer``, which computes equal values once and stores equal constants
    once. Scaler, network and calibration go through ``torch.onnx.export``, which turns ``nn.LSTM`` into the ONNX
    operator of the same name. The two parts are merged.

    ``python benchmarks/onnx_export.py --every 4`` compares the file with others, all of which differ from torch by the
    same 6e-8. ``torch.onnx.export`` reaches our number of nodes with 19 times the bytes (2 after an optimiser) in 9
    times the export time; its TorchScript exporter writes 3.1 times the nodes and 6.5 times the bytes. From ours,
    onnxslim and onnxoptimizer remove 2 % of the nodes.

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
        If a part cannot be exported, the ONNX checker refuses the graph, or its interface is not the served one.
    """
    if predictor.training:
        raise ExportError("a predictor in training mode would be exported with its dropout: call eval() first")
    answer = _answer_part(predictor)
    model = onnx.compose.merge_models(
        _feature_part(predictor, answer.ir_version), answer, io_map=[(name, name) for name in _BETWEEN]
    )
    model.producer_name = "financial-assets"
    # Merging lists the one operator set twice.
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", OPSET))
    carried = {"bars_needed": str(predictor.bars_needed), "opset": str(OPSET), **(metadata or {})}
    helper.set_model_props(model, carried)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the exported graph is not valid ONNX: {error}") from error
    _check_interface(model)
    data = model.SerializeToString(deterministic=True)
    atomic_write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def _feature_part(predictor: Predictor, ir_version: int) -> onnx.ModelProto:
    """Raw bars to the features and the volatility that the network needs."""
    traced = trace(_Prepare(predictor).eval(), lambda batch: torch.full((batch, SERVED_LOOKBACK, CHANNEL_COUNT), 100.0))
    widths = {"features": (predictor.sequence_length, len(predictor.graph.names)), "volatility": (1,)}
    model = write_onnx(
        traced,
        source=(INPUT_NAME, ("batch", SERVED_LOOKBACK, CHANNEL_COUNT)),
        outputs={name: ("batch", *width) for name, width in widths.items()},
        opset=OPSET,
        ir_version=ir_version,
    )
    return onnx.compose.add_prefix(model, "f.", rename_inputs=False, rename_outputs=False)


def _answer_part(predictor: Predictor) -> onnx.ModelProto:
    """Features and volatility to the calibrated answer."""
    example = (torch.zeros(2, predictor.sequence_length, len(predictor.graph.names)), torch.ones(2, 1))
    batch = torch.export.Dim("batch", min=1, max=65536)
    with _quiet_exporter():
        try:
            program = torch.onnx.export(
                _Answer(predictor).eval(),
                example,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(_BETWEEN),
                output_names=list(OUTPUT_NAMES),
                dynamic_shapes=({0: batch}, {0: batch}),
                external_data=False,
                verbose=False,
            )
        except (torch.onnx.OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
            raise ExportError(f"torch could not export the network: {error}") from error
    if program is None:
        raise ExportError("torch returned no ONNX program")
    model = program.model_proto
    for node in model.graph.node:
        # Stack traces of this machine: they would make equal models differ and name its folders.
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    return model


class _Prepare(nn.Module):
    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.predictor = predictor

    def forward(self, bars: Tensor) -> tuple[Tensor, Tensor]:
        return self.predictor.prepare(bars)


class _Answer(nn.Module):
    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.parts = nn.ModuleList([predictor.scaler, predictor.network, predictor.calibration])

    def forward(self, features: Tensor, volatility: Tensor) -> tuple[Tensor, Tensor]:
        scaler, network, calibration = self.parts
        return calibration(*network(scaler(features)), volatility)


def onnx_session(path: Path, *, threads: int = 1) -> ort.InferenceSession:
    """An onnxruntime CPU session on ``path``."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_onnx(session: ort.InferenceSession, bars: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``probability_up`` ``[n, 1]`` and ``return_quantiles`` ``[n, 5]`` for ``bars`` ``[n, 256, 7]``."""
    probability, quantiles = session.run(list(OUTPUT_NAMES), {INPUT_NAME: np.ascontiguousarray(bars, dtype=np.float32)})
    return np.asarray(probability), np.asarray(quantiles)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_interface(model: onnx.ModelProto) -> None:
    """The served contract: names, order and shapes; nothing outside the file; no domain but ONNX's own."""
    names = [value.name for value in model.graph.input], [value.name for value in model.graph.output]
    if names != ([INPUT_NAME], list(OUTPUT_NAMES)):
        raise ExportError(f"the graph's inputs and outputs are {names}, not {INPUT_NAME} -> {OUTPUT_NAMES}")
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    if [d.dim_value for d in dimensions[1:]] != [SERVED_LOOKBACK, CHANNEL_COUNT] or not dimensions[0].dim_param:
        raise ExportError(f"the graph's input shape is not [batch, {SERVED_LOOKBACK}, {CHANNEL_COUNT}]")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ExportError("the graph keeps weights outside its file")
    used = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    if used:
        raise ExportError(f"the graph uses operators of {sorted(used)}, which onnxruntime need not have")


@contextmanager
def _quiet_exporter() -> Generator[None, None, None]:
    """Silence torch's exporter about its own internals (deprecations inside torch; missing torchvision)."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        # nn.LSTM rebuilds its list of weights while it is traced; the exported program holds them as initialisers.
        warnings.filterwarnings("ignore", message="The tensor attributes? .*_flat_weights", category=UserWarning)
        # Both inputs share the batch axis, as they should.
        warnings.filterwarnings("ignore", message=".*since it shares the same shape constraints", category=UserWarning)
        try:
            yield
        finally:
            logger.setLevel(level)
