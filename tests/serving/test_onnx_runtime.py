from __future__ import annotations

import ast
import asyncio
import math
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlserver.errors import InferenceError, MLServerError
from mlserver.settings import ModelParameters, ModelSettings
from mlserver.types import Datatype, InferenceRequest, RequestInput, RequestOutput, TensorData
from onnx import TensorProto, helper, numpy_helper

from financial_assets.serving.bar_rules import EARLIER_OUTPUTS, OUTPUTS
from financial_assets.serving.runtime import CHANNELS, FinancialOnnxRuntime, check_bars


def load(path: Path, **extra: Any) -> FinancialOnnxRuntime:
    parameters = ModelParameters(uri=str(path), version="3", extra=extra)
    model = FinancialOnnxRuntime(
        ModelSettings(name="tiny_3", implementation=FinancialOnnxRuntime, parameters=parameters)
    )
    assert asyncio.run(model.load())
    return model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, write_tiny: Any) -> FinancialOnnxRuntime:
    return load(write_tiny(tmp_path_factory.mktemp("runtime") / "model", 0.5), max_batch="8", offload_rows="4")


def request(data: Any, shape: list[int], name: str = "bars", datatype: Any = Datatype.FP32) -> InferenceRequest:
    tensor = RequestInput.model_construct(
        name=name, shape=shape, datatype=datatype, data=TensorData.model_construct(root=data), parameters=None
    )
    return InferenceRequest.model_construct(id="r1", inputs=[tensor], outputs=None, parameters=None)


def bars(rows: int = 1, scale: Any = 1.0) -> np.ndarray:
    values = np.full((rows, 256, 7), 100.0, dtype=np.float32)
    values[..., :6] *= np.asarray(scale, dtype=np.float32).reshape(-1, 1, 1)
    values[..., 6] = np.arange(12000, 12256)
    return values


def ask(model: FinancialOnnxRuntime, payload: InferenceRequest) -> dict[str, np.ndarray]:
    answer = asyncio.run(model.predict(payload))
    return {output.name: np.array(output.data.root).reshape(output.shape) for output in answer.outputs}


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("form", ["flat list", "nested list", "array"])
def test_a_batch_is_answered_row_by_row_in_any_form(model: FinancialOnnxRuntime, rows: int, form: str) -> None:
    values = bars(rows, np.arange(1, rows + 1))
    data = {"flat list": values.ravel().tolist(), "nested list": values.tolist(), "array": values.ravel()}[form]
    answer = ask(model, request(data, list(values.shape)))
    np.testing.assert_allclose(answer["probability_up"], np.full((rows, 1), 1 / (1 + math.exp(-0.5))), rtol=1e-6)
    np.testing.assert_allclose(answer["return_quantiles"][:, 4], 2.0 * np.arange(1, rows + 1), rtol=1e-5)


def test_a_batch_of_several_chunks_comes_back_whole_and_in_order(tmp_path: Path, write_tiny: Any) -> None:
    rows = 600
    large = load(write_tiny(tmp_path / "model", 0.5), max_batch=str(rows))
    values = bars(rows, np.arange(1, rows + 1))
    answer = ask(large, request(values.ravel(), list(values.shape)))
    assert answer["probability_up"].shape == (rows, 1)
    np.testing.assert_allclose(answer["return_quantiles"][:, 4], 2.0 * np.arange(1, rows + 1), rtol=1e-5)


def test_metadata_comes_from_the_graph(model: FinancialOnnxRuntime) -> None:
    metadata = asyncio.run(model.metadata())
    assert [(t.name, t.datatype, t.shape) for t in metadata.inputs or []] == [("bars", "FP32", [-1, 256, 7])]
    assert [(t.name, t.shape) for t in metadata.outputs or []] == [
        ("probability_up", [-1, 1]),
        ("return_quantiles", [-1, 5]),
        ("return_quantiles_5d", [-1, 5]),
        ("excess_return", [-1, 1]),
    ]
    answer = asyncio.run(model.predict(request(bars().ravel(), [1, 256, 7])))
    assert (answer.model_name, answer.model_version, answer.id) == ("tiny_3", "3", "r1")
    assert [(output.name, output.datatype) for output in answer.outputs] == [(name, "FP32") for name in OUTPUTS]


