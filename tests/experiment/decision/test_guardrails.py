"""Guardrails over routed requests: a slow or failing challenger is seen, shared trouble is not laid at its door."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from financial_assets.experiment.decision.guardrails import watch_traffic
from financial_assets.experiment.decision.record import Guardrail
from tests.experiment.builders import CHALLENGER, CHAMPION
from tests.experiment.decision.builders import EPOCH, plan, requests


def rails(rows: pd.DataFrame) -> dict[str, Guardrail]:
    return {rail.name: rail for rail in watch_traffic(plan(), [EPOCH], rows).guardrails}


def test_a_healthy_split_fires_nothing() -> None:
    found = rails(requests(3000, slow=0.005, champion_slow=0.005, failed=0.005))
    assert not any(rail.fired for rail in found.values())
    assert set(found) == {"errors", "latency", "sample ratio", "attribution"}


@pytest.mark.parametrize(("fault", "name"), [({"slow": 0.2}, "latency"), ({"failed": 0.2}, "errors")])
def test_a_bad_challenger_is_rolled_back(fault: dict[str, float], name: str) -> None:
    rail = rails(requests(600, **fault))[name]
    assert (rail.fired, rail.action, rail.model) == (True, "rollback", CHALLENGER)


def test_trouble_of_the_plane_is_not_the_challengers() -> None:
    rail = rails(requests(2000, slow=0.3, champion_slow=0.3))["latency"]
    assert (rail.fired, rail.action) == (True, "hold")
    assert f"{CHAMPION} does no better" in rail.reason
    worse = rails(requests(2000, slow=0.6, champion_slow=0.1))["latency"]
    assert (worse.fired, worse.action) == (True, "rollback")


def scored_alone(challenger_s: float, champion_s: float, sessions: int = 20) -> pd.DataFrame:
    """Paired scorings: each arm is asked by itself, one batch a session."""
    days = pd.bdate_range("2010-02-01", periods=sessions)
    arms = ((CHALLENGER, challenger_s), (CHAMPION, champion_s))
    return pd.concat([pd.DataFrame({"session": days, "model": name, "latency_s": took}) for name, took in arms])


def test_who_holds_up_a_shared_server_is_told_by_asking_each_alone() -> None:
    """Routed requests queue behind the slow arm's, so that both are slow there."""
    rows = requests(2000, slow=0.9, champion_slow=0.9)

    def latency(direct: pd.DataFrame | None) -> Guardrail:
        return next(r for r in watch_traffic(plan(), [EPOCH], rows, direct).guardrails if r.name == "latency")

    assert latency(None).action == "hold"
    assert latency(scored_alone(0.9, 0.01)).action == "rollback"
    assert latency(scored_alone(0.9, 0.01)).fired
    for innocent in (scored_alone(0.01, 0.9), scored_alone(0.9, 0.9), scored_alone(0.9, 0.01, sessions=3)):
        assert latency(innocent).action == "hold"
    assert not rails(requests(2000))["latency"].fired


def test_a_timeout_is_slow_and_failed() -> None:
    rows = requests(400)
    rows.loc[rows["model"] == CHALLENGER, "status"] = "timeout"
    found = rails(rows)
    assert found["latency"].fired
    assert found["errors"].fired


def test_requests_that_belong_to_no_arm_stop_conclusions() -> None:
    rail = rails(requests(1000, unattributed=0.1))["attribution"]
    assert (rail.fired, rail.action) == (True, "hold")


def test_a_wrong_split_is_seen_and_a_right_one_is_not() -> None:
    assert rails(requests(3000, share=0.4))["sample ratio"].fired
    assert not rails(requests(3000, share=0.3))["sample ratio"].fired


