"""What follows from data alone: the conditions of the real assets, evaluated as Dagster's daemon does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from financial_assets.automation.conditions import SENSORS
from financial_assets.definitions import defs

MODEL, EXPLANATION = dg.AssetKey(["models", "baseline"]), dg.AssetKey(["explanations", "baseline"])
FOLDS, REPORT = dg.AssetKey(["walk_forward", "baseline"]), dg.AssetKey("walk_forward_report")
CHAINS = {dg.AssetCheckKey(dg.AssetKey(name), "chain") for name in ("orders", "paper_book")}
Evaluate = Callable[..., set[dg.AssetKey | dg.AssetCheckKey]]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def evaluate(instance: dg.DagsterInstance) -> Evaluate:
    """What a tick requests; each goes on after the one before it."""
    cursor = None

    def tick(selection: dg.AssetSelection, now: datetime | None = None) -> set[dg.AssetKey | dg.AssetCheckKey]:
        nonlocal cursor
        found = dg.evaluate_automation_conditions(
            defs, instance, asset_selection=selection, cursor=cursor, evaluation_time=now
        )
        cursor = found.cursor
        return {result.key for result in found.results if result.true_subset.size}

    return tick


def made(instance: dg.DagsterInstance, key: dg.AssetKey, version: str = "1", partition: str | None = None) -> None:
    tags = {"dagster/data_version": version}
    instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition, tags=tags))


def test_a_variant_is_explained_after_each_new_model_and_not_after_one_that_was_reused(
    instance: dg.DagsterInstance, evaluate: Evaluate
) -> None:
    explanations = dg.AssetSelection.groups("explanations")
    assert evaluate(explanations) == set(), "without a model there is nothing to explain"
    made(instance, MODEL, "1")
    assert evaluate(explanations) == {EXPLANATION}
    made(instance, EXPLANATION)
    assert evaluate(explanations) == set()
    made(instance, MODEL, "1")
    assert evaluate(explanations) == set(), "the training was reused"
    made(instance, MODEL, "2")
    assert evaluate(explanations) == {EXPLANATION}
    assert evaluate(explanations) == set(), "it is asked for once"


def test_the_report_follows_folds_of_which_others_may_be_missing(
    instance: dg.DagsterInstance, evaluate: Evaluate
) -> None:
    report = dg.AssetSelection.assets(REPORT)
    evaluate(report)
    assert evaluate(report) == set()
    made(instance, FOLDS, partition="fold-2")
    assert evaluate(report) == {REPORT}
    made(instance, REPORT)
    assert evaluate(report) == set()


def test_the_record_of_the_desk_is_audited_once_a_day(evaluate: Evaluate) -> None:
    audited = dg.AssetSelection.checks(*CHAINS)
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    evaluate(audited, noon)
    assert evaluate(audited, noon + timedelta(hours=16)) == set(), "04:00"
    assert evaluate(audited, noon + timedelta(hours=18)) == CHAINS
    assert evaluate(audited, noon + timedelta(hours=19)) == set()
    assert evaluate(audited, noon + timedelta(hours=42)) == CHAINS


def test_nothing_else_is_automated_and_every_sensor_waits_to_be_switched_on() -> None:
    graph = defs.resolve_asset_graph()
    conditions = {key for key in graph.get_all_asset_keys() if graph.get(key).automation_condition is not None}
    explained = {key for key in graph.get_all_asset_keys() if key.path[0] == "explanations"}
    assert conditions == explained | {REPORT}
    checks = {key for key in graph.asset_check_keys if graph.get_check_spec(key).automation_condition is not None}
    assert checks == CHAINS
    watched = set()
    for sensor in SENSORS:
        assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
        selection = sensor.asset_selection
        watched |= selection.resolve(graph) | (selection.resolve_checks(graph) & CHAINS)
    assert watched >= conditions | CHAINS
    repository = defs.get_repository_def()
    assert "default_automation_condition_sensor" not in {sensor.name for sensor in repository.sensor_defs}
