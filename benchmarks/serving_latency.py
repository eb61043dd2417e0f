"""What each layer of the serving path adds, and what the same layer adds to a constant, in one run and one thread.

    python benchmarks/serving_latency.py [--onnx model.onnx --seconds 3 --batch 2000 --only rows]

starts a plane and its rivals in a temporary folder. The ways take turns after a few requests, so that a busy moment of
the machine hits all of them. A layer adds the difference of two ways. The tenth percentile of each counts, as other
work on the machine only ever adds; the medians and 99th percentiles stand beside it. Goals:

* what the gateway adds is at most 1.3 times what the same Envoy adds, with one route, before a server that answers a
  constant;
* what MLServer with our runtime adds to onnxruntime is at most 1.3 times what it adds to a runtime that answers a
  constant (the plane's MLServer; beside it MLServer as it comes);
* a row of a batch of 256 takes at most a twentieth of a single request through the gateway;
* ``--batch`` instruments in one gRPC call through the gateway take at most 1.5 times as long as onnxruntime alone, and
  at most a sixth of the same call with the graph written operation by operation, without ``models/onnx/lowering``.

A rival that answers a constant leaves the processor's caches as they are, while the served graph replaces their content
by its weights, and a layer before it pays for that. Rivals "+ graph" run the served graph on bars of their own before
they answer their constant, so that the difference of two ways is that of the code.

Where the system lets it (root on Linux), all processes run with real-time priority: each hand-over from one to the next
otherwise waits for whatever else the machine does, longest where most processes take part.

One request (1 x 256 x 7) is measured with a small generated graph, so that the figures are those of the road, and with
the served one, fresh from export unless ``--onnx`` names a file.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from serving.rivals import GRAPH, MODEL, Rivals, running_rivals

from financial_assets.serving.bar_rules import OUTPUTS
from financial_assets.serving.client.transport import GrpcTransport, RestTransport
from financial_assets.serving.local.control import start, stop
from financial_assets.serving.local.layout import Ports
from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.manifests import experiment_manifest, model_manifest
from financial_assets.serving.runtime import CHUNK_ROWS

Ask = Callable[[], object]
MODELS = ("first-predictor-v1", "second-predictor-v1")  # of the experiment in other benchmarks of the plane
SMALL, SERVED, EARLIER = "small-predictor-v1", "served-predictor-v1", "earlier-predictor-v1"
DEADLINE_S = 120.0
LEAST = 10  # requests of each way
RESAMPLES = 400
ROWS = 256  # of the smaller batch
PARTS = ("requests", "rows", "batch")  # one request by each way; a row of a batch; ``--batch`` instruments
PRIORITY = 10  # any: it is above all work without one


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnx", type=Path, help="artefact to serve (default: fresh weights, exported now)")
    parser.add_argument("--seconds", type=float, default=3.0, help="measuring time of each way")
    parser.add_argument("--batch", type=int, default=2000, help="instruments in the large call")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="parts to measure (default: all)")
    options = parser.parse_args()
    claim_processor()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        contents = {SMALL: small_graph(), **exported(root, options.onnx)}
        for name, content in contents.items():
            (root / name).mkdir()
            (root / name / "model.onnx").write_bytes(content)
        try:
            measure(root, tuple(contents), options)
        finally:
            stop(root / "home")
    return 0


def claim_processor() -> None:
    """Real-time priority for this process and all that it starts, where the system grants it."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))
    except (AttributeError, PermissionError):
        print("no real-time priority here: what else the machine does is measured, too")


def exported(root: Path, path: Path | None) -> dict[str, bytes]:
    """The served graph, and the same one written operation by operation."""
    from onnx_export import export_onnx, fresh_predictor, operation_by_operation  # imports torch

    predictor = fresh_predictor("baseline", 1)
    export_onnx(predictor, root / "served.onnx")
    operation_by_operation(predictor, root / "earlier.onnx")
    return {SERVED: (path or root / "served.onnx").read_bytes(), EARLIER: (root / "earlier.onnx").read_bytes()}


def measure(root: Path, names: tuple[str, ...], options: argparse.Namespace) -> None:
    target = LocalTarget(root / "home")
    split = experiment_manifest(default=SMALL, weights={SMALL: 100, SERVED: 0})
    target.apply([*(model_manifest(name, str(root / name)) for name in names), split])
    ports, routes = start(root / "home"), target.endpoint().routes
    if "requests" in options.only:
        envoy = next(process.pid for process in target.status().processes if process.name == "envoy")
        assert envoy is not None
        with running_rivals(root, root / SERVED / "model.onnx") as rivals:
            measure_requests(root, ports, routes, envoy, rivals, options)
    session = open_session(root / SERVED / "model.onnx")
    if "rows" in options.only:
        rows = {count: random_bars(count) for count in (1, ROWS)}
        print_rows(
            {
                "onnxruntime": {count: partial(session.run, None, {"bars": bars}) for count, bars in rows.items()},
                **{
                    f"{protocol}, gateway": {
                        count: way(ports.gateway, SERVED, bars, SERVED) for count, bars in rows.items()
                    }
                    for protocol, way in (("REST", rest), ("gRPC", grpc))
                },
            },
            options.seconds,
        )
    if "batch" in options.only:
        many = random_bars(options.batch)
        print_batch(
            {
                "onnxruntime": partial(session.run, None, {"bars": many}),
                f"onnxruntime, {CHUNK_ROWS} at a time": lambda: [
                    session.run(None, {"bars": many[first : first + CHUNK_ROWS]})
                    for first in range(0, len(many), CHUNK_ROWS)
                ],
                "MLServer": grpc(ports.mlserver_grpc, routes[SERVED], many),
                "gateway": grpc(ports.gateway, SERVED, many, SERVED),
                "gateway, earlier graph": grpc(ports.gateway, EARLIER, many, EARLIER),
            },
            options,
        )


