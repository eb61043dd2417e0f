"""Thousands of senseless requests beside valid ones: each refused as the client's fault, none at the others' expense.

``python benchmarks/malformed_requests.py [--requests 3000] [--seed 1] [--onnx model.onnx]`` starts a plane in a
temporary folder and sends seeded malformed requests over REST and gRPC in bursts; a process of its own sends valid
requests all the time. It prints the answers by kind and status, and the ratio of the valid requests' p99 during bursts
to that between them; it ends with 1 on an answer that is not a refusal, on one without a reason, or on a restart.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import numpy as np
from malformed.cases import Case, generate
from serving_latency import random_bars, small_graph

from financial_assets.serving.client.transport import RestTransport
from financial_assets.serving.local.control import stop
from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.manifests import EXPERIMENT_NAME, experiment_manifest, model_manifest
from financial_assets.serving.target import Endpoint

MODELS = ("first-predictor-v1", "second-predictor-v1")
BURST = 100
PAUSE_BETWEEN_VALID_S = 0.002
LONGEST_REFUSAL = 4096
WARM_UP = 50
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.FAILED_PRECONDITION,
}


@dataclass(frozen=True)
class Outcome:
    """How a request was answered: its status, and what is wrong with that answer, empty if nothing is."""

    status: str
    problem: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000, help="malformed requests to send")
    parser.add_argument("--seed", type=int, default=1, help="of the requests")
    parser.add_argument("--onnx", type=Path, help="artefact to serve (default: a small generated graph)")
    parser.add_argument("--valid", nargs=2, metavar=("URL", "MODEL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.valid:
        send_valid(*options.valid)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        content = options.onnx.read_bytes() if options.onnx else small_graph()
        for name in MODELS:
            (root / name).mkdir()
            (root / name / "model.onnx").write_bytes(content)
        try:
            return attack(root, options.requests, options.seed)
        finally:
            stop(root / "home")


def attack(root: Path, count: int, seed: int) -> int:
    target = LocalTarget(root / "home")
    manifests = [model_manifest(name, str(root / name)) for name in MODELS]
    target.apply([*manifests, experiment_manifest(default=MODELS[0], weights={MODELS[0]: 70, MODELS[1]: 30})])
    endpoint = target.endpoint()
    before = [(process.name, process.pid, process.restarts) for process in target.status().processes]
    cases = list(generate(seed, count, model=MODELS[1], experiment=EXPERIMENT_NAME))
    outcomes: list[tuple[Case, Outcome]] = []
    bursts: list[tuple[float, float]] = []
    with Sender(endpoint) as sender, valid_requests(endpoint) as latencies:
        time.sleep(1.0)
        for first in range(0, count, BURST):
            began = time.monotonic()
            outcomes += [(case, sender.send(case)) for case in cases[first : first + BURST]]
            ended = time.monotonic()
            bursts.append((began, ended))
            time.sleep(max(0.2, ended - began))  # as long without malformed requests as with them
    after = [(process.name, process.pid, process.restarts) for process in target.status().processes]
    ratio = print_report(outcomes, latencies, bursts)
    problems = [f"{case.kind}: {outcome.problem}" for case, outcome in outcomes if outcome.problem]
    if before != after:
        problems.append(f"restarted: {before} became {after}")
    if any(latency < 0 for _, latency in latencies):
        problems.append("a valid request was not answered")
    for problem in problems[:20]:
        print(problem)
    print(f"\n{len(problems)} problems; valid p99 beside malformed requests: {ratio:.2f} times the usual")
    return 1 if problems else 0


class Sender:
    """Sends cases over kept connections; use as a context manager."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._http = httpx.Client(base_url=endpoint.http_url, timeout=20, trust_env=False, verify=False)
        self._channel = grpc.insecure_channel(endpoint.grpc_target, options=[("grpc.enable_http_proxy", 0)])

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        self._channel.close()

    def send(self, case: Case) -> Outcome:
        """Send one case and judge the answer."""
        return self._over_grpc(case) if case.grpc_method else self._over_rest(case)

    def _over_rest(self, case: Case) -> Outcome:
        request = self._http.build_request(case.method, case.path, content=case.content, headers=dict(case.headers))
        try:
            answer = self._http.send(request)
        except httpx.TransportError as error:
            return Outcome("no answer", f"no answer: {error!r}")
        status = f"HTTP {answer.status_code}"
        if not 400 <= answer.status_code < 500:
            return Outcome(status, f"{status}: {answer.text[:200]}")
        try:
            reason = case.method == "HEAD" or str(json.loads(answer.content)["error"])
        except (ValueError, KeyError, TypeError):
            reason = ""
        return Outcome(
            status, "" if reason and len(answer.content) < 4096 else f"{status}: body {answer.content[:200]!r}"
        )

    def _over_grpc(self, case: Case) -> Outcome:
        call = self._channel.unary_unary(case.grpc_method, request_serializer=bytes, response_deserializer=bytes)
        try:
            call(case.content, metadata=case.headers, timeout=20)
        except grpc.RpcError as error:
            code, details = error.code(), error.details()  # pyright: ignore[reportAttributeAccessIssue] # a Call as well
            status = f"gRPC {code.name}"
            return Outcome(status, "" if code in REFUSALS and details else f"{status}: {details!r}")
        return Outcome("gRPC OK", "gRPC OK")


