"""What is known of a plan's test, as it is kept between two requests."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from financial_assets.experiment.judge.verdict import Evidence, Judgement


@dataclass(frozen=True)
class Kept:
    """What is known of a plan's test.

    Attributes
    ----------
    judgement
        The last one; ``None`` before the first.
    judged_at
        When.
    complete
        Instant before which the series were complete, in units of their times.
    series
        Digest of what lay before it.
    revision
        Of the candidate that the plan is bound to; ``None`` while none was named.
    """

    judgement: Judgement | None = None
    judged_at: datetime | None = None
    complete: int = 0
    series: str | None = None
    revision: str | None = None


class Update:
    """A change in the making: set :attr:`kept`."""

    def __init__(self, before: Kept) -> None:
        self.before = before
        self.kept = before

    def change(self, **values: Any) -> None:
        """Change fields of what is kept."""
        self.kept = dataclasses.replace(self.kept, **values)


def kept_of(values: Mapping[str, Any], plan_digest: str) -> Kept:
    """What a file says.

    Raises
    ------
    ValueError, KeyError, TypeError
        It does not say that, or of another plan.
    """
    if values["plan"] != plan_digest:
        raise ValueError("it belongs to another plan")
    judgement = values["judgement"]
    if judgement is not None:
        sides: dict[str, Any] = {side: Evidence(**judgement[side]) for side in ("better", "worse")}
        judgement = Judgement(**judgement | sides)
    judged_at = values["judged_at"]
    return Kept(
        judgement=judgement,
        judged_at=None if judged_at is None else datetime.fromisoformat(judged_at),
        complete=int(values["complete"]),
        series=values["series"],
        revision=values["revision"],
    )
