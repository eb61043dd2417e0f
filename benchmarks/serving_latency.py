"""Bars-to-answer latency: direct onnxruntime, direct MLServer and through the gateway, side by side in one run.

``python benchmarks/serving_latency.py [--onnx model.onnx] [--seconds 3]`` starts a plane in a temporary folder, asks
it, stops it, and prints a table. The ways take turns in short rounds, so that a busy moment of the machine hits all
of them. Without ``--onnx`` a small generated graph is served: the figures are then those of the road, not of a model.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from financial_assets.serving.client.inference import InferenceClient
from financial_assets.serving.client.transport import GrpcTransport, RestTransport
from financial_assets.serving.local.control import start, stop
from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.manifests import EXPERIMENT_NAME, experiment_manifest, model_manifest
from financial_assets.serving.target import Endpoint

Ask = Callable[[], object]
MODELS = ("first-predictor-v1", "second-predictor-v1")
CLIENTS = 8
ROUNDS = 10
BATCH = 2000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnx", type=Path, help="artefact to serve (default: a small generated graph)")
    parser.add_argument("--seconds", type=float, default=3.0, help="measuring time of each way (at most 8)")
    options = parser.parse_args()
    seconds = min(max(options.seconds, 0.5), 8.0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        content = options.onnx.read_bytes() if options.onnx else small_graph()
        for name in MODELS:
            (root / name).mkdir()
            (root / name / "model.onnx").write_bytes(content)
        try:
            measure(root, options.onnx, seconds)
        finally:
            stop(root / "home")
    return 0


def measure(root: Path, onnx_path: Path | None, seconds: float) -> None:
    target = LocalTarget(root / "home")
    manifests = [model_manifest(name, str(root / name)) for name in MODELS]
    target.apply([*manifests, experiment_manifest(default=MODELS[0], weights={MODELS[0]: 70, MODELS[1]: 30})])
    ports = start(root / "home")
    endpoint = target.endpoint()
    session = open_session(root / MODELS[0] / "model.onnx")
    print(f"model: {onnx_path or 'small generated graph'}; one instrument (1 x 256 x 7) unless said otherwise")
    bars, many = random_bars(1), random_bars(BATCH)
    headers = {"x-request-id": "benchmark"}
    direct_name = endpoint.routes[MODELS[0]]
    rest = RestTransport(f"http://127.0.0.1:{ports.mlserver_http}", 20)
    raw = GrpcTransport(f"127.0.0.1:{ports.mlserver_grpc}", 20)
    with InferenceClient(endpoint) as client:
        print_latencies(
            {
                "onnxruntime, in process": lambda: session.run(None, {"bars": bars}),
                "MLServer direct, REST": lambda: rest.send(direct_name, bars, headers),
                "MLServer direct, gRPC": lambda: raw.send(direct_name, bars, headers),
                "gateway, REST": lambda: client.infer(EXPERIMENT_NAME, bars),
                "gateway, gRPC": lambda: client.infer_batch(EXPERIMENT_NAME, bars),
            },
            seconds,
        )
        print_latencies(
            {
                f"onnxruntime, {BATCH} instruments": lambda: session.run(None, {"bars": many}),
                f"MLServer direct, gRPC, {BATCH} instruments": lambda: raw.send(direct_name, many, headers),
                f"gateway, gRPC, {BATCH} instruments": lambda: client.infer_batch(EXPERIMENT_NAME, many),
            },
            seconds / 2,
        )
    rest.close()
    raw.close()
    print_throughput(endpoint, f"http://127.0.0.1:{ports.mlserver_http}", direct_name, bars, seconds)


def print_latencies(ways: dict[str, Ask], seconds: float) -> None:
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for ask in ways.values():
        ask()
    end = time.perf_counter() + seconds * len(ways)
    while time.perf_counter() < end:
        for name, ask in ways.items():
            until = time.perf_counter() + seconds / ROUNDS
            while time.perf_counter() < until:
                began = time.perf_counter()
                ask()
                taken[name].append(time.perf_counter() - began)
    print(f"\n{'milliseconds, one client':44}{'requests':>9}{'p50':>9}{'p95':>9}{'p99':>9}")
    for name, values in taken.items():
        p50, p95, p99 = np.percentile(values, [50, 95, 99]) * 1e3
        print(f"{name:44}{len(values):9}{p50:9.2f}{p95:9.2f}{p99:9.2f}")


def print_throughput(endpoint: Endpoint, server_url: str, direct_name: str, bars: np.ndarray, seconds: float) -> None:
    def through_gateway() -> tuple[Ask, Ask]:
        client = InferenceClient(endpoint)
        return lambda: client.infer(EXPERIMENT_NAME, bars), client.close

    def direct() -> tuple[Ask, Ask]:
        transport = RestTransport(server_url, 20)
        return lambda: transport.send(direct_name, bars, {"x-request-id": "benchmark"}), transport.close

    print(f"\n{f'{CLIENTS} closed-loop clients (threads), REST':44}{'requests/s':>18}{'p50 ms':>9}{'p99 ms':>9}")
    for name, connect in {"MLServer direct": direct, "gateway": through_gateway}.items():
        taken: list[float] = []
        until = time.perf_counter() + seconds

        def work(
            connect: Callable[[], tuple[Ask, Ask]] = connect, taken: list[float] = taken, until: float = until
        ) -> None:
            ask, close = connect()
            while time.perf_counter() < until:
                began = time.perf_counter()
                ask()
                taken.append(time.perf_counter() - began)
            close()

        threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        p50, p99 = np.percentile(taken, [50, 99]) * 1e3
        print(f"{name:44}{len(taken) / seconds:18.0f}{p50:9.2f}{p99:9.2f}")


def open_session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def random_bars(rows: int) -> np.ndarray:
    """Seeded geometric random walks with plausible volumes."""
    generator = np.random.default_rng(7)
    close = 100 * np.exp(np.cumsum(generator.normal(0, 0.01, (rows, 256)), axis=1))
    spread = 1 + np.abs(generator.normal(0, 0.005, (rows, 256)))
    volume = generator.lognormal(14, 0.5, (rows, 256))
    day = np.broadcast_to(np.arange(12000, 12256), (rows, 256))
    market = np.broadcast_to(close.mean(axis=0), (rows, 256))
    return np.stack([close, close * spread, close / spread, close, volume, market, day], axis=-1).astype(np.float32)


def small_graph() -> bytes:
    """Log returns of the close, one linear layer, sigmoid; and five scaled quantiles."""
    generator = np.random.default_rng(11)
    constants = {
        "start": np.array([3], np.int64),
        "stop": np.array([4], np.int64),
        "channel": np.array([2], np.int64),
        "weights": generator.normal(0, 0.01, (256, 6)).astype(np.float32),
        "split": np.array([1, 5], np.int64),
    }
    nodes = [
        helper.make_node("Slice", ["bars", "start", "stop", "channel"], ["close"]),
        helper.make_node("Squeeze", ["close", "channel"], ["series"]),
        helper.make_node("Log", ["series"], ["logs"]),
        helper.make_node("MatMul", ["logs", "weights"], ["scores"]),
        helper.make_node("Split", ["scores", "split"], ["logit", "return_quantiles"], axis=1),
        helper.make_node("Sigmoid", ["logit"], ["probability_up"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "small",
        [value("bars", TensorProto.FLOAT, ["batch", 256, 7])],
        [
            value("probability_up", TensorProto.FLOAT, ["batch", 1]),
            value("return_quantiles", TensorProto.FLOAT, ["batch", 5]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


if __name__ == "__main__":
    sys.exit(main())
