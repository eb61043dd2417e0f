"""Decisions in the experiment tracker: one run per decision, in an experiment beside that of the trainings."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.decision.series import question_of
from financial_assets.experiment.decision.words import reasons_in_words
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.tracking import KIND_TAG, MlflowTracker

DECISION_TAG = "decision"
"""Tag of a run that holds a decision; its value is the record's SHA-256."""


def track_decision(
    tracker: MlflowTracker, plan: ExperimentPlan, decision: Decision, made_in: Mapping[str, str] | None = None
) -> str:
    """Record a decision with its plan as a tracked run, or return the run that holds it already.

    A process that dies in between leaves a run that did not end successfully: it does not count, and the next call
    records the decision again.

    Parameters
    ----------
    tracker
        That of the trainings; decisions go into their own experiment beside it.
    plan, decision
        What is recorded.
    made_in
        Tags that lead to the pipeline that decided.

    Returns
    -------
    str
        Id of the run.

    Raises
    ------
    TrackingError
        The tracker cannot be reached or refuses.
    """
    recorded = tracker.find(DECISION_TAG, decision.digest)
    if recorded is not None:
        return recorded
    tags = {
        **(made_in or {}),
        KIND_TAG: "decision",
        DECISION_TAG: decision.digest,
        "decision.plan": plan.digest,
        "decision.action": decision.action,
        "decision.as_of": decision.as_of,
        "decision.experiment": decision.experiment,
        "decision.question": question_of(plan),
        "decision.moves_traffic": str(plan.moves_traffic).lower(),
        "decision.epoch": str(decision.epoch),
        "decision.champion": decision.champion,
        "decision.challenger": decision.challenger,
        "mlflow.note.content": "\n".join(reasons_in_words(decision, plan)),
    }
    asked = f", {decision.question}" if decision.question else ""
    name = f"{decision.experiment}, {decision.as_of}{asked}: {decision.action}"
    with tracker.decisions.run(name, tags=tags) as run, tempfile.TemporaryDirectory() as folder:
        run.log_metrics(_metrics(decision))
        for title, record in (("decision", decision), ("plan", plan)):
            path = Path(folder) / f"{title}.json"
            path.write_text(record.document, encoding="utf-8")
            run.log_artifact(path)
        return run.id


def _metrics(decision: Decision) -> dict[str, float]:
    """Figures to compare decisions by, without those that are not defined yet; shares lie in [0, 1]."""
    always = decision.always_on
    latest = decision.looks[-1] if decision.looks else None
    optional = {
        "estimate": decision.estimate,
        "deflated_sharpe": decision.deflated_sharpe,
        "look_z": None if latest is None else latest.z,
        "look_boundary": None if latest is None else latest.boundary,
    }
    return {
        "days": float(decision.days),
        "detectable": decision.detectable,
        "alpha_spent": decision.alpha_spent,
        "always_on_low": always.low,
        "always_on_high": always.high,
        "always_on_log_e": always.log_e,
        **{name: value for name, value in optional.items() if value is not None},
        **{f"guardrail_{rail.name.replace(' ', '_')}": rail.observed for rail in decision.guardrails},
    }
