"""MLServer runtime for one self-contained ONNX artefact: raw bars in, calibrated answer out.

Served contract (V2 protocol): input ``bars`` FP32 ``[batch, session, channel]``, outputs ``probability_up`` FP32
``[batch, 1]`` and ``return_quantiles`` FP32 ``[batch, level]``; the sizes are read from the graph. This module
imports numpy, onnxruntime and mlserver only, so that it can be copied into a bare MLServer image.

Runtime parameters (``parameters.extra``, texts or numbers): ``max_batch`` rows in one request (default 2048),
``intra_op_threads`` of onnxruntime (default 1), ``offload_rows``: from that many rows on, a request runs in a worker
thread so that small ones need not wait for it (default 16), ``offload_ms``: the same for every request of a model that
usually takes so many milliseconds, so that a slow model does not hold up the others of its server (default 10).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.errors import InferenceError, MLServerError
from mlserver.types import (
    Datatype,
    InferenceRequest,
    InferenceResponse,
    MetadataTensor,
    RequestInput,
    ResponseOutput,
    TensorData,
)
from mlserver.utils import get_model_uri

__all__ = ["CHANNELS", "INPUT", "OUTPUTS", "FinancialOnnxRuntime", "check_bars"]

INPUT = "bars"
OUTPUTS = ("probability_up", "return_quantiles")
CHANNELS = ("open", "high", "low", "close", "volume", "market", "day")
_MODEL_FILE = "model.onnx"
# Intermediate series of more rows than this leave the processor's cache.
_CHUNK_ROWS = 256
_DEFAULTS = {"max_batch": 2048, "intra_op_threads": 1, "offload_rows": 16, "offload_ms": 10}
_MEMORY = 0.2  # weight of the latest request in what is usual
_POSITIVE = ("open", "high", "low", "close", "market")
_UNPROCESSABLE = 422


class FinancialOnnxRuntime(MLModel):
    """Runs the artefact named by ``parameters.uri`` (a ``.onnx`` file or a folder that holds ``model.onnx``)."""

    async def load(self) -> bool:
        """Load the graph, check its signature and answer one neutral request.

        Raises
        ------
        MLServerError
            The file is missing, is not ONNX, or does not have the served signature.
        """
        self._options = _options(self._settings.parameters.extra if self._settings.parameters else None, self.name)
        path = Path(await get_model_uri(self._settings, wellknown_filenames=[_MODEL_FILE]))
        if not path.is_file():
            raise MLServerError(f"model {self.name}: no {_MODEL_FILE} in {path}", _UNPROCESSABLE)
        self._session = await asyncio.to_thread(_open_session, path, self._options["intra_op_threads"])
        self._row, self._widths = _signature(self._session, path)
        self.inputs = [MetadataTensor(name=INPUT, datatype=Datatype.FP32, shape=[-1, *self._row])]
        self.outputs = [
            MetadataTensor(name=name, datatype=Datatype.FP32, shape=[-1, width]) for name, width in self._widths.items()
        ]
        self._usual_s = 0.0
        try:
            for _ in range(2):  # the first run also sets up what later ones find
                began = time.perf_counter()
                await asyncio.to_thread(self._run, np.ones((1, *self._row), dtype=np.float32))
                self._usual_s = time.perf_counter() - began
        except InferenceError as error:
            raise MLServerError(f"{path} does not even answer bars of ones: {error}", _UNPROCESSABLE) from error
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer one request.

        Raises
        ------
        InferenceError
            The request is wrong (400); the text says where.
        MLServerError
            The graph gave something that is no answer (500).
        """
        wanted = self._requested_outputs(payload)
        rows = _declared_rows(payload, self._row, self._options["max_batch"])
        if rows >= self._options["offload_rows"] or 1000 * self._usual_s >= self._options["offload_ms"]:
            answer = await asyncio.to_thread(self._answer, payload.inputs[0])
        else:
            answer = self._answer(payload.inputs[0])
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            id=payload.id,
            outputs=[_encode(name, answer[name]) for name in wanted],
        )

    async def unload(self) -> bool:
        """Drop the session; requests that run keep their own reference."""
        self._session = None
        return True

    def _requested_outputs(self, payload: InferenceRequest) -> tuple[str, ...]:
        if not payload.outputs:
            return OUTPUTS
        wanted = tuple(output.name for output in payload.outputs)
        unknown = [name for name in wanted if name not in OUTPUTS]
        if unknown:
            raise InferenceError(f"unknown output {', '.join(unknown)}; this model gives {', '.join(OUTPUTS)}")
        return wanted

    def _answer(self, tensor: RequestInput) -> dict[str, np.ndarray]:
        began = time.perf_counter()
        bars = _decode(tensor)
        check_bars(bars)
        answer = self._run(bars)
        if len(bars) < self._options["offload_rows"]:  # without the wait for a thread, which is not the model's
            self._usual_s += _MEMORY * (time.perf_counter() - began - self._usual_s)
        return answer

    def _run(self, bars: np.ndarray) -> dict[str, np.ndarray]:
        session = self._session
        if session is None:
            raise MLServerError(f"model {self.name} was unloaded while the request waited", 503)
        try:
            parts = [
                session.run(list(OUTPUTS), {INPUT: bars[start : start + _CHUNK_ROWS]})
                for start in range(0, len(bars), _CHUNK_ROWS)
            ]
        except Exception as error:  # onnxruntime's exceptions share no public base class
            raise MLServerError(f"model {self.name}: onnxruntime failed: {error}", 500) from error
        answer = {name: np.concatenate(values) for name, values in zip(OUTPUTS, zip(*parts, strict=True), strict=True)}
        for name, value in answer.items():
            if value.shape != (len(bars), self._widths[name]):
                raise MLServerError(f"model {self.name}: output {name} has shape {value.shape}", 500)
            # The graph was finite on neutral bars when it was loaded, so this is about these bars; asking again is no
            # use.
            hopeless = np.flatnonzero(~np.isfinite(value).all(axis=1))
            if len(hopeless):
                raise InferenceError(
                    f"{INPUT}[{hopeless[0]}] is so extreme that {name} of model {self.name} is not finite"
                )
        return answer


