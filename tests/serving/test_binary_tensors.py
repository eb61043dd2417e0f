"""The binary tensor data extension over REST, and raw tensors in general: views, sizes, refusals."""

from __future__ import annotations

import gzip
import json
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlserver.types import InferenceRequest

from financial_assets.serving.bar_rules import OUTPUTS, neutral_bars
from financial_assets.serving.client.protocol import BINARY_HEADER, ModelInferRequest
from financial_assets.serving.client.transport import _message, binary_request_body
from financial_assets.serving.local.server.raw_tensors import attach_tensors, raw_array, split_body

MODEL = "lightweight-predictor-v1"
URL = f"/v2/models/{MODEL}/infer"
BARS = neutral_bars(1, 256)
OCTETS = {"content-type": "application/octet-stream"}
SIZE = {"binary_data_size": BARS.nbytes}


def framed(*, bars: np.ndarray = BARS, parameters: Any = None, shape: Any = None, **change: Any) -> tuple[bytes, bytes]:
    """JSON and tensor bytes of a request; ``change`` is made to the tensor."""
    tensor = {"name": "bars", "shape": shape or list(bars.shape), "datatype": "FP32", "parameters": parameters or SIZE}
    return json.dumps({"inputs": [tensor | change]}).encode(), bars.tobytes()


def post(http: httpx.Client, plane: Any, head: bytes, raw: bytes, **headers: str) -> httpx.Response:
    named = {**OCTETS, BINARY_HEADER: str(len(head)), **{key.replace("_", "-"): text for key, text in headers.items()}}
    return http.post(f"{plane.endpoint.http_url}{URL}", content=head + raw, headers=named, timeout=10)


@pytest.mark.integration
def test_raw_tensors_and_json_get_the_same_answer(http: httpx.Client, plane: Any, bars_of: Any) -> None:
    bars = bars_of(3)
    tensor = {"name": "bars", "shape": [3, 256, 7], "datatype": "FP32", "data": bars.ravel().tolist()}
    by_json = http.post(f"{plane.endpoint.http_url}{URL}", json={"id": "a", "inputs": [tensor]})
    head, raw = framed(bars=bars, parameters={"binary_data_size": bars.nbytes})
    head = json.dumps({"id": "a", **json.loads(head)}).encode()
    by_bytes = post(http, plane, head, raw)
    assert by_bytes.status_code == 200, by_bytes.text
    assert by_bytes.content == by_json.content
    assert by_bytes.headers["content-type"] == "application/json"
    for content, headers in ((gzip.compress(head + raw), {"content-encoding": "gzip"}), (head + raw, {})):
        named = {"content-type": "application/json", BINARY_HEADER: str(len(head)), **headers}
        again = http.post(f"{plane.endpoint.http_url}{URL}", content=content, headers=named)
        assert again.content == by_json.content


