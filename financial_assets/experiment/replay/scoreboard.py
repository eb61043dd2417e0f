"""What is known while a replay runs: traffic per arm, latency, accuracy on the same bars, the last decision."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.decision.words import first_reason
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.prediction_log.records import Result
from financial_assets.experiment.replay.open_loop import percentiles
from financial_assets.market.outcomes import next_session_return
from financial_assets.market.panel import PricePanel
from financial_assets.scoring.classification import hits
from financial_assets.scoring.intervals import Interval, day_clustered_mean, day_clustered_proportion

PAIR_COLUMNS = ("session", "ticker", "model", "status", "probability_up")
"""Columns of paired predictions that the scoreboard reads."""

_RECENT = 10_000  # latencies kept per arm


@dataclass(frozen=True, slots=True)
class ArmLine:
    """One arm in the live view.

    Attributes
    ----------
    model, role
        Served name and current role.
    weight, share
        Planned share of the routed requests in this weight epoch, by their regimes, and the observed one (``None``
        without requests).
    requests, failed
        Requests attributed to the arm in this epoch.
    latency
        ``p50`` ... in seconds from sending; empty without answers.
    accuracy
        Share of right directions where all routed arms were scored, with its day-clustered interval.
    """

    model: str
    role: str
    weight: float
    share: float | None
    requests: int
    failed: int
    latency: dict[str, float]
    accuracy: Interval | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the live view shows at one instant.

    ``differences`` are each challenger's accuracy minus the champion's, on all rows that these two have. ``waiting``
    names what the replay waits for, if anything.
    """

    session: pd.Timestamp | None
    done: int
    total: int
    epoch: int
    requests: int
    failed: int
    unattributed: int
    arms: tuple[ArmLine, ...]
    differences: dict[str, Interval]
    verdict: str
    waiting: str = ""


@dataclass
class _ArmCounts:
    requests: int = 0
    failed: int = 0
    expected: float = 0.0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))


