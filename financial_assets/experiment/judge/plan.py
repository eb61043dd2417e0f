"""What is promised before the data: the plan of one comparison of a candidate with a control.

A plan never changes. Its digest is that of all its fields, defaults included, so that whoever holds the digest holds
the rule.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

from financial_assets.chain import canonical
from financial_assets.experiment.statistics.capital import STAKES, planned_stakes

Unit = Literal["day", "incident", "request"]

NAME = r"^[a-z0-9]([a-z0-9._-]{0,126}[a-z0-9])?$"
"""Of a plan: a file name, a label value of Kubernetes and a part of a URL at once, less what needs quoting."""

ALPHA = 0.02
"""In halves: a wrong promote, a wrong rollback. Less than the 2.5 % that are promised to clients."""
_DEVIATIONS = 8.0
"""Clipped at so many expected deviations, as the differences of the experiment's own tests are."""
_FARTHEST = 0.9
"""Margins reach up to this part of the largest difference: beyond, no unit could show them."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class JudgePlan(BaseModel):
    """How a candidate is compared with a control: unit, bounds, error probability, margins.

    Errors of a plan name its fields; see :func:`check_name` for its name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcomes: Literal["daily", "requests"] = Field(
        description="What the series hold: one value per day, or one per request"
    )
    unit: Unit = Field(
        default="day",
        description=(
            "What counts once. `day`: the mean of the candidate's requests of a day minus that of the control's. "
            "`incident`: bad answers (value 1) that follow one another closely. `request`: two answers to one request"
        ),
    )
    unit_reason: str = Field(
        min_length=10, max_length=500, description="Why one unit says nothing of the next one's expected difference"
    )
    better: Literal["higher", "lower"] = Field(
        default="higher", description="Whether a higher or a lower value is better"
    )
    low: Finite | None = Field(default=None, description="Smallest possible value; with `high`, or not at all")
    high: Finite | None = Field(default=None, description="Largest possible value")
    largest_difference: Positive | None = Field(
        default=None,
        description=(
            "Size at which the difference of a unit is clipped. Default: eight times `deviation`, or `high` - `low` "
            "if that is less. Needed where values have no bounds and no `deviation` is given"
        ),
    )
    effect: Positive | None = Field(
        default=None, description="Difference that is hoped for; sharpens the test about it"
    )
    deviation: Positive | None = Field(
        default=None, description="Expected standard deviation of a unit's difference; with `effect`, or not at all"
    )
    alpha: float = Field(
        default=ALPHA,
        gt=1e-6,
        le=0.2,
        description="Probability of a wrong promote or rollback over all polls, in halves for the two",
    )
    least_gain: NotNegative = Field(
        default=0.0, description="Promote only a candidate that is better by more than this"
    )
    tolerated_loss: NotNegative = Field(default=0.0, description="Roll back only one that is worse by more than this")
    control_share: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of the requests that is routed to the control; checked, and needed for `incident`",
    )
    least_units: int = Field(default=10, ge=1, le=100_000, description="Nothing is decided on fewer units")
    horizon: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Units after which an undecided test ends; null: never"
    )
    least_requests: int = Field(
        default=1, ge=1, le=1_000_000, description="A day on which an arm has fewer is left out of a test by days"
    )
    incident_requests: int = Field(default=10, ge=1, le=100_000, description="Requests that one incident may take")
    incident_seconds: Positive = Field(default=60.0, description="Seconds that one incident may take")
    time_zone: str = Field(default="UTC", max_length=64, description="IANA name of the zone whose midnight ends a day")
    starts: AwareDatetime | None = Field(
        default=None, description="First instant whose outcomes count; default: when the plan is registered"
    )
    retrospective: bool = Field(
        default=False,
        description="The outcomes may be known already: judged, but the gates of deployments never act on it",
    )
    revision: str | None = Field(
        default=None, min_length=1, max_length=128, description="Revision of the candidate, e.g. its pod template hash"
    )

    @field_validator("time_zone")
    @classmethod
    def _is_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{name!r} is not a time zone; name one such as America/New_York") from None
        return name

    @field_validator("starts")
    @classmethod
    def _in_utc(cls, instant: datetime | None) -> datetime | None:
        return None if instant is None else instant.astimezone(UTC)

    @model_validator(mode="after")
    def _is_consistent(self) -> JudgePlan:
        for wrong, message in self._contradictions():
            if wrong:
                raise ValueError(message)
        return self

    def _contradictions(self) -> list[tuple[bool, str]]:
        bounded = self.low is not None and self.high is not None
        incidents = self.unit == "incident"
        measured = self.deviation is not None and self.effect is not None
        first: list[tuple[bool, str]] = [
            (self.outcomes == "daily" and self.unit != "day", "unit: daily outcomes have the unit day"),
            ((self.low is None) != (self.high is None), "low, high: give both or neither"),
            (bounded and not (self.low or 0.0) < (self.high or 0.0), "low, high: low must be less than high"),
            (
                incidents and (self.better != "lower" or (self.low, self.high) != (0.0, 1.0)),
                "unit: incidents are values of 1, good answers values of 0: low 0, high 1, better lower",
            ),
            (incidents and self.control_share is None, "control_share: incidents are compared with it"),
            (incidents and self.largest_difference is not None, "largest_difference: not for incidents; it is 1"),
            (
                self.control_share is not None and (self.outcomes == "daily" or self.unit == "request"),
                "control_share: only where each request goes to one arm, and the series hold them all",
            ),
            ((self.deviation is None) != (self.effect is None), "effect, deviation: give both or neither"),
            (
                not bounded and self.largest_difference is None and not measured,
                "largest_difference: values have no bounds (low, high), so it must be given",
            ),
        ]
        if any(wrong for wrong, _ in first):
            return first
        bound = self.bound
        return [
            (
                bounded and bound > (self.high or 0.0) - (self.low or 0.0),
                "largest_difference: must be at most high - low",
            ),
            (self.least_gain > _FARTHEST * bound, f"least_gain: must be at most {_FARTHEST * bound:g}"),
            (self.tolerated_loss > _FARTHEST * bound, f"tolerated_loss: must be at most {_FARTHEST * bound:g}"),
            (
                self.effect is not None and not self.least_gain < self.effect < bound,
                f"effect: must lie between least_gain ({self.least_gain:g}) and the largest difference ({bound:g})",
            ),
            (
                self.horizon is not None and self.horizon < self.least_units,
                f"horizon: must be at least least_units ({self.least_units})",
            ),
        ]

    @property
    def bound(self) -> float:
        """Size at which a unit's difference is clipped, or which it cannot exceed."""
        if self.unit == "incident":
            return 1.0
        if self.largest_difference is not None:
            return self.largest_difference
        spread = [] if self.deviation is None else [_DEVIATIONS * self.deviation]
        spread += [] if self.low is None or self.high is None else [self.high - self.low]
        return min(spread)

    @property
    def stakes(self) -> tuple[float, ...]:
        """What the sequence bets: about the plan's effect, where there is one."""
        if self.effect is None or self.deviation is None:
            return STAKES
        return planned_stakes(self.effect - self.least_gain, self.deviation, self.bound)

    @property
    def zone(self) -> ZoneInfo:
        """The zone whose midnight ends a day."""
        return ZoneInfo(self.time_zone)

    @property
    def digest(self) -> str:
        """SHA-256 of the plan."""
        return hashlib.sha256(canonical(self.model_dump(mode="json")).encode()).hexdigest()


def is_name(name: str) -> bool:
    """Whether a plan may be called so."""
    return re.fullmatch(NAME, name) is not None
