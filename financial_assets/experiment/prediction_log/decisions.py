"""Plans, decisions, approvals and allocations in the prediction log: written once, never changed.

The plan whose decisions move traffic and those of further questions lie in two tables: earlier versions knew the first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from financial_assets.errors import LogError
from financial_assets.experiment.allocation.record import AllocationRecord
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.metrics.metric import Question
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.prediction_log import schema
from financial_assets.experiment.prediction_log.engine import transaction
from financial_assets.experiment.prediction_log.rows import select_epochs, utc_now
from financial_assets.experiment.prediction_log.sealed.chain import (
    ARTEFACT,
    DECISION,
    SealedRecord,
    find_seals,
    open_chain,
    read_chain,
)
from financial_assets.experiment.prediction_log.sealed.records import (
    DecisionSources,
    seal_approval,
    seal_artefacts,
    seal_decision,
    seal_plan,
)
from financial_assets.experiment.prediction_log.sealed.rows import seal_rows
from financial_assets.signing import Signer


class DecisionReader:
    """The reading half.

    Parameters
    ----------
    engine
        Database whose tables exist.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def plan(self, experiment: str, champion: str, challenger: str) -> ExperimentPlan | None:
        """The registered plan of a pair that moves traffic, ``None`` before its registration.

        Raises
        ------
        LogError
            It was changed after its registration.
        """
        with transaction(self.engine) as connection:
            return _traffic_plan(connection, (experiment, champion, challenger))

    def plans(self, experiment: str, champion: str, challenger: str) -> tuple[ExperimentPlan, ...]:
        """All registered plans of a pair: the one that moves traffic first, then those of further questions.

        Raises
        ------
        LogError
            One was changed after its registration.
        """
        pair, further = (experiment, champion, challenger), schema.question_plans
        with transaction(self.engine) as connection:
            traffic = _traffic_plan(connection, pair)
            others = _select_plans(connection, further, pair, further.c.registered_at, further.c.question)
        return (*((traffic,) if traffic else ()), *others)

    def plan_of(self, decision: Decision) -> ExperimentPlan | None:
        """The registered plan that a decision was taken under; ``None`` if it is not in the log."""
        plans = self.plans(decision.experiment, decision.champion, decision.challenger)
        return next((plan for plan in plans if plan.digest == decision.plan_digest), None)

    def unasked(self, experiment: str, champion: str, challenger: str) -> dict[Question, str]:
        """Question -> why it could not be asked of a pair, as the end of a sentence; the latest reasons.

        A question that was asked later has a plan.
        """
        table, pair = schema.unasked_questions, (experiment, champion, challenger)
        query = sa.select(table.c.question, table.c.reason).where(*_is_pair(table, pair)).order_by(table.c.id)
        with transaction(self.engine) as connection:
            return {row.question: row.reason for row in connection.execute(query)}

    def decisions(self, experiment: str, *, last: int | None = None) -> tuple[Decision, ...]:
        """All decisions of an experiment, or the ``last`` of them, in the order in which they were taken.

        Raises
        ------
        LogError
            One was changed after it was recorded.
        """
        return self._decisions(schema.decisions.c.experiment == experiment, last=last)

    def _decisions(self, *where: sa.ColumnElement[bool], last: int | None = None) -> tuple[Decision, ...]:
        table = schema.decisions
        query = sa.select(table.c.document, table.c.digest).where(*where).order_by(table.c.id.desc()).limit(last)
        with transaction(self.engine) as connection:
            rows = connection.execute(query).all()[::-1]
        decisions = tuple(Decision.from_json(row.document) for row in rows)
        for decision, row in zip(decisions, rows, strict=True):
            if decision.digest != row.digest:
                raise LogError(f"the decision {row.digest[:12]} is not the one that was recorded: it was edited")
        return decisions

    def concluded(self, experiment: str) -> tuple[Decision, ...]:
        """Those of :meth:`decisions` that do not hold."""
        return self._decisions(schema.decisions.c.experiment == experiment, schema.decisions.c.action != "hold")

    def approved_by(self, digest: str) -> str | None:
        """Who approved a decision, ``None`` if nobody did."""
        query = sa.select(schema.approvals.c.approved_by).where(schema.approvals.c.digest == digest)
        with transaction(self.engine) as connection:
            return connection.execute(query).scalar()

    def sealed(self, *, until: int | None = None) -> tuple[SealedRecord, ...]:
        """The chain of sealed records up to a number; empty in a log of an earlier version."""
        with transaction(self.engine) as connection:
            return read_chain(connection, until=until)

    def seals(self, decisions: Iterable[str]) -> tuple[SealedRecord, ...]:
        """The seals of decisions, by digest; those that were taken before the chain began have none."""
        with transaction(self.engine) as connection:
            return find_seals(connection, DECISION, list(decisions))

    def allocations(
        self, experiment: str, arms: WeightEpoch, *, last: int | None = None
    ) -> tuple[AllocationRecord, ...]:
        """The steps of adaptive allocation among the routed arms of an epoch, in order; only the ``last`` of them."""
        table, key = schema.allocations, _allocation_key(experiment, arms)
        query = sa.select(table.c.document).where(*(table.c[name] == value for name, value in key.items()))
        with transaction(self.engine) as connection:
            rows = connection.execute(query.order_by(table.c.session.desc()).limit(last)).all()
        return tuple(AllocationRecord.from_json(json.loads(row.document)) for row in reversed(rows))


