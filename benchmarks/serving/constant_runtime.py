"""An MLServer runtime that answers a constant without looking at the request."""

from __future__ import annotations

from mlserver import MLModel, types


class ConstantRuntime(MLModel):
    """Loads nothing."""

    async def load(self) -> bool:
        """There is nothing to load."""
        return True

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        """The same for every request."""
        return types.InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            id=payload.id,
            outputs=[
                types.ResponseOutput(name="probability_up", shape=[1, 1], datatype=types.Datatype.FP32, data=[0.5]),  # pyright: ignore[reportArgumentType] # pydantic makes it a TensorData
                types.ResponseOutput(
                    name="return_quantiles",
                    shape=[1, 5],
                    datatype=types.Datatype.FP32,
                    data=[0.0] * 5,  # pyright: ignore[reportArgumentType]
                ),
            ],
        )
