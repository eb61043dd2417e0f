from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor

from financial_assets.errors import ExportError, ParityError
from financial_assets.features.bars import CAUSAL_VOLATILITY_LOOKBACK
from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.market.panel import PricePanel, build_panel
from financial_assets.market.sources.simulated import SimulatedMarket, SimulatedPrices
from financial_assets.models.artifacts.artifact import Artifact
from financial_assets.models.artifacts.card import model_card, write_model_card
from financial_assets.models.calibration import Calibration
from financial_assets.models.heads import HeadOutputs, ServedAnswer
from financial_assets.models.networks.build import build_network
from financial_assets.models.onnx.export import OPSET, OUTPUT_NAMES, export_onnx, file_sha256, onnx_session, run_onnx
from financial_assets.models.onnx.parity import (
    SCORE_TOLERANCE,
    TOLERANCES,
    ParityReport,
    degenerate_windows,
    differences,
    prove_parity,
)
from financial_assets.models.predictor import SERVED_LOOKBACK, Predictor, build_predictor
from financial_assets.models.scaling import RobustScaler
from financial_assets.models.training import Training, train
from financial_assets.models.training_data import TrainingData
from financial_assets.models.variants import VARIANTS, Variant
from financial_assets.models.volatility import HarVolatility


@pytest.fixture(scope="module")
def predictor(training: Training, graph: FeatureGraph) -> Predictor:
    return build_predictor(training, graph)


