"""The state of an object by its conditions: ready, pending, or failed for good.

The operator never writes ``observedGeneration``. So whether a condition belongs to the last change is decided by
comparing it with the one that the API server returned together with that change.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from financial_assets.serving.manifests import Manifest

_MAIN = {"Model": "ModelReady", "Experiment": "ExperimentReady", "Server": "Ready"}
# A change of these alone makes no new model version, hence no transition of its condition.
_QUIET = frozenset({"replicas", "minReplicas", "maxReplicas", "logger"})
# Codes of the scheduler after which the operator does not try again. It writes `ModelReady=False` on an Experiment for
# every error, a lost connection included, and never takes it back.
_FINAL = re.compile(r"\bcode = (FailedPrecondition|Unimplemented)\b")


@dataclass(frozen=True)
class Verdict:
    """Ready, pending or failed, and the condition behind it."""

    state: Literal["ready", "pending", "failed"]
    why: str


def judge(document: Manifest) -> Verdict:
    """The state by the object's own conditions, taken as current."""
    if document["metadata"].get("deletionTimestamp"):
        return Verdict("failed", "it is being deleted; apply it again once it is gone")
    kind = document["kind"]
    if kind == "Model":
        return _judge_model(document)
    return _judge_experiment(document) if kind == "Experiment" else _all_true(document, ("Ready",))


def is_current(document: Manifest, written: Manifest) -> bool:
    """Whether the main condition differs from the one at the time when the object was written."""
    main = _MAIN[document["kind"]]
    return _condition(document, main) != _condition(written, main)


def passing_error(document: Manifest) -> Manifest:
    """The condition by which an Experiment says that the scheduler could not take it at the time; empty without one.

    The operator repeats the change until the scheduler takes it. The condition stays when it has.
    """
    if document["kind"] != "Experiment":
        return {}
    refused = _condition(document, "ModelReady")
    is_passing = refused.get("status") == "False" and not _is_final(refused)
    return refused if is_passing else {}


def restarts(before: Manifest | None, after: Manifest) -> bool:
    """Whether a write changed what is served, so that an older verdict no longer counts."""
    if before is None:
        return False
    fields = {*before["spec"], *after["spec"]} - _QUIET
    return any(before["spec"].get(field) != after["spec"].get(field) for field in fields)


def _judge_model(document: Manifest) -> Verdict:
    ready = _condition(document, "ModelReady")
    if not ready:
        return Verdict("pending", "no condition ModelReady yet; does the operator run?")
    # This operator puts the state word into `message` and the error text into `reason`.
    shown = f"ModelReady={ready.get('status')} {ready.get('message', '')}: {ready.get('reason', '')}".strip(": ")
    if ready.get("status") == "True":
        spec, available = document["spec"], int((document.get("status") or {}).get("availableReplicas") or 0)
        wanted = int(spec.get("replicas") or spec.get("minReplicas") or 1)
        if available < wanted:
            return Verdict("pending", f"{shown}, but {available} of {wanted} replicas are available")
        return Verdict("ready", shown)
    return Verdict("failed" if ready.get("message") == "ModelFailed" else "pending", shown)


def _judge_experiment(document: Manifest) -> Verdict:
    refused = _condition(document, "ModelReady")
    if refused.get("status") == "False" and _is_final(refused):
        return Verdict(
            "failed",
            f"the scheduler rejected it: {refused['reason']}; the operator never takes this verdict back, so correct "
            "it, delete the Experiment and apply it again",
        )
    verdict = _all_true(document, ("ExperimentReady", "CandidatesReady", "MirrorReady"))
    passing = passing_error(document)
    if verdict.state == "pending" and passing:
        shown = f"{verdict.why}; the operator tries again after: {passing.get('reason') or 'no reason given'}"
        return Verdict("pending", shown)
    return verdict


def _is_final(refused: Manifest) -> bool:
    return bool(_FINAL.search(str(refused.get("reason", ""))))


def _all_true(document: Manifest, names: Collection[str]) -> Verdict:
    for name in names:
        condition = _condition(document, name)
        if condition.get("status") != "True":
            shown = (
                f"{name}={condition['status']} {condition.get('reason', '')}"
                if condition
                else f"no condition {name} yet"
            )
            return Verdict("pending", shown.strip())
    return Verdict("ready", ", ".join(f"{name}=True" for name in names))


def _condition(document: Manifest, name: str) -> Manifest:
    conditions = (document.get("status") or {}).get("conditions") or []
    return next((dict(condition) for condition in conditions if condition.get("type") == name), {})
