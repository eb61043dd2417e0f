"""Features on series: every primitive agrees with torch, and ties and exact zeros fall the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from financial_assets.errors import ExportError
from financial_assets.features import rolling
from financial_assets.features.bars import BAR_CHANNELS, Bars, split_channels
from financial_assets.features.catalogue import CATALOGUE
from financial_assets.features.graph import FeatureGraph
from financial_assets.features.primitive import primitive_of
from financial_assets.models.onnx.adversarial import adversarial_windows
from financial_assets.models.onnx.builder import GraphBuilder
from financial_assets.models.onnx.lowering.calendar import write_calendar
from financial_assets.models.onnx.lowering.expansion import Expansion
from financial_assets.models.onnx.lowering.primitives import read_program
from financial_assets.models.onnx.lowering.rows import Rows
from financial_assets.models.onnx.lowering.schedule import grouped, needed_tasks, rows_of
from financial_assets.models.onnx.lowering.writer import write_program
from financial_assets.models.onnx.parity import degenerate_windows

CHANNELS = len(BAR_CHANNELS)
Function = Callable[[Bars], Tensor]


def session_of(functions: list[Function], depth: int, sessions: int) -> ort.InferenceSession:
    """Maps bars ``[channel, batch, session]`` to the functions' last values ``[function, batch, session]``."""
    program, forms = read_program(functions, depth, CHANNELS)
    builder = GraphBuilder("bars")
    result = write_program(builder, program, "bars", forms, sessions)
    bars = helper.make_tensor_value_info("bars", TensorProto.FLOAT, [CHANNELS, "batch", depth])
    values = helper.make_tensor_value_info("values", TensorProto.FLOAT, None)
    nodes = [*builder.nodes, helper.make_node("Identity", [result], ["values"])]
    graph = helper.make_graph(nodes, "features", [bars], [values], builder.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def run(session: ort.InferenceSession, bars: np.ndarray) -> np.ndarray:
    """Values ``[batch, function, session]`` of bars ``[batch, session, channel]``."""
    (values,) = session.run(None, {"bars": np.ascontiguousarray(bars.transpose(2, 0, 1))})
    return np.ascontiguousarray(np.asarray(values).transpose(1, 0, 2))


def both(functions: list[Function], bars: np.ndarray, sessions: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """The functions' last values ``[batch, function, session]``, by onnxruntime and by torch, of ``bars`` [n, d, 7]."""
    lowered = run(session_of(functions, bars.shape[1], sessions), bars)
    channels = torch.from_numpy(np.ascontiguousarray(bars.transpose(0, 2, 1)))
    eager = torch.stack([function(split_channels(channels))[..., -sessions:] for function in functions], dim=1).numpy()
    return lowered, eager


def of_close(function: Callable[..., Any], *arguments: Any) -> list[Function]:
    """A primitive of the close; one function per output."""

    def output(place: int | None) -> Function:
        def call(bars: Bars) -> Tensor:
            result = function(bars.close, *arguments)
            return result if place is None else result[place]

        return call

    declared = primitive_of(function)
    assert declared is not None
    return [output(None)] if declared.outputs == 1 else [output(place) for place in range(declared.outputs)]


def with_volume(function: Callable[..., Any], *arguments: Any) -> list[Function]:
    return [
        lambda bars: function(bars.close, bars.volume, *arguments)[0],
        lambda bars: function(bars.close, bars.volume, *arguments)[2],
    ]


PRIMITIVES: dict[str, list[Function]] = {
    "lag": of_close(rolling.lag, 7),
    "sum": of_close(rolling.sum_, 13),
    "mean": of_close(rolling.mean, 13),
    "mean of one bar": of_close(rolling.mean, 1),
    "mean beyond the lengths": of_close(rolling.mean, 130),
    "ema": of_close(rolling.ema, 0.9),
    "two emas": [*of_close(rolling.ema, 0.9), *of_close(rolling.ema, 0.91)],
    "moments": of_close(rolling.moments, 13),
    "moments of twenty": of_close(rolling.moments, 20),
    "time moment": of_close(rolling.time_moment, 13),
    "fourier": of_close(rolling.fourier, 10.0, 64),
    "maximum": of_close(rolling.max_, 13),
    "age of the maximum": of_close(rolling.age_of_max, 13),
    "mean absolute deviation": of_close(rolling.mean_absolute_deviation, 13),
    "product moments": with_volume(rolling.product_moments, 13),
    "ratio": [lambda bars: rolling.ratio(bars.volume, bars.close - rolling.lag(bars.close, 1))],
    "ratio with another neutral value": [lambda bars: rolling.ratio(bars.volume, rolling.diff(bars.close), 0.5)],
    "log ratio": [lambda bars: rolling.log_ratio(bars.close, bars.volume)],
    "profile": [lambda bars: rolling.profile_position(bars.close, bars.low, bars.high, bars.volume, 13)],
    "profile of twenty": [lambda bars: rolling.profile_position(bars.close, bars.low, bars.high, bars.volume, 20)],
    "average of an average": [lambda bars: rolling.ema(rolling.mean(bars.close, 5), 0.8)],
    "clamp": [lambda bars: torch.clamp(bars.close, 90.0, 100.0), lambda bars: torch.clamp(bars.close, min=95.0)],
    "numbers on either side": [lambda bars: 2.0 * bars.close, lambda bars: 1.0 - bars.close, lambda bars: -bars.close],
}


def walk(rows: int, depth: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(generator.normal(0, 0.01, (rows, depth)), axis=1))
    reach = np.exp(np.abs(generator.normal(0, 0.005, (2, rows, depth))))
    volume = generator.lognormal(14, 0.5, (rows, depth))
    day = np.broadcast_to(np.arange(12000, 12000 + depth), (rows, depth))
    channels = [close, close * reach[0], close / reach[1], close, volume, np.roll(close, 1, axis=0), day]
    return np.stack(channels, axis=-1).astype(np.float32)


@pytest.mark.parametrize("name", PRIMITIVES)
def test_a_primitive_agrees_with_torch(name: str) -> None:
    bars = walk(3, 150)
    bars[1, 40:, :4] = bars[1, 40:41, :4]  # flat from a day on
    bars[2, :, 4] = 0.0
    lowered, eager = both(PRIMITIVES[name], bars)
    scale = np.maximum(1.0, np.abs(eager).max(axis=(0, 2), keepdims=True))
    np.testing.assert_allclose(lowered / scale, eager / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["moments", "mean absolute deviation", "time moment", "product moments"])
def test_equal_bars_deviate_by_exactly_nothing(name: str) -> None:
    bars = np.full((1, 150, CHANNELS), 0.1, dtype=np.float32)
    lowered, eager = both(PRIMITIVES[name], bars)
    np.testing.assert_array_equal(lowered, eager)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(npst.arrays(np.float32, (1, 30), elements=st.sampled_from([0.1, 0.3, 1e-6, 7.0, 1e6])))
def test_ties_fall_as_in_torch(levels: np.ndarray) -> None:
    """Of few levels most windows hold equal bars: comparisons with average, deviation and maximum decide alike."""
    bars = np.repeat(levels[..., None], CHANNELS, axis=-1)

    def flags(bars: Bars) -> Tensor:
        x = bars.close
        spread = torch.where(rolling.moments(x, 5)[1] > 0.0, 1.0, 0.0)
        high = torch.where(x < rolling.max_(x, 5), 4.0, 0.0)
        above = torch.where(x > rolling.mean(x, 2), 2.0, 0.0)
        return spread + above + high + 8.0 * rolling.age_of_max(x, 9)

    lowered, eager = both([flags], bars)
    np.testing.assert_array_equal(lowered, eager)


@pytest.fixture(scope="module")
def catalogue() -> tuple[ort.InferenceSession, FeatureGraph]:
    graph = FeatureGraph()
    functions = [feature.function for feature in CATALOGUE]
    return session_of(functions, graph.lookback + 9, 10), graph


def compared(catalogue: tuple[ort.InferenceSession, FeatureGraph], bars: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clipped features of the last ten sessions, by onnxruntime and by torch: ``[batch, feature, session]``."""
    session, graph = catalogue
    recent = bars[:, -graph.lookback - 9 :]
    lowered = torch.from_numpy(run(session, recent))
    eager = graph(torch.from_numpy(recent).transpose(1, 2))[..., -10:]
    return torch.minimum(torch.maximum(lowered, graph.low), graph.high).numpy(), eager.numpy()


@pytest.mark.parametrize("scale", [1.0, 2.0**-20, 2.0**20])
def test_the_catalogue_agrees_with_torch_on_ordinary_and_degenerate_bars(
    catalogue: tuple[ort.InferenceSession, FeatureGraph], scale: float
) -> None:
    bars = walk(40, 256, seed=1)
    for windows in (bars, np.concatenate([degenerate_windows(window) for window in bars[:10]])):
        windows = windows.copy()
        windows[..., :4] *= scale
        lowered, eager = compared(catalogue, windows)
        np.testing.assert_allclose(lowered, eager, rtol=2e-4, atol=2e-4)


def test_a_window_that_stands_still_is_exact_after_a_jump() -> None:
    """Where the last bars are equal, averages are that bar and nothing deviates, whatever came before."""
    bars = walk(4, 150)
    bars[:, -40:, :6] = bars[:, -40:-39, :6]
    names = ("mean", "moments", "moments of twenty", "mean absolute deviation", "time moment", "product moments")
    functions = [function for name in names for function in PRIMITIVES[name]]
    lowered, eager = both(functions, bars)
    np.testing.assert_array_equal(lowered, eager)


@pytest.mark.parametrize("sessions", [1, 5, 30])
def test_windows_shorter_and_longer_than_the_answer_agree(sessions: int) -> None:
    bars = walk(3, 200, seed=5)
    names = ("mean", "moments", "moments of twenty", "time moment", "mean absolute deviation", "profile", "maximum")
    lowered, eager = both([function for name in names for function in PRIMITIVES[name]], bars, sessions)
    scale = np.maximum(1.0, np.abs(eager).max(axis=(0, 2), keepdims=True))
    np.testing.assert_allclose(lowered / scale, eager / scale, rtol=0, atol=1e-5)


def test_features_of_the_date_are_looked_up_exactly() -> None:
    dated = [feature.function for feature in CATALOGUE if feature.family == "calendar" and feature.lookback == 1]
    builder = GraphBuilder("bars")
    found = write_calendar(builder, dated, "bars", (0, 8))
    assert sorted(found) == list(range(len(dated)))
    names = list(dict.fromkeys(tensor for tensor, _, _ in found.values()))
    bars = helper.make_tensor_value_info("bars", TensorProto.FLOAT, [CHANNELS, "batch", 8])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    graph = helper.make_graph(builder.nodes, "dates", [bars], outputs, builder.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    # From 1950 to beyond the year 2500: centuries with and without a leap day.
    days = np.arange(-7304, -7304 + 200_000, dtype=np.float32).reshape(-1, 8)
    values = dict(zip(names, session.run(None, {"bars": np.stack([days] * CHANNELS)}), strict=True))
    channels = split_channels(torch.from_numpy(np.stack([days] * CHANNELS, axis=1)))
    for place, (tensor, row, _) in found.items():
        np.testing.assert_array_equal(np.asarray(values[tensor])[row], dated[place](channels).numpy())


def test_adversarial_windows_are_answered_alike(catalogue: tuple[ort.InferenceSession, FeatureGraph]) -> None:
    """Where torch itself depends on rounding (moves of a few units in the last place) a feature may differ more."""
    lowered, eager = compared(catalogue, adversarial_windows(200, 256, seed=2))
    assert np.isfinite(lowered).all()
    difference = np.abs(lowered - eager)
    assert np.quantile(difference, 0.95) < 1e-5
    assert np.quantile(difference, 0.99) < 1e-4


def test_a_task_waits_for_what_it_takes_and_nothing_unneeded_is_computed() -> None:
    functions = [feature.function for feature in CATALOGUE]
    program, forms = read_program(functions, FeatureGraph().lookback + 9, CHANNELS)
    expansion = Expansion(program, forms[:40], 10, (0, 19, 63, 79))
    tasks = needed_tasks(expansion.tasks, expansion.wanted)
    done = set(range(CHANNELS))
    for group in grouped(tasks):
        assert len({task.kind for task in group}) == 1
        for task in group:
            assert done.issuperset(rows_of(task))
        done.update(task.result for task in group)
    assert done.issuperset(expansion.wanted)
    assert len(tasks) < len(Expansion(program, forms, 10, ()).tasks) / 2


def test_tensors_are_put_together_once() -> None:
    """Rows of tensors that were put together, with others or not, are gathered from what is there."""
    builder = GraphBuilder("bars")
    rows = Rows(builder, 2, "bars", set())
    rows.store({2: 0, 3: 1}, "a", 2)
    rows.store({4: 0, 5: 1}, "b", 2)
    rows.rows([5, 2, 0])
    assert [node.op_type for node in builder.nodes] == ["Concat", "Gather"]
    rows.rows([4, 3])
    first, second = rows.operands([[0, 4], [1, 2]])
    assert first != second
    assert [node.op_type for node in builder.nodes] == ["Concat", *["Gather"] * 4]
    joined, places = builder.nodes[0], builder.nodes[2]
    assert list(places.input)[:1] == list(joined.output)
    order = [row for name in joined.input for row in {"bars": (0, 1), "a": (2, 3), "b": (4, 5)}[name]]
    constants = {constant.name: numpy_helper.to_array(constant) for constant in builder.initializers}
    assert [order[place] for place in constants[places.input[1]]] == [4, 3]


def test_an_operation_without_a_form_is_refused() -> None:
    with pytest.raises(ExportError, match="has no form on series"):
        read_program([lambda bars: torch.tanh(bars.close)], 20, CHANNELS)
    with pytest.raises(ExportError, match="without bounds"):
        read_program([lambda bars: torch.clamp(bars.close)], 20, CHANNELS)
