"""A retraining moves the data cut-off of what it trains, up to the clock, and leaves every other model as it is."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import psutil
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType

from financial_assets.assets.artifacts import make_artifact_asset
from financial_assets.assets.features import features
from financial_assets.assets.market import price_panel, raw_prices
from financial_assets.assets.training import make_model_asset, reference_models
from financial_assets.models.baselines.fitted import Baselines
from financial_assets.models.variants import Variant
from financial_assets.resources import make_resources
from financial_assets.settings import load_settings
from financial_assets.tracking.owners import OWNER_HOST, OWNER_PID, OWNER_STARTED
from financial_assets.workflows.run_history import RETRAIN

ONE, OTHER = (
    Variant(name, layers=1, hidden=4, dropout=0.1, epochs=1, learning_rate=1e-2, batch_size=256)
    for name in ("one", "other")
)
MODELS = [make_model_asset(variant) for variant in (ONE, OTHER)]
ARTIFACT = make_artifact_asset(ONE, MODELS[0])
CHAIN = ("raw_prices", "price_panel", "features", "reference_models", "models/one", "onnx/one")
ADVANCED = 30


class World:
    """One home, and the jobs over it that the graph has, with two tiny variants."""

    def __init__(self, home: Path, instance: dg.DagsterInstance) -> None:
        settings = load_settings(
            financial_assets_home=home, price_source="simulated", simulated_sessions=700, device="cpu", progress=False
        )
        resources = make_resources(settings)
        self.market, self.models = resources["market"], resources["models"]
        self.instance = instance
        self.defs = dg.Definitions(
            assets=[raw_prices, price_panel, features, reference_models, *MODELS, ARTIFACT],
            jobs=[
                dg.define_asset_job("whole", selection=dg.AssetSelection.all()),
                dg.define_asset_job(
                    RETRAIN,
                    selection=dg.AssetSelection.all(),
                    config={"ops": {"raw_prices": {"config": {"move_cutoff": True}}}},
                ),
            ],
            resources={"market": self.market, "models": self.models},
        )

    def run(self, job: str, *assets: str, tags: dict[str, str] | None = None) -> dg.ExecuteInProcessResult:
        return self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey(name.split("/")) for name in assets] or None,
            tags=tags,
            raise_on_error=False,
        )

    def cutoffs(self) -> dict[str, pd.Timestamp | None]:
        return {name: self.market.cutoff_of(name) for name in ("reference_models", "models/one", "models/other")}

    def pins(self) -> dict[str, str]:
        return json.loads((self.market.folder / "training.json").read_text())

    def versions(self) -> dict[int, tuple[str, str]]:
        found = self.models.registry().versions()
        return {version.version: (version.tags["variant"], version.tags["data_cutoff"]) for version in found}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Trained once; then the clock went on for a while."""
    with dg.DagsterInstance.ephemeral() as instance:
        made = World(tmp_path_factory.mktemp("home"), instance)
        assert made.run("whole").success
        later = made.market.whole_panel().sessions
        made.market.clock().advance_to(later[later > made.market.clock().now()][ADVANCED - 1])
        yield made


@pytest.fixture(scope="module")
def retrained(world: World) -> World:
    """One variant of two, as a sensor asks for it: the job's own configuration, a part of its assets."""
    assert world.run(RETRAIN, *CHAIN).success
    return world


def test_the_cut_off_of_what_is_trained_moves_up_to_the_clock_and_no_other(retrained: World) -> None:
    now, first = retrained.market.clock().now(), retrained.market.first_cutoff().get()
    assert first is not None
    assert now > first
    assert retrained.cutoffs() == {"reference_models": now, "models/one": now, "models/other": first}
    assert retrained.market.cutoff().get() == first
    assert retrained.market.load_panel().sessions[-1] == now, "no session was advanced"


def test_the_new_version_learned_up_to_the_clock(retrained: World) -> None:
    now, first = (
        f"{session:%Y-%m-%d}" for session in (retrained.market.clock().now(), retrained.market.first_cutoff().get())
    )
    assert retrained.versions() == {1: ("one", first), 2: ("one", now)}
    assert retrained.models.lifecycle().training_of(2).cutoff == retrained.market.clock().now()
    assert retrained.models.lifecycle().training_of(1).cutoff == retrained.market.first_cutoff().get()


def test_a_full_run_afterwards_trains_nothing_and_moves_nothing(retrained: World) -> None:
    before, versions = retrained.pins(), retrained.versions()
    result = retrained.run("whole")
    assert result.success
    for variant in ("one", "other"):
        (event,) = result.asset_materializations_for_node(f"models__{variant}")
        assert event.metadata["reused"].value == "True"
    assert (retrained.pins(), retrained.versions()) == (before, versions)