@pytest.fixture(scope="module")
def exported(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    assert export_onnx(predictor, path, metadata={"variant": "tiny", "fingerprint": "f"}) == file_sha256(path)
    return path


@pytest.fixture(scope="module")
def bars(panel: PricePanel) -> np.ndarray:
    return panel.window("T0", panel.sessions[600], SERVED_LOOKBACK)


def same(one: ServedAnswer, other: ServedAnswer) -> bool:
    return all(torch.equal(mine, its) for mine, its in zip(one, other, strict=True))


def test_one_file_with_the_served_interface(exported: Path, graph: FeatureGraph, sequence_length: int) -> None:
    assert [path.name for path in exported.parent.iterdir()] == ["model.onnx"]
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    told = {entry.key: entry.value for entry in model.metadata_props}
    needed = max(graph.lookback + sequence_length - 1, CAUSAL_VOLATILITY_LOOKBACK)
    assert told == {"variant": "tiny", "fingerprint": "f", "bars_needed": str(needed), "opset": str(OPSET)}
    session = onnx_session(exported)
    assert [(i.name, i.type, i.shape) for i in session.get_inputs()] == [("bars", "tensor(float)", ["batch", 256, 7])]
    assert [(o.name, o.type, o.shape[1]) for o in session.get_outputs()] == [
        ("probability_up", "tensor(float)", 1),
        ("return_quantiles", "tensor(float)", 5),
        ("return_quantiles_5d", "tensor(float)", 5),
        ("excess_return", "tensor(float)", 1),
    ]
    assert "LSTM" in {node.op_type for node in model.graph.node}
    assert str(Path.cwd()).encode() not in exported.read_bytes()  # nothing of this machine is in the file


@pytest.mark.parametrize("batch", [1, 3, 200])
def test_any_batch_size_is_answered(exported: Path, predictor: Predictor, bars: np.ndarray, batch: int) -> None:
    many = np.tile(bars, (batch, 1, 1)) * np.linspace(1, 2, batch, dtype=np.float32).reshape(-1, 1, 1)
    answer = run_onnx(onnx_session(exported), many)
    expected = predictor(torch.from_numpy(many))
    found = differences(expected, answer)
    assert all(value <= most for value, most in zip(found, TOLERANCES, strict=True))
    for quantiles in (answer.return_quantiles, answer.return_quantiles_5d):
        assert quantiles is not None
        assert quantiles.shape == (batch, 5)
        assert (np.diff(quantiles, axis=1) >= 0).all()
    assert ((answer.probability_up > 0) & (answer.probability_up < 1)).all()


def test_exporting_twice_gives_the_same_bytes(predictor: Predictor, exported: Path, tmp_path: Path) -> None:
    metadata = {"variant": "tiny", "fingerprint": "f"}
    assert export_onnx(predictor, tmp_path / "again.onnx", metadata=metadata) == file_sha256(exported)


def test_parity_holds_on_real_and_degenerate_windows(
    predictor: Predictor, exported: Path, features: FeaturePanel, panel: PricePanel
) -> None:
    report = prove_parity(predictor, exported, features, panel, windows=300)
    assert (report.windows, report.degenerate_windows, report.panel_window) == (300, 9, 0.0)
    assert max(report.onnx_probability, report.onnx_quantiles, report.onnx_quantiles_5d) < 1e-6
    assert report.onnx_score < SCORE_TOLERANCE
    assert json.dumps(report.to_dict())


def test_bars_before_those_needed_change_nothing(predictor: Predictor, bars: np.ndarray) -> None:
    spoiled = bars.copy()
    spoiled[: SERVED_LOOKBACK - predictor.bars_needed] = 1e6
    one, other = predictor(torch.from_numpy(bars[None])), predictor(torch.from_numpy(spoiled[None]))
    assert same(one, other)
    spoiled[SERVED_LOOKBACK - 1] *= np.float32(1.1)
    assert not torch.equal(one[0], predictor(torch.from_numpy(spoiled[None]))[0])


def test_degenerate_windows_are_answered(exported: Path, bars: np.ndarray) -> None:
    for output in run_onnx(onnx_session(exported), degenerate_windows(bars)):
        assert output is not None
        assert np.isfinite(output).all()


@torch.no_grad()
def test_a_request_is_answered_as_the_panel_was(
    predictor: Predictor, features: FeaturePanel, panel: PricePanel, sequence_length: int
) -> None:
    """What a client sends, cut by the market package, against the training tensor: bit for bit."""
    day = panel.position(panel.sessions[777])
    tickers, windows = panel.windows(panel.sessions[day], SERVED_LOOKBACK)
    assert tickers == panel.tickers
    steps = features.values[:, :, day - sequence_length + 1 : day + 1].transpose(0, 2, 1)
    served = predictor(torch.from_numpy(windows))
    trained = predictor.answer(torch.from_numpy(steps.copy()), predictor.volatility.of_panel(panel)[:, day])
    assert same(served, trained)


def listed_late_and_halted(panel: PricePanel) -> PricePanel:
    """The second ticker begins in session 400 and does not trade in sessions 600-602."""
    values, valid = panel.values.copy(), panel.valid.copy()
    values[1, :5, :400] = np.nan
    values[1, :4, 600:603] = values[1, 3, 599]
    values[1, 4, 600:603] = 0.0
    valid[1, :400] = valid[1, 600:603] = False
    return replace(panel, values=values, valid=valid)


def test_late_listings_and_halts_are_trained_on_and_served(
    panel: PricePanel, graph: FeatureGraph, tiny: Variant, cutoff: pd.Timestamp, sequence_length: int, tmp_path: Path
) -> None:
    halted = listed_late_and_halted(panel)
    features = compute_panel(halted, graph)
    data = TrainingData.until(cutoff, features, halted, sequence_length=sequence_length)
    sessions = np.concatenate([block.sessions[block.tickers == 1] for block in (data.fit, data.stop, data.calibrate)])
    assert sessions.min() == 400 + graph.lookback + sequence_length - 2
    # No decision on a halted day, nor the day before, nor five days before one: an outcome is not known.
    assert not set(sessions) & {595, 596, 597, 599, 600, 601, 602}
    assert 603 in sessions
    trained = train(tiny, features, halted, cutoff=cutoff, sequence_length=sequence_length, seed=1, device="cpu")
    served = build_predictor(trained, graph)
    export_onnx(served, tmp_path / "m.onnx")
    assert prove_parity(served, tmp_path / "m.onnx", features, halted, windows=400).panel_window == 0.0


def test_splits_and_units_are_harmless(predictor: Predictor, bars: np.ndarray) -> None:
    """A 4:1 split, shares counted in thousands, another base of the index: not one bit of the answer moves."""
    scaled = bars * np.asarray([0.25, 0.25, 0.25, 0.25, 1024.0, 8.0, 1.0], dtype=np.float32)
    assert same(predictor(torch.from_numpy(bars[None])), predictor(torch.from_numpy(scaled[None])))


def test_the_whole_catalogue_is_exported_and_equal(panel: PricePanel, tmp_path: Path) -> None:
    """Every feature there is, so that one built from an operation that cannot be written fails here."""
    graph = FeatureGraph()
    torch.manual_seed(0)
    count = len(graph.names)
    features = compute_panel(panel, graph)
    known = torch.from_numpy(features.values[:, :, 400:]).transpose(1, 2).reshape(-1, count)
    network = build_network(VARIANTS["enhanced"], count)
    volatility = HarVolatility.random_walk()
    predictor = Predictor(graph, RobustScaler.fit(known), network, Calibration(), volatility, 10)
    predictor.eval().requires_grad_(False)
    export_onnx(predictor, tmp_path / "m.onnx")
    report = prove_parity(predictor, tmp_path / "m.onnx", features, panel, windows=400)
    assert report.panel_window == 0.0
    assert (tmp_path / "m.onnx").stat().st_size < 2_000_000


def test_the_default_model_is_at_most_400_nodes(tmp_path: Path) -> None:
    """A request costs one call for each node, whatever it computes."""
    graph = FeatureGraph()
    count = len(graph.names)
    network = build_network(VARIANTS["baseline"], count)
    scaler = RobustScaler(torch.zeros(count), torch.ones(count))
    predictor = Predictor(graph, scaler, network, Calibration(), HarVolatility.random_walk(), 10)
    export_onnx(predictor.eval().requires_grad_(False), tmp_path / "m.onnx")
    assert len(onnx.load(tmp_path / "m.onnx").graph.node) <= 400


def test_a_universe_of_one_ticker_is_exported_and_equal(tiny: Variant, sequence_length: int, tmp_path: Path) -> None:
    """What is measured against the market is nothing there, and no rounding is taken for something."""
    bars_of_one = build_panel(SimulatedPrices(SimulatedMarket(sessions=1000, seed=3)).fetch(("AAA",)).prices)
    whole = FeatureGraph()
    features = compute_panel(bars_of_one, whole)
    relative = [name for name in whole.names if name.startswith(("relative_strength", "residual_momentum"))]
    assert not np.nan_to_num(features.values[:, [whole.names.index(name) for name in relative]]).any()
    cutoff = bars_of_one.sessions[-40]
    trained = train(tiny, features, bars_of_one, cutoff=cutoff, sequence_length=sequence_length, seed=7, device="cpu")
    predictor = build_predictor(trained, whole)
    export_onnx(predictor, tmp_path / "m.onnx")
    assert prove_parity(predictor, tmp_path / "m.onnx", features, bars_of_one).windows > 0


@pytest.fixture(scope="module")
def wide(panel: PricePanel) -> PricePanel:
    """The panel with a rate that changes its sign, a monthly figure that is unknown at first, and a sector's index."""
    rng = np.random.default_rng(3)
    tickers, _, sessions = panel.values.shape
    rate = np.cumsum(rng.normal(0, 0.05, sessions))
    monthly = np.repeat(rng.normal(2, 0.2, sessions // 21 + 1), 21)[:sessions]
    monthly[:30] = np.nan
    sector = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (tickers, sessions)), axis=1))
    more = np.stack([np.broadcast_to(rate, sector.shape), np.broadcast_to(monthly, sector.shape), sector], axis=1)
    values = np.concatenate([panel.values, more.astype(np.float32)], axis=1)
    return replace(panel, values=values, covariates=("^TNX - ^IRX", "cpi", "sector"))