class Scoreboard:
    """Collects what a replay learns; safe to read from the thread that draws.

    Parameters
    ----------
    epoch
        Current weight epoch.
    panel
        Prices; an outcome counts only once the replay has reached its session.
    total
        Sessions that the replay works through.
    """

    def __init__(self, epoch: WeightEpoch, panel: PricePanel, total: int) -> None:
        self._panel, self.total = panel, total
        returns = next_session_return(panel)
        self._has_outcome, self._up = np.isfinite(returns), returns > 0
        self._rows = {ticker: row for row, ticker in enumerate(panel.tickers)}
        # Model -> float32 [ticker, session]: 1 hit, 0 miss, NaN where not scored or the outcome is not in the panel.
        self._hits: dict[str, np.ndarray] = {}
        self._lock = threading.Lock()
        self.session: pd.Timestamp | None = None
        self.done = self.requests = self.failed = self.unattributed = 0
        self.verdict = "no decision yet"
        self.waiting = ""
        self.enter(epoch)

    def enter(self, epoch: WeightEpoch) -> None:
        """Another weight epoch begins: shares are counted anew."""
        with self._lock:
            self.epoch = epoch
            self._arms = {model: _ArmCounts() for model in epoch.weights}

    def routed(self, result: Result, regime: str | None = None) -> None:
        """One routed request has ended; ``regime`` is that of its weights."""
        with self._lock:
            self.requests += 1
            self.failed += result.failure is not None
            arm = self._arms.get(result.route or "")
            if arm is None:
                self.unattributed += 1
                return
            # The planned share is the mean propensity over the requests: regimes may have weights of their own.
            for model, counts in self._arms.items():
                counts.expected += self.epoch.propensity(model, regime)
            arm.requests += 1
            arm.failed += result.failure is not None
            if result.failure is None and result.latency_s is not None:
                arm.latencies.append(result.latency_s)

    def scored(self, model: str, session: pd.Timestamp, forecasts: Mapping[str, float]) -> None:
        """Paired scorings of one session have given forecasts: ticker -> probability of a rise."""
        sessions = pd.DatetimeIndex([session] * len(forecasts))
        self._score(model, sessions, list(forecasts), np.array([*forecasts.values()]))

    def score_logged(self, rows: pd.DataFrame) -> None:
        """Paired predictions of earlier replays; those of tickers or sessions outside the panel are left out."""
        for model, scored in rows[rows["status"] == "ok"].groupby("model"):
            probability_up = scored["probability_up"].to_numpy(np.float64)
            self._score(str(model), pd.DatetimeIndex(scored["session"]), list(scored["ticker"]), probability_up)

    def _score(self, model: str, sessions: pd.DatetimeIndex, tickers: list[str], probability_up: np.ndarray) -> None:
        columns = self._panel.sessions.get_indexer(sessions)
        rows = np.array([self._rows.get(ticker, -1) for ticker in tickers], dtype=np.intp)
        inside = (columns >= 0) & (rows >= 0)
        rows, columns = rows[inside], columns[inside]
        right = hits(np.asarray(probability_up, np.float64)[inside], self._up[rows, columns])
        with self._lock:
            grid = self._hits.setdefault(model, np.full(self._up.shape, np.nan, dtype=np.float32))
            grid[rows, columns] = np.where(self._has_outcome[rows, columns], right, np.nan)

    def decided(self, decisions: Sequence[Decision], plans: Sequence[ExperimentPlan | None]) -> None:
        """Decisions were taken, one per challenger and question, under these plans."""
        if decisions:
            self.verdict = " ".join(
                f"{decision.question + ': ' if decision.question else ''}{decision.action} as of {decision.as_of}: "
                f"{first_reason(decision, plan)}"
                for decision, plan in zip(decisions, plans, strict=True)
            )
        else:
            self.verdict = f"{self.epoch.champion.model} serves alone: nothing to decide"

    def snapshot(self) -> Snapshot:
        """Everything, at this instant."""
        with self._lock:
            right, days = self._paired(list(self._arms))
            requests = sum(counts.requests for counts in self._arms.values())
            lines = tuple(self._line(model, counts, requests, right, days) for model, counts in self._arms.items())
            champion = self.epoch.champion.model
            differences: dict[str, Interval] = {}
            for arm in self.epoch.challengers:
                pair, pair_days = self._paired([champion, arm.model])
                if pair and len(np.unique(pair_days)) > 1:
                    differences[arm.model] = day_clustered_mean(pair[arm.model] - pair[champion], pair_days)
            return Snapshot(
                self.session,
                self.done,
                self.total,
                self.epoch.number,
                self.requests,
                self.failed,
                self.unattributed,
                lines,
                differences,
                self.verdict,
                self.waiting,
            )

    def _line(
        self, model: str, counts: _ArmCounts, requests: int, right: dict[str, np.ndarray], days: np.ndarray
    ) -> ArmLine:
        arm = self.epoch.arm(model)
        assert arm is not None
        has_interval = model in right and len(np.unique(days)) > 1
        return ArmLine(
            model=model,
            role=arm.role,
            weight=counts.expected / requests if requests else self.epoch.propensity(model),
            share=counts.requests / requests if requests else None,
            requests=counts.requests,
            failed=counts.failed,
            latency=percentiles(list(counts.latencies)),
            accuracy=day_clustered_proportion(right[model], days) if has_interval else None,
        )

    def _paired(self, models: Sequence[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Hit or miss of each model on the rows that all of them have, and the day of each row."""
        grids = {model: self._hits[model] for model in models if model in self._hits}
        if len(grids) < len(models) or self.session is None:
            return {}, np.empty(0)
        shared = np.logical_and.reduce([np.isfinite(grid) for grid in grids.values()])
        # A prediction's outcome is the move of the following session, so the current session's is not known yet.
        shared[:, self._panel.sessions >= self.session] = False
        return {model: grid[shared].astype(np.float64) for model, grid in grids.items()}, np.nonzero(shared)[1]
