"""The sensors that tell people: each failure once, recoveries, and what a channel that is down costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from financial_assets.automation.notifications import make_notify_sensors
from financial_assets.definitions import defs
from financial_assets.errors import NotificationError
from financial_assets.resources import make_resources
from financial_assets.settings import load_settings
from tests.monitoring.listeners import Chat, listening

FRESH = dg.AssetCheckKey(dg.AssetKey("raw_prices"), "fresh")


@dg.op
def breaks() -> None:
    try:
        raise ValueError("the vendor closed the door")
    except ValueError as error:
        raise RuntimeError("prices cannot be read") from error


@dg.op
def works() -> None:
    """Does."""


def run(instance: dg.DagsterInstance, op: Any, name: str = "daily", **tags: str) -> str:
    job = dg.GraphDefinition(name=name, node_defs=[op]).to_job(name=name, tags=tags)
    return job.execute_in_process(instance=instance, raise_on_error=False).run_id


class World:
    """An instance, a chat, and what the sensor remembers from tick to tick."""

    def __init__(self, home: Path, instance: dg.DagsterInstance, chat: Chat) -> None:
        self.home, self.instance, self.chat = home, instance, chat
        self.cursor: str | None = None
        self.tick()  # switched on

    def tick(self, **settings: Any) -> Any:
        found = make_resources(
            load_settings(
                financial_assets_home=self.home,
                notify_slack_url=self.chat.url + "/services/one",
                dagster_ui_url="http://dagster:3000/",
                **settings,
            )
        )
        with dg.build_sensor_context(
            instance=self.instance,
            definitions=defs,
            cursor=self.cursor,
            resources={"notifications": found["notifications"]},
        ) as context:
            data = defs.resolve_sensor_def("notify_slack").evaluate_tick(context)
        self.cursor = data.cursor
        return data

    @property
    def texts(self) -> list[str]:
        return [content["text"] for _, content in self.chat.received]

    def check(self, passed: bool, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR) -> None:
        self.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=FRESH.asset_key,
                check_name=FRESH.name,
                passed=passed,
                severity=severity,
                description="no session is overdue" if passed else "2026-11-27 is overdue",
            )
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance, listening(Chat()) as chat:
        yield World(tmp_path / "home", instance, chat)


def test_nothing_has_happened(world: World) -> None:
    assert world.tick().skip_message == "nothing has failed since the last tick"
    assert world.texts == []


def test_a_failed_run_is_told_once_with_its_first_cause_and_a_link(world: World) -> None:
    run(world.instance, works)
    failed = run(world.instance, breaks, session="2026-11-27")
    world.tick()
    world.tick()
    [text] = world.texts
    assert text == (
        f"failed: job daily, session 2026-11-27 (run {failed[:8]})\n"
        "breaks: ValueError: the vendor closed the door\n"
        f"http://dagster:3000/runs/{failed}"
    )


def test_a_later_tag_of_a_failed_run_is_no_news(world: World) -> None:
    failed = run(world.instance, breaks)
    world.tick()
    world.instance.add_run_tags(failed, {"looked": "at"})
    world.tick()
    assert len(world.texts) == 1


def test_failures_of_before_are_not_told_when_it_is_switched_on(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance, listening(Chat()) as chat:
        run(instance, breaks)
        world = World(tmp_path / "home", instance, chat)
        world.tick()
        assert world.texts == []


def test_a_run_of_another_code_location_is_left_to_its_owners(world: World) -> None:
    run(world.instance, breaks, name="of_somebody_else")
    world.tick()
    assert world.texts == []


def test_a_check_is_told_when_it_begins_to_fail_and_when_it_passes_again(world: World) -> None:
    for passed in (True, False, False, True, True):
        world.check(passed)
        world.tick()
    assert [text.splitlines()[0] for text in world.texts] == [
        "failed check: fresh of raw_prices",
        "passes again: fresh of raw_prices",
    ]
    assert world.texts[0].splitlines()[1:] == [
        "2026-11-27 is overdue",
        "http://dagster:3000/assets/raw_prices?view=checks",
    ]


def test_a_warning_wakes_nobody(world: World) -> None:
    world.check(False, dg.AssetCheckSeverity.WARN)
    world.tick()
    assert world.texts == []


def test_what_a_channel_did_not_take_is_sent_by_the_next_tick(world: World) -> None:
    run(world.instance, breaks)
    world.check(False)
    world.chat.status = 503
    before = world.cursor
    with pytest.raises(NotificationError, match="503"):
        world.tick()
    assert (world.texts, world.cursor) == ([], before)
    world.chat.status = 200
    world.tick()
    [text] = world.texts
    assert "failed: job daily" in text
    assert "failed check: fresh of raw_prices" in text


def test_sensors_run_by_themselves_once_their_channel_is_set(tmp_path: Path) -> None:
    states = {sensor.name: sensor.default_status.name for sensor in make_notify_sensors(60, {"slack"})}
    assert states == {"notify_webhook": "STOPPED", "notify_slack": "RUNNING", "notify_email": "STOPPED"}


def test_a_sensor_without_its_channel_says_which_setting_it_needs(tmp_path: Path) -> None:
    found = make_resources(load_settings(financial_assets_home=tmp_path))
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(
            instance=instance, definitions=defs, resources={"notifications": found["notifications"]}
        ) as context,
    ):
        data = defs.resolve_sensor_def("notify_email").evaluate_tick(context)
    assert data.skip_message == "set NOTIFY_EMAIL_TO and SMTP_URL: nobody is told of anything here"