def test_a_model_with_covariates_is_trained_exported_and_equal(
    wide: PricePanel,
    panel: PricePanel,
    graph: FeatureGraph,
    tiny: Variant,
    sequence_length: int,
    cutoff: pd.Timestamp,
    tmp_path: Path,
) -> None:
    covered = [
        feature for feature in FeatureGraph(covariates=wide.covariates).features if feature.family == "covariates"
    ]
    both = FeatureGraph([*graph.features, *covered], covariates=wide.covariates)
    features = compute_panel(wide, both)
    assert not features.valid[:, : both.lookback + 29].any(), "the monthly figure is not known yet"
    trained = train(tiny, features, wide, cutoff=cutoff, sequence_length=sequence_length, seed=7, device="cpu")
    predictor = build_predictor(trained, both)
    digest = export_onnx(predictor, tmp_path / "m.onnx")
    report = prove_parity(predictor, tmp_path / "m.onnx", features, wide)
    assert (report.panel_window, report.degenerate_windows) == (0.0, 11)
    (shape,) = [entry.type.tensor_type.shape.dim for entry in onnx.load(tmp_path / "m.onnx").graph.input]
    assert [size.dim_value for size in shape[1:]] == [SERVED_LOOKBACK, 10]
    card = model_card(trained, predictor, report, fingerprint="f", data_hash="d", code_version="c", onnx_sha256=digest)
    assert card["interface"]["channels"] == [
        "open",
        "high",
        "low",
        "close",
        "volume",
        "market",
        "day",
        *wide.covariates,
    ]
    assert card["interface"]["input"] == {"bars": ["batch", SERVED_LOOKBACK, 10]}
    assert "tnx_minus_irx_correlation_60" in [feature["name"] for feature in card["features"]]
    model = Artifact("tiny", 3, tmp_path, card, "run", reused=False)
    model.require_channels(wide)
    for other, named in ((replace(wide, covariates=("cpi", "^TNX - ^IRX", "sector")), "cpi, "), (panel, "none")):
        with pytest.raises(ExportError, match=rf"\(\^TNX - \^IRX, cpi, sector\) than COVARIATES.* give \({named}"):
            model.require_channels(other)
    Artifact("old", 1, tmp_path, {"interface": {}}, "run", reused=False).require_channels(panel)
    with pytest.raises(ExportError, match="train it again"):
        build_predictor(trained, FeatureGraph([*graph.features, *covered[:-1]], covariates=wide.covariates))
    _, bars = wide.windows(wide.sessions[-1], SERVED_LOOKBACK)
    session = onnx_session(tmp_path / "m.onnx")
    before = run_onnx(session, bars)[0]
    bars[..., 7] = np.cumsum(np.random.default_rng(4).normal(0, 0.05, SERVED_LOOKBACK))
    assert (run_onnx(session, bars)[0] != before).any(), "the answer depends on a covariate"