def test_only_the_wanted_outputs_are_sent(model: FinancialOnnxRuntime) -> None:
    payload = request(bars().ravel(), [1, 256, 7])
    payload.outputs = [RequestOutput(name="probability_up")]
    assert set(ask(model, payload)) == {"probability_up"}
    payload.outputs = [RequestOutput(name=name) for name in ("excess_return", "return_quantiles_5d")]
    assert list(ask(model, payload)) == ["excess_return", "return_quantiles_5d"]
    payload.outputs = [RequestOutput(name="price")]
    with pytest.raises(InferenceError, match="unknown output price"):
        ask(model, payload)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (request(bars().ravel(), [1, 256, 7], name="prices"), "exactly one input named bars, got 'prices'"),
        (InferenceRequest.model_construct(inputs=[], outputs=None), "exactly one input named bars, got none"),
        (request(bars().ravel(), [1, 256, 7], datatype=Datatype.FP64), "datatype FP64; expected FP32"),
        (request(bars().ravel(), [1, 256, 7], datatype="nonsense"), "datatype nonsense"),
        (request(bars().ravel(), [256, 7]), "shape"),
        (request(bars().ravel(), [1, 7, 256]), "shape"),
        (request(bars().ravel(), [-1, 256, 7]), "batch >= 1"),
        (request([], [0, 256, 7]), "batch >= 1"),
        (request(bars(9).ravel(), [9, 256, 7]), "at most 8"),
        (request(bars().ravel(), [2**62, 256, 7]), "at most 8"),
        (request(bars().ravel()[:-1], [1, 256, 7]), "1791 elements"),
        (request([], [1, 256, 7]), "0 elements"),
        (request(bars().reshape(7, 256, 1).tolist(), [1, 256, 7]), "elements of shape"),
        (request([[1.0], [1.0, 2.0]], [1, 256, 7]), "ragged"),
        (request([None] * 1792, [1, 256, 7]), r"index 0 .*None"),
        (request([1.0] * 1791 + ["1"], [1, 256, 7]), r"index 1791 .*'1'"),
        (request([True] * 1792, [1, 256, 7]), "Boolean"),
        (request(["100"] * 1792, [1, 256, 7]), "not a number"),
        (request([1e39] * 1792, [1, 256, 7]), "not finite"),
        (request([10**400] * 1792, [1, 256, 7]), "not a number|not finite"),
        (request("text", [1, 256, 7]), "not a number"),
        (request({"a": 1}, [1, 256, 7]), "not a number"),
        (request(None, [1, 256, 7]), "not a number"),
    ],
)
def test_a_wrong_request_is_the_clients_fault_and_says_why(
    model: FinancialOnnxRuntime, payload: InferenceRequest, message: str
) -> None:
    with pytest.raises(InferenceError, match=message) as caught:
        asyncio.run(model.predict(payload))
    assert caught.value.status_code == 400
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("channel", CHANNELS)
def test_values_must_be_finite_in_every_channel(value: float, channel: str) -> None:
    values = bars(2)
    values[1, 200, CHANNELS.index(channel)] = value
    with pytest.raises(InferenceError, match=rf"bars\[1, 200, {channel}\] is not finite"):
        check_bars(values)


@pytest.mark.parametrize("channel", ["open", "high", "low", "close", "market"])
@pytest.mark.parametrize("value", [0.0, -0.0, -5.0])
def test_prices_must_be_positive(channel: str, value: float) -> None:
    values = bars()
    values[0, 0, CHANNELS.index(channel)] = value
    with pytest.raises(InferenceError, match=rf"bars\[0, 0, {channel}\] is not positive"):
        check_bars(values)


