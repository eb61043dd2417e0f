"""Decisions of the experiment, and the models that take part: read from the prediction log at each request."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from financial_assets.api.access import route_class
from financial_assets.api.routes.common import errors, sessions_of
from financial_assets.api.schemas.records import DecisionRecord, Decisions, ModelArm, Models
from financial_assets.installation.ab_test import ABTestState
from financial_assets.monitoring.metrics import open_log

router = APIRouter(prefix="/v1", route_class=route_class("records"))


@router.get("/decisions", responses=errors(422), tags=["records"])
async def decisions(
    request: Request, last: Annotated[int, Query(ge=1, le=500, description="How many at most")] = 20
) -> Decisions:
    """The latest decisions about challengers: promote, hold or roll back, with their reasons."""
    sessions = sessions_of(request)
    return await sessions.in_thread(_decisions, sessions.installation.ab_test, last)


@router.get("/models", responses=errors(), tags=["records"])
async def models(request: Request) -> Models:
    """Champion, challengers and shadows, with their weights."""
    sessions = sessions_of(request)
    return await sessions.in_thread(_models, sessions.installation.ab_test)


def _decisions(ab_test: ABTestState, last: int) -> Decisions:
    experiment = ab_test.policy().experiment
    with open_log(ab_test.log_url) as log:
        found = log.decisions(experiment, last=last)
        return Decisions(
            experiment=experiment,
            decisions=[
                DecisionRecord.model_validate(
                    {
                        "digest": decision.digest,
                        **{
                            name: getattr(decision, name)
                            for name in DecisionRecord.model_fields
                            if name not in ("digest", "approved_by", "reasons", "weights")
                        },
                        "reasons": list(decision.reasons),
                        "weights": dict(decision.weights),
                        "approved_by": log.approved_by(decision.digest),
                    }
                )
                for decision in reversed(found)
            ],
        )


def _models(ab_test: ABTestState) -> Models:
    with open_log(ab_test.log_url) as log:
        epoch = ab_test.current_epoch(log)
    return Models(
        experiment=epoch.experiment,
        epoch=epoch.number,
        opened_at=epoch.opened_at.to_pydatetime(),
        reason=epoch.reason,
        arms=[
            ModelArm(
                model=arm.model,
                variant=arm.variant,
                version=arm.version,
                role=arm.role,
                weight=arm.weight,
                share=epoch.propensity(arm.model),
                data_cutoff=arm.data_cutoff.date(),
            )
            for arm in epoch.arms
        ],
    )