def test_a_mirror_gets_no_requests_and_that_is_right() -> None:
    mirror = replace(EPOCH, arms=(replace(EPOCH.arms[0], weight=100), replace(EPOCH.arms[1], weight=0), EPOCH.arms[2]))
    rows = requests(500, share=0.0)
    found = {rail.name: rail for rail in watch_traffic(plan(), [mirror], rows).guardrails}
    assert not any(rail.fired for rail in found.values())
    rows.loc[7, "model"] = CHALLENGER
    assert next(r for r in watch_traffic(plan(), [mirror], rows).guardrails if r.name == "sample ratio").fired


def test_epochs_of_other_pairs_do_not_count() -> None:
    others = replace(EPOCH, arms=(EPOCH.arms[0], replace(EPOCH.arms[1], model="other-v9", version=9)), number=2)
    rows = pd.concat([requests(500), requests(500, slow=0.9, epoch=2)])
    found = {rail.name: rail for rail in watch_traffic(plan(), [EPOCH, others], rows).guardrails}
    assert not found["latency"].fired
    assert found["latency"].count < 500


def test_no_requests_are_no_alarm() -> None:
    assert not any(rail.fired for rail in rails(requests(1).iloc[:0]).values())


def test_the_digest_sees_every_request() -> None:
    rows = requests(50)
    changed = rows.copy()
    changed.loc[49, "latency_s"] += 0.001
    assert watch_traffic(plan(), [EPOCH], rows).digest == watch_traffic(plan(), [EPOCH], rows.copy()).digest
    assert watch_traffic(plan(), [EPOCH], rows).digest != watch_traffic(plan(), [EPOCH], changed).digest


def crashes(sent: pd.DatetimeIndex, incidents: int) -> pd.DataFrame:
    """Requests in the order of the log, 50 per session; 5 that were sent together fail per incident."""
    rows = requests(1000, share=0.5)
    rows["sent_at"], rows["session"] = sent, sent.tz_localize(None).normalize()
    for session in range(0, 3 * incidents, 3):
        of_session = np.arange(50 * session, 50 * session + 50)
        in_time = of_session[np.argsort(sent[of_session])]
        rows.loc[in_time[(rows["model"] == CHALLENGER).to_numpy()[in_time]][8:13], "status"] = "failed"
    return rows


def test_requests_that_fail_together_are_one_incident_however_the_log_is_ordered() -> None:
    half = replace(EPOCH, arms=(replace(EPOCH.arms[0], weight=50), replace(EPOCH.arms[1], weight=50), EPOCH.arms[2]))
    first = pd.Timestamp("2010-02-01 21:00", tz="UTC")
    # The log is ordered by ticker, requests are not sent so: a burst is spread over the session.
    within = np.random.default_rng(3).permuted(np.tile(np.arange(50), (20, 1)), axis=1)
    seconds = (np.arange(20)[:, None] * 86_400 + within).ravel()
    rows = crashes(pd.DatetimeIndex(first + pd.to_timedelta(seconds, unit="s")), 4)

    def errors(guardrails: int) -> Guardrail:
        rules = replace(plan(), guardrails=replace(plan().guardrails, incident_requests=guardrails))
        return next(rail for rail in watch_traffic(rules, [half], rows).guardrails if rail.name == "errors")

    assert errors(1).fired
    assert not errors(10).fired
    assert "in 4 incidents" in errors(10).reason
    assert errors(10).observed == errors(1).observed


def test_an_arm_that_fails_once_a_day_is_rolled_back_however_few_its_requests() -> None:
    rows = requests(200, share=0.5, failed=1.0)
    rows["sent_at"] = pd.date_range("2010-02-01 21:00", periods=200, freq="h", tz="UTC")
    early = rows.iloc[:12]
    half = replace(EPOCH, arms=(replace(EPOCH.arms[0], weight=50), replace(EPOCH.arms[1], weight=50), EPOCH.arms[2]))
    found = next(rail for rail in watch_traffic(plan(), [half], early).guardrails if rail.name == "errors")
    assert (found.fired, found.action) == (True, "rollback")