@pytest.mark.integration
@pytest.mark.parametrize(
    ("change", "raw_outputs"),
    [
        ({"parameters": {"binary_data_output": True}}, set(OUTPUTS)),
        ({"parameters": {"binary_data_output": False}}, set[str]()),
        (
            {
                "parameters": {"binary_data_output": True},
                "outputs": [{"name": "return_quantiles", "parameters": {"binary_data": False}}],
            },
            set[str](),
        ),
        (
            {
                "outputs": [
                    {"name": "probability_up"},
                    {"name": "return_quantiles", "parameters": {"binary_data": True}},
                ]
            },
            {"return_quantiles"},
        ),
        (
            {
                "outputs": [
                    {"name": "excess_return", "parameters": {"binary_data": True}},
                    {"name": "probability_up"},
                    {"name": "return_quantiles_5d", "parameters": {"binary_data": True}},
                ]
            },
            {"excess_return", "return_quantiles_5d"},
        ),
    ],
)
def test_outputs_are_raw_where_they_are_asked_for(
    http: httpx.Client, plane: Any, bars_of: Any, answer_of: Any, change: dict[str, Any], raw_outputs: set[str]
) -> None:
    bars = bars_of(2)
    head, raw = framed(bars=bars, parameters={"binary_data_size": bars.nbytes})
    answer = post(http, plane, json.dumps(json.loads(head) | change).encode(), raw)
    assert answer.status_code == 200, answer.text
    length = int(answer.headers.get(BINARY_HEADER, len(answer.content)))
    assert (length < len(answer.content)) == bool(raw_outputs)
    expected = answer_of(bars, plane.logits[MODEL])
    at = length
    for output in json.loads(answer.content[:length])["outputs"]:
        assert ("data" not in output) == (output["name"] in raw_outputs)
        size = output.get("parameters", {}).get("binary_data_size", 0)
        values = np.frombuffer(answer.content, "<f4", size // 4, at) if size else np.asarray(output["data"])
        at += size
        np.testing.assert_allclose(values.reshape(output["shape"]), expected[output["name"]], rtol=1e-6)
    assert at == len(answer.content)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (framed(parameters={"binary_data_size": 8}), "8 raw bytes, but FP32 [1, 256, 7] needs 7168"),
        (framed(parameters={"binary_data_size": 7164}), "7164 raw bytes, but FP32 [1, 256, 7] needs 7168"),
        (framed(parameters={"binary_data_size": -1}), "binary_data_size is -1"),
        (framed(parameters={"binary_data_size": "7168"}), "binary_data_size is 7168; it has to be a number of bytes"),
        (framed(parameters={"binary_data_size": True}), "binary_data_size is True"),
        (framed(data=[1.0]), "data beside binary_data_size"),
        (framed(parameters={"content_type": "np"}), "7168 bytes of tensors follow the JSON, but"),
        (framed(shape=[1, 256, 7.0]), "shape has a size that is not a whole number"),
        (framed(shape=[-1, -256, 7]), "needs"),
        (framed(shape=[2**62, 2**62, 7]), "needs"),
        (framed(shape=[2, 256, 7]), "7168 raw bytes, but FP32 [2, 256, 7] needs 14336"),
        (framed(datatype="BYTES"), "raw datatype 'BYTES'"),
        (framed(datatype=["FP32"]), "raw datatype"),
        (framed(datatype="FP64", shape=[1, 128, 7]), "datatype FP64; expected FP32"),
        (framed(name="prices"), "input named bars"),
        (framed(bars=BARS[:, :-1], parameters={"binary_data_size": 7140}), "has shape [1, 255, 7]"),
        (framed(bars=np.where(np.arange(7) == 3, np.nan, BARS).astype("<f4")), "bars[0, 0, close] is not finite"),
        (framed(bars=np.where(np.arange(7) == 1, 0.5, BARS).astype("<f4")), "high is below low"),
        ((framed()[0], framed()[1][:-4]), "7164 raw bytes"),
        ((framed()[0], framed()[1] + b"more"), "7172 bytes of tensors follow the JSON, but binary_data_size adds up"),
        ((b"{}", b"\0" * 8), "8 bytes of tensors follow the JSON"),
        ((b"[]", b""), "not a V2 inference request"),
        ((b"{", b"\0" * 8), "not a V2 inference request"),
        ((framed()[0].replace(b'"name"', b'"name": "x", "name"'), framed()[1]), "key 'name' occurs more than once"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    http: httpx.Client, plane: Any, request_: tuple[bytes, bytes], message: str
) -> None:
    answer = post(http, plane, *request_)
    assert 400 <= answer.status_code < 500
    assert message in answer.json()["error"]
    assert len(answer.content) < 1500
    assert post(http, plane, *framed()).status_code == 200


@pytest.mark.integration
@pytest.mark.parametrize("length", ["0", "-1", "x", "", "1e2", "99999999", "9" * 400, "\u00b2"])
def test_the_header_has_to_be_the_length_of_the_json(http: httpx.Client, plane: Any, length: str) -> None:
    head, raw = framed()
    headers = [*OCTETS.items(), (BINARY_HEADER, length.encode())]
    answer = http.post(f"{plane.endpoint.http_url}{URL}", content=head + raw, headers=dict(headers))
    assert 400 <= answer.status_code < 500
    assert f"{BINARY_HEADER} is" in answer.json()["error"] or "not a V2" in answer.json()["error"]


@pytest.mark.integration
def test_the_servers_metadata_name_the_extension(http: httpx.Client, plane: Any) -> None:
    assert http.get(f"{plane.endpoint.http_url}/v2").json()["extensions"] == ["binary_tensor_data"]


def test_bytes_become_arrays_without_a_copy() -> None:
    body, length = binary_request_body(BARS, "id")
    document = json.loads(body[:length])
    attach_tensors(document, split_body(body, str(length))[1])
    # As a whole: pydantic would look at a bare array number by number, which took longer than the graph.
    array = InferenceRequest.model_validate(document).inputs[0].data.root
    assert document["inputs"][0]["data"].root is array
    assert np.shares_memory(array, np.frombuffer(body, np.uint8))
    np.testing.assert_array_equal(array, BARS.ravel())
    shifted = raw_array("bars", "FP32", [256, 7], memoryview(b"x" + BARS.tobytes())[1:])
    assert shifted.flags.aligned, "onnxruntime reads whole floats"
    np.testing.assert_array_equal(shifted, BARS.ravel())


@given(
    rows=st.integers(1, 40),
    name=st.text(st.characters(codec="utf-8"), max_size=20),
    identity=st.text(st.characters(codec="utf-8"), max_size=20),
)
def test_the_message_is_what_protobuf_makes_of_it(rows: int, name: str, identity: str) -> None:
    bars = np.arange(rows * 6, dtype=np.float32).reshape(rows, 3, 2)
    request = ModelInferRequest(model_name=name, id=identity)
    request.inputs.add(name="bars", datatype="FP32", shape=bars.shape)
    request.raw_input_contents.append(bars.tobytes())
    assert _message(name, identity, bars) == request.SerializeToString()
