"""The judge: plans are registered, two series are judged by them, and the verdict is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from financial_assets.api.access import route_class
from financial_assets.api.errors import ApiError, Problem
from financial_assets.api.routes.common import errors
from financial_assets.api.schemas.judge import (
    EvidenceAnswer,
    Interval,
    JudgeAnswer,
    JudgeRequest,
    OutcomeRow,
    PlanAnswer,
)
from financial_assets.experiment.judge.judging import bound_to, judge_series
from financial_assets.experiment.judge.kept import Kept
from financial_assets.experiment.judge.plan import JudgePlan
from financial_assets.experiment.judge.series import Outcome
from financial_assets.experiment.judge.store import JudgeStore, RegisteredPlan
from financial_assets.experiment.judge.verdict import judge_nothing

router = APIRouter(prefix="/v1/judge", tags=["judge"], route_class=route_class("verdicts", "judge"))
_registration = APIRouter(route_class=route_class("judge"))

PlanPath = Annotated[str, Path(max_length=128, description="Name of the plan")]


def store_of(request: Request) -> JudgeStore:
    """The store of the application."""
    found: JudgeStore = request.app.state.judge
    return found


def now_of(request: Request) -> datetime:
    """The server's clock."""
    clock: Callable[[], datetime] = request.app.state.clock
    return clock()


@_registration.put(
    "/plans/{name}",
    responses=errors(409, 413, 422) | {201: {"model": PlanAnswer, "description": "Registered"}},
)
async def register(request: Request, response: Response, name: PlanPath, plan: JudgePlan) -> PlanAnswer:
    """Register a plan before its data. The same plan again is answered with 200; another under its name with 409."""
    found, is_new = await asyncio.to_thread(store_of(request).register, name, plan, now_of(request))
    response.status_code = 201 if is_new else 200
    return _plan_answer(found)


router.include_router(_registration)


@router.get("/plans/{name}", responses=errors(404))
async def plan(request: Request, name: PlanPath) -> PlanAnswer:
    """A registered plan, by name or digest."""
    return _plan_answer(await asyncio.to_thread(store_of(request).find, name))


@router.get("/plans/{name}/verdict", responses=errors(404))
async def verdict(request: Request, name: PlanPath) -> JudgeAnswer:
    """The verdict that is kept: of the series that were sent last, or the one that was reached before."""
    return await kept_verdict(request, name, None)


@router.post("", responses=errors(404, 409, 413, 422))
async def judge(request: Request, asked: JudgeRequest) -> JudgeAnswer:
    """Judge two series by a registered plan. Poll as often as you like, and stop when you like.

    Without series the kept verdict is answered. With series the key needs the scope `judge`.
    """
    if asked.control is None and asked.candidate is None:
        return await kept_verdict(request, asked.plan, asked.revision)
    request.app.state.access.require(request, "judge")
    missing = [arm for arm in ("control", "candidate") if getattr(asked, arm) is None]
    if missing:
        _refuse(missing[0], "is missing: send both series, or neither for the verdict that is kept")
    control, candidate = asked.control or [], asked.candidate or []
    most = request.app.state.judge_most_outcomes
    if len(control) + len(candidate) > most:
        raise ApiError(
            413,
            "too_many_outcomes",
            f"control and candidate have {len(control) + len(candidate):,} outcomes; at most {most:,} are taken",
            "send daily outcomes instead of requests, or allow more: JUDGE_MOST_OUTCOMES",
            problems=[Problem(field="control", message="control and candidate are too long together")],
        )

    def work() -> tuple[RegisteredPlan, Kept]:
        store = store_of(request)
        found = store.find(asked.plan)
        outcomes = {"control": _outcomes(control), "candidate": _outcomes(candidate)}
        kept = judge_series(
            store,
            found,
            outcomes,  # type: ignore[arg-type]
            complete_through=asked.complete_through,
            revision=asked.revision,
            now=now_of(request),
        )
        return found, kept

    return _count(request, answer_of(*await asyncio.to_thread(work)))


async def kept_verdict(request: Request, name: str, revision: str | None) -> JudgeAnswer:
    """The kept verdict of a plan, for who asks about a revision of the candidate."""

    def work() -> tuple[RegisteredPlan, Kept]:
        store = store_of(request)
        found = store.find(name)
        return found, bound_to(store, found, revision)

    return _count(request, answer_of(*await asyncio.to_thread(work)))


def answer_of(plan: RegisteredPlan, kept: Kept) -> JudgeAnswer:
    """A judgement as an answer."""
    found = kept.judgement or judge_nothing(plan.plan)
    action = "hold" if plan.plan.retrospective else found.verdict
    return JudgeAnswer(
        plan=plan.name,
        plan_digest=plan.digest,
        verdict=found.verdict,
        action=action,
        reason=found.reason,
        final=found.final,
        decided_by=found.decided_by,
        unit=plan.plan.unit,
        estimate=found.estimate,
        interval=Interval(low=found.low, high=found.high, level=found.level),
        better=EvidenceAnswer(e_value=found.better.e_value, p_value=found.better.p_value),
        worse=EvidenceAnswer(e_value=found.worse.e_value, p_value=found.worse.p_value),
        units=found.units,
        control_outcomes=found.control,
        candidate_outcomes=found.candidate,
        clipped=found.clipped,
        left_out=found.left_out,
        dependence=found.dependence,
        split_p_value=found.split_p_value,
        last_unit=found.last_unit,
        largest_difference=plan.plan.bound,
        score={"promote": 100, "hold": 50, "rollback": 0}[action],
        classification={"promote": "Pass", "hold": "Marginal", "rollback": "Fail"}[action],  # type: ignore[arg-type]
        retrospective=plan.plan.retrospective,
        revision=kept.revision or plan.plan.revision,
        series=kept.series,
        registered_at=plan.registered_at,
        judged_at=kept.judged_at,
    )


def _count(request: Request, answer: JudgeAnswer) -> JudgeAnswer:
    request.app.state.metrics.judgements.labels(answer.action).inc()
    return answer


def _outcomes(rows: Sequence[OutcomeRow]) -> list[Outcome]:
    return [Outcome(row.at, row.value, row.id) for row in rows]


def _plan_answer(found: RegisteredPlan) -> PlanAnswer:
    return PlanAnswer(
        name=found.name,
        digest=found.digest,
        registered_at=found.registered_at,
        starts=found.start,
        largest_difference=found.plan.bound,
        plan=found.plan,
    )


def _refuse(field: str, message: str) -> None:
    raise ApiError(
        422,
        "invalid_request",
        f"{field}: {message}",
        "correct the fields in `problems`; /docs shows what is allowed",
        problems=[Problem(field=field, message=message)],
    )