def planted(exported: Path, folder: Path, column: int) -> Path:
    """A copy of the file with one read-out a little off."""
    model = onnx.load(exported)
    products = {node.input[1] for node in model.graph.node if node.op_type == "Gemm"}
    heads = next(
        entry for entry in model.graph.initializer if entry.name in products and entry.dims[1] == 12 < 3 * entry.dims[0]
    )
    weights = numpy_helper.to_array(heads).copy()
    weights[:, column] *= np.float32(1.01)
    heads.CopyFrom(numpy_helper.from_array(weights, heads.name))
    onnx.save(model, folder / "planted.onnx")
    return folder / "planted.onnx"


@pytest.fixture(scope="module")
def unshrunk(
    training: Training, graph: FeatureGraph, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Predictor, Path]:
    """With every weight at one: a median that is served as a constant hides an error of its read-out."""
    predictor = build_predictor(training, graph)
    predictor.calibration = Calibration().eval()
    path = tmp_path_factory.mktemp("unshrunk") / "m.onnx"
    export_onnx(predictor, path)
    return predictor, path


@pytest.mark.parametrize(
    ("column", "output"),
    [(0, "probability_up"), (3, "return_quantiles"), (8, "return_quantiles_5d"), (11, "excess_return")],
)
def test_parity_finds_a_weight_that_is_off_in_any_head(
    unshrunk: tuple[Predictor, Path],
    features: FeaturePanel,
    panel: PricePanel,
    tmp_path: Path,
    column: int,
    output: str,
) -> None:
    with pytest.raises(ParityError, match=rf"planted\.onnx differs from torch in {output} by") as caught:
        prove_parity(unshrunk[0], planted(unshrunk[1], tmp_path, column), features, panel, windows=64)
    assert str(caught.value).count("allowed") == 1, "the other heads agree"


