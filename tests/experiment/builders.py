"""Small doubles: a random-walk panel and a gateway that routes by hash, remembers, and fails on demand."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd

from financial_assets.errors import GatewayUnavailableError
from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.replay.counts import ReplayReport
from financial_assets.experiment.replay.replay import replay
from financial_assets.experiment.replay.request import ReplayHooks, ReplayRequest
from financial_assets.market import calendar
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.serving.client.answers import Answer
from financial_assets.serving.client.inference import Connect, InferenceClient

CUTOFF = pd.Timestamp("2010-01-29")
LOOKBACK = 8
CHAMPION, CHALLENGER, SHADOW = "baseline-predictor-v1", "enhanced-predictor-v2", "lightweight-predictor-v3"


def arms(champion: int = 70, challenger: int = 30, cutoff: pd.Timestamp = CUTOFF) -> tuple[Arm, ...]:
    return (
        Arm(CHAMPION, "baseline", 1, "champion", champion, cutoff),
        Arm(CHALLENGER, "enhanced", 2, "challenger", challenger, cutoff),
        Arm(SHADOW, "lightweight", 3, "shadow", 0, cutoff),
    )


def panel(sessions: int, tickers: int, seed: int = 0, start: str = "2010-01-04") -> PricePanel:
    """Random walks, all listed from the start."""
    days = calendar.sessions(start, pd.Timestamp(start) + pd.Timedelta(days=sessions * 2))[:sessions]
    rng = np.random.default_rng(seed)
    common = 0.006 * rng.standard_normal((1, sessions))
    steps = common + 0.01 * rng.standard_normal((tickers, sessions))
    close = 100 * np.exp(np.cumsum(steps, axis=1))
    opening = close * np.exp(0.003 * rng.standard_normal(close.shape))
    values = np.empty((tickers, len(CHANNELS), sessions), dtype=np.float32)
    values[:, CHANNELS.index("open")] = opening
    values[:, CHANNELS.index("close")] = close
    values[:, CHANNELS.index("high")] = np.maximum(opening, close) * 1.001
    values[:, CHANNELS.index("low")] = np.minimum(opening, close) * 0.999
    values[:, CHANNELS.index("volume")] = 1e6
    values[:, CHANNELS.index("market")] = 100 * np.exp(np.cumsum(common))
    values[:, CHANNELS.index("day")] = days.to_numpy().astype("datetime64[D]").astype(np.int64)
    names = tuple(f"T{i:02d}" for i in range(tickers))
    return PricePanel(names, days, values, np.ones((tickers, sessions), dtype=bool))


def play(
    log: PredictionLog,
    epoch: WeightEpoch,
    prices: PricePanel,
    sessions: Sequence[pd.Timestamp] | pd.DatetimeIndex,
    connect: Connect,
    **options: Any,
) -> ReplayReport:
    """A silent replay; ``options`` are fields of the request and of the hooks."""
    hooks = {field.name: options.pop(field.name) for field in fields(ReplayHooks) if field.name in options}
    request = ReplayRequest(epoch, pd.DatetimeIndex(sessions), **{"lookback": LOOKBACK, **options})
    return replay(request, log, prices, connect, ReplayHooks(**hooks))


def said(
    probability: np.ndarray, quantiles: np.ndarray, route: str | None, latency_s: float = 0.001, **further: Any
) -> Answer:
    """What the client returns; of a model of an earlier version without ``further`` heads."""
    number = None if route is None else 1
    return Answer(probability, quantiles, route, number, route or "", latency_s, "request", **further)


def unit(text: str) -> float:
    """A number in [0, 1) that depends on the text only."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7]) / 2**56


@dataclass
class FakeGateway(InferenceClient):
    """Routes by a hash of the request id; ``before`` may raise what the real client would, ``down`` says who is.

    Models in ``earlier`` answer as those of an earlier version.
    """

    weights: dict[str, int] = field(default_factory=lambda: {CHAMPION: 70, CHALLENGER: 30})
    before: Callable[[str, np.ndarray, str | None], None] | None = None
    down: Callable[[str], str] = lambda _model: ""
    earlier: frozenset[str] = frozenset()
    asked_ready: list[str] = field(default_factory=list)
    pinned: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    batches: list[tuple[str, int]] = field(default_factory=list)
    bars: dict[str, np.ndarray] = field(default_factory=dict)
    opened: int = 0
    closed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def connect(self) -> Iterator[FakeGateway]:
        self.opened += 1
        try:
            yield self
        finally:
            self.closed += 1

    def check_ready(self, name: str) -> None:
        self.asked_ready.append(name)
        if why := self.down(name):
            raise GatewayUnavailableError(why, answered=False)

    def infer(
        self, target: str, bars: np.ndarray, *, route: str | None = None, request_id: str | None = None
    ) -> Answer:
        assert request_id is not None
        with self.lock:
            self.requests.append(request_id)
            if route is not None:
                self.pinned[request_id] = route
            self.bars[request_id] = bars
        if self.before is not None:
            self.before(target, bars, request_id)
        model = route.strip(":").rsplit("_", 1)[0] if route else self.draw(request_id)
        return answer(model, bars, earlier=model in self.earlier)

    def infer_batch(
        self, target: str, bars: np.ndarray, *, route: str | None = None, request_id: str | None = None
    ) -> Answer:
        with self.lock:
            self.batches.append((target, len(bars)))
        if self.before is not None:
            self.before(target, bars, None)
        return answer(target, bars, earlier=target in self.earlier)

    def draw(self, request_id: str) -> str:
        number = unit(request_id) * sum(self.weights.values())
        for model, weight in self.weights.items():
            number -= weight
            if number < 0:
                return model
        raise AssertionError("weights are positive")


def answer(model: str, bars: np.ndarray, *, earlier: bool = False) -> Answer:
    """A forecast that depends on the model and the bars only."""
    skew = unit(model) - 0.5
    probability = np.array([0.2 + 0.6 * unit(f"{model}{row.tobytes().hex()[-64:]}") for row in bars], dtype=np.float32)
    quantiles = np.array([-0.03, -0.02, 0.001 * skew, 0.02, 0.03], dtype=np.float32)
    levels = np.tile(quantiles, (len(bars), 1))
    further = {"return_quantiles_5d": np.float32(2) * levels, "excess_return": probability - np.float32(0.5)}
    return said(
        probability,
        levels,
        model,
        0.001 + 0.003 * unit(f"{model}{bars.tobytes().hex()[-32:]}") ** 4,
        **({} if earlier else further),
    )
