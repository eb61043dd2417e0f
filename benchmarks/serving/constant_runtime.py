"""An MLServer runtime that answers a constant without looking at the request."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnxruntime
from mlserver import MLModel, types
from mlserver.utils import get_model_uri

from financial_assets.serving.bar_rules import INPUT, OUTPUTS, neutral_bars

_ANSWER = dict(zip(OUTPUTS, ([0.5], [0.0] * 5, [0.0] * 5, [0.0]), strict=True))


def graph_run(onnx: Path) -> Callable[[], object]:
    """Runs a graph on one row of bars in which nothing moves."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
    return partial(session.run, None, {INPUT: neutral_bars(1, 256)})


class ConstantRuntime(MLModel):
    """Runs the ONNX file in ``parameters.uri``, if there is one, on bars of its own before it answers."""

    async def load(self) -> bool:
        """Open the file."""
        path = Path(await get_model_uri(self.settings))  # without a file of its own, the model's folder
        self._run = graph_run(path) if path.is_file() else None
        return True

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        """The same for every request."""
        if self._run is not None:
            self._run()
        return types.InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            id=payload.id,
            outputs=[
                types.ResponseOutput(name=name, shape=[1, len(row)], datatype=types.Datatype.FP32, data=row)  # pyright: ignore[reportArgumentType] # pydantic makes it a TensorData
                for name, row in _ANSWER.items()
            ],
        )
