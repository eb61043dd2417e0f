"""Signals, the universe, explanations."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import BaseModel, Field

CAVEAT = (
    "A forecast, not investment advice. Daily direction is right on 50 to 53 % of sessions at best; most answers are "
    "HOLD because the edge after costs is statistically indistinguishable from zero."
)


class ReturnRange(BaseModel):
    """Where the return is expected: simple returns, 0.01 is +1 %."""

    low: float = Field(description="5 % of outcomes lie below; fraction")
    median: float = Field(description="Half of the outcomes lie below; fraction")
    high: float = Field(description="5 % of outcomes lie above; fraction")


class TailLosses(BaseModel):
    """Losses as positive fractions of the value that is held."""

    var_95: float = Field(description="Value at risk: exceeded on 5 % of occasions; fraction of the value")
    var_99: float = Field(description="Value at risk: exceeded on 1 % of occasions; fraction of the value")
    es_95: float | None = Field(
        description="Expected shortfall: mean loss of the worst 5 %; fraction of the value. Null where the tail "
        "through the served quantiles has no mean"
    )
    es_99: float | None = Field(
        description="Mean loss of the worst 1 %; fraction. Beyond the 1 % quantile nothing is served: the tail is "
        "taken as exponential. Null where such a tail has no mean"
    )


class SideRisk(BaseModel):
    """Risk of holding one unit, long or short."""

    one_session: TailLosses
    five_sessions: TailLosses | None = Field(description="Null where the model answers for one session only")


class Edge(BaseModel):
    """Expected simple return of the trade after costs, with its confidence interval."""

    estimate: float = Field(description="Fraction per trade, after costs on both sides")
    low: float = Field(description="Lower bound; fraction")
    high: float = Field(description="Upper bound; fraction")
    level: float = Field(description="Confidence of the interval")
    sessions: int = Field(description="Past sessions that it rests on")


class Suggestion(BaseModel):
    """Size and stop."""

    weight: float = Field(description="Position as a signed share of the capital; 0 on HOLD")
    stop_return: float | None = Field(description="Leave at this simple return from the last close; null on HOLD")
    stop_price: float | None = Field(description="The same as a price, in the ticker's currency; null on HOLD")


class Signal(BaseModel):
    """The answer about one ticker for the next session."""

    ticker: str
    as_of: date = Field(description="Session at whose close all of this was known")
    target_session: date = Field(description="Session that it is about")
    target_session_5d: date | None = Field(description="Last of the five sessions; null without that head")
    direction: Literal["BUY", "SELL", "HOLD"] = Field(description="By the rule in `rule`")
    reason: str = Field(description="Why this direction")
    probability_up: float = Field(description="Calibrated probability that the next adjusted close is higher; 0 to 1")
    score: float | None = Field(
        description="Expected log return minus the market's, in units of the ticker's daily volatility"
    )
    rank: int | None = Field(description="Place by score among the session's signals; 1 is the highest")
    ranked: int = Field(description="Signals in the session")
    expected_range: ReturnRange
    expected_range_5d: ReturnRange | None
    edge_after_costs: Edge | None = Field(description="Null with fewer sessions than the rule asks for")
    cost_per_side: float = Field(description="Fraction of the traded value (COST_BPS)")
    long: SideRisk = Field(description="Risk of who holds it")
    short: SideRisk = Field(description="Risk of who is short of it")
    suggested: Suggestion
    last_close: float | None = Field(description="As the price source gives it, in the ticker's currency")
    model: str = Field(description="Served model that answered")
    version: int = Field(description="Its version in the registry")
    data_warnings: list[str] = Field(description="Doubtful bars behind this answer; empty if there are none")
    rule: str = Field(description="How direction is decided")
    caveat: str


class Signals(BaseModel):
    """All signals of a session."""

    as_of: date
    target_session: date
    current: bool = Field(description="Whether this is the session of the market clock")
    model: str
    version: int
    halted: str | None = Field(description="Trading is halted: since when, by whom and why; no orders. Null if not")
    remarks: list[str] = Field(description="What is to be known about all of them")
    without_signal: dict[str, str] = Field(description="Ticker to reason")
    size_rule: str
    stop_rule: str
    signals: list[Signal] = Field(description="By rank, then ticker")


class UniverseMember(BaseModel):
    """One ticker of the universe."""

    ticker: str
    sector: str | None = Field(description="From UNIVERSE_FILE; null without one")
    last_close: float | None = Field(description="As the price source gives it, in the ticker's currency")
    has_signal: bool
    reason: str | None = Field(description="Why it has no signal; null if it has one")


class UniverseAnswer(BaseModel):
    """The universe of a session."""

    as_of: date
    tickers: list[UniverseMember]


class Contribution(BaseModel):
    """What a family of features, or one feature, moved an answer by."""

    name: str
    contribution: float = Field(description="In the unit of the answer")
    share: float = Field(description="Of the absolute contributions of all; 0 to 1")


class AnswerExplanation(BaseModel):
    """Why one answer is what it is."""

    answer: str = Field(
        description="`direction`: log-odds of up, calibrated; `median`, `spread` (5 to 95 %), and the same with `_5d`: "
        "in units of the forecast volatility, before calibration; `score`: in units of volatility, before calibration"
    )
    value: float = Field(description="The answer")
    baseline: float = Field(description="The answer where every feature lies at its median of the training block")
    families: list[Contribution] = Field(description="Largest first; they add up to value - baseline")
    features: list[Contribution] = Field(description="The largest single ones")
    completeness_error: float = Field(description="How far the contributions miss value - baseline")


class Explanation(BaseModel):
    """What moved the answers about one ticker."""

    ticker: str
    as_of: date
    model: str
    version: int
    method: str
    answers: list[AnswerExplanation]