def measure_requests(
    root: Path, ports: Ports, routes: Mapping[str, str], envoy: int, rivals: Rivals, options: argparse.Namespace
) -> None:
    """One request by each way, with the small graph and with the served one."""
    bars = random_bars(1)
    for title, direct in (("small generated graph", SMALL), (str(options.onnx or "the served graph"), SERVED)):
        session, route = open_session(root / direct / "model.onnx"), routes[direct]
        ways: dict[str, Ask] = {"onnxruntime": partial(session.run, None, {"bars": bars})}
        for protocol, way, port in (("REST", rest, "http"), ("gRPC", grpc, "grpc")):
            ways |= {
                f"{protocol}, constant server": way(getattr(rivals.server, port), MODEL, bars),
                f"{protocol}, plain Envoy, constant server": way(getattr(rivals.envoy, port), MODEL, bars),
                f"{protocol}, stock MLServer, constant runtime": way(getattr(rivals.stock, port), MODEL, bars),
                f"{protocol}, our MLServer, constant runtime": way(getattr(rivals.runtime, port), MODEL, bars),
                f"{protocol}, MLServer": way(getattr(ports, f"mlserver_{port}"), route, bars),
                f"{protocol}, gateway": way(ports.gateway, direct, bars, direct),
            }
            if direct == SERVED:
                ways |= {
                    f"{protocol}, constant server + graph": way(getattr(rivals.server, port), GRAPH, bars),
                    f"{protocol}, plain Envoy, constant server + graph": way(getattr(rivals.envoy, port), GRAPH, bars),
                    f"{protocol}, our MLServer, constant runtime + graph": way(
                        getattr(rivals.runtime, port), GRAPH, bars
                    ),
                }
        taken = take_turns(ways, options.seconds)
        print_table(f"one request, {title}", taken)
        for protocol in ("REST", "gRPC"):
            print_added(taken, protocol)
            gateway, plain = (ways[f"{protocol}, {name}"] for name in ("gateway", "plain Envoy, constant server"))
            ratio = processor_ratio((gateway, envoy), (plain, rivals.envoy_pid), options.seconds)
            print(f"{protocol}: the gateway's Envoy needs {ratio:.2f} times the processor time of the plain one")


def rest(port: int, name: str, bars: np.ndarray, model: str = "") -> Ask:
    """Requests to one address over REST; through the gateway if they name a model."""
    transport = RestTransport(f"http://127.0.0.1:{port}", DEADLINE_S)
    return lambda: transport.send(name, bars, _headers(model))


def grpc(port: int, name: str, bars: np.ndarray, model: str = "") -> Ask:
    """The same over gRPC."""
    transport = GrpcTransport(f"127.0.0.1:{port}", DEADLINE_S)
    return lambda: transport.send(name, bars, _headers(model))


def _headers(model: str) -> dict[str, str]:
    return {"x-request-id": "benchmark", **({"seldon-model": model} if model else {})}


def take_turns(ways: dict[str, Ask], seconds: float, in_a_row: int = 6) -> dict[str, np.ndarray]:
    """Seconds of each request by way.

    Each turn asks a way a few times in a row. The first ones are left out: they find caches that the ways before have
    filled, which is another way's doing.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    cold = in_a_row // 3
    end, turn = time.perf_counter() + seconds * len(ways), 0
    while time.perf_counter() < end or turn < LEAST:
        for name, ask in ways.items():
            for number in range(in_a_row):
                began = time.perf_counter()
                ask()
                if number >= cold and turn:  # the first turn connects
                    taken[name].append(time.perf_counter() - began)
        turn += 1
    return {name: np.array(values) for name, values in taken.items()}


def processor_ratio(one: tuple[Ask, int], other: tuple[Ask, int], seconds: float) -> float:
    """Processor time that process ``one`` needs per request, in multiples of what ``other`` needs for its own.

    Unlike the time on the clock it hardly depends on what else the machine does.
    """
    needed: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(needed[0]) < LEAST:
        for (ask, pid), found in zip((one, other), needed, strict=True):
            before = processor_time(pid)
            for _ in range(8):
                ask()
            found.append(processor_time(pid) - before)
    return quick(np.array(needed[0])) / quick(np.array(needed[1]))


def processor_time(pid: int) -> float:
    """Nanoseconds of all threads of a process, by Linux's scheduler."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return float(sum(int((task / "schedstat").read_text().split()[0]) for task in tasks))


