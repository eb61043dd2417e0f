"""Families of metrics about the questions of an experiment: what was answered, and how far each test has come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import Metric

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.decision.series import question_of
from financial_assets.experiment.prediction_log.reader import LogReader
from financial_assets.monitoring.families import gauge

_LABELS = ("model_name", "experiment", "question")
_ANSWERS = {"promote": 1.0, "hold": 0.0, "rollback": -1.0}
_RECENT = 64
"""Decisions of an experiment that are read: more than the challengers and questions of one session."""


def questions(log: LogReader, epochs: Sequence[WeightEpoch]) -> Iterator[Metric]:
    """The answer to each question about each present challenger, its sessions, and whether traffic follows it."""
    answers: dict[tuple[str, ...], float] = {}
    sessions: dict[tuple[str, ...], float] = {}
    planned: dict[tuple[str, ...], float] = {}
    moves: dict[tuple[str, ...], float] = {}
    for epoch in epochs:
        latest = _latest(log, epoch.experiment)
        for arm in epoch.challengers:
            for plan in log.plans(epoch.experiment, epoch.champion.model, arm.model):
                labels, decision = (arm.model, epoch.experiment, question_of(plan)), latest.get(plan.digest)
                moves[labels], planned[labels] = float(plan.moves_traffic), float(plan.looks[-1])
                if decision is not None:
                    answers[labels], sessions[labels] = _ANSWERS[decision.action], float(decision.days)
    meaning = "Latest answer to a question: 1 the challenger is better, -1 it is worse or does harm, 0 still open"
    yield gauge("ab_test_question_answer", meaning, answers, _LABELS)
    yield gauge("ab_test_question_sessions", "Evaluated sessions of a question's test", sessions, _LABELS)
    yield gauge("ab_test_question_planned_sessions", "Sessions at the last planned look of it", planned, _LABELS)
    yield gauge("ab_test_question_moves_traffic", "1 if requests follow the answer to the question", moves, _LABELS)


def _latest(log: LogReader, experiment: str) -> dict[str, Decision]:
    """Digest of a plan -> its latest decision; an answer that moves no traffic stands, however old it is."""
    found = {decision.plan_digest: decision for decision in log.decisions(experiment, last=_RECENT)}
    standing = {one.plan_digest: one for one in reversed(log.concluded(experiment)) if not one.moves_traffic}
    return {**found, **standing}
