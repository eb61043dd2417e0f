"""The judge: what is sent to it, and its answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from financial_assets.experiment.judge.plan import JudgePlan, Unit
from financial_assets.experiment.judge.verdict import Verdict

PlanName = Annotated[str, Field(min_length=1, max_length=128, description="Name of a registered plan, or its digest")]
Revision = Annotated[
    str | None,
    Field(
        default=None,
        min_length=1,
        max_length=128,
        description="Revision of the candidate, e.g. its pod template hash. A plan is bound to the first that is named",
    ),
]


class OutcomeRow(BaseModel):
    """One outcome of one arm."""

    model_config = ConfigDict(extra="forbid")

    at: str = Field(
        max_length=40,
        description="Daily outcomes: the day, YYYY-MM-DD. Requests: when it was asked, such as 2026-01-05T09:30:00Z",
    )
    value: float = Field(strict=True, allow_inf_nan=False)
    id: str | None = Field(default=None, max_length=128, description="Of the request; pairs two answers to it")


class JudgeRequest(BaseModel):
    """Two series, judged by a registered plan; without them, the verdict that is kept."""

    model_config = ConfigDict(extra="forbid")

    plan: PlanName
    control: list[OutcomeRow] | None = Field(
        default=None, description="All outcomes of the control since the test began, in order: only append to them"
    )
    candidate: list[OutcomeRow] | None = Field(default=None, description="The candidate's, likewise")
    complete_through: AwareDatetime | None = Field(
        default=None,
        description="Instant before which both series are complete; default: the earlier one of their last times",
    )
    revision: Revision = None


class PlanAnswer(BaseModel):
    """A registered plan."""

    name: str
    digest: str = Field(description="SHA-256 of the plan; each answer names it")
    registered_at: datetime
    starts: datetime = Field(description="First instant whose outcomes count")
    largest_difference: float = Field(description="Size at which the difference of a unit is clipped")
    plan: JudgePlan


class Interval(BaseModel):
    """Confidence sequence of the mean difference: it covers it at all polls together with probability `level`."""

    low: float
    high: float
    level: float


class EvidenceAnswer(BaseModel):
    """Evidence for one claim."""

    e_value: float = Field(description="Present e-value")
    p_value: float = Field(description="Anytime-valid p-value: over all units so far, dependence taken into account")


class JudgeAnswer(BaseModel):
    """Promote, rollback or hold; valid whenever it is asked for."""

    plan: str
    plan_digest: str
    verdict: Verdict
    action: Verdict = Field(
        description="What a deployment may do: the verdict, but always `hold` where the plan is retrospective"
    )
    reason: str
    final: bool = Field(description="Whether no later outcome can change it")
    decided_by: str | None = Field(description="The unit that decided")
    unit: Unit
    estimate: float | None = Field(description="Mean difference per unit, positive if the candidate is better")
    interval: Interval
    better: EvidenceAnswer = Field(description="That the candidate is better by more than the plan's least_gain")
    worse: EvidenceAnswer = Field(description="That it is worse by more than the plan's tolerated_loss")
    units: int = Field(description="Complete units that were looked at")
    control_outcomes: int
    candidate_outcomes: int
    clipped: int = Field(description="Units whose difference was larger than largest_difference")
    left_out: int = Field(description="Days on which an arm had too few requests")
    dependence: float = Field(description="Variance of the units' mean over that of independent ones, at least 1")
    split_p_value: float | None = Field(description="Of the test of the registered split of requests")
    last_unit: str | None
    largest_difference: float
    score: int = Field(description="100 promote, 50 hold, 0 rollback, of `action`")
    classification: Literal["Pass", "Marginal", "Fail"] = Field(description="The same in Kayenta's words")
    retrospective: bool
    revision: str | None
    series: str | None = Field(description="SHA-256 of the complete part of the two series")
    registered_at: datetime
    judged_at: datetime | None = Field(description="When series were sent last; null: never")


FlaggerGate = Literal["confirm-rollout", "rollout", "confirm-promotion", "rollback"]


class FlaggerPayload(BaseModel):
    """What Flagger sends to a webhook; `metadata.plan` names the plan."""

    name: str = Field(max_length=253)
    namespace: str = Field(max_length=253)
    phase: str = Field(max_length=64)
    checksum: str = Field(default="", max_length=128, description="Of the canary's revision; the plan is bound to it")
    metadata: dict[str, str] = Field(default={}, max_length=64)


class KayentaThresholds(BaseModel):
    """Scores from which on Kayenta's client takes an analysis for passed, or for neither passed nor failed."""

    pass_: int = Field(alias="pass", ge=1, le=100)
    marginal: int = Field(ge=1, le=100)


class KayentaRequest(BaseModel):
    """What Kayenta's clients send to begin an analysis; the scopes are not used: the plan says what is compared."""

    thresholds: KayentaThresholds


class KayentaConfig(BaseModel):
    """A plan in Kayenta's list of configurations."""

    id: str
    name: str


class KayentaExecution(BaseModel):
    """An analysis that has begun."""

    canaryExecutionId: str  # noqa: N815 - Kayenta's own name


class KayentaScore(BaseModel):
    """Its score."""

    score: float
    classification: Literal["Pass", "Marginal", "Fail"]
    classificationReason: str  # noqa: N815 - Kayenta's own name


class KayentaJudgement(BaseModel):
    """What Kayenta calls the judge's result."""

    score: KayentaScore


class KayentaResultBody(BaseModel):
    """The result of an analysis."""

    judgeResult: KayentaJudgement  # noqa: N815 - Kayenta's own name


class KayentaResult(BaseModel):
    """An analysis that is complete, as all of the judge's are."""

    complete: bool
    status: str
    result: KayentaResultBody
