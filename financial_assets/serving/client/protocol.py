"""The messages of the V2 inference protocol over gRPC, and names of its binary extension over REST, for clients.

The messages live in a descriptor pool of their own: the generated modules of tritonclient and of mlserver both claim
the names in protobuf's global pool, so that a process which imports one cannot import the other. Field numbers: Open
Inference Protocol, ``grpc_predict_v2.proto``.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

INFER_METHOD = "/inference.GRPCInferenceService/ModelInfer"

BINARY_EXTENSION = "binary_tensor_data"
"""The binary tensor data extension's name in the metadata of a server that has it."""

BINARY_HEADER = "inference-header-content-length"
"""Length of the JSON with which a body begins; raw tensors follow it."""

BINARY_SIZE = "binary_data_size"
"""Parameter of a tensor whose bytes follow the JSON: their number."""

_Field = descriptor_pb2.FieldDescriptorProto
_TENSOR = {"name": (1, "string"), "datatype": (2, "string"), "shape": (3, "int64*")}
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "InferInputTensor": _TENSOR,
    "InferOutputTensor": _TENSOR,
    "ModelInferRequest": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "inputs": (5, "InferInputTensor*"),
        "raw_input_contents": (7, "bytes*"),
    },
    "ModelInferResponse": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "outputs": (5, "InferOutputTensor*"),
        "raw_output_contents": (6, "bytes*"),
    },
}
_SCALARS = {"string": _Field.TYPE_STRING, "int64": _Field.TYPE_INT64, "bytes": _Field.TYPE_BYTES}


def _message_classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="open_inference.proto", package="inference", syntax="proto3")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, (number, kind) in fields.items():
            base = kind.removesuffix("*")
            field = described.field.add(
                name=name,
                number=number,
                label=_Field.LABEL_REPEATED if kind.endswith("*") else _Field.LABEL_OPTIONAL,
                type=_SCALARS.get(base, _Field.TYPE_MESSAGE),
            )
            if base not in _SCALARS:
                field.type_name = f".inference.{base}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)  # pyright: ignore[reportAttributeAccessIssue] # in the C implementation's pool since protobuf 3
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}")) for name in _MESSAGES
    }


_classes = _message_classes()
ModelInferRequest: Any = _classes["ModelInferRequest"]
ModelInferResponse: Any = _classes["ModelInferResponse"]
