"""Inference over gRPC: raw tensors reach the runtime as arrays, and its answer leaves as bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError
from grpc import aio
from mlserver.errors import InferenceError
from mlserver.grpc import dataplane_pb2 as pb
from mlserver.grpc.converters import ModelInferRequestConverter, ModelInferResponseConverter, ParametersConverter
from mlserver.grpc.servicers import InferenceServicer
from mlserver.grpc.utils import handle_mlserver_error, to_headers
from mlserver.types import InferenceRequest, InferenceResponse, RequestInput, RequestOutput, TensorData
from mlserver.utils import insert_headers
from pydantic import ValidationError

from financial_assets.serving.local.server.raw_tensors import raw_array
from financial_assets.serving.local.server.rest_inference import INTERNAL_HEADER

_NAME_FIELDS = {"ModelInfer": "model_name", "ModelReady": "name", "ModelMetadata": "name"}


class AgentInterceptor(aio.ServerInterceptor):
    """Puts the model version that the gateway chose into the message."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a unary call about one model."""
        handler = await continuation(handler_call_details)
        field = _NAME_FIELDS.get(str(handler_call_details.method).rpartition("/")[2])
        chosen = dict(handler_call_details.invocation_metadata or ()).get(INTERNAL_HEADER)
        if handler is None or field is None or chosen is None:
            return handler
        answer: Any = handler.unary_unary

        async def renamed(content: bytes, context: Any) -> Any:
            # Parsed here, because bytes that are not a message would otherwise be reported as the server's fault.
            try:
                request: Any = handler.request_deserializer(content)
            except DecodeError as error:
                return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"not a V2 message: {error}")
            setattr(request, field, chosen)
            if field == "model_name":
                request.model_version = ""
            return await answer(request, context)

        return grpc.unary_unary_rpc_method_handler(renamed, response_serializer=handler.response_serializer)


_MODEL_READY: Callable[..., Awaitable[Any]] = handle_mlserver_error(InferenceServicer.ModelReady)


class RawTensorServicer(InferenceServicer):
    """Hands raw tensors on as arrays, after checking that their sizes match their shapes."""

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Any) -> Any:  # noqa: N802
        """Whether a model is ready; a missing one is NOT_FOUND instead of a failure of the server."""
        return await _MODEL_READY(self, request, context)

    @handle_mlserver_error
    async def ModelInfer(self, request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:  # noqa: N802
        """Answer; with raw tensors if the request has them."""
        is_raw = bool(request.raw_input_contents)
        for tensor in request.inputs:
            _check_contents(tensor, raw=is_raw)
        try:
            payload = _raw_request(request) if is_raw else ModelInferRequestConverter.to_types(request)
        except ValidationError as error:  # of parameters that MLServer knows, but of another type
            problems = "; ".join(f"{problem['loc'][-1]}: {problem['msg']}" for problem in error.errors()[:5])
            raise InferenceError(f"parameters: {problems}") from error
        insert_headers(payload, to_headers(context))
        result = await self._data_plane.infer(payload, request.model_name, request.model_version)
        self._SetTrailingMetadata(result, context)
        return _raw_response(result) if is_raw else ModelInferResponseConverter.from_types(result)


def _check_contents(tensor: Any, *, raw: bool) -> None:
    """Refuse what MLServer would ignore: contents beside raw ones, or in another field than the datatype's."""
    if raw and not tensor.HasField("contents"):
        return
    given = [field.name for field, _ in tensor.contents.ListFields()]
    if raw and given:
        raise InferenceError(f"input {tensor.name}: {', '.join(given)} beside raw_input_contents; send one of them")
    if tensor.datatype == "FP32" and given not in ([], ["fp32_contents"]):
        raise InferenceError(f"input {tensor.name}: {', '.join(given)}; FP32 has fp32_contents")


def _raw_request(request: pb.ModelInferRequest) -> InferenceRequest:
    """What MLServer's converter makes of a message, without a list of Python floats for each tensor."""
    tensors, contents = list(request.inputs), list(request.raw_input_contents)
    if len(tensors) != len(contents):
        raise InferenceError(f"{len(tensors)} inputs, but {len(contents)} raw contents")
    payload = InferenceRequest.model_construct(
        id=request.id,
        parameters=ParametersConverter.to_types(request.parameters),
        inputs=[_raw_input(tensor, content) for tensor, content in zip(tensors, contents, strict=True)],
    )
    if request.outputs:
        payload.outputs = [
            RequestOutput.model_construct(name=one.name, parameters=ParametersConverter.to_types(one.parameters))
            for one in request.outputs
        ]
    return payload


def _raw_input(tensor: Any, content: bytes) -> RequestInput:
    shape = list(tensor.shape)
    try:
        array = raw_array(tensor.name, tensor.datatype, shape, content)
    except ValueError as error:
        raise InferenceError(str(error)) from error
    return RequestInput.model_construct(
        name=tensor.name,
        shape=shape,
        datatype=tensor.datatype,
        parameters=ParametersConverter.to_types(tensor.parameters),
        data=TensorData.model_construct(root=array),
    )


def _raw_response(result: InferenceResponse) -> pb.ModelInferResponse:
    """The message of an answer with FP32 tensors only."""
    response = pb.ModelInferResponse(
        model_name=result.model_name, model_version=result.model_version or "", id=result.id or ""
    )
    for output in result.outputs:
        response.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        response.raw_output_contents.append(np.asarray(output.data.root, dtype="<f4").tobytes())
    return response