def test_the_cut_off_that_an_earlier_version_kept_of_the_asset_baselines_is_found(make_market: Any) -> None:
    market = make_market()
    market.folder.mkdir(parents=True)
    stored = {"data_cutoff": "2006-01-03", "data_cutoff of baselines": "2006-03-01"}
    (market.folder / "training.json").write_text(json.dumps(stored))
    assert market.cutoff_of("reference_models") == pd.Timestamp("2006-03-01")
    assert market.cutoff_of("models/one") == pd.Timestamp("2006-01-03")


def test_baselines_of_every_cut_off_are_kept(retrained: World) -> None:
    now, first = retrained.market.clock().now(), retrained.market.first_cutoff().get()
    assert first is not None
    latest = Baselines.load(retrained.models.baselines_path)
    assert latest.cutoff == f"{now:%Y-%m-%d}"
    for cutoff, expected in (
        (now, now),
        (now + pd.Timedelta(days=9), now),
        (now - pd.Timedelta(days=1), first),
        (first, first),
        (first - pd.Timedelta(days=1), first),
    ):
        assert retrained.models.baselines_for(cutoff).cutoff == f"{expected:%Y-%m-%d}"
    assert retrained.models.baselines_for(first) != latest


# --- one at a time ---


@pytest.fixture
def small(tmp_path: Path) -> Iterator[World]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(tmp_path, instance)


def begun(world: World, tags: dict[str, str] | None = None) -> dg.DagsterRun:
    """Another retraining that is running."""
    return world.instance.create_run_for_job(
        world.defs.resolve_job_def(RETRAIN), tags=tags, status=dg.DagsterRunStatus.STARTED
    )


def end(world: World, run: dg.DagsterRun, how: DagsterEventType) -> None:
    for kind in (DagsterEventType.RUN_START, how):
        world.instance.report_dagster_event(DagsterEvent(kind.value, run.job_name), run.run_id, logging.INFO)


def failure(result: dg.ExecuteInProcessResult) -> str:
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    data: Any = failed.event_specific_data
    return str(data.user_failure_data.description)


EPISODE = {"retrain/episode": "ab/one-predictor-v1", "retrain/attempt": "1", "retrain/life": "first"}


@pytest.mark.parametrize("tags", [None, EPISODE, EPISODE | {"retrain/episode": "ab/other-predictor-v2"}])
def test_a_retraining_gives_way_to_an_earlier_one_before_it_changes_anything(
    small: World, tags: dict[str, str] | None
) -> None:
    earlier = begun(small, tags)
    for mine in (None, EPISODE):
        refused = small.run(RETRAIN, "raw_prices", tags=mine)
        assert not refused.success
        assert earlier.run_id in failure(refused)
        assert "nothing was changed" in failure(refused)
        assert not [event for event in refused.all_events if event.is_step_up_for_retry]
    assert list(small.market.folder.iterdir()) == []
    end(small, earlier, DagsterEventType.RUN_FAILURE)
    assert small.run(RETRAIN, "raw_prices").success


def test_a_retraining_whose_process_was_killed_is_in_nobody_s_way(small: World) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(process.pid).create_time()
    owner = {OWNER_HOST: socket.gethostname(), OWNER_PID: str(process.pid), OWNER_STARTED: str(started)}
    try:
        earlier = begun(small, owner)
        assert earlier.run_id in failure(small.run(RETRAIN, "raw_prices"))
    finally:
        process.kill()
        process.communicate()
    assert small.run(RETRAIN, "raw_prices").success


def test_an_episode_that_was_answered_is_not_answered_twice(small: World) -> None:
    assert small.run(RETRAIN, "raw_prices", tags=EPISODE).success
    again = small.run(RETRAIN, "raw_prices", tags=EPISODE | {"retrain/attempt": "2"})
    assert "has already answered ab/one-predictor-v1" in failure(again)
    assert small.run(RETRAIN, "raw_prices", tags=EPISODE | {"retrain/life": "second"}).success
    assert small.run(RETRAIN, "raw_prices").success, "by hand"


def test_other_jobs_give_way_to_nobody(small: World) -> None:
    begun(small)
    assert small.run("whole", "raw_prices").success


def test_a_cut_off_never_goes_back(small: World) -> None:
    assert small.run("whole", "raw_prices").success
    sessions = small.market.whole_panel().sessions
    now = small.market.clock().now()
    assert small.market.move_cutoff("models/one", sessions) == now
    assert small.market.move_cutoff("models/one", sessions[sessions < now - pd.Timedelta(days=99)]) == now


def test_the_cut_off_is_a_session_with_prices(small: World) -> None:
    """A live clock may be ahead of a source that delivers late."""
    assert small.run("whole", "raw_prices").success
    sessions = small.market.whole_panel().sessions
    small.market.clock().advance_to(sessions[600])
    assert small.market.move_cutoff("models/one", sessions[:599]) == sessions[598]
