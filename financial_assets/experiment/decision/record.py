"""The values that make up a decision: frozen, plain, written as canonical JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from financial_assets.experiment.canonical import CanonicalRecord
from financial_assets.experiment.metrics.metric import Question

Action = Literal["promote", "hold", "rollback"]

Outcome = Literal["", "promote", "held", "uneven", "harm", "futile", "open"]
"""What a look came to: ``promote``: won, with all conditions; ``held``: won, but for a condition; ``uneven``: won, but
days are too uneven for a mean to be trusted; ``harm``: the challenger is worse; ``futile``: winning has become
improbable; ``open``: none of them. Empty: a look of the first rule, which had no such thing."""


@dataclass(frozen=True, slots=True)
class Look:
    """One planned look: the day count, the z-value of the challenger's advantage beyond the margin, the boundary.

    Attributes
    ----------
    day, session
        Evaluated days, and the last of them (ISO date).
    z, boundary
        Of the advantage over the champion.
    against
        z-values of the challenger against each baseline at the same day; of its advantage plus the margin of
        non-inferiority, under the first rule without.
    guards
        z-values of the challenger against the champion in what it must not do harm in, margins included.
    deviation
        Long-run standard deviation of a day, estimated from the days about their own mean, which reveals nothing of it.
    conditional_power
        Probability that the challenger still wins by the horizon, were the plausible effect true.
    outcome
        What it came to.
    skewness
        Of the days, by which z is corrected; ``None`` where it is not.
    """

    day: int
    session: str
    z: float
    boundary: float
    against: Mapping[str, float]
    guards: Mapping[str, float] = field(default_factory=dict)
    deviation: float | None = None
    conditional_power: float | None = None
    outcome: Outcome = ""
    skewness: float | None = None

    @property
    def crossed(self) -> bool:
        """Whether the look is won: against the champion, and with all that the rule asks for beside it."""
        if self.outcome:
            return self.outcome == "promote"
        return self.z >= self.boundary and all(z >= self.boundary for z in self.against.values())


@dataclass(frozen=True, slots=True)
class Standing:
    """The conditions of a promotion as of the decision's own day.

    Attributes
    ----------
    against, guards
        As those of a :class:`Look`.
    sequence
        Whether the always-on sequence shows the challenger to be better on this very day, and may decide.
    """

    against: Mapping[str, float]
    guards: Mapping[str, float]
    sequence: bool


@dataclass(frozen=True, slots=True)
class ConfidenceSequence:
    """The confidence sequence that holds on every day at once.

    ``low`` and ``high`` bound the mean daily difference; ``against`` are the lower bounds against each baseline;
    ``log_e`` is the logarithm of the e-value against "not better than the margin".
    """

    low: float
    high: float
    log_e: float
    against: Mapping[str, float]

    def clears(self, margin: float) -> bool:
        """Whether the challenger is shown to be better by more than ``margin``, and than every baseline.

        A bound is itself refuted, so that reaching the margin is enough.
        """
        return self.low >= margin and all(low >= 0 for low in self.against.values())


@dataclass(frozen=True, slots=True)
class Guardrail:
    """One guardrail of one arm.

    Attributes
    ----------
    name
        ``latency``, ``errors``, ``sample ratio``, ``missing`` ...
    model
        Whose; empty where it concerns the experiment.
    action
        What follows if it fires: ``rollback`` or ``hold``.
    fired
        Whether it did.
    observed, objective
        Share seen and share allowed.
    count
        Requests behind it.
    reason
        One sentence.
    p_value
        Of a breach, valid at every look; ``None`` where nothing is tested, and in decisions read from the log: it is
        shown beside a decision and is not part of its record, whose digest earlier versions must reproduce.
    """

    name: str
    model: str
    action: Action
    fired: bool
    observed: float
    objective: float
    count: int
    reason: str
    p_value: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class TrafficEvidence:
    """What the routed requests say: guardrails, and the SHA-256 of what they were computed from."""

    guardrails: tuple[Guardrail, ...]
    digest: str


NO_TRAFFIC = TrafficEvidence((), "")
"""That of a question that moves no traffic: one harm is acted on once, by the plan that does."""


@dataclass(frozen=True, slots=True)
class Decision(CanonicalRecord):
    """One decision and all that it rests on.

    Attributes
    ----------
    action
        What is done.
    reasons
        Why, one sentence each; the first decides.
    experiment, champion, challenger
        Names as served.
    as_of
        The market clock (ISO date).
    epoch
        The current weight epoch.
    plan_digest, evidence_digest, traffic_digest
        SHA-256 of what was looked at.
    days
        Evaluated days.
    estimate, detectable
        Mean daily difference, and the plan's minimum detectable effect.
    looks
        Planned looks that were due, in order.
    always_on
        The sequence that holds on every day.
    alpha_spent
        Two-sided error probability spent by the planned looks so far, of the plan's ``alpha_planned``.
    guardrails
        All of them.
    deflated_sharpe
        Of the challenger; ``None`` where it is not defined.
    ended
        Whether the test is over: nothing more will be concluded from this plan.
    weights
        Weights that follow, by served name.
    standing
        The conditions of a promotion on this day; ``None`` under the first rule.
    question
        The question that it answers, where traffic follows another one; ``None``: this decision moves traffic.
    """

    kind = "decision"

    action: Action
    reasons: tuple[str, ...]
    experiment: str
    champion: str
    challenger: str
    as_of: str
    epoch: int
    plan_digest: str
    evidence_digest: str
    traffic_digest: str
    days: int
    estimate: float | None
    detectable: float
    looks: tuple[Look, ...]
    always_on: ConfidenceSequence
    alpha_spent: float
    guardrails: tuple[Guardrail, ...]
    deflated_sharpe: float | None
    ended: bool
    weights: Mapping[str, int]
    standing: Standing | None = None
    question: Question | None = None

    @property
    def moves_traffic(self) -> bool:
        """Whether what follows from it is carried out; an answer to a further question is recorded only."""
        return self.question is None

    def stored(self) -> dict[str, Any]:
        """All values but those that are shown beside a record only, and those that the first rule did not have."""
        values = dataclasses.asdict(self)
        if self.standing is None:
            del values["standing"]
        if self.question is None:
            del values["question"]
        for look in values["looks"]:
            if not look["outcome"]:
                for name in ("guards", "deviation", "conditional_power", "outcome"):
                    del look[name]
            if look["skewness"] is None:
                del look["skewness"]
        for guardrail in values["guardrails"]:
            del guardrail["p_value"]
        return values
