"""The values that parts of an evaluation are made of: frozen, and plain enough to be written as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from financial_assets.scoring.classification import ReliabilityBin
from financial_assets.scoring.intervals import Interval

Score = Literal["accuracy", "brier"]
Verdict = Literal["refused", "no_data", "underpowered", "no_difference", "challenger_better", "champion_better"]


@dataclass(frozen=True, slots=True)
class EpochTraffic:
    """Requests of one weight epoch beside its weights; of one of its regimes, where these have weights of their own.

    ``expected`` are requests by model if the weights are obeyed, of those that can be attributed; ``unattributed`` are
    requests that ended without a known arm.
    """

    number: int
    opened_at: str
    reason: str
    weights: dict[str, int]
    observed: dict[str, int]
    expected: dict[str, float]
    unattributed: int
    pending: int
    p_value: float
    method: str
    alpha: float
    passed: bool
    regime: str | None = None

    @property
    def label(self) -> str:
        """How a reader tells it from others: its number, and its regime."""
        return str(self.number) if self.regime is None else f"{self.number}, {self.regime}"


@dataclass(frozen=True, slots=True)
class ArmTraffic:
    """One arm's routed requests: counts by how they ended, and client-side latency in seconds of the answered ones.

    ``latency_grid`` are the latency's percentiles 0 to 100. ``accuracy`` is on the arm's own requests (not paired);
    ``refused`` says why there is none although requests were scored: see ``Evaluation.routed`` then.
    """

    model: str
    requests: int
    ok: int
    failed: int
    rejected: int
    timeout: int
    repeated: int
    latency_p50: float
    latency_p95: float
    latency_p99: float
    latency_grid: tuple[float, ...]
    accuracy: Interval | None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class ProfitAndLoss:
    """Long or short by the predicted direction, equal money in each ticker, in at the next open, out at the one after.

    A book that loses all its capital or more in one session is wiped out: ``wiped_out`` is the session at whose open
    the loss was realised (ISO date), its return is -1, and it earns and costs nothing from then on. Sharpe ratio and
    win rate are those of the sessions until that one, included.

    ``daily`` are net simple returns of the sessions in ``Evaluation.trading_days``; ``turnover_cost`` is the sum of
    costs; Sharpe ratio and mean return are annualised with the sessions of a year (252; 365 where every day is one). A
    trade is one position in one ticker from its entry to its exit or reversal; ``per_trade`` is its mean net return on
    the ticker's share of the capital, ``None`` without a trade.
    """

    sharpe: float
    total_return: float
    max_drawdown: float
    win_rate: float
    turnover_cost: float
    trades: int
    per_trade: float | None
    daily: tuple[float, ...]
    wiped_out: str | None = None


@dataclass(frozen=True, slots=True)
class Skill:
    """How well one forecaster did on the paired rows.

    ``role`` is ``champion``, ``challenger`` or ``shadow`` for arms and ``baseline`` for what they must beat. Scores of
    the direction are ``None`` for forecasters that give only quantiles, and the other way round; coverages are of the
    central 90 % and 98 % ranges; ``share_up`` is the share of forecasts above one half.
    """

    name: str
    role: str
    accuracy: Interval | None
    brier: Interval | None
    log_loss: Interval | None
    pinball: Interval | None
    coverage_90: Interval | None
    coverage_98: Interval | None
    share_up: float | None
    pnl: ProfitAndLoss | None
    reliability: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, slots=True)
class TickerSkill:
    """Accuracy on one ticker by forecaster, with the number of predictions and the share of ups."""

    ticker: str
    observations: int
    share_up: float
    accuracy: dict[str, float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much better ``first`` is than ``second`` on the same rows; positive is better.

    Attributes
    ----------
    score
        ``accuracy``: that of the first minus that of the second. ``brier``: the second's Brier score minus the first's.
    difference
        Mean of the daily mean differences, with its interval.
    disagreements
        Rows in which one was right and the other wrong.
    rows
        Common rows.
    mde
        Smallest true difference that a test at the interval's level finds with ``power`` on this many days; ``None``
        when the daily differences do not vary.
    days_needed
        Days after which ``worthwhile`` would be found with that power; ``None`` when the differences do not vary.
    worthwhile
        Difference that would matter; ``None`` where none was fixed.
    """

    score: Score
    first: str
    second: str
    difference: Interval
    disagreements: int
    rows: int
    mde: float | None
    power: float
    worthwhile: float | None
    days_needed: int | None


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What can and cannot be concluded: a verdict, one sentence, and further remarks."""

    verdict: Verdict
    sentence: str
    remarks: tuple[str, ...]
