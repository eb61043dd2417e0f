"""Raw tensors: bytes to arrays without a copy, and the binary tensor data extension of the V2 protocol over REST.

With the extension, a body is JSON followed by the tensors' bytes. The header ``inference-header-content-length`` gives
the length of the JSON, in which ``parameters.binary_data_size`` of a tensor takes the place of its ``data``. Source:
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import orjson
from mlserver.codecs.json import encode_to_json_bytes
from mlserver.codecs.numpy import to_dtype
from mlserver.types import Datatype, InferenceRequest, InferenceResponse, ResponseOutput, TensorData

from financial_assets.serving.client.protocol import BINARY_HEADER, BINARY_SIZE

_DTYPES = {
    datatype.value: to_dtype(ResponseOutput(name="", shape=[0], datatype=datatype, data=[])).newbyteorder("<")  # pyright: ignore[reportArgumentType] # pydantic makes it a TensorData
    for datatype in Datatype
    if datatype is not Datatype.BYTES
}


def raw_array(name: str, datatype: str, shape: Sequence[int], content: bytes | memoryview) -> np.ndarray:
    """A flat view of the bytes of a tensor, copied only where they do not lie as the processor needs them.

    Raises
    ------
    ValueError
        The datatype has no fixed size, or the shape needs more or fewer bytes.
    """
    kind = _DTYPES.get(datatype)
    if kind is None:
        raise ValueError(f"input {name}: raw datatype {datatype!r}; allowed: {', '.join(_DTYPES)}")
    needed = math.prod(shape) * kind.itemsize
    if len(content) != needed or any(size < 0 for size in shape):
        raise ValueError(
            f"input {name}: {len(content)} raw bytes, but {datatype} {_short(list(shape))} needs {_short(needed)}"
        )
    return np.require(np.frombuffer(content, dtype=kind), requirements="A")


def split_body(content: bytes, length: str) -> tuple[bytes, memoryview]:
    """The JSON and the tensors' bytes of a body.

    Raises
    ------
    ValueError
        ``length``, the header's value, is not the length of a part of the body.
    """
    if not (length.isascii() and length.isdigit() and len(length) < 20 and 0 < int(length) <= len(content)):
        raise ValueError(
            f"{BINARY_HEADER} is {_short(length)}; it has to be the length of the JSON with which the body of "
            f"{len(content)} bytes begins"
        )
    return content[: int(length)], memoryview(content)[int(length) :]


def attach_tensors(document: Any, raw: memoryview) -> None:
    """Put the tensors behind a request's JSON into its inputs, as ``data``.

    Raises
    ------
    ValueError
        Sizes, shapes and bytes do not fit together.
    """
    members = document.get("inputs") if isinstance(document, dict) else None
    tensors: list[Any] = members if isinstance(members, list) else []
    first = 0
    for tensor in tensors:
        parameters = tensor.get("parameters") if isinstance(tensor, dict) else None
        if not isinstance(parameters, dict) or BINARY_SIZE not in parameters:
            continue
        name, shape, size = _short(tensor.get("name")), tensor.get("shape"), parameters.pop(BINARY_SIZE)
        if type(size) is not int or size < 0:
            raise ValueError(f"input {name}: {BINARY_SIZE} is {_short(size)}; it has to be a number of bytes")
        if "data" in tensor:
            raise ValueError(f"input {name}: data beside {BINARY_SIZE}; send one of them")
        if not isinstance(shape, list) or any(type(length) is not int for length in shape):
            raise ValueError(f"input {name}: shape has a size that is not a whole number")
        values = raw_array(name, str(tensor.get("datatype")), shape, raw[first : first + size])
        # Pydantic would go through a bare array number by number, to see whether it is a list.
        tensor["data"] = TensorData.model_construct(root=values)
        first += size
    if first != len(raw):
        raise ValueError(f"{len(raw)} bytes of tensors follow the JSON, but {BINARY_SIZE} adds up to {first}")


def binary_outputs(request: InferenceRequest) -> Collection[str]:
    """Names of the outputs that a request wants as raw tensors; an output's own wish counts before the request's."""
    every = bool(getattr(request.parameters, "binary_data_output", False))
    outputs = request.outputs
    if not outputs:
        return _Every() if every else ()
    return {output.name for output in outputs if getattr(output.parameters, "binary_data", every)}


class _Every(tuple[str, ...]):
    """Contains every name."""

    def __contains__(self, name: object) -> bool:
        return True

    def __bool__(self) -> bool:
        return True


def response_body(response: InferenceResponse, binary: Collection[str]) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON if raw tensors follow; FP32 only."""
    document = response.model_dump()
    if not binary:
        return encode_to_json_bytes(document), None
    raw: list[bytes] = []
    for output in document["outputs"]:
        if output["name"] in binary:
            raw.append(np.asarray(output.pop("data"), dtype="<f4").tobytes())
            output["parameters"] = {**output.get("parameters", {}), BINARY_SIZE: len(raw[-1])}
    head = orjson.dumps(document)
    return b"".join((head, *raw)), len(head)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:80] + " ..."