def test_parity_misses_no_output(
    predictor: Predictor, exported: Path, features: FeaturePanel, panel: PricePanel, tmp_path: Path
) -> None:
    """The file of an earlier version answers two outputs; it is not the file of this model."""
    model = onnx.load(exported)
    del model.graph.output[2:]
    onnx.save(model, tmp_path / "two.onnx")
    _, bars = panel.windows(panel.sessions[-1], SERVED_LOOKBACK)
    answer = run_onnx(onnx_session(tmp_path / "two.onnx"), bars)
    assert (answer.return_quantiles_5d, answer.excess_return) == (None, None)
    assert np.array_equal(answer.return_quantiles, run_onnx(onnx_session(exported), bars).return_quantiles)
    with pytest.raises(ParityError, match="does not answer return_quantiles_5d"):
        prove_parity(predictor, tmp_path / "two.onnx", features, panel, windows=16)


def test_parity_finds_one_changed_bit_in_the_panel(
    predictor: Predictor, exported: Path, features: FeaturePanel, panel: PricePanel
) -> None:
    values = features.values.copy()
    last = values[0, 3, -1]  # the last session is always among the windows
    values[0, 3, -1] = np.nextafter(last, np.float32(np.inf))
    assert values[0, 3, -1] != last
    with pytest.raises(ParityError, match="panel and window"):
        prove_parity(predictor, exported, replace(features, values=values), panel, windows=64)


class _TwoSigmoids(Calibration):
    """The original system's fault: a sigmoid of a sigmoid is always above one half."""

    def forward(self, outputs: HeadOutputs, volatility: Tensor) -> ServedAnswer:
        answer = super().forward(outputs, volatility)
        return answer._replace(probability_up=torch.sigmoid(answer.probability_up))


def test_parity_finds_the_double_sigmoid(
    training: Training, graph: FeatureGraph, features: FeaturePanel, panel: PricePanel, tmp_path: Path
) -> None:
    twice = _TwoSigmoids()
    twice.load_state_dict(training.calibration.state_dict())
    wrong = build_predictor(training, graph)
    wrong.calibration = twice.eval()
    export_onnx(wrong, tmp_path / "m.onnx")
    with pytest.raises(ParityError, match="one sigmoid"):
        prove_parity(wrong, tmp_path / "m.onnx", features, panel, windows=64)


@pytest.mark.parametrize(("size", "off"), [(0.02, 1e-6), (0.5, 1e-6), (2.0, 4e-6)])
def test_quantiles_beyond_one_half_are_compared_relative_to_their_size(size: float, off: float) -> None:
    """Never more loosely below: a quantile of real prices is compared as it always was."""
    quantiles = torch.full((3, 5), size)
    expected = ServedAnswer(torch.full((3, 1), 0.5), quantiles, 2 * quantiles, torch.zeros(3, 1))
    answers = [each.double().numpy() for each in expected]
    answers[1][1, 2] += off
    found = differences(ServedAnswer(*(each.double() for each in expected)), answers)
    assert found[1] == pytest.approx(1e-6, rel=1e-6)
    assert (found[0], found[2], found[3]) == (0, 0, 0)
    answers[0][0] += 2e-5  # a probability has no scale of its own
    assert differences(ServedAnswer(*(each.double() for each in expected)), answers)[0] == pytest.approx(2e-5)


def test_parity_needs_finite_answers_and_windows(
    predictor: Predictor, exported: Path, features: FeaturePanel, panel: PricePanel
) -> None:
    broken = replace(features, values=np.full_like(features.values, np.nan))
    with pytest.raises(ParityError, match="not finite"):
        prove_parity(predictor, exported, broken, panel, windows=8)
    with pytest.raises(ParityError, match="256 bars"):
        prove_parity(predictor, exported, replace(features, valid=np.zeros_like(features.valid)), panel)


def test_training_mode_is_refused(training: Training, graph: FeatureGraph, tmp_path: Path) -> None:
    predictor = build_predictor(training, graph)
    predictor.train()
    try:
        with pytest.raises(ExportError, match="dropout"):
            export_onnx(predictor, tmp_path / "m.onnx")
    finally:
        predictor.eval()
    assert list(tmp_path.iterdir()) == []


