"""Decisions, models, health."""

from __future__ import annotations

from datetime import date, datetime

from pydantic import BaseModel, Field


class DecisionRecord(BaseModel):
    """One decision of the experiment, in short; `digest` names the whole record."""

    digest: str
    as_of: date
    question: str | None = Field(description="A further question; null: the one that moves traffic")
    action: str = Field(description="promote, hold or rollback")
    champion: str
    challenger: str
    reasons: list[str]
    days: int
    estimate: float | None = Field(description="Mean daily difference, challenger minus champion, in the metric's unit")
    detectable: float
    ended: bool
    weights: dict[str, int] = Field(description="Weights that follow")
    approved_by: str | None


class Decisions(BaseModel):
    """The latest decisions, newest first."""

    experiment: str
    decisions: list[DecisionRecord]


class ModelArm(BaseModel):
    """One model version in the experiment."""

    model: str
    variant: str
    version: int
    role: str
    weight: int = Field(description="Relative share of the routed requests")
    share: float = Field(description="The same as a fraction of all")
    data_cutoff: date = Field(description="Last session that it has learned from")


class Models(BaseModel):
    """Who takes part now."""

    experiment: str
    epoch: int
    opened_at: datetime
    reason: str
    arms: list[ModelArm]


class Health(BaseModel):
    """The process lives."""

    status: str


class Readiness(BaseModel):
    """Whether signals can be answered."""

    ready: bool
    as_of: date | None
    authentication: str = Field(description="`API keys`, or `this machine only`")
    problems: list[str]