def test_volume_may_be_zero_and_days_before_1970_but_volume_is_never_negative() -> None:
    values = bars()
    values[..., CHANNELS.index("volume")] = 0
    values[..., CHANNELS.index("day")] -= 20000
    check_bars(values)
    values[0, 9, CHANNELS.index("volume")] = -1
    with pytest.raises(InferenceError, match=r"bars\[0, 9, volume\] is negative"):
        check_bars(values)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(width=32) | st.integers() | st.none() | st.text(max_size=2), max_size=8), st.integers(-2, 4))
def test_no_content_escapes_as_another_error(model: FinancialOnnxRuntime, start: list[Any], rows: int) -> None:
    data = (start + bars().ravel().tolist()[len(start) :])[:1792]
    try:
        answer = ask(model, request(data, [rows, 256, 7]))
    except InferenceError:
        return
    assert np.isfinite(answer["probability_up"]).all()


def test_a_big_batch_does_not_block_the_event_loop(
    model: FinancialOnnxRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    answer = model._answer

    def noting(tensor: Any) -> Any:
        threads.append(threading.get_ident())
        return answer(tensor)

    monkeypatch.setattr(model, "_answer", noting)
    ask(model, request(bars(3).ravel(), [3, 256, 7]))
    ask(model, request(bars(4).ravel(), [4, 256, 7]))
    assert threads[0] == threading.get_ident()
    assert threads[1] != threading.get_ident()


def test_a_missing_or_corrupt_file_fails_loading_in_words(tmp_path: Path, write_tiny: Any) -> None:
    with pytest.raises(MLServerError, match="missing"):
        load(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MLServerError, match=r"no model\.onnx"):
        load(tmp_path / "empty")
    whole = (write_tiny(tmp_path / "whole", 0.0) / "model.onnx").read_bytes()
    for content in (b"", b"not a model", whole[: len(whole) // 2]):
        (tmp_path / "model.onnx").write_bytes(content)
        with pytest.raises(MLServerError, match=r"not an ONNX model|signature"):
            load(tmp_path / "model.onnx")


@pytest.mark.parametrize("change", ["input name", "output name", "fixed batch", "double", "open width"])
def test_a_graph_of_another_signature_is_refused(tmp_path: Path, write_tiny: Any, change: str) -> None:
    path = write_tiny(tmp_path / "model", 0.0) / "model.onnx"
    graph = onnx.load(str(path)).graph
    if change == "input name":
        graph.node[0].input[0] = graph.input[0].name = "prices"
    elif change == "output name":
        graph.node[5].output[0] = graph.output[0].name = "probability"
    elif change == "fixed batch":
        graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    elif change == "open width":
        graph.input[0].type.tensor_type.shape.dim[1].dim_param = "session"
    else:
        graph = helper.make_graph(
            [helper.make_node("Identity", ["bars"], ["probability_up"])],
            "double",
            [helper.make_tensor_value_info("bars", TensorProto.DOUBLE, ["batch", 256, 7])],
            [helper.make_tensor_value_info("probability_up", TensorProto.DOUBLE, ["batch", 256, 7])],
        )
    changed = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(changed, str(path))
    with pytest.raises(MLServerError, match="signature"):
        load(path)


def test_a_model_of_an_earlier_version_answers_what_it_has(tmp_path: Path, write_tiny: Any) -> None:
    earlier = load(write_tiny(tmp_path / "model", 0.5, earlier=True))
    payload = request(bars().ravel(), [1, 256, 7])
    assert list(ask(earlier, payload)) == list(EARLIER_OUTPUTS)
    metadata = asyncio.run(earlier.metadata())
    assert [tensor.name for tensor in metadata.outputs or []] == list(EARLIER_OUTPUTS)
    payload.outputs = [RequestOutput(name="excess_return")]
    with pytest.raises(InferenceError, match="unknown output excess_return; this model gives probability_up, return_q"):
        ask(earlier, payload)


def spoil(path: Path, change: Callable[[Any], None]) -> Path:
    """Change the graph of a tiny model, which stays one that onnxruntime can load."""
    model = onnx.load(str(path / "model.onnx"))
    change(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, str(path / "model.onnx"))
    return path


def replace_output(name: str, node: Any, kind: int, width: int) -> Callable[[Any], None]:
    def change(graph: Any) -> None:
        (place,) = (index for index, output in enumerate(graph.output) if output.name == name)
        (maker,) = (one for one in graph.node if one.output[0] == name)
        maker.output[0] = "before"
        graph.node.append(node)
        graph.output[place].CopyFrom(helper.make_tensor_value_info(name, kind, ["batch", width]))

    return change


def drop(*names: str) -> Callable[[Any], None]:
    def change(graph: Any) -> None:
        kept = [output for output in graph.output if output.name not in names]
        del graph.output[:]
        graph.output.extend(kept)

    return change


QUANTILES_5D, SCORE = OUTPUTS[2:]
DOUBLED = helper.make_node("Concat", ["before", "before"], [SCORE], axis=1)
TEN = helper.make_node("Concat", ["before", "before"], [QUANTILES_5D], axis=1)
PRECISE = helper.make_node("Cast", ["before"], [SCORE], to=TensorProto.DOUBLE)


@pytest.mark.parametrize(
    "change",
    [
        drop(SCORE),
        drop(QUANTILES_5D),
        drop("return_quantiles"),
        drop("return_quantiles", SCORE),
        drop("probability_up"),
        replace_output(SCORE, DOUBLED, TensorProto.FLOAT, 2),
        replace_output(QUANTILES_5D, TEN, TensorProto.FLOAT, 10),
        replace_output(SCORE, PRECISE, TensorProto.DOUBLE, 1),
    ],
    ids=["no score", "no 5d", "no 1d", "one of each", "no probability", "two scores", "ten quantiles", "double"],
)
def test_a_graph_with_a_part_of_the_outputs_or_of_other_widths_is_refused(
    tmp_path: Path, write_tiny: Any, change: Callable[[Any], None]
) -> None:
    with pytest.raises(MLServerError, match=r"signature .*expected bars .*excess_return .*earlier version") as caught:
        load(spoil(write_tiny(tmp_path / "model", 0.0), change))
    assert caught.value.status_code == 422


def test_outputs_in_another_order_and_others_beside_them_change_nothing(tmp_path: Path, write_tiny: Any) -> None:
    def shuffle(graph: Any) -> None:
        outputs = [helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["batch", 1]), *reversed(graph.output)]
        del graph.output[:]
        graph.output.extend(outputs)

    plain, shuffled = (load(write_tiny(tmp_path / name, 0.5)) for name in ("plain", "other"))
    shuffled = load(spoil(tmp_path / "other", shuffle))
    payload = request(bars().ravel(), [1, 256, 7])
    one, other = ask(plain, payload), ask(shuffled, payload)
    assert list(one) == list(other) == list(OUTPUTS)
    for name in OUTPUTS:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("name", [QUANTILES_5D, SCORE])
def test_a_head_that_is_not_finite_makes_no_answer(tmp_path: Path, write_tiny: Any, name: str) -> None:
    node = helper.make_node("Log", ["before"], [name])

    def change(graph: Any) -> None:
        width = 5 if name == QUANTILES_5D else 1
        # The mean close minus 150: its logarithm is a number for dear stocks only.
        graph.initializer.append(numpy_helper.from_array(np.full((1, width), 0.15, np.float32), "limit"))
        replace_output(name, node, TensorProto.FLOAT, width)(graph)
        (maker,) = (one for one in graph.node if one.output[0] == "before")
        maker.CopyFrom(helper.make_node("Sub", ["limit", "mean_of_thousand"], ["before"]))
        graph.initializer.append(numpy_helper.from_array(np.array(0.001, np.float32), "thousandth"))
        position = list(graph.node).index(maker)
        nodes = list(graph.node)
        nodes.insert(position, helper.make_node("Mul", ["mean", "thousandth"], ["mean_of_thousand"]))
        del graph.node[:]
        graph.node.extend(nodes)

    model = load(spoil(write_tiny(tmp_path / "model", 0.0), change))
    assert np.isfinite(ask(model, request(bars().ravel(), [1, 256, 7]))[name]).all()
    with pytest.raises(InferenceError, match=rf"bars\[1\] is so extreme that {name} of model tiny_3 is not finite"):
        ask(model, request(bars(2, [1, 2]).ravel(), [2, 256, 7]))


@pytest.mark.parametrize("parameters", [{"max_batch": "many"}, {"max_batch": 0}, {"intra_op_threads": "-1"}])
def test_a_senseless_parameter_fails_loading(tmp_path: Path, write_tiny: Any, parameters: dict[str, Any]) -> None:
    with pytest.raises(MLServerError, match=f"{next(iter(parameters))} is .*>= 1"):
        load(write_tiny(tmp_path / "model", 0.0), **parameters)


def test_bars_that_no_finite_answer_fits_are_refused_not_retried(tmp_path: Path, write_tiny: Any) -> None:
    path = write_tiny(tmp_path / "model", 0.0) / "model.onnx"
    graph = onnx.load(str(path))
    [levels] = [tensor for tensor in graph.graph.initializer if tensor.name == "levels"]
    levels.CopyFrom(numpy_helper.from_array(np.full((1, 5), 1e30, np.float32), "levels"))
    onnx.save(graph, str(path))
    model = load(path)
    huge = bars(2, [1, 1e10])  # a graph that no feature of ours is: it multiplies prices
    with pytest.raises(InferenceError, match=r"bars\[1\] is so extreme"):
        ask(model, request(huge.ravel(), [2, 256, 7]))


def test_a_graph_that_is_never_finite_is_not_loaded(tmp_path: Path, write_tiny: Any) -> None:
    with pytest.raises(MLServerError, match="does not even answer") as caught:
        load(write_tiny(tmp_path / "model", math.nan))
    assert caught.value.status_code == 422


def test_unloading_leaves_running_requests_alone(tmp_path: Path, write_tiny: Any) -> None:
    model = load(write_tiny(tmp_path / "model", 0.0))
    assert asyncio.run(model.unload())
    with pytest.raises(MLServerError, match="unloaded") as caught:
        ask(model, request(bars().ravel(), [1, 256, 7]))
    assert caught.value.status_code == 503


def test_the_runtime_stands_alone() -> None:
    folder = Path(__file__).parents[2] / "financial_assets" / "serving"
    own = {"runtime", "request_checks", "bar_rules"}
    statements = [node for name in own for node in ast.walk(ast.parse((folder / f"{name}.py").read_text()))]
    modules = {alias.name for node in statements if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in statements if isinstance(node, ast.ImportFrom)}
    imported = {module.removeprefix("financial_assets.serving.").split(".")[0] for module in modules}
    assert imported <= own | set(sys.stdlib_module_names) | {"numpy", "onnxruntime", "mlserver"}


class Sleepy(FinancialOnnxRuntime):
    """Takes long, as a large graph would, without using the processor; tells when it last began and ended."""

    span = (0.0, 0.0)

    def _run(self, bars: np.ndarray) -> dict[str, np.ndarray]:
        began = time.perf_counter()
        time.sleep(0.1)
        self.span = (began, time.perf_counter())
        return super()._run(bars)


@pytest.mark.parametrize(("offload_ms", "held_up"), [("10", False), ("100000", True)], ids=["offloaded", "control"])
def test_a_slow_model_does_not_hold_up_the_others_of_its_server(
    tmp_path: Path, write_tiny: Any, offload_ms: str, held_up: bool
) -> None:
    uri = str(write_tiny(tmp_path / "model", 0.5))
    parameters = ModelParameters(uri=uri, version="3", extra={"offload_ms": offload_ms})
    model = Sleepy(ModelSettings(name="sleepy_3", implementation=Sleepy, parameters=parameters))

    async def turns_while_it_ran() -> int:
        assert await model.load()
        turns: list[float] = []
        asked = asyncio.ensure_future(model.predict(request(bars().ravel().tolist(), [1, 256, 7])))
        while not asked.done():
            await asyncio.sleep(0.001)
            turns.append(time.perf_counter())
        await asked
        began, ended = model.span
        return sum(began < turn < ended for turn in turns)

    assert (asyncio.run(turns_while_it_ran()) == 0) is held_up
