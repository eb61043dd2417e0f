"""Where onnxruntime's time goes: the shares of copying, products, recurrence and other arithmetic in a run."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnxruntime as ort

from financial_assets.models.onnx.export import run_onnx

COPYING, PRODUCTS, RECURRENCE, OTHER = "copying", "products", "recurrence", "other arithmetic"
_KINDS = {
    COPYING: ("Concat", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
    PRODUCTS: ("FusedGemm", "FusedMatMul", "Gemm", "MatMul"),
    RECURRENCE: ("GRU", "LSTM"),
}
_KIND_OF = {operation: kind for kind, operations in _KINDS.items() for operation in operations}
_RUNS, _UNDISTURBED = 30, 20


def kernel_shares(path: Path, bars: np.ndarray) -> dict[str, float]:
    """Share of each kind of node in the time of all kernels, as onnxruntime's profiler counts it in one thread.

    Of a node's runs a low percentile counts, because whatever else the machine does only adds.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        session = ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        for _ in range(_RUNS):
            run_onnx(session, bars)
        events = json.loads(Path(session.end_profiling()).read_text())
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            taken[event["args"]["op_name"], event["name"]].append(event["dur"])
    sums: dict[str, float] = dict.fromkeys((COPYING, PRODUCTS, RECURRENCE, OTHER), 0.0)
    for (operation, _), times in taken.items():
        sums[_KIND_OF.get(operation, OTHER)] += float(np.percentile(times, _UNDISTURBED))
    return {kind: total / sum(sums.values()) for kind, total in sums.items()}
