"""An application with a judge of its own and a clock that tests set; what deployment tools send to it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import numpy as np

from tests.api.local_client import LocalClient

START = datetime(2026, 1, 1, tzinfo=UTC)
PLAN: dict[str, Any] = {
    "outcomes": "daily",
    "unit_reason": "Days are independent of one another.",
    "low": 0,
    "high": 1,
    "effect": 0.03,
    "deviation": 0.05,
}


class Clock:
    """The server's clock."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def series(count: int, edge: float) -> dict[str, list[dict[str, Any]]]:
    """Daily outcomes of both arms from the first day on."""
    rng = np.random.default_rng(0)
    control = np.clip(rng.normal(0.5, 0.1, 400), 0, 1)
    candidate = np.clip(control + rng.normal(edge, 0.05, 400), 0, 1)
    days = [(date(2026, 1, 1) + timedelta(days=number)).isoformat() for number in range(count)]
    return {
        arm: [{"at": day, "value": value} for day, value in zip(days, values.tolist(), strict=False)]
        for arm, values in (("control", control), ("candidate", candidate))
    }


def register(client: LocalClient, name: str, **changes: Any) -> httpx.Response:
    return client.request("PUT", f"/v1/judge/plans/{name}", json=PLAN | changes)


def judged(client: LocalClient, name: str, edge: float, count: int = 300) -> dict[str, Any]:
    """Register a plan and judge a candidate that is better by ``edge``."""
    clock: Clock = client.app.state.clock
    assert register(client, name).status_code in (200, 201)
    before, clock.now = clock.now, START + timedelta(days=500)
    answer = client.post("/v1/judge", json={"plan": name, **series(count, edge)})
    clock.now = before
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found