def check_bars(bars: np.ndarray) -> None:
    """Refuse values that no market can produce.

    Parameters
    ----------
    bars
        float32 ``[batch, session, channel]`` with the seven served channels.

    Raises
    ------
    InferenceError
        A value is not finite, a price or the benchmark level is not positive, or a volume is negative; names the
        first one.
    """
    names = CHANNELS if bars.shape[-1] == len(CHANNELS) else tuple(map(str, range(bars.shape[-1])))
    if not np.isfinite(bars).all():
        _refuse(bars, names, ~np.isfinite(bars), "is not finite")
    if names != CHANNELS:
        return
    for index, name in enumerate(CHANNELS):
        lowest = bars[..., index].min()
        if (name in _POSITIVE and lowest <= 0) or (name == "volume" and lowest < 0):
            bad = np.zeros(bars.shape, dtype=bool)
            bad[..., index] = bars[..., index] < 0 if name == "volume" else bars[..., index] <= 0
            _refuse(bars, names, bad, "is negative" if name == "volume" else "is not positive")


def _refuse(bars: np.ndarray, names: tuple[str, ...], bad: np.ndarray, problem: str) -> None:
    row, session, channel = (int(index) for index in np.argwhere(bad)[0])
    value = bars[row, session, channel]
    raise InferenceError(
        f"{INPUT}[{row}, {session}, {names[channel]}] {problem} ({value}); {int(bad.sum())} such value(s)"
    )


def _declared_rows(payload: InferenceRequest, row: tuple[int, ...], max_batch: int) -> int:
    names = [tensor.name for tensor in payload.inputs]
    if names != [INPUT]:
        raise InferenceError(f"expected exactly one input named {INPUT}, got {', '.join(map(repr, names)) or 'none'}")
    tensor = payload.inputs[0]
    datatype = getattr(tensor.datatype, "value", tensor.datatype)
    if datatype != Datatype.FP32.value:
        raise InferenceError(f"input {INPUT} has datatype {datatype}; expected FP32")
    shape = tuple(tensor.shape)
    if len(shape) != len(row) + 1 or shape[1:] != row or shape[0] < 1:
        raise InferenceError(
            f"input {INPUT} has shape {list(shape)}; expected [batch >= 1, {', '.join(map(str, row))}]"
        )
    if shape[0] > max_batch:
        raise InferenceError(f"input {INPUT} has a batch of {shape[0]}; at most {max_batch} are allowed in one request")
    return shape[0]


