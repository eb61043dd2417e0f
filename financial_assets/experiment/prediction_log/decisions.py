"""Plans, decisions, approvals and allocations in the prediction log's database: written once, never changed."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from financial_assets.errors import LogError
from financial_assets.experiment.allocation.record import AllocationRecord
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.record import Decision, decision_from_json
from financial_assets.experiment.plan.plan import ExperimentPlan, plan_from_json
from financial_assets.experiment.prediction_log import schema
from financial_assets.experiment.prediction_log.rows import utc_now

__all__ = [
    "approved_by",
    "insert_allocations",
    "insert_approval",
    "insert_decision",
    "insert_plan",
    "select_allocations",
    "select_decisions",
    "select_plan",
]


def insert_plan(connection: Connection, plan: ExperimentPlan) -> ExperimentPlan:
    """Register a plan; returns the existing one if this pair has a plan already."""
    registered = select_plan(connection, plan.experiment, plan.champion, plan.challenger)
    if registered is not None:
        return registered
    connection.execute(
        sa.insert(schema.plans).values(
            experiment=plan.experiment,
            champion=plan.champion,
            challenger=plan.challenger,
            digest=plan.digest,
            registered_at=utc_now(),
            document=plan.to_json(),
        )
    )
    return plan


def select_plan(connection: Connection, experiment: str, champion: str, challenger: str) -> ExperimentPlan | None:
    """The plan of a pair, ``None`` if none was registered.

    Raises
    ------
    LogError
        It was changed after its registration.
    """
    table = schema.plans
    query = sa.select(table.c.document, table.c.digest).where(
        table.c.experiment == experiment, table.c.champion == champion, table.c.challenger == challenger
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    plan = plan_from_json(row.document)
    if plan.digest != row.digest:
        raise LogError(f"the plan of {challenger} against {champion} is not the one that was registered: it was edited")
    return plan


def insert_decision(connection: Connection, decision: Decision) -> bool:
    """Record a decision; returns whether it is new (the same one is recorded once)."""
    table = schema.decisions
    if connection.execute(sa.select(table.c.id).where(table.c.digest == decision.digest)).first() is not None:
        return False
    connection.execute(
        sa.insert(table).values(
            digest=decision.digest,
            experiment=decision.experiment,
            as_of=pd.Timestamp(decision.as_of).date(),
            action=decision.action,
            decided_at=utc_now(),
            document=decision.to_json(),
        )
    )
    return True


def select_decisions(connection: Connection, experiment: str) -> tuple[Decision, ...]:
    """All decisions of an experiment, in the order in which they were taken.

    Raises
    ------
    LogError
        One was changed after it was recorded.
    """
    table = schema.decisions
    query = sa.select(table.c.document, table.c.digest).where(table.c.experiment == experiment).order_by(table.c.id)
    decisions: list[Decision] = []
    for row in connection.execute(query):
        decision = decision_from_json(row.document)
        if decision.digest != row.digest:
            raise LogError(f"the decision {row.digest[:12]} is not the one that was recorded: it was edited")
        decisions.append(decision)
    return tuple(decisions)


def insert_approval(connection: Connection, digest: str, by: str) -> None:
    """Record who approved a decision; the first approval is final.

    Raises
    ------
    LogError
        There is no such decision.
    """
    if connection.execute(sa.select(schema.decisions.c.id).where(schema.decisions.c.digest == digest)).first() is None:
        raise LogError(f"there is no decision {digest}")
    if approved_by(connection, digest) is None:
        connection.execute(sa.insert(schema.approvals).values(digest=digest, approved_at=utc_now(), approved_by=by))


def approved_by(connection: Connection, digest: str) -> str | None:
    """Who approved a decision, ``None`` if nobody did."""
    query = sa.select(schema.approvals.c.approved_by).where(schema.approvals.c.digest == digest)
    return connection.execute(query).scalar()


def insert_allocations(
    connection: Connection, experiment: str, arms: WeightEpoch, records: Sequence[AllocationRecord]
) -> None:
    """Append the steps of adaptive allocation among the routed arms of an epoch; a session has one.

    Raises
    ------
    sqlalchemy.exc.IntegrityError
        A session of ``records`` has its step already.
    """
    if records:
        key = {"experiment": experiment, "champion": arms.champion.model, "challenger": _challengers(arms)}
        rows = [
            {**key, "session": record.session, "document": json.dumps(record.to_json(), sort_keys=True)}
            for record in records
        ]
        connection.execute(sa.insert(schema.allocations), rows)


def select_allocations(
    connection: Connection, experiment: str, arms: WeightEpoch, last: int | None = None
) -> tuple[AllocationRecord, ...]:
    """The steps of adaptive allocation among the routed arms of an epoch, in order; only the ``last`` of them."""
    table = schema.allocations
    query = (
        sa.select(table.c.document)
        .where(
            table.c.experiment == experiment,
            table.c.champion == arms.champion.model,
            table.c.challenger == _challengers(arms),
        )
        .order_by(table.c.session.desc())
        .limit(last)
    )
    return tuple(
        AllocationRecord.from_json(json.loads(row.document)) for row in reversed(connection.execute(query).all())
    )


def _challengers(arms: WeightEpoch) -> str:
    return ",".join(arm.model for arm in arms.challengers)