def quick(values: np.ndarray) -> float:
    """The time of a request that nothing else disturbed."""
    return float(np.percentile(values, 10))


def print_table(title: str, taken: dict[str, np.ndarray]) -> None:
    print(f"\n{f'{title}; milliseconds':50}{'requests':>9}{'p10':>9}{'p50':>9}{'p99':>9}")
    for name, values in taken.items():
        p10, p50, p99 = np.percentile(values, [10, 50, 99]) * 1e3
        print(f"{name:50}{len(values):9}{p10:9.3f}{p50:9.3f}{p99:9.3f}")


def print_added(taken: dict[str, np.ndarray], protocol: str) -> None:
    """What a layer adds, as a multiple of what the same layer adds to a constant."""
    bare = taken["onnxruntime"]

    def part(name: str) -> np.ndarray:
        return taken[f"{protocol}, {name}"]

    for kind in ("", " + graph"):
        server, runtime = f"constant server{kind}", f"our MLServer, constant runtime{kind}"
        if f"{protocol}, {server}" not in taken:
            continue
        added = ratio_of_differences(
            (part("gateway"), part("MLServer")), (part(f"plain Envoy, {server}"), part(server))
        )
        print(f"{protocol}: the gateway adds {shown(added)} times what a plain Envoy adds to a {server}")
        before = bare if kind else np.zeros(1)
        added = ratio_of_differences((part("MLServer"), bare), (part(runtime), before))
        print(f"{protocol}: MLServer with our runtime adds {shown(added)} times what {runtime} adds")
    added = ratio_of_differences((part("MLServer"), bare), (part("stock MLServer, constant runtime"), np.zeros(1)))
    print(f"{protocol}: MLServer with our runtime adds {shown(added)} times what stock MLServer adds to a constant")


def shown(ratio: tuple[float, float, float]) -> str:
    return "{:.2f} ({:.2f} to {:.2f})".format(*ratio)


def ratio_of_differences(
    ours: tuple[np.ndarray, np.ndarray], rivals: tuple[np.ndarray, np.ndarray]
) -> tuple[float, float, float]:
    """(after - before) / (rival's after - before) of the quick requests, with a 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    series = (*ours, *rivals)

    def ratio(after: np.ndarray, before: np.ndarray, rival_after: np.ndarray, rival_before: np.ndarray) -> float:
        return (quick(after) - quick(before)) / (quick(rival_after) - quick(rival_before))

    drawn = [ratio(*(rng.choice(values, len(values)) for values in series)) for _ in range(RESAMPLES)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return ratio(*series), float(low), float(high)


def print_rows(ways: dict[str, dict[int, Ask]], seconds: float) -> None:
    """What a row of a batch costs, as a part of a single request the same way."""
    named = {f"{way}, {count} rows": ask for way, asks in ways.items() for count, ask in asks.items()}
    taken = take_turns(named, seconds)
    print_table("single requests and batches, the served graph", taken)
    for way in ways:
        single, batch = (quick(taken[f"{way}, {count} rows"]) for count in (1, ROWS))
        print(f"{way}: a row of a batch of {ROWS} takes 1/{single * ROWS / batch:.1f} of a single request")


def print_batch(ways: dict[str, Ask], options: argparse.Namespace) -> None:
    taken = take_turns(ways, options.seconds, in_a_row=1)
    print_table(f"{options.batch} instruments, gRPC", taken)
    gateway = quick(taken["gateway"])
    for name in ("onnxruntime", f"onnxruntime, {CHUNK_ROWS} at a time", "gateway, earlier graph"):
        print(f"gateway, against {name}: {gateway / quick(taken[name]):.2f} times as long")


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
    """Logarithms of the close and one linear layer: a sigmoid, five quantiles twice, and a score."""
    generator = np.random.default_rng(11)
    constants = {
        "start": np.array([3], np.int64),
        "stop": np.array([4], np.int64),
        "channel": np.array([2], np.int64),
        "weights": generator.normal(0, 0.01, (256, 12)).astype(np.float32),
        "split": np.array([1, 5, 5, 1], np.int64),
    }
    nodes = [
        helper.make_node("Slice", ["bars", "start", "stop", "channel"], ["close"]),
        helper.make_node("Squeeze", ["close", "channel"], ["series"]),
        helper.make_node("Log", ["series"], ["logs"]),
        helper.make_node("MatMul", ["logs", "weights"], ["scores"]),
        helper.make_node("Split", ["scores", "split"], ["logit", *OUTPUTS[1:]], axis=1),
        helper.make_node("Sigmoid", ["logit"], ["probability_up"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "small",
        [value("bars", TensorProto.FLOAT, ["batch", 256, 7])],
        [value(name, TensorProto.FLOAT, ["batch", width]) for name, width in zip(OUTPUTS, (1, 5, 5, 1), strict=True)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


if __name__ == "__main__":
    sys.exit(main())
