"""The whole graph: what is in it, what it says of itself, and what the jobs select."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
import yaml

from financial_assets.assets.artifacts import make_artifact_asset
from financial_assets.assets.serving import can_take_part, make_experiment_asset, make_predictor_asset
from financial_assets.assets.training import make_model_asset
from financial_assets.automation.jobs import daily
from financial_assets.definitions import artifact_assets, defs, model_assets, predictor_assets
from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.rollout.state import AvailableModel
from financial_assets.models.search.space import SPACES
from financial_assets.models.variants import VARIANTS as ALL_VARIANTS
from financial_assets.models.variants import Variant, choose_variants
from financial_assets.settings import Settings

ROOT = Path(__file__).parents[2]
GRAPH = defs.resolve_asset_graph()
VARIANTS = Settings().variants
EDGES = {
    "raw_prices": set(),
    "price_panel": {"raw_prices"},
    "features": {"price_panel"},
    "reference_models": {"features"},
    "experiment": {"price_panel", *(f"predictors/{name}" for name in VARIANTS)},
    "predictions": {"experiment"},
    "ab_evaluation": {"predictions", "reference_models"},
    "rollout": {"ab_evaluation"},
    "drift": {"features", "predictions"},
    "daily_signals": {"experiment", "predictions"},
    "sessions/predictions": {"experiment"},
    "sessions/signals": {"experiment"},
    "sessions/evaluation": {"sessions/predictions"},
    "paper_book": {"price_panel", "predictions"},
    "orders": {"daily_signals", "paper_book", "rollout"},
    "completed_session": {"ab_evaluation", "rollout", "drift", "daily_signals", "paper_book", "orders"},
}
for name in VARIANTS:
    EDGES[f"models/{name}"] = {"features"}
    EDGES[f"onnx/{name}"] = {f"models/{name}", "features"}
    EDGES[f"predictors/{name}"] = {f"onnx/{name}"}
    EDGES[f"explanations/{name}"] = {f"models/{name}"}
    if ALL_VARIANTS[name].network in SPACES:
        EDGES[f"search/{name}"] = {"features"}
WALK_FORWARD = {f"walk_forward/{name}" for name in (*VARIANTS, "reference_models")}
EDGES |= {name: {"features"} for name in WALK_FORWARD} | {"walk_forward_report": WALK_FORWARD}
ON_REQUEST = {asset for asset in EDGES if asset.startswith(("search/", "explanations/", "walk_forward", "sessions/"))}

GROUPS = {
    "market_data": {"raw_prices", "price_panel"},
    "features": {"features"},
    "training": {"reference_models", *(f"models/{name}" for name in VARIANTS)},
    "artifacts": {f"onnx/{name}" for name in VARIANTS},
    "serving": {"experiment", *(f"predictors/{name}" for name in VARIANTS)},
    "evaluation": {"predictions", "ab_evaluation", "rollout"},
    "monitoring": {"drift"},
    "signals": {"daily_signals", "completed_session"},
    "trading": {"paper_book", "orders"},
    "sessions": {"sessions/predictions", "sessions/signals", "sessions/evaluation"},
    "search": {asset for asset in ON_REQUEST if asset.startswith("search/")},
    "explanations": {asset for asset in ON_REQUEST if asset.startswith("explanations/")},
    "walk_forward": {"walk_forward_report", *WALK_FORWARD},
}
BLOCKING = {
    "raw_prices": {
        "schema",
        "duplicates",
        "ohlc_order",
        "impossible_values",
        "completeness",
        "consistency",
        "delivery",
    },
    "features": {"schema", "causal"},
    "daily_signals": {"sound"},
    "paper_book": {"chain"},
    "orders": {"chain"},
    **{f"models/{name}": {"not_constant", "no_leak_alarm"} for name in VARIANTS},
}
INFORMING = {
    "raw_prices": {"extreme_moves", "fresh"},
    "ab_evaluation": {"sample_ratio", "attribution", "no_leak_alarm", "var_backtest"},
    "rollout": {"guardrails", "approval"},
    "drift": {"no_drift"},
    "daily_signals": {"coverage", "current"},
    "paper_book": {"reconciles"},
    "orders": {"within_limits", "made"},
    **{f"models/{name}": {"beats_majority"} for name in VARIANTS},
}


def node(asset: str) -> dg.AssetSpec:
    return next(spec for spec in defs.resolve_all_asset_specs() if spec.key.to_user_string() == asset)


def selected(job: str) -> set[str]:
    return {key.to_user_string() for key in defs.resolve_job_def(job).asset_layer.selected_asset_keys}


def test_everything_that_the_graph_needs_is_there() -> None:
    dg.Definitions.validate_loadable(defs)


def test_assets_and_edges() -> None:
    found = {
        key.to_user_string(): {parent.to_user_string() for parent in GRAPH.get(key).parent_keys}
        for key in GRAPH.get_all_asset_keys()
    }
    assert found == EDGES


def test_groups() -> None:
    found: dict[str, set[str]] = {}
    for spec in defs.resolve_all_asset_specs():
        assert spec.group_name is not None
        found.setdefault(spec.group_name, set()).add(spec.key.to_user_string())
    assert found == GROUPS


@pytest.mark.parametrize("asset", sorted(EDGES))
def test_every_asset_says_what_it_is(asset: str) -> None:
    spec = node(asset)
    assert spec.owners
    assert all(owner.startswith("team:") for owner in spec.owners)
    assert spec.kinds
    assert spec.description
    assert len(spec.description) > 40
    assert spec.code_version


def test_checks_and_which_of_them_block() -> None:
    found: dict[bool, dict[str, set[str]]] = {True: {}, False: {}}
    for key in GRAPH.asset_check_keys:
        blocking = bool(GRAPH.get_check_spec(key).blocking)
        found[blocking].setdefault(key.asset_key.to_user_string(), set()).add(key.name)
    assert found == {True: BLOCKING, False: INFORMING}


def test_full_pipeline_is_everything() -> None:
    assert selected("full_pipeline") == set(EDGES) - ON_REQUEST


@pytest.mark.parametrize(
    ("job", "group"), [("search", "search"), ("explain", "explanations"), ("walk_forward", "walk_forward")]
)
def test_studies_are_made_on_request_only(job: str, group: str) -> None:
    assert selected(job) == GROUPS[group] != set()
    for other in ("full_pipeline", "daily", "retrain"):
        assert not selected(other) & GROUPS[group]


def test_daily_neither_trains_nor_exports_nor_deploys() -> None:
    chosen = selected("daily")
    assert chosen == {
        "raw_prices",
        "price_panel",
        "features",
        "experiment",
        "predictions",
        "ab_evaluation",
        "rollout",
        "drift",
        "daily_signals",
        "paper_book",
        "orders",
        "completed_session",
    }
    assert not {
        asset
        for asset in chosen
        if asset.startswith(("models/", "onnx/", "predictors/")) or asset == "reference_models"
    }


@pytest.mark.parametrize("job", ["full_pipeline", "daily", "retrain"])
def test_raw_prices_comes_before_every_other_step_of_a_job(job: str) -> None:
    chosen = selected(job)
    after = {"raw_prices"}
    while more := {asset for asset in chosen - after if EDGES[asset] & after}:
        after |= more
    assert after == chosen


def test_daily_moves_the_clock_by_one_and_stops_there() -> None:
    job = defs.resolve_job_def("daily")
    assert job.run_config is not None
    assert dg.validate_run_config(job, job.run_config)["ops"]["raw_prices"]["config"]["advance_sessions"] == 1
    assert dg.validate_run_config(job, job.run_config)["ops"]["predictions"]["config"] == {
        "replay": False,
        "sessions": None,
    }
    whole = dg.validate_run_config(defs.resolve_job_def("full_pipeline"))
    assert whole["ops"]["raw_prices"]["config"]["advance_sessions"] == 0
    assert whole["ops"]["predictions"]["config"] == {"replay": True, "sessions": None}


def test_retrain_goes_from_prices_to_the_experiment_and_predicts_nothing() -> None:
    assert selected("retrain") == {
        asset for group in ("market_data", "features", "training", "artifacts", "serving") for asset in GROUPS[group]
    }


def test_retrain_moves_the_cut_off_and_no_session_and_nobody_else_moves_it() -> None:
    moves = {
        job: dg.validate_run_config(defs.resolve_job_def(job))["ops"]["raw_prices"]["config"]
        for job in ("retrain", "daily", "full_pipeline")
    }
    assert moves == {
        "retrain": {"advance_sessions": 0, "move_cutoff": True},
        "daily": {"advance_sessions": 1, "move_cutoff": False},
        "full_pipeline": {"advance_sessions": 0, "move_cutoff": False},
    }


def test_one_retraining_and_one_daily_pass_the_queue_at_a_time() -> None:
    instance = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    limits = instance["concurrency"]["runs"]["tag_concurrency_limits"]
    lanes = {f"{job}/lane": job for job in ("retrain", "daily")}
    assert {limit["key"]: limit["limit"] for limit in limits} == dict.fromkeys(lanes, 1)
    for lane, job in lanes.items():
        for other in ("retrain", "daily", "full_pipeline"):
            assert (lane in defs.resolve_job_def(other).tags) == (job == other)


@pytest.mark.parametrize("file", ["dagster.yaml", "k8s/base/dagster/instance/dagster.yaml"])
def test_each_pool_lets_one_step_through_and_dead_runs_free_it(file: str) -> None:
    instance = yaml.safe_load((ROOT / file).read_text())
    assert instance["concurrency"]["pools"] == {"granularity": "op", "default_limit": 1}
    assert instance["run_monitoring"]["enabled"]
    assert instance["run_monitoring"]["free_slots_after_run_end_seconds"] > 0
    assert instance["run_monitoring"]["max_runtime_seconds"] > 0
    nodes = defs.resolve_job_def("full_pipeline").nodes
    assert {pool for node in nodes for pool in node.definition.pools} == {"training", "serving", "price_source"}


def test_every_way_to_run_assets_names_the_owner() -> None:
    for job in ("daily", "full_pipeline", "retrain", "__ASSET_JOB"):
        assert defs.resolve_job_def(job).executor_def.name == "owning_executor"


def test_the_sensors_wait_to_be_switched_on() -> None:
    assert defs.sensors is not None
    assert {sensor.name for sensor in defs.sensors} == {
        *("retrain_on_alert", "retrain_on_drift", "watch_prices"),
        *("notify_webhook", "notify_slack", "notify_email"),
        *("explain_new_models", "report_new_folds", "audit_trading_records"),
    }
    for name in ("retrain_on_alert", "retrain_on_drift"):
        sensor = defs.resolve_sensor_def(name)
        assert sensor.job_name == "retrain"
        assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
        assert sensor.minimum_interval_seconds == Settings().sensor_interval
        assert sensor.description


@pytest.mark.parametrize("job", ["daily", "full_pipeline", "retrain"])
def test_jobs_run_in_one_process_print_to_the_console_and_end_some_day(job: str) -> None:
    definition = defs.resolve_job_def(job)
    config = dg.validate_run_config(definition, definition.run_config)
    assert set(config["execution"]["owning_executor"]) == {"in_process"}
    assert set(config["loggers"]) == {"console"}
    assert int(definition.tags["dagster/max_runtime"]) <= 3600


def test_whatever_a_run_may_change_is_described_in_the_launchpad() -> None:
    found = set()
    for asset in defs.resolve_all_asset_specs():
        node = defs.resolve_asset_graph().get(asset.key).assets_def.node_def
        config = node.config_schema.config_type if isinstance(node, dg.OpDefinition) else None
        for name, field in getattr(config, "fields", {}).items():
            assert field.description, (asset.key, name)
            found.add(name)
    assert found >= {"seed", "max_epochs", "sessions", "advance_sessions", "approve", "minutes", "ablation"}


def test_a_misspelt_configuration_is_refused() -> None:
    with pytest.raises(dg.DagsterInvalidConfigError, match="advance_session"):
        dg.validate_run_config(
            defs.resolve_job_def("daily"), {"ops": {"raw_prices": {"config": {"advance_session": 1}}}}
        )


def test_the_schedule_runs_the_daily_job() -> None:
    schedule = defs.resolve_schedule_def("daily_after_close")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("30 17 * * 1-5", "America/New_York")
    assert schedule.job_name == daily.name == "daily"


def test_each_variant_has_its_assets_in_order() -> None:
    for folder, assets in (("models", model_assets), ("onnx", artifact_assets), ("predictors", predictor_assets)):
        assert [asset.key.to_user_string() for asset in assets] == [f"{folder}/{name}" for name in VARIANTS]


def test_another_variant_is_one_line() -> None:
    variant = Variant("wide", layers=1, hidden=128, dropout=0.1, epochs=5, learning_rate=1e-3)
    model = make_model_asset(variant)
    artifact = make_artifact_asset(variant, model)
    predictor = make_predictor_asset(variant, artifact)
    grown = dg.Definitions.merge(defs, dg.Definitions(assets=[model, artifact, predictor]))
    dg.Definitions.validate_loadable(grown)
    graph = grown.resolve_asset_graph()
    assert graph.get(dg.AssetKey(["predictors", "wide"])).parent_keys == {dg.AssetKey(["onnx", "wide"])}
    assert dg.AssetKey(["models", "wide"]) in graph.get(dg.AssetKey(["onnx", "wide"])).parent_keys
    assert {key.name for key in graph.get(dg.AssetKey(["models", "wide"])).check_keys} == {
        "not_constant",
        "no_leak_alarm",
        "beats_majority",
    }
    assert "1 x 128 LSTM" in (model.specs_by_key[model.key].description or "")


def test_all_variants_have_assets_and_the_ensemble_waits_for_its_members() -> None:
    chosen = choose_variants(ALL_VARIANTS)
    models = [make_model_asset(variant) for variant in chosen]
    artifacts = [make_artifact_asset(*made) for made in zip(chosen, models, strict=True)]
    predictors = [make_predictor_asset(*made) for made in zip(chosen, artifacts, strict=True)]
    experiment = make_experiment_asset(predictors, chosen)
    graph = dg.Definitions(
        assets=[*models, *artifacts, *predictors, experiment], resources=defs.resources
    ).resolve_asset_graph()
    assert {f"predictors/{name}" for name in ALL_VARIANTS} == {
        key.to_user_string() for key in graph.get(dg.AssetKey("experiment")).parent_keys
    } - {"price_panel"}
    parents = {key.to_user_string() for key in graph.get(dg.AssetKey(["models", "ensemble"])).parent_keys}
    assert parents == {"features", "models/baseline", "models/enhanced", "models/lightweight", "models/linear"}
    described = {model.key.path[-1]: model.specs_by_key[model.key].description or "" for model in models}
    assert len(set(described.values())) == len(ALL_VARIANTS)
    assert "baseline, enhanced, lightweight, linear" in described["ensemble"]
    assert "epochs" not in described["linear"]


def test_arms_of_variants_that_are_not_made_any_more_take_part_while_they_get_requests() -> None:
    cutoff = pd.Timestamp("2010-01-29")
    deployed = [
        AvailableModel(f"{variant}-predictor-v{version}", variant, version, cutoff)
        for version, variant in enumerate(("linear", "boosted", "baseline"), 1)
    ]
    arms = (
        Arm("linear-predictor-v1", "linear", 1, "champion", 100, cutoff),
        Arm("boosted-predictor-v2", "boosted", 2, "shadow", 0, cutoff),
    )
    epoch = WeightEpoch("e", 1, pd.Timestamp("2026-01-02", tz="UTC"), arms, "start")
    can = [model.variant for model in can_take_part(deployed, epoch, {"baseline"})]
    assert can == ["linear", "baseline"]
    assert [model.variant for model in can_take_part(deployed, None, {"baseline"})] == ["baseline"]


@pytest.mark.parametrize("asset", sorted(EDGES))
def test_every_asset_refers_to_the_line_that_defines_it(asset: str) -> None:
    references = GRAPH.get(dg.AssetKey.from_user_string(asset)).metadata["dagster/code_references"]
    [reference] = references.code_references  # type: ignore[attr-defined]
    path = Path(reference.file_path)
    assert path.relative_to(ROOT / "financial_assets" / "assets")
    lines = "".join(path.read_text().splitlines()[reference.line_number - 1 : reference.line_number + 25])
    checks = GRAPH.get(dg.AssetKey.from_user_string(asset)).check_keys
    assert ("@checkable_asset" if checks else "@dg.asset") in lines


def test_what_is_made_each_session_has_a_freshness_policy_and_nothing_else() -> None:
    daily_assets = {"raw_prices", "features", "predictions", "daily_signals"}
    assert {name for name in EDGES if GRAPH.get(dg.AssetKey.from_user_string(name)).freshness_policy} == daily_assets


def test_the_launchpad_says_where_universe_and_variants_are_chosen() -> None:
    resources = defs.resolve_job_def("full_pipeline").resource_defs
    fields = {
        name: resources[resource].config_schema.config_type.fields[name].description or ""
        for resource, name in (("market", "tickers"), ("models", "variants"))
    }
    assert "FINANCIAL_ASSETS_HOME" in fields["tickers"]
    assert "select their assets" in fields["variants"]
    node = GRAPH.get(dg.AssetKey("raw_prices")).assets_def.node_def
    assert isinstance(node, dg.OpDefinition)
    assert "another FINANCIAL_ASSETS_HOME" in str(node.config_schema.as_field().description)


def test_every_check_says_what_it_asks_for() -> None:
    silent = [key for key in GRAPH.asset_check_keys if not GRAPH.get_check_spec(key).description]
    assert silent == []


def test_what_is_launched_in_the_browser_runs_in_one_process() -> None:
    config = dg.validate_run_config(defs.resolve_implicit_global_asset_job_def())
    assert set(config["execution"]["owning_executor"]) == {"in_process"}