def test_a_request_carries_too_few_bars(training: Training, graph: FeatureGraph) -> None:
    longest = SERVED_LOOKBACK - graph.lookback + 1
    parts = training.scaler, training.network, training.calibration, training.volatility
    Predictor(graph, *parts, longest)
    with pytest.raises(ExportError, match=f"SEQUENCE_LENGTH can be at most {longest}"):
        Predictor(graph, *parts, longest + 1)


def test_another_feature_graph_is_refused(training: Training, graph: FeatureGraph) -> None:
    with pytest.raises(ExportError, match="train it again"):
        build_predictor(training, FeatureGraph(graph.features[::-1]))


@pytest.fixture(scope="module")
def report(predictor: Predictor, exported: Path, features: FeaturePanel, panel: PricePanel) -> ParityReport:
    return prove_parity(predictor, exported, features, panel, windows=16)


def test_card_says_what_the_design_asks_for(
    training: Training, predictor: Predictor, report: ParityReport, exported: Path, cutoff: pd.Timestamp, tmp_path: Path
) -> None:
    card = model_card(
        training,
        predictor,
        report,
        fingerprint="f",
        data_hash="d",
        code_version="c",
        onnx_sha256=file_sha256(exported),
    )
    write_model_card(card, tmp_path / "model-card.json")
    read = json.loads((tmp_path / "model-card.json").read_text())
    assert (read["variant"], read["fingerprint"], read["data_hash"], read["code_version"]) == ("tiny", "f", "d", "c")
    assert read["hyperparameters"] == training.variant.hyperparameters()
    assert read["data_cutoff"] == f"{cutoff:%Y-%m-%d}"
    assert "channels" not in read["interface"], "without covariates the card is what it always was"
    assert [feature["name"] for feature in read["features"]] == list(training.feature_names)
    assert {"family", "formula", "source"} <= set(read["features"][0])
    assert read["benchmark"]["constituents"] == list(training.tickers)
    assert set(read["blocks"]) == {"fit", "stop", "calibrate"}
    assert list(read["interface"]["outputs"]) == list(read["interface"]["targets"]) == list(OUTPUT_NAMES)
    assert read["interface"]["horizons"] == [1, 5]
    assert [(each["horizon"], len(each["slopes"])) for each in read["volatility"]["horizons"]] == [(1, 5), (5, 5)]
    assert len(read["volatility"]["variances"]) == 5
    for horizon, shifts in zip((1, 5), read["calibration"]["quantile_shifts"], strict=True):
        assert shifts["horizon"] == horizon
        assert shifts["pooled"] is True
        assert shifts["rows"] == training.windows["calibrate"]
        assert shifts["effective_rows"] == len(np.unique(training.held_out.session)) // horizon
        assert all(0 <= share <= 1 for share in (*shifts["weights"], *shifts["credibility"][0]))
        assert sorted(shifts["constants"]) == shifts["constants"]
        assert (len(shifts["centres"]), len(shifts["shifts"]), len(shifts["shifts"][0])) == (3, 3, 5)
    assert read["calibration"]["score"]["slope"] > 0
    assert read["held_out"]["leak_alarm"]["heads"] == []
    for score in ("accuracy", "accuracy_minus_majority", "brier", "log_loss", "pinball", "coverage_5%", "pinball_5d",
                  "coverage_5d_95%", "qlike", "qlike_5d", "score_loss"):  # fmt: skip
        interval = read["held_out"]["scores"][score]
        assert interval["low"] <= interval["estimate"] <= interval["high"]
    assert read["held_out"]["scores"]["accuracy"]["estimate"] == pytest.approx(training.held_out.correct.mean())
    assert read["parity"] == report.to_dict()
    assert read["onnx_sha256"] == file_sha256(exported)


def test_a_card_with_a_number_that_json_lacks_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="model card"):
        write_model_card({"accuracy": float("nan")}, tmp_path / "card.json")
    assert list(tmp_path.iterdir()) == []


def test_one_window_is_answered_quickly(exported: Path, bars: np.ndarray) -> None:
    session = onnx_session(exported)
    taken = []
    for _ in range(50):
        started = time.perf_counter()
        run_onnx(session, bars[None])
        taken.append(time.perf_counter() - started)
    assert float(np.median(taken)) < 0.05
