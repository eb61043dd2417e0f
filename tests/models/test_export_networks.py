"""Networks that are no LSTM, through the whole export: features, scaler, network and calibration in one file."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from mlserver.settings import ModelParameters, ModelSettings
from mlserver.types import Datatype, InferenceRequest, RequestInput, TensorData
from onnx import numpy_helper
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from torch import Tensor, nn

from financial_assets.errors import ParityError
from financial_assets.features.graph import FeatureGraph, FeaturePanel
from financial_assets.market.panel import PricePanel
from financial_assets.models.calibration import Calibration
from financial_assets.models.heads import HeadOutputs, Heads
from financial_assets.models.onnx.export import export_onnx, onnx_session, run_onnx
from financial_assets.models.onnx.parity import prove_parity
from financial_assets.models.onnx.trees import TreeEnsemble
from financial_assets.models.predictor import QUANTILE_LEVELS, SERVED_LOOKBACK, Predictor
from financial_assets.models.scaling import RobustScaler
from financial_assets.models.volatility import HarVolatility
from financial_assets.serving.runtime import FinancialOnnxRuntime

STEPS, WIDTH = 10, 16


class Transformer(nn.Module):
    """Two pre-norm encoder layers with learned positions, read out at the last step."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(features, WIDTH)
        self.positions = nn.Parameter(torch.randn(1, STEPS, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 32, 0.1, "gelu", norm_first=True, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.heads = Heads(WIDTH)

    def forward(self, inputs: Tensor, volatility: Tensor) -> HeadOutputs:
        return self.heads(self.encoder(self.embedding(inputs) + self.positions)[:, -1])


class Recurrent(nn.Module):
    """A convolution over steps, a GRU of both directions and attention of the last step over all."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(features, WIDTH, 3, padding=1)
        self.recurrent = nn.GRU(WIDTH, WIDTH // 2, batch_first=True, bidirectional=True)
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.heads = Heads(WIDTH)

    def forward(self, inputs: Tensor, volatility: Tensor) -> HeadOutputs:
        local = nn.functional.silu(self.convolution(inputs.transpose(1, 2))).transpose(1, 2)
        states = self.recurrent(local)[0]
        read = self.attention(states[:, -1:], states, states, need_weights=False)[0][:, 0]
        return self.heads(read)


class Boosted(nn.Module):
    """Trees for the direction, each quantile and the score, on the last step and its change.

    The quantiles over five sessions are those over one, a little wider where the forecast volatility is high.
    """

    def __init__(self, direction: TreeEnsemble, quantiles: list[TreeEnsemble], score: TreeEnsemble) -> None:
        super().__init__()
        self.direction = direction
        self.quantiles = nn.ModuleList(quantiles)
        self.score = score

    def forward(self, inputs: Tensor, volatility: Tensor) -> HeadOutputs:
        last = torch.cat([inputs[:, -1], inputs[:, -1] - inputs[:, -2]], dim=1)
        quantiles = torch.cat([level(last) for level in self.quantiles], dim=1)
        return HeadOutputs(self.direction(last), quantiles, quantiles * (1.0 + volatility[:, 1:]), self.score(last))


@pytest.fixture(scope="module")
def rows(features: FeaturePanel) -> Tensor:
    """Warm features ``[n, feature]``, session after session."""
    return torch.from_numpy(features.values[0, :, 300:].T.copy())


@pytest.fixture(scope="module")
def scaler(rows: Tensor) -> RobustScaler:
    return RobustScaler.fit(rows)


@pytest.fixture(scope="module")
def boosted(rows: Tensor, scaler: RobustScaler) -> Boosted:
    scaled = scaler(rows).numpy()
    known = np.concatenate([scaled[1:], np.diff(scaled, axis=0)], axis=1)
    target = np.random.default_rng(0).normal(size=len(known)) + known[:, 0]
    direction = HistGradientBoostingClassifier(max_iter=30).fit(known, target > 0)
    quantiles = [
        HistGradientBoostingRegressor(loss="quantile", quantile=level, max_iter=10).fit(known, target)
        for level in QUANTILE_LEVELS
    ]
    score = HistGradientBoostingRegressor(max_iter=10).fit(known, target)
    levels = [TreeEnsemble.from_sklearn(level) for level in quantiles]
    return Boosted(TreeEnsemble.from_sklearn(direction), levels, TreeEnsemble.from_sklearn(score))


def built(network: nn.Module, graph: FeatureGraph, scaler: RobustScaler) -> Predictor:
    return (
        Predictor(graph, scaler, network, Calibration(), HarVolatility.random_walk(), STEPS)
        .eval()
        .requires_grad_(False)
    )


@pytest.mark.parametrize("architecture", [Transformer, Recurrent])
def test_a_network_is_exported_and_equal(
    architecture: type[nn.Module],
    graph: FeatureGraph,
    scaler: RobustScaler,
    features: FeaturePanel,
    panel: PricePanel,
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    predictor = built(architecture(len(graph.names)), graph, scaler)
    export_onnx(predictor, tmp_path / "m.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    report = prove_parity(predictor, tmp_path / "m.onnx", features, panel, windows=300)
    assert max(report.onnx_probability, report.onnx_quantiles, report.onnx_quantiles_5d) < 1e-6
    _, windows = panel.windows(panel.sessions[-1], SERVED_LOOKBACK)
    answer = run_onnx(onnx_session(tmp_path / "m.onnx"), windows)
    assert np.ptp(answer.probability_up) > 1e-4, "the network's answer depends on the window"


def test_trees_are_exported_and_equal(
    boosted: Boosted,
    graph: FeatureGraph,
    scaler: RobustScaler,
    features: FeaturePanel,
    panel: PricePanel,
    tmp_path: Path,
) -> None:
    """Their thresholds are values of the panel, so that the last bit of a feature decides in many windows."""
    predictor = built(boosted, graph, scaler)
    export_onnx(predictor, tmp_path / "m.onnx")
    report = prove_parity(predictor, tmp_path / "m.onnx", features, panel)
    assert max(report.onnx_probability, report.onnx_quantiles, report.onnx_quantiles_5d) < 1e-6
    model = onnx.load(tmp_path / "m.onnx")
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20), ("ai.onnx.ml", 3)]
    assert [node.op_type for node in model.graph.node].count("TreeEnsembleRegressor") == 7


@pytest.mark.parametrize("part", ["target_weights_as_tensor", "nodes_values_as_tensor"])
def test_parity_finds_trees_that_are_off(
    part: str,
    boosted: Boosted,
    graph: FeatureGraph,
    scaler: RobustScaler,
    features: FeaturePanel,
    panel: PricePanel,
    tmp_path: Path,
) -> None:
    predictor = built(boosted, graph, scaler)
    export_onnx(predictor, tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    trees = next(node for node in model.graph.node if node.op_type == "TreeEnsembleRegressor")
    attribute = next(entry for entry in trees.attribute if entry.name == part)
    attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t) * 1.01))
    onnx.save(model, tmp_path / "off.onnx")
    with pytest.raises(ParityError, match=r"off\.onnx differs from torch"):
        prove_parity(predictor, tmp_path / "off.onnx", features, panel)


def test_parity_finds_features_that_are_off_before_trees(
    boosted: Boosted,
    graph: FeatureGraph,
    scaler: RobustScaler,
    features: FeaturePanel,
    panel: PricePanel,
    tmp_path: Path,
) -> None:
    path = tmp_path / "m.onnx"
    export_onnx(built(boosted, graph, scaler), path)
    model = onnx.load(path)
    for node in model.graph.node:
        node.output[:] = ["before" if name == "features" else name for name in node.output]
    place = next(at for at, node in enumerate(model.graph.node) if "before" in node.output)
    factor = numpy_helper.from_array(np.float32(1.01), "factor")
    model.graph.initializer.append(factor)
    model.graph.node.insert(place + 1, onnx.helper.make_node("Mul", ["before", "factor"], ["features"]))
    onnx.save(model, path)
    with pytest.raises(ParityError, match="scaled features"):
        prove_parity(built(boosted, graph, scaler), path, features, panel)


def test_the_model_server_answers_by_trees(
    boosted: Boosted, graph: FeatureGraph, scaler: RobustScaler, panel: PricePanel, tmp_path: Path
) -> None:
    export_onnx(built(boosted, graph, scaler), tmp_path / "model.onnx")
    parameters = ModelParameters(uri=str(tmp_path), version="3")
    server = FinancialOnnxRuntime(
        ModelSettings(name="boosted_3", implementation=FinancialOnnxRuntime, parameters=parameters)
    )
    assert asyncio.run(server.load())
    _, bars = panel.windows(panel.sessions[-1], SERVED_LOOKBACK)
    data = TensorData(root=bars.ravel().tolist())
    sent = RequestInput(name="bars", shape=list(bars.shape), datatype=Datatype.FP32, data=data)
    answer = asyncio.run(server.predict(InferenceRequest(inputs=[sent])))
    expected = run_onnx(onnx_session(tmp_path / "model.onnx"), bars)
    found = {output.name: np.asarray(output.data.root, dtype=np.float32) for output in answer.outputs}
    assert np.array_equal(found["probability_up"], expected[0].ravel())
    assert np.array_equal(found["return_quantiles"], expected[1].ravel())
    assert all(low <= high for low, high in pairwise(expected[1][0]))