class DecisionWriter(DecisionReader):
    """The writing half. What it writes is sealed in the same transaction (:mod:`.sealed.chain`).

    Parameters
    ----------
    engine
        Database whose tables exist.
    signer
        Gives the key that decisions are signed with when one is written; ``None``: they are not signed.
    """

    def __init__(self, engine: Engine, signer: Callable[[], Signer | None] = lambda: None) -> None:
        super().__init__(engine)
        self._signer = signer

    def register_plan(self, plan: ExperimentPlan) -> ExperimentPlan:
        """Register a plan before the first look; returns the existing one if there is one already.

        A pair has one plan that moves traffic, and one of each further question.
        """
        pair = (plan.experiment, plan.champion, plan.challenger)
        values: dict[str, Any] = {
            **dict(zip(_PAIR, pair, strict=True)),
            "digest": plan.digest,
            "registered_at": utc_now(),
            "document": plan.to_json(),
        }
        with transaction(self.engine, write=True) as connection:
            if plan.moves_traffic:
                registered, table = _traffic_plan(connection, pair), schema.plans
            else:
                table = schema.question_plans
                found = _select_plans(connection, table, pair)
                registered = next((one for one in found if one.question == plan.question), None)
                values["question"] = plan.question
            if registered is None:
                chain = open_chain(connection, self._signer)  # first: it counts what was there before it
                connection.execute(sa.insert(table), values)
                seal_plan(chain, plan)
        return registered or plan

    def note_unasked(self, experiment: str, champion: str, challenger: str, question: Question, reason: str) -> None:
        """Note why a question cannot be asked of a pair; nothing is written if that is the latest reason already."""
        if self.unasked(experiment, champion, challenger).get(question) == reason:
            return
        values = {**dict(zip(_PAIR, (experiment, champion, challenger), strict=True)), "question": question}
        with transaction(self.engine, write=True) as connection:
            connection.execute(sa.insert(schema.unasked_questions), {**values, "noted_at": utc_now(), "reason": reason})

    def record_decision(self, decision: Decision) -> bool:
        """Record a decision permanently, sealed without what it was taken from; returns whether it is new."""
        return bool(self.record_decisions([(decision, None)]))

    def record_decisions(
        self, decided: Sequence[tuple[Decision, ExperimentPlan | None]], sources: DecisionSources | None = None
    ) -> tuple[Decision, ...]:
        """Record decisions permanently, and seal them with all rows that were logged until now.

        Parameters
        ----------
        decided
            Decisions with their plans; those that are recorded already stay as they are.
        sources
            Says what they were taken from beside the log; ``None``: their seals say that it is unknown.

        Returns
        -------
        tuple of Decision
            Those that are new.

        Raises
        ------
        ChainError
            The chain is broken: nothing is recorded.
        SettingsError
            There is a key to sign with, and it cannot be used: nothing is recorded.
        """
        with transaction(self.engine) as connection:
            new = [(one, plan) for one, plan in decided if not _is_recorded(connection, one.digest)]
            models = list(dict.fromkeys(model for one, _ in new for model in (one.champion, one.challenger)))
            known = {record.subject for record in find_seals(connection, ARTEFACT, models)}
        # Asked for outside the transaction: other writers need not wait for the files.
        artefacts = {} if sources is None else {name: sources.artefact(name) for name in models if name not in known}
        prices = {one.digest: sources.prices(plan) for one, plan in new if sources is not None and plan is not None}
        recorded: list[Decision] = []
        if not new:
            return ()
        with transaction(self.engine, write=True) as connection:
            chain = open_chain(connection, self._signer)
            rows = seal_rows(chain)
            seal_artefacts(chain, artefacts)
            for decision, _ in new:
                if _is_recorded(connection, decision.digest):  # by another process meanwhile, or twice among these
                    continue
                values: dict[str, Any] = {
                    "digest": decision.digest,
                    "experiment": decision.experiment,
                    "as_of": pd.Timestamp(decision.as_of).date(),
                    "action": decision.action,
                    "decided_at": utc_now(),
                    "document": decision.to_json(),
                }
                connection.execute(sa.insert(schema.decisions), values)
                epochs = {epoch.number: epoch for epoch in select_epochs(connection, decision.experiment)}
                seal_decision(chain, decision, epochs.get(decision.epoch), rows, prices.get(decision.digest))
                recorded.append(decision)
        return tuple(recorded)

    def approve(self, digest: str, by: str) -> None:
        """Record who approved a decision; the first approval is final.

        Raises
        ------
        LogError
            There is no such decision.
        """
        approvals = schema.approvals
        with transaction(self.engine, write=True) as connection:
            if not _is_recorded(connection, digest):
                raise LogError(f"there is no decision {digest}")
            if connection.execute(sa.select(approvals).where(approvals.c.digest == digest)).first() is None:
                connection.execute(sa.insert(approvals).values(digest=digest, approved_at=utc_now(), approved_by=by))
                seal_approval(open_chain(connection, self._signer), digest, by)

    def record_allocations(self, arms: WeightEpoch, steps: Mapping[str, Sequence[AllocationRecord]]) -> None:
        """Append steps of adaptive allocation; ``LogError`` if another process has taken one of them.

        Parameters
        ----------
        arms
            An epoch with the arms that the steps are about.
        steps
            Name of an experiment -> its steps, one per session; all are written, or none.
        """
        rows = [
            {
                **_allocation_key(experiment, arms),
                "session": record.session,
                "document": json.dumps(record.to_json(), sort_keys=True),
            }
            for experiment, records in steps.items()
            for record in records
        ]
        if rows:
            with transaction(self.engine, write=True) as connection:
                connection.execute(sa.insert(schema.allocations), rows)


