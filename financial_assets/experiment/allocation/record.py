"""One step of allocation as the log keeps it: what an allocator remembers, what was used, and what followed."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from financial_assets.errors import ExperimentError


@dataclass(frozen=True, slots=True)
class Memory:
    """Everything that an allocator knows about the past.

    Attributes
    ----------
    days
        Days seen; fewer where old days are discounted.
    totals
        One number per arm; the allocator says what.
    more
        Further numbers; the allocator says what.
    """

    days: FiniteFloat
    totals: tuple[FiniteFloat, ...]
    more: tuple[FiniteFloat, ...] = ()


@dataclass(frozen=True, slots=True)
class Health:
    """What must be well before weights may adapt.

    Attributes
    ----------
    sessions_behind
        Sessions between the newest evidence and the last one whose label is due.
    srm_passed
        Whether the gateway's split agrees with the weights.
    guardrails_passed
        Whether errors and latency of all arms are within their objectives.
    """

    sessions_behind: int = 0
    srm_passed: bool = True
    guardrails_passed: bool = True


@dataclass(frozen=True, slots=True)
class AllocationRecord:
    """One step as it is logged.

    Attributes
    ----------
    session
        Session of the evidence.
    scores
        Daily mean score of each arm ``[arm]``, larger is better; empty if there are none, NaN where one is missing.
    health
        As given.
    memory
        The allocator's, after the step.
    shares
        What the allocator would give ``[arm]``; empty where it was not asked.
    before, after
        Weights.
    propensities
        Of the requests that follow.
    fallback
        Whether the weights are the default because of trouble.
    reason
        Why the weights are what they are.
    """

    session: dt.date
    scores: tuple[float, ...]
    health: Health
    memory: Memory
    shares: tuple[float, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    propensities: tuple[float, ...]
    fallback: bool
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, exact to the last bit; a score that is not finite becomes text."""
        values = dataclasses.asdict(self)
        values["session"] = self.session.isoformat()
        values["scores"] = [score if math.isfinite(score) else str(score) for score in self.scores]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> AllocationRecord:
        """The record written by :meth:`to_json`.

        Raises
        ------
        ExperimentError
            If a value is missing or of another kind, or the allocator's memory holds a number that is not finite.
        """
        try:
            return _adapter().validate_python(values)
        except ValidationError as error:
            raise ExperimentError(f"no allocation record ({error}): replay the log to make it anew") from None


@cache
def _adapter() -> TypeAdapter[AllocationRecord]:
    return TypeAdapter(AllocationRecord)
