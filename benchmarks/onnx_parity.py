"""The exported graph beside eager torch on random and adversarial windows: the largest differences of its answers.

    python benchmarks/onnx_parity.py [--windows 10000 --variants baseline enhanced lightweight]

Windows are of ``models/onnx/adversarial.py``. Features are scaled as those of the windows themselves spread; weights
are as they are drawn, trees as they grow on targets of chance. A line per variant: windows, largest absolute difference
of the probability and of a quantile, how many windows differ by more than what registration allows on real and on
degenerate ones, and the same for the graph written operation by operation.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from onnx_export import operation_by_operation
from sklearn.ensemble import HistGradientBoostingRegressor

from financial_assets.features.graph import FeatureGraph
from financial_assets.models.calibration import Calibration
from financial_assets.models.networks.boosted import BoostedNetwork
from financial_assets.models.networks.build import build_network
from financial_assets.models.onnx.adversarial import adversarial_windows
from financial_assets.models.onnx.export import OUTPUT_NAMES, export_onnx, onnx_session, run_onnx
from financial_assets.models.onnx.parity import TOLERANCES
from financial_assets.models.onnx.trees import TreeEnsemble
from financial_assets.models.predictor import SERVED_LOOKBACK, Predictor
from financial_assets.models.scaling import RobustScaler
from financial_assets.models.variants import VARIANTS
from financial_assets.models.volatility import HarVolatility

CHUNK = 250


def scaled_predictor(variant: str, bars: np.ndarray) -> Predictor:
    """A model with fresh weights, whose features are scaled as those of ``bars`` spread."""
    graph = FeatureGraph()
    torch.manual_seed(0)
    network = build_network(VARIANTS[variant], len(graph.names))
    unscaled = RobustScaler(torch.zeros(len(graph.names)), torch.ones(len(graph.names)))
    probe = (
        Predictor(graph, unscaled, network, Calibration(), HarVolatility.random_walk(), 10).eval().requires_grad_(False)
    )
    features = probe.prepare(torch.from_numpy(bars))[0][:, -1]
    scaler = RobustScaler.fit(features)
    for part in network.modules():
        if isinstance(part, BoostedNetwork):
            grow_trees(part, scaler(features).numpy())
    return (
        Predictor(graph, scaler, network, Calibration(), HarVolatility.random_walk(), 10).eval().requires_grad_(False)
    )


def grow_trees(network: BoostedNetwork, features: np.ndarray) -> None:
    """Trees on ``features`` ``[n, feature]``, whose values are the thresholds: the last bit of one may decide."""
    rng = np.random.default_rng(0)
    for head in (network.direction, network.quantiles, network.quantiles_5d, network.score):
        for place in range(len(head)):
            target = 0.1 * (features @ rng.normal(size=features.shape[1]) + rng.normal(size=len(features)))
            head[place] = TreeEnsemble.from_sklearn(HistGradientBoostingRegressor(max_iter=30).fit(features, target))


def differences(session: ort.InferenceSession, bars: np.ndarray, expected: list[np.ndarray]) -> np.ndarray:
    """Largest difference of each window in each output ``[output, n]``."""
    answers = run_onnx(session, bars)
    return np.stack([np.abs(np.asarray(a) - e).max(axis=1) for a, e in zip(answers, expected, strict=True)])


def compare(variant: str, count: int) -> None:
    bars = adversarial_windows(count, SERVED_LOOKBACK, seed=1)
    predictor = scaled_predictor(variant, bars[:CHUNK])
    writers: dict[str, Callable[[Predictor, Path], object]] = {
        "lowered": export_onnx,
        "operation by operation": operation_by_operation,
    }
    with tempfile.TemporaryDirectory() as folder:
        sessions: dict[str, ort.InferenceSession] = {}
        for name, write in writers.items():
            write(predictor, Path(folder) / f"{name}.onnx")
            sessions[name] = onnx_session(Path(folder) / f"{name}.onnx")
    found: dict[str, list[np.ndarray]] = {name: [] for name in writers}
    for start in range(0, count, CHUNK):
        chunk = bars[start : start + CHUNK]
        with torch.inference_mode():
            expected = [answer.numpy() for answer in predictor(torch.from_numpy(chunk))]
        for name, session in sessions.items():
            found[name].append(differences(session, chunk, expected))
    for name, parts in found.items():
        by_output = np.concatenate(parts, axis=1)
        beyond = int((by_output > np.array(TOLERANCES)[:, None]).any(axis=0).sum())
        largest = ", ".join(f"{output} {each.max():.1e}" for output, each in zip(OUTPUT_NAMES, by_output, strict=True))
        print(f"{variant:<12}{name:<24}{count:>7} windows: {largest}, {beyond} beyond the tolerance")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=10_000)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for variant in arguments.variants:
        compare(variant, arguments.windows)


if __name__ == "__main__":
    main()
