"""The kept verdict in the words of deployment tools: Flagger's webhooks, and the calls of Kayenta's clients.

Argo Rollouts needs nothing of its own: its web metric reads ``action`` of the judge's answer.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Request

from financial_assets.api.access import route_class
from financial_assets.api.errors import ApiError, Problem
from financial_assets.api.routes.common import errors
from financial_assets.api.routes.judge import PlanPath, kept_verdict, store_of
from financial_assets.api.schemas.judge import (
    FlaggerGate,
    FlaggerPayload,
    JudgeAnswer,
    KayentaConfig,
    KayentaExecution,
    KayentaJudgement,
    KayentaRequest,
    KayentaResult,
    KayentaResultBody,
    KayentaScore,
)

router = APIRouter(prefix="/v1/judge", tags=["judge"], route_class=route_class("verdicts", "judge"))

_CLOSED = {
    "rollout": "rolled_back",
    "confirm-promotion": "not_promoted",
    "rollback": "not_rolled_back",
}


@router.post("/flagger/{gate}", responses=errors(404, 409, 413, 422))
async def flagger(
    request: Request,
    gate: Annotated[FlaggerGate, Path(description="Type of the webhook")],
    payload: FlaggerPayload,
) -> JudgeAnswer:
    """A webhook of Flagger: 200 opens its gate, 409 keeps it closed, and the message says why.

    `confirm-rollout` opens once the plan is registered; `rollout` unless the action is rollback; `confirm-promotion` on
    promote; `rollback` on rollback.
    """
    name = payload.metadata.get("plan", "")
    if not name:
        raise ApiError(
            422,
            "invalid_request",
            "metadata.plan: is missing",
            "name the plan in the webhook's metadata",
            problems=[Problem(field="metadata.plan", message="is missing")],
        )
    answer = await kept_verdict(request, name, payload.checksum or None)
    is_open = {
        "confirm-rollout": True,
        "rollout": answer.action != "rollback",
        "confirm-promotion": answer.action == "promote",
        "rollback": answer.action == "rollback",
    }
    if not is_open[gate]:
        # Not 5xx: Flagger's client would ask again at once, and the answer would be the same.
        more = "; the plan is retrospective, so no deployment acts on it" if answer.retrospective else ""
        raise ApiError(
            409,
            _CLOSED[gate],
            f"{name}: {answer.reason}{more}",
            "nothing is broken: ask again later",
        )
    return answer


@router.get("/kayenta/canaryConfig", responses=errors())
async def kayenta_configs(request: Request) -> list[KayentaConfig]:
    """All plans, as Kayenta lists its configurations."""
    plans = await asyncio.to_thread(store_of(request).plans)
    return [KayentaConfig(id=name, name=name) for name in plans]


@router.post("/kayenta/canary/{name}", responses=errors(404, 413, 422))
async def kayenta_begin(request: Request, name: PlanPath, asked: KayentaRequest) -> KayentaExecution:
    """Begin an analysis, as Kayenta does: its id names the plan and a score between the two thresholds."""
    found = await asyncio.to_thread(store_of(request).find, name)
    limits = asked.thresholds
    if limits.marginal >= limits.pass_:
        message = "must be less than pass: a score between them says that nothing is shown yet"
        raise ApiError(
            422,
            "invalid_request",
            f"thresholds.marginal: {message}",
            "set marginal 25 and pass 75, for example",
            problems=[Problem(field="thresholds.marginal", message=message)],
        )
    return KayentaExecution(canaryExecutionId=f"{found.name}~{(limits.pass_ + limits.marginal) // 2}")


@router.get("/kayenta/canary/{execution}", responses=errors(404))
async def kayenta_result(
    request: Request, execution: Annotated[str, Path(max_length=140, description="canaryExecutionId")]
) -> KayentaResult:
    """The result of an analysis: a score of 100 to promote, 0 to roll back, and one in between to hold."""
    name, _, between = execution.rpartition("~")
    if not name or not between.isdigit():
        fix = "POST /v1/judge/kayenta/canary/PLAN begins one"
        raise ApiError(404, "unknown_execution", f"{execution!r} is not the id of an analysis", fix)
    answer = await kept_verdict(request, name, None)
    score = {"promote": 100.0, "rollback": 0.0, "hold": float(between)}[answer.action]
    found = KayentaScore(score=score, classification=answer.classification, classificationReason=answer.reason)
    return KayentaResult(
        complete=True, status="succeeded", result=KayentaResultBody(judgeResult=KayentaJudgement(score=found))
    )
