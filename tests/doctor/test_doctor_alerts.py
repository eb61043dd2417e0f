"""The doctor's last layer: the same conditions as the rules of Prometheus, without Prometheus."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import NoReturn

import pandas as pd
import pytest
import sqlalchemy as sa
import yaml

from financial_assets.doctor.alerts import FEWEST_REQUESTS, MOST_FAILED, RUNBOOKS, SLOW_S, check_alerts, page_of
from financial_assets.errors import MonitoringError
from financial_assets.experiment.prediction_log import schema
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.market.panel import PricePanel
from financial_assets.monitoring import local
from financial_assets.monitoring.exported.source import Source
from tests.monitoring.monitoring_doubles import BASELINE, ENHANCED, EXPERIMENT, arms, fill, panel

ROOT = Path(__file__).parents[2]
RULES = {
    rule["alert"]: rule
    for group in yaml.safe_load((local.configuration_folder() / "rules.yml").read_text())["groups"]
    for rule in group["rules"]
}


class World:
    """A log that was filled a moment ago."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'predictions.db'}"
        self.prices = panel(sessions=90, tickers=3)

    def fill(self, **how: object) -> None:
        with PredictionLog(self.url) as log:
            epoch = log.open_epoch(EXPERIMENT, arms(), "start", after=0)
            fill(log, epoch, self.prices, self.prices.sessions[20:89], **how)  # type: ignore[arg-type]

    def change(self, **values: object) -> None:
        engine = sa.create_engine(self.url)
        with engine.begin() as connection:
            connection.execute(sa.update(schema.routed).values(**values))
        engine.dispose()

    def seen(self, now: pd.Timestamp | None = None) -> tuple[str, str]:
        checked = check_alerts(self.url, self.panel, now)
        return checked.detail, checked.remedy

    def panel(self) -> PricePanel:
        return self.prices


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_nothing_to_say(world: World) -> None:
    world.fill()
    assert world.seen() == ("no alert's condition holds", "")


def test_failures(world: World) -> None:
    world.fill(failed_every=10)
    detail, remedy = world.seen()
    assert re.search(r"HighErrorRate: 10% of a day's \d+ requests of .* failed", detail)
    assert remedy == "see docs/runbooks/high-error-rate.md"


def test_slow_answers(world: World) -> None:
    world.fill()
    world.change(latency_s=0.31)
    detail, _ = world.seen()
    assert f"HighResponseTime: p95 of {BASELINE} in {EXPERIMENT} is 0.310 s" in detail


def test_lost_answers(world: World) -> None:
    world.fill()
    engine = sa.create_engine(world.url)
    with engine.begin() as connection:
        one = sa.select(sa.func.min(schema.routed.c.id)).scalar_subquery()
        lost = {"status": "unattributed", "model": None}
        connection.execute(sa.update(schema.routed).where(schema.routed.c.id == one).values(**lost))
    engine.dispose()
    detail, remedy = world.seen()
    assert detail == f"UnattributedRequests: 1 of a day's requests of {EXPERIMENT} named no arm"
    assert remedy.endswith("/unattributed-requests.md")


def test_traffic_that_is_not_split_as_weighted(world: World) -> None:
    world.fill(route=lambda number: BASELINE if number % 2 else ENHANCED)
    assert "TrafficMismatch" in world.seen()[0]


def test_a_model_that_is_always_wrong(world: World) -> None:
    world.fill(right=lambda model: model != BASELINE)
    assert f"ModelAccuracyDegraded: {BASELINE} is worse than the majority class" in world.seen()[0]


def test_sessions_without_answers(world: World) -> None:
    world.fill()
    detail, remedy = world.seen(pd.Timestamp.now(tz="UTC") + pd.Timedelta(days=30))
    assert re.search(r"NoPredictions: \d+ sessions have closed since the last answer", detail)
    assert "HighErrorRate" not in detail
    assert remedy.endswith("/no-predictions.md")


def test_old_failures_are_no_news(world: World) -> None:
    world.fill(failed_every=3)
    assert "HighErrorRate" not in world.seen(pd.Timestamp.now(tz="UTC") + pd.Timedelta(days=2))[0]


def test_several_at_once_name_all_their_pages(world: World) -> None:
    world.fill(failed_every=3)
    world.change(latency_s=0.5)
    detail, remedy = world.seen()
    assert detail.count("HighResponseTime") == 2
    assert remedy.count(".md") == detail.count(";") + 1


def test_a_part_of_the_state_that_cannot_be_read(world: World) -> None:
    def damaged() -> NoReturn:
        raise MonitoringError("latest.json is damaged")

    world.fill()
    checked = check_alerts(world.url, world.panel, state=(Source("drift", damaged),))
    assert checked.detail == "StateUnreadable: its part drift cannot be read"
    assert checked.remedy == "see docs/runbooks/state-unreadable.md"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"ready": True, "problems": []}, "no alert's condition holds"),
        ({"ready": False, "problems": ["there are no signals of 2024-03-08"]}, "there are no signals of 2024-03-08"),
        (["something else"], "does not answer"),
    ],
)
def test_an_interface_without_signals_of_the_session(world: World, answer: object, said: str) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/readyz"
            self.send_response(503 if "no signals" in str(answer) else 200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            pass

    world.fill()
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        checked = check_alerts(world.url, world.panel, interface=url)
    finally:
        thread.join()
        server.server_close()
    assert said in checked.detail
    assert ("ApiSessionStale" in checked.detail) == (said != "no alert's condition holds")
    gone = check_alerts(world.url, world.panel, interface=url)
    assert "ApiSessionStale" in gone.detail
    assert gone.remedy.endswith("/api-session-stale.md")


def test_the_thresholds_are_those_of_the_rules() -> None:
    assert RULES["HighErrorRate"]["expr"].strip().endswith(f"> {MOST_FAILED}")
    assert f"> {SLOW_S}\n" in RULES["HighResponseTime"]["expr"]
    assert RULES["HighResponseTime"]["expr"].strip().endswith(f">= {FEWEST_REQUESTS}")


@pytest.mark.parametrize("alert", sorted(RULES))
def test_every_alert_has_a_page_with_the_same_headings_and_the_doctor_knows_it(alert: str) -> None:
    page = f"{RUNBOOKS}/{page_of(alert)}.md"
    assert RULES[alert]["annotations"]["runbook"] == page
    text = (ROOT / page).read_text()
    assert text.startswith(f"# {alert}\n")
    for heading in ("**Meaning.**", "**First look**", "**Mend**", "**Wake**"):
        assert heading in text
    assert "financial-assets doctor" in text or "financial-assets decide" in text
    assert f'"{alert}"' in (ROOT / "financial_assets/doctor/alerts.py").read_text()