def _decode(tensor: RequestInput) -> np.ndarray:
    content = getattr(tensor.data, "root", tensor.data)
    shape = tuple(tensor.shape)
    try:
        values = np.asarray(content)
    except ValueError as error:
        raise InferenceError(f"input {INPUT}: data is ragged: {error}") from error
    if values.dtype.kind not in "fiu":
        raise InferenceError(
            f"input {INPUT}: {_first_non_number(content)} is not a number (NaN cannot be sent in JSON)"
        )
    if values.size != math.prod(shape) or (values.ndim > 1 and values.shape != shape):
        raise InferenceError(
            f"input {INPUT}: data has {values.size} elements of shape {list(values.shape)}, "
            f"but shape {list(shape)} needs {math.prod(shape)}"
        )
    with np.errstate(over="ignore"):  # too large for FP32 becomes inf, which check_bars reports
        return np.ascontiguousarray(values.reshape(shape), dtype=np.float32)


def _first_non_number(content: object) -> str:
    flat = np.asarray(content, dtype=object).ravel().tolist()
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in flat]
    index = numbers.index(False) if False in numbers else 0
    kind = "the Boolean " if isinstance(flat[index], bool) else ""
    return f"data at index {index} ({kind}{str(flat[index])[:40]!r})"


def _encode(name: str, value: np.ndarray) -> ResponseOutput:
    # The values are floats already: validating each again would cost more than small graphs take to run.
    data = TensorData.model_construct(root=value.ravel().tolist())
    return ResponseOutput.model_construct(
        _fields_set={"name", "shape", "datatype", "data"},
        name=name,
        shape=list(value.shape),
        datatype=Datatype.FP32.value,  # a text, as validation would make it: gRPC sends it as it is
        data=data,
    )


def _options(extra: Mapping[str, Any] | None, model: str) -> dict[str, int]:
    options = dict(_DEFAULTS)
    for name in options:
        value = (extra or {}).get(name, options[name])
        try:
            options[name] = int(value)
        except (TypeError, ValueError):
            options[name] = 0
        if options[name] < 1:
            raise MLServerError(
                f"model {model}: parameter {name} is {value!r}; a whole number >= 1 is needed", _UNPROCESSABLE
            )
    return options


def _open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no public base class
        raise MLServerError(
            f"{path} is not an ONNX model that onnxruntime can load: {error}", _UNPROCESSABLE
        ) from error


def _signature(session: onnxruntime.InferenceSession, path: Path) -> tuple[tuple[int, ...], dict[str, int]]:
    inputs, outputs = session.get_inputs(), {output.name: output for output in session.get_outputs()}
    described = ", ".join(f"{t.name} {t.type} {t.shape}" for t in [*inputs, *outputs.values()])
    expected = f"expected {INPUT} [batch, session, channel] -> {' and '.join(OUTPUTS)} [batch, width], all float32"
    tensors = [*inputs, *(outputs[name] for name in OUTPUTS if name in outputs)]
    well_formed = (
        [tensor.name for tensor in inputs] == [INPUT]
        and len(tensors) == 1 + len(OUTPUTS)
        and [len(tensor.shape) for tensor in tensors] == [3, 2, 2]
        and all(tensor.type == "tensor(float)" for tensor in tensors)
        and all(isinstance(size, int) and size > 0 for tensor in tensors for size in tensor.shape[1:])
        and not isinstance(inputs[0].shape[0], int)
    )
    if not well_formed:
        raise MLServerError(f"{path} has the signature {described}; {expected}, with a dynamic batch", _UNPROCESSABLE)
    row = tuple(int(size) for size in inputs[0].shape[1:])
    return row, {name: int(outputs[name].shape[1]) for name in OUTPUTS}