@contextlib.contextmanager
def valid_requests(endpoint: Endpoint) -> Generator[list[tuple[float, float]]]:
    """Valid requests from a process of its own; on leaving, when each was sent and how long it took (-1: failed)."""
    command = [sys.executable, __file__, "--valid", endpoint.http_url, MODELS[1]]
    found: list[tuple[float, float]] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it is under way
        yield found
        sent, _ = process.communicate("\n")
    found += [tuple(pair) for pair in json.loads(sent)]


def send_valid(url: str, model: str) -> None:
    """Send valid requests until a line comes on the standard input; print instants and latencies in seconds."""
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
    transport, bars = RestTransport(url, 20), random_bars(1)
    found: list[tuple[float, float]] = []
    while not ended.is_set():
        began = time.monotonic()
        try:
            transport.send(model, bars, {"x-request-id": "valid", "seldon-model": model})
            found.append((began, time.monotonic() - began))
        except Exception:
            found.append((began, -1.0))
        if len(found) == WARM_UP:
            print("under way", flush=True)
        time.sleep(PAUSE_BETWEEN_VALID_S)
    print(json.dumps(found[WARM_UP:]))


def print_report(
    outcomes: list[tuple[Case, Outcome]], latencies: list[tuple[float, float]], bursts: list[tuple[float, float]]
) -> float:
    """Print the counts and the latencies; returns the ratio of the valid requests' p99."""
    by_kind: dict[str, Counter[str]] = {}
    for case, outcome in outcomes:
        by_kind.setdefault(case.kind, Counter())[outcome.status] += 1
    for kind, counts in sorted(by_kind.items()):
        print(f"{kind:44}{', '.join(f'{status} x {n}' for status, n in counts.most_common())}")
    print("\nall:", dict(Counter(outcome.status for _, outcome in outcomes).most_common()))
    beside = [latency for at, latency in latencies if any(began <= at <= ended for began, ended in bursts)]
    usual = [latency for at, latency in latencies if not any(began <= at <= ended for began, ended in bursts)]
    print(f"\n{'valid requests, milliseconds':30}{'requests':>9}{'p50':>9}{'p99':>9}")
    for name, values in (("between the bursts", usual), ("beside malformed requests", beside)):
        p50, p99 = np.percentile(values, [50, 99]) * 1e3
        print(f"{name:30}{len(values):9}{p50:9.2f}{p99:9.2f}")
    return float(np.percentile(beside, 99) / np.percentile(usual, 99))


if __name__ == "__main__":
    sys.exit(main())
