"""MLServer runtime for one self-contained ONNX file: raw bars in, calibrated answer out.

Served contract (V2 protocol): input ``bars`` FP32 ``[batch, session, channel]``, outputs ``probability_up`` FP32
``[batch, 1]``, ``return_quantiles`` and ``return_quantiles_5d`` FP32 ``[batch, level]``, ``excess_return`` FP32
``[batch, 1]``; the sizes are read from the graph. A graph of an earlier version has the first two outputs only and is
served as it is; one with a part of the others is not. This module, ``bar_rules.py`` and ``request_checks.py`` import
numpy, onnxruntime and mlserver only, so that they can be copied into a bare MLServer image.

Runtime parameters (``parameters.extra``, texts or numbers): ``max_batch`` rows in one request (default 2048),
``intra_op_threads`` of onnxruntime (default 1), ``offload_rows``: from that many rows on, a request runs in a worker
thread so that small ones need not wait for it (default 16), ``offload_ms``: the same for every request of a model that
usually takes so many milliseconds, so that a slow model does not hold up the others of its server (default 10).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from mlserver import MLModel, types
from mlserver.errors import InferenceError, MLServerError
from mlserver.utils import get_model_uri

from financial_assets.serving.bar_rules import CHANNELS, EARLIER_OUTPUTS, INPUT, OUTPUTS, bar_fault
from financial_assets.serving.request_checks import check_request, decode_bars

__all__ = ["CHANNELS", "CHUNK_ROWS", "INPUT", "OUTPUTS", "FinancialOnnxRuntime", "check_bars"]

_MODEL_FILE = "model.onnx"
CHUNK_ROWS = 64
"""Rows that onnxruntime is given at once. Half of a row's time in a batch is copying, and the intermediate series of
more rows leave the processor's caches: of 256, each takes a fifth longer. With fewer, the overhead of nodes shows."""
_DEFAULTS = {"max_batch": 2048, "intra_op_threads": 1, "offload_rows": 16, "offload_ms": 10}
_MEMORY = 0.2  # weight of the latest request in the moving average of a model's time
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
        self.inputs = [types.MetadataTensor(name=INPUT, datatype=types.Datatype.FP32, shape=[-1, *self._row])]
        self.outputs = [
            types.MetadataTensor(name=name, datatype=types.Datatype.FP32, shape=[-1, width])
            for name, width in self._widths.items()
        ]
        self._usual_s = 0.0
        try:
            for _ in range(2):  # the first run also allocates what later ones reuse
                began = time.perf_counter()
                await asyncio.to_thread(self._run, np.ones((1, *self._row), dtype=np.float32))
                self._usual_s = time.perf_counter() - began
        except InferenceError as error:
            raise MLServerError(f"{path} does not even answer bars of ones: {error}", _UNPROCESSABLE) from error
        return True

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        """Answer one request.

        Raises
        ------
        InferenceError
            The request is wrong (400); the text says where.
        MLServerError
            The graph returned something that is not an answer (500).
        """
        wanted, rows = check_request(payload, self._row, self._options["max_batch"], tuple(self._widths))
        if rows >= self._options["offload_rows"] or 1000 * self._usual_s >= self._options["offload_ms"]:
            answer = await asyncio.to_thread(self._answer, payload.inputs[0])
        else:
            answer = self._answer(payload.inputs[0])
        return types.InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            id=payload.id,
            outputs=[_encode(name, answer[name]) for name in wanted],
        )

    async def unload(self) -> bool:
        """Drop the session; requests that run keep their own reference."""
        self._session = None
        return True

    def _answer(self, tensor: types.RequestInput) -> dict[str, np.ndarray]:
        began = time.perf_counter()
        bars = decode_bars(tensor)
        check_bars(bars)
        answer = self._run(bars)
        # Requests in a worker thread are left out: their wait for the thread is not the model's time.
        if len(bars) < self._options["offload_rows"]:
            self._usual_s += _MEMORY * (time.perf_counter() - began - self._usual_s)
        return answer

    def _run(self, bars: np.ndarray) -> dict[str, np.ndarray]:
        session = self._session
        if session is None:
            raise MLServerError(f"model {self.name} was unloaded while the request waited", 503)
        outputs = list(self._widths)
        try:
            parts: list[Any] = [
                session.run(outputs, {INPUT: bars[start : start + CHUNK_ROWS]})
                for start in range(0, len(bars), CHUNK_ROWS)
            ]
        except Exception as error:  # onnxruntime's exceptions share no public base class
            raise MLServerError(f"model {self.name}: onnxruntime failed: {error}", 500) from error
        whole = parts[0] if len(parts) == 1 else [np.concatenate(values) for values in zip(*parts, strict=True)]
        answer: dict[str, np.ndarray] = dict(zip(outputs, whole, strict=True))
        for name, value in answer.items():
            if value.shape != (len(bars), self._widths[name]):
                raise MLServerError(f"model {self.name}: output {name} has shape {value.shape}", 500)
            # The graph was finite on neutral bars when it was loaded, so these bars are the cause: a 400, which no
            # client retries.
            finite = np.isfinite(value)
            if not finite.all():
                extreme = np.flatnonzero(~finite.all(axis=1))
                raise InferenceError(
                    f"{INPUT}[{extreme[0]}] is so extreme that {name} of model {self.name} is not finite"
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
        A bar breaks one of the rules of ``bar_rules``; names the first one.
    """
    fault = bar_fault(bars)
    if fault is not None:
        raise InferenceError(fault)


def _encode(name: str, value: np.ndarray) -> types.ResponseOutput:
    # Without validation: the values are floats already, and checking each would take longer than a small graph runs.
    data = types.TensorData.model_construct(root=value.ravel().tolist())
    return types.ResponseOutput.model_construct(
        _fields_set={"name", "shape", "datatype", "data"},
        name=name,
        shape=list(value.shape),
        datatype=types.Datatype.FP32.value,  # a text, as validation would make it: gRPC sends it as it is
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
    expected = (
        f"expected {INPUT} [batch, session, channel] -> {', '.join(OUTPUTS)} [batch, width], all float32, or of these "
        f"only {' and '.join(EARLIER_OUTPUTS)} from a model of an earlier version"
    )
    names = [name for name in OUTPUTS if name in outputs]
    tensors = [*inputs, *(outputs[name] for name in names)]
    well_formed = (
        [tensor.name for tensor in inputs] == [INPUT]
        and tuple(names) in (OUTPUTS, EARLIER_OUTPUTS)
        and [len(tensor.shape) for tensor in tensors] == [3, *[2] * len(names)]
        and all(tensor.type == "tensor(float)" for tensor in tensors)
        and all(isinstance(size, int) and size > 0 for tensor in tensors for size in tensor.shape[1:])
        and not isinstance(inputs[0].shape[0], int)
    )
    widths = {name: int(outputs[name].shape[1]) for name in names} if well_formed else {}
    # Clients index the quantiles of both horizons by the same levels, and read one number from the others.
    fits = all(
        widths[name] == (1 if name in ("probability_up", "excess_return") else widths["return_quantiles"])
        for name in widths
    )
    if not (well_formed and fits):
        raise MLServerError(f"{path} has the signature {described}; {expected}, with a dynamic batch", _UNPROCESSABLE)
    return tuple(int(size) for size in inputs[0].shape[1:]), widths
