"""The served graph as ``models/onnx`` writes it, beside other ways, each also passed through two optimisers.

The others are torch's exporters, and our own writer without ``models/onnx/lowering``: a node per operation of torch.

    python benchmarks/onnx_export.py [--variant baseline --rows 256 --every 1 --exporters dynamo legacy]

Nodes and size of the file, time to export and to load it, latency of one row and of a batch, and the largest
difference of the outputs from eager torch on real windows. Latencies are the least CPU time of many runs, in turns of a
few of each file, as ratios to ours: onnxruntime with one thread and its own graph optimisation on. Whatever else a
machine does only adds to a time. A batch is run as the served runtime runs it, ``CHUNK_ROWS`` at a time. A failed
export, or an optimiser that breaks the graph, is named. The last lines give nodes, one answer from bars as a multiple
of the network alone, what a row of a batch takes of that, the largest differences, and what bounds the row of a batch:
it cannot take less than its products and its recurrence, while a single answer is mostly the overhead of nodes, of
which lowering has left few. ``--every 4`` takes each fourth feature of the catalogue, which needs a quarter of the
time.
``onnx_parity.py`` compares many more windows.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxoptimizer
import onnxruntime as ort
import onnxslim
import torch
from onnx_kernels import COPYING, PRODUCTS, RECURRENCE, kernel_shares
from torch import nn

from financial_assets.features.catalogue import CATALOGUE
from financial_assets.features.graph import FeatureGraph
from financial_assets.market.panel import build_panel
from financial_assets.market.sources.sample import SamplePrices
from financial_assets.models.calibration import Calibration
from financial_assets.models.networks.build import build_network
from financial_assets.models.onnx.export import (
    INPUT_NAME,
    OPSET,
    OUTPUT_NAMES,
    OUTPUT_WIDTHS,
    export_onnx,
    onnx_session,
    run_onnx,
)
from financial_assets.models.onnx.lowering.features import AnswerOfFeatures
from financial_assets.models.onnx.tracing import trace
from financial_assets.models.onnx.writer import write_onnx
from financial_assets.models.predictor import SERVED_LOOKBACK, Predictor
from financial_assets.models.request_shape import CHANNEL_COUNT
from financial_assets.models.scaling import RobustScaler
from financial_assets.models.variants import VARIANTS
from financial_assets.models.volatility import HarVolatility
from financial_assets.serving.runtime import CHUNK_ROWS

NETWORK = "the network alone"
OURS, NOT_LOWERED = "ours", "ours, not lowered"
WIDTHS = (7, 7, 8, 7, 7, 7, 13, 11, 11, 9)

Write = Callable[[Predictor, Path], object]


@dataclass(frozen=True)
class Measured:
    """One file; times in seconds, differences from torch absolute."""

    name: str
    session: ort.InferenceSession
    nodes: int
    size: int
    export: float
    load: float
    probability: float
    quantiles: float
    quantiles_5d: float
    score: float


def fresh_predictor(variant: str, every: int) -> Predictor:
    """The served model with weights as they are drawn: exporters do not care whether it was trained."""
    graph = FeatureGraph(CATALOGUE[::every])
    torch.manual_seed(0)
    network = build_network(VARIANTS[variant], len(graph.names))
    scaler = RobustScaler(torch.zeros(len(graph.names)), torch.ones(len(graph.names)))
    return (
        Predictor(graph, scaler, network, Calibration(), HarVolatility.random_walk(), 10).eval().requires_grad_(False)
    )


class Whole(nn.Module):
    """The predictor one level down: torch's exporter confuses a part called ``graph`` with its own graph."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.predictor = predictor

    def forward(self, bars: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The predictor's outputs."""
        return tuple(self.predictor(bars))


def with_torch(dynamo: bool) -> Write:
    def write(predictor: Predictor, path: Path) -> None:
        bars = torch.full((2, SERVED_LOOKBACK, 7), 100.0)
        dimension = torch.export.Dim("batch", min=1, max=65536)
        axes: dict[str, Any] = {"dynamic_shapes": ({0: dimension},)}
        if not dynamo:
            axes = {"dynamic_axes": {name: {0: "batch"} for name in (INPUT_NAME, *OUTPUT_NAMES)}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                Whole(predictor).eval(),
                (bars,),
                path,
                dynamo=dynamo,
                opset_version=OPSET,
                input_names=[INPUT_NAME],
                output_names=list(OUTPUT_NAMES),
                external_data=False,
                verbose=False,
                **axes,
            )

    return write


def operation_by_operation(predictor: Predictor, path: Path) -> None:
    model = write_onnx(
        trace(predictor, lambda batch: torch.full((batch, SERVED_LOOKBACK, CHANNEL_COUNT), 100.0)),
        source=(INPUT_NAME, ("batch", SERVED_LOOKBACK, CHANNEL_COUNT)),
        outputs={name: ("batch", size) for name, size in OUTPUT_WIDTHS.items()},
        opset=OPSET,
    )
    onnx.save(model, path)


def network_alone(predictor: Predictor, path: Path, rows: int) -> Callable[[], object]:
    """Answers from features that are there already."""
    answer = AnswerOfFeatures(predictor).eval()
    model = write_onnx(
        trace(answer, lambda batch: torch.ones((batch, *answer.shape))),
        source=(INPUT_NAME, ("batch", *answer.shape)),
        outputs={name: ("batch", size) for name, size in OUTPUT_WIDTHS.items()},
        opset=OPSET,
    )
    onnx.save(model, path)
    return partial(run_in_chunks, onnx_session(path), np.zeros((rows, *answer.shape), dtype=np.float32))


def run_in_chunks(session: ort.InferenceSession, values: np.ndarray) -> None:
    """Answer as the served runtime does."""
    for start in range(0, len(values), CHUNK_ROWS):
        run_onnx(session, values[start : start + CHUNK_ROWS])


def shortened(error: Exception) -> str:
    """The innermost cause in one line."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return " ".join(str(error).split())[:200]


def slimmed(source: Path, path: Path) -> None:
    slimmer: Any = onnxslim.slim(onnx.load(source))
    onnx.save(slimmer, path)


def optimised(source: Path, path: Path) -> None:
    onnx.save(onnxoptimizer.optimize(onnx.load(source), onnxoptimizer.get_fuse_and_elimination_passes()), path)


def least_times(works: Mapping[str, Callable[[], object]], rounds: int, repeat: int) -> dict[str, float]:
    """Least CPU seconds of each: ``rounds`` times ``repeat`` runs of one after the other, and a first round."""
    least = dict.fromkeys(works, math.inf)
    for turn in range(rounds + 1):
        for name, work in works.items():
            for _ in range(repeat):
                started = time.process_time()
                work()
                if turn:
                    least[name] = min(least[name], time.process_time() - started)
    return least


def measure(name: str, path: Path, exported_in: float, bars: np.ndarray, expected: list[np.ndarray]) -> Measured:
    """A file but for its latencies, which are measured of all files in turns."""
    model = onnx.load(path)
    started = time.process_time()
    session = onnx_session(path)
    loaded_in = time.process_time() - started
    answers = run_onnx(session, bars)
    differences = [float(np.abs(np.asarray(a) - e).max()) for a, e in zip(answers, expected, strict=True)]
    return Measured(name, session, len(model.graph.node), path.stat().st_size, exported_in, loaded_in, *differences)


def report(rows: list[Measured], one_row: Mapping[str, float], batch: Mapping[str, float]) -> None:
    ours = rows[0]
    names = ("nodes", "KiB", "export", "load", "row", "batch", "probability", "quantiles", "of 5 days", "score")
    heads = zip(names, WIDTHS, strict=True)
    print(" " * 30 + "".join(f"{head:>{width}}" for head, width in heads))
    for row in rows:
        latencies = (times[row.name] / times[ours.name] for times in (one_row, batch))
        ratios = (row.export / ours.export, row.load / ours.load, *latencies)
        print(
            f"{row.name:<30}{row.nodes:>7}{row.size / 1024:>7.0f}{ratios[0]:>8.1f}"
            + "".join(f"{ratio:>7.2f}" for ratio in ratios[1:])
            + f"{row.probability:>13.1e}{row.quantiles:>11.1e}{row.quantiles_5d:>11.1e}{row.score:>9.1e}"
        )
    print("export (or the optimiser's pass), load, row, batch: ratio to ours; the rest: largest difference from torch")


def conclude(ours: Measured, one_row: Mapping[str, float], row_of_batch: Mapping[str, float], rows: int) -> None:
    """The line of the goals."""
    single = one_row[ours.name]
    print(
        f"ours: {ours.nodes} nodes; one row {single / one_row[NETWORK]:.1f} times the network alone; a row of a batch "
        f"of {rows} 1/{single / row_of_batch[ours.name]:.1f} of a single one; largest difference from torch "
        f"{ours.probability:.1e} in probability, {max(ours.quantiles, ours.quantiles_5d):.1e} in quantiles, "
        f"{ours.score:.1e} in the score"
    )


def print_bounds(one_row: Mapping[str, float], row_of_batch: Mapping[str, float], shares: Mapping[str, float]) -> None:
    """What a row of a batch would take of a single one if parts of it were free, and of an earlier single one."""
    print("a row of the batch: " + ", ".join(f"{100 * share:.0f} % {kind}" for kind, share in shares.items()))
    single, ours = one_row[OURS], row_of_batch[OURS]
    left = {
        "if nothing were copied": 1 - shares[COPYING],
        "if only products and the recurrence counted": shares[PRODUCTS] + shares[RECURRENCE],
    }
    parts = [f"{what} 1/{single / (share * ours):.0f} of a single one" for what, share in left.items()]
    parts.append(f"the network's own row 1/{single / row_of_batch[NETWORK]:.0f}")
    if NOT_LOWERED in one_row:
        parts.append(f"as it is 1/{one_row[NOT_LOWERED] / ours:.0f} of a single one that is not lowered")
    print("; ".join(parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="baseline", choices=VARIANTS)
    parser.add_argument("--rows", type=int, default=256, help="windows in a batch")
    parser.add_argument("--every", type=int, default=1, help="take each n-th feature of the catalogue only: quicker")
    parser.add_argument("--exporters", nargs="*", default=["dynamo", "legacy"], choices=["dynamo", "legacy"])
    arguments = parser.parse_args()
    ort.set_default_logger_severity(3)
    torch.set_num_threads(1)
    panel = build_panel(SamplePrices().fetch(("AAPL", "IBM", "MSFT")).prices)
    last = range(len(panel.sessions) - arguments.rows // 3 - 1, len(panel.sessions))
    bars = np.concatenate([panel.windows(panel.sessions[at], SERVED_LOOKBACK)[1] for at in last])[: arguments.rows]
    predictor = fresh_predictor(arguments.variant, arguments.every)
    with torch.no_grad():
        expected = [answer.numpy() for answer in predictor(torch.from_numpy(bars))]
    writers: dict[str, Write] = {OURS: export_onnx, NOT_LOWERED: operation_by_operation}
    writers |= {f"torch {name}": with_torch(name == "dynamo") for name in arguments.exporters}
    rows: list[Measured] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, write in writers.items():
            path = Path(folder) / f"{name}.onnx"
            steps: dict[str, Callable[[], object]] = {
                name: partial(write, predictor, path),
                f"{name}, onnxslim": partial(slimmed, path, path.with_suffix(".slim")),
                f"{name}, onnxoptimizer": partial(optimised, path, path.with_suffix(".optimised")),
            }
            for (step, work), suffix in zip(steps.items(), (".onnx", ".slim", ".optimised"), strict=True):
                started = time.process_time()
                try:
                    work()
                    took = time.process_time() - started
                    rows.append(measure(step, path.with_suffix(suffix), took, bars, expected))
                except Exception as error:  # whatever a rival fails with is a result
                    print(f"{step}: {type(error).__name__}: {shortened(error)}")
        network = Path(folder) / "network.onnx"
        one_row, batch = (
            least_times(
                {row.name: partial(run_in_chunks, row.session, bars[:count]) for row in rows}
                | {NETWORK: network_alone(predictor, network, count)},
                rounds,
                repeat,
            )
            for count, rounds, repeat in ((1, 60, 10), (len(bars), 12, 1))
        )
        shares = kernel_shares(Path(folder) / f"{OURS}.onnx", bars[:CHUNK_ROWS])
    report(rows, one_row, batch)
    row_of_batch = {name: taken / len(bars) for name, taken in batch.items()}
    conclude(rows[0], one_row, row_of_batch, len(bars))
    print_bounds(one_row, row_of_batch, shares)


if __name__ == "__main__":
    main()