_PAIR = ("experiment", "champion", "challenger")


def _is_pair(table: sa.Table, pair: tuple[str, str, str]) -> list[sa.ColumnElement[bool]]:
    return [table.c[name] == value for name, value in zip(_PAIR, pair, strict=True)]


def _traffic_plan(connection: Connection, pair: tuple[str, str, str]) -> ExperimentPlan | None:
    return next(iter(_select_plans(connection, schema.plans, pair)), None)


def _select_plans(
    connection: Connection, table: sa.Table, pair: tuple[str, str, str], *order: sa.ColumnElement[Any]
) -> tuple[ExperimentPlan, ...]:
    query = sa.select(table.c.document, table.c.digest).where(*_is_pair(table, pair)).order_by(*order)
    rows = connection.execute(query).all()
    plans = tuple(ExperimentPlan.from_json(row.document) for row in rows)
    for plan, row in zip(plans, rows, strict=True):
        if plan.digest != row.digest:
            _, champion, challenger = pair
            raise LogError(
                f"the plan of {challenger} against {champion} is not the one that was registered: it was edited"
            )
    return plans


def _is_recorded(connection: Connection, digest: str) -> bool:
    table = schema.decisions
    return connection.execute(sa.select(table.c.id).where(table.c.digest == digest)).first() is not None


def _allocation_key(experiment: str, arms: WeightEpoch) -> dict[str, str]:
    challengers = ",".join(arm.model for arm in arms.challengers)
    return {"experiment": experiment, "champion": arms.champion.model, "challenger": challengers}
