"""Settings become domain objects, none forgotten."""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from financial_assets.errors import MarketDataError, SettingsError, TargetError
from financial_assets.market.clock import HistoricalClock, LiveClock
from financial_assets.market.sources.files import FilePrices
from financial_assets.market.sources.sample import SamplePrices
from financial_assets.market.sources.simulated import SimulatedPrices
from financial_assets.market.sources.yahoo import YahooPrices
from financial_assets.resources import (
    ABTest,
    Market,
    Models,
    Notifications,
    PipelineTracking,
    Retraining,
    Serving,
    Trading,
    make_resources,
)
from financial_assets.serving.local.target import LocalTarget
from financial_assets.settings import Settings, load_settings
from financial_assets.settings.api import ApiSettings


def resources(home: Path, **changes: Any) -> dict[str, Any]:
    return make_resources(load_settings(financial_assets_home=home, **changes))


def market(home: Path, **changes: Any) -> Market:
    found = resources(home, **changes)["market"]
    assert isinstance(found, Market)
    return found


OTHER: dict[str, Any] = {
    "notify_email_from": "models@example.com",
    "smtp_url": "smtp://mail.example.com",
    "tickers": "IBM,GOOG",
    "price_source": "simulated",
    "ingestion_start_date": dt.date(2006, 1, 3),
    "ingestion_end_date": dt.date(2009, 1, 2),
    "quality_policy": "strict",
    "quality_overrides": Path("/elsewhere/overrides.yaml"),
    "external_models": Path("/elsewhere/models"),
    "evaluation_share": 0.3,
    "variants": "baseline,enhanced,linear",
    "sequence_length": 20,
    "max_epochs": 3,
    "hyperparameters": Path("/elsewhere/hyperparameters.yaml"),
    "search_budget": 7.5,
    "search_trials": 12,
    "seed": 7,
    "device": "cpu",
    "progress": True,
    "mlflow_tracking_uri": "sqlite:////elsewhere/mlflow.db",
    "mlflow_experiment_name": "another",
    "mlflow_ui_url": "http://mlflow:5000",
    "dagster_ui_url": "https://dagster.example",
    "prediction_log_url": "sqlite:////elsewhere/predictions.db",
    "rollout_policy": Path("/elsewhere/policy.yaml"),
    "signing_key": Path("/elsewhere/signing.key"),
    "model_owner": "Jane Doe, head of quantitative research",
    "replay_sessions": 11,
    "replay_workers": 9,
    "routed_per_session": 40,
    "request_timeout": 3.5,
    "ready_timeout": 44.0,
    "cost_bps": 2.5,
    "business_aum": 5e7,
    "business_horizon_sessions": 126,
    "business_latency_cost_per_ms": 12.5,
    "business_implementation_cost": 40_000.0,
    "business_books": "long_short,direction",
    "business_ranked_from": 7,
    "business_quantiles": 4,
    "business_gross": 1.5,
    "business_sizing": "kelly",
    "business_kelly_fraction": 0.25,
    "business_kelly_cap": 0.06,
    "business_stop_loss": 0.08,
    "business_capital": 3e6,
    "business_commission_bps": 0.7,
    "business_spread": "estimated",
    "business_half_spread_bps": 3.5,
    "business_impact": 0.9,
    "business_borrow_per_year": 0.012,
    "business_cash_per_year": 0.03,
    "business_delisting_return": -0.3,
    "holdings": Path("/elsewhere/holdings.csv"),
    "orders_capital": 2e6,
    "orders_mode": "long_short",
    "orders_gross": 1.7,
    "orders_per_name": 0.07,
    "orders_per_sector": 0.4,
    "orders_turnover": 0.3,
    "orders_forecast": "evidence",
    "orders_risk_aversion": 2.0,
    "orders_holding_sessions": 9,
    "orders_lot": 100,
    "orders_smallest": 500.0,
    "orders_limit": "tail",
    "orders_tick": 0.05,
    "adjustment": "splits",
    "covariates": "^VIX,^TNX - ^IRX",
    "covariate_files": "/elsewhere/macro.csv",
    "covariate_max_age": 40,
    "recheck_sessions": 7,
    "date_order": "mdy",
    "decimal_mark": "comma",
    "simulated_sessions": 600,
    "simulated_signal": 0.4,
    "simulated_pattern": "parity",
    "simulated_regime_shift": 450,
    "alertmanager_url": "http://alerts:9093",
    "retrain_cooldown_hours": 24.0,
    "retrain_max_attempts": 3,
    "artifact_store_uri": "s3://models/here",
    "artifact_store_secret": "store",
    "serving_gateway_url": "http://mesh:9000",
    "serving_gateway_grpc": "mesh:9001",
    "kubernetes_context": "another",
    "kubernetes_namespace": "elsewhere",
    "gitops_repository": "git@host:team/repository.git",
    "gitops_branch": "environments/dev",
    "gitops_path": "manifests",
    "walk_forward_splits": 7,
    "walk_forward_gap": 9,
    "walk_forward_test_sessions": 63,
    "walk_forward_window": "rolling",
    "walk_forward_window_sessions": 777,
}
"""A value other than the default for every setting that a resource carries."""

CLUSTER = {
    "serving_gateway_url": "http://mesh",
    "artifact_store_uri": "s3://models",
    "gitops_repository": "git@host:team/repository.git",
}

NOT_CARRIED = {
    *ApiSettings.model_fields,  # of a process of its own: tests/api
    "financial_assets_home",
    "price_files",
    "prometheus_url",  # of a command: tests/monitoring/test_dashboard_command.py
    "sensor_interval",
    "serving_target",
    "universe_file",
    "sector_index",
    "market_calendar",
    "notify_webhook_url",  # shown without their paths: tests/monitoring/test_notifications.py
    "notify_slack_url",
    "notify_email_to",  # needs SMTP_URL
}
"""Tested by themselves."""


def fields(found: dict[str, Any]) -> dict[str, Any]:
    kinds = (Market, Models, Serving, ABTest, Trading, Retraining, Notifications, PipelineTracking)
    assert all(isinstance(resource, kinds) for resource in found.values())
    return {f"{name}.{field}": value for name, resource in found.items() for field, value in dict(resource).items()}


def test_every_setting_is_looked_at_here() -> None:
    assert set(OTHER) | NOT_CARRIED == set(Settings.model_fields)


@pytest.mark.parametrize("setting", sorted(OTHER))
def test_every_setting_reaches_a_resource(tmp_path: Path, setting: str) -> None:
    before, after = fields(resources(tmp_path)), fields(resources(tmp_path, **{setting: OTHER[setting]}))
    changed = {name: value for name, value in after.items() if before[name] != value}
    expected = {
        "tickers": ["IBM", "GOOG"],
        "covariates": ["^VIX", "^TNX - ^IRX"],
        "variants": ["baseline", "enhanced", "linear"],
        **{
            name: str(OTHER[name])
            for name in (
                "holdings",
                "ingestion_start_date",
                "ingestion_end_date",
                "quality_overrides",
                "external_models",
                "hyperparameters",
                "rollout_policy",
                "signing_key",
                "model_owner",
            )
        },
    }.get(setting, OTHER[setting])
    assert expected in changed.values()


def test_the_home_reaches_all_of_them(tmp_path: Path) -> None:
    found = resources(tmp_path)
    homeless = ("retraining", "notifications")
    assert {resource.home for name, resource in found.items() if name not in homeless} == {str(tmp_path)}
    assert found["models"].tracking_uri == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert found["ab_test"].log_url == f"sqlite:///{tmp_path / 'predictions.db'}"


def test_no_resource_shows_a_password(tmp_path: Path) -> None:
    carried = resources(
        tmp_path,
        prediction_log_url="postgresql://someone:letmein-1@host/log",
        mlflow_tracking_uri="http://someone:letmein-2@host:5000",
    )
    shown = {name: value for name, value in fields(carried).items() if "host" in str(value)}
    assert set(shown) == {
        "ab_test.log_url",
        "market.log_url",
        "mlflow.tracking_uri",
        "models.tracking_uri",
        "serving.tracking_uri",
    }
    assert "letmein" not in str(shown)


@pytest.mark.parametrize(
    ("source", "kind", "clock"),
    [
        ("sample", SamplePrices, HistoricalClock),
        ("yahoo", YahooPrices, LiveClock),
        ("files", FilePrices, HistoricalClock),
        ("simulated", SimulatedPrices, HistoricalClock),
    ],
)
def test_each_source_with_its_clock(tmp_path: Path, source: str, kind: type, clock: type) -> None:
    changes = {"price_source": source, **({"price_files": "prices/*.csv"} if source == "files" else {})}
    found = market(tmp_path, **changes)
    assert isinstance(found.source(), kind)
    assert found.source().name == source
    assert isinstance(found.clock(), clock)
    assert found.source().live is (clock is LiveClock)


def test_the_simulated_market_is_the_one_that_the_settings_describe(tmp_path: Path) -> None:
    source = market(
        tmp_path, **{name: value for name, value in OTHER.items() if name.startswith(("simulated", "price", "seed"))}
    ).source()
    assert isinstance(source, SimulatedPrices)
    simulated = source.market
    assert (simulated.sessions, simulated.signal_strength, simulated.regime_shift_session) == (600, 0.4, 450)
    assert simulated.seed == 7


def test_an_unknown_source_is_refused(tmp_path: Path) -> None:
    values = dict(market(tmp_path)) | {"price_source": "bloomberg"}
    with pytest.raises(SettingsError, match="PRICE_SOURCE: 'bloomberg'"):
        Market(**values).source()


def test_each_target_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}
    config |= {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    for name in ("local", "kubernetes", "gitops"):
        assert resources(tmp_path, serving_target=name, **CLUSTER)["serving"].target().name == name
    values = dict(resources(tmp_path)["serving"]) | {"serving_target": "laptop"}
    with pytest.raises(SettingsError, match="SERVING_TARGET: 'laptop'; allowed: local, kubernetes, gitops"):
        Serving(**values).target()


def test_what_the_target_refuses_of_its_settings_is_told_at_once(tmp_path: Path) -> None:
    changes = {"gitops_repository": "https://me:secret@host/repository.git"}
    with pytest.raises(SettingsError, match=r"GITOPS_REPOSITORY: .*holds a password"):
        resources(tmp_path, serving_target="gitops", **(CLUSTER | changes))


def test_a_cluster_is_reached_when_it_is_needed_and_not_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    serving = resources(tmp_path, serving_target="kubernetes", kubernetes_context="away", **CLUSTER)["serving"]
    with pytest.raises(TargetError, match=r"no credentials for Kubernetes context away.*KUBERNETES_CONTEXT"):
        serving.target()


def test_a_store_whose_package_is_missing_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r'ARTIFACT_STORE_URI: .*s3fs: pip install "financial-assets\[cluster\]"'):
        resources(tmp_path, serving_target="kubernetes", **CLUSTER)
    resources(tmp_path, serving_target="kubernetes", **(CLUSTER | {"artifact_store_uri": "file:///mnt/artifacts"}))
    resources(tmp_path, **CLUSTER)  # the local target has no use for it


def test_a_store_is_no_silent_default(tmp_path: Path) -> None:
    for missing, name in (("artifact_store_uri", "ARTIFACT_STORE_URI"), ("serving_gateway_url", "SERVING_GATEWAY_URL")):
        values = dict(resources(tmp_path, serving_target="kubernetes", **CLUSTER)["serving"]) | {missing: None}
        with pytest.raises(SettingsError, match=f"{name}: not set; SERVING_TARGET=kubernetes needs it"):
            Serving(**values).check()


def test_a_published_model_names_store_secret_and_namespace(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    store = f"file://{tmp_path}/store"
    changes = {"artifact_store_uri": store, "artifact_store_secret": "store", "kubernetes_namespace": "elsewhere"}
    serving = resources(tmp_path, serving_target="kubernetes", **(CLUSTER | changes))["serving"]
    model = serving.publish("baseline-predictor-v1", tmp_path, {"variant": "baseline"})
    assert model["spec"]["storageUri"].startswith(f"{tmp_path}/store/baseline-predictor-v1-")
    assert (model["spec"]["secretName"], model["metadata"]["namespace"]) == ("store", "elsewhere")
    assert model["metadata"]["labels"] == {"variant": "baseline", "app.kubernetes.io/managed-by": "financial-assets"}
    local = resources(tmp_path)["serving"].publish("baseline-predictor-v1", tmp_path, {})
    assert local["spec"] == {"storageUri": tmp_path.as_uri(), "requirements": ["financial-onnx"]}


def test_the_local_target_is_the_default(tmp_path: Path) -> None:
    assert isinstance(resources(tmp_path)["serving"].target(), LocalTarget)


def test_no_prices_name_universe_home_and_asset(tmp_path: Path) -> None:
    with pytest.raises(MarketDataError, match=r"no prices of AAPL, MSFT in .*run `financial-assets run`"):
        market(tmp_path).prices()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.999])
def test_clock_and_cutoff_begin_together_before_the_evaluation_share(tmp_path: Path, share: float) -> None:
    found = market(tmp_path, price_source="simulated", simulated_sessions=400, evaluation_share=share)
    ingested = found.ingest().prices
    sessions = found.whole_panel().sessions
    found.begin(sessions)
    first = found.clock().now()
    assert first == found.cutoff().get() == found.first_cutoff().get()
    assert first == sessions[max(0, int(400 * (1 - share)) - 1)]
    assert found.panel().sessions[-1] == first
    assert len(ingested) == 2 * 400
    found.begin(sessions[:200])
    assert first == found.clock().now() == found.cutoff().get() == found.first_cutoff().get()


def test_dates_limit_what_is_ingested_and_what_is_seen(tmp_path: Path) -> None:
    span = {"ingestion_start_date": dt.date(2005, 6, 1), "ingestion_end_date": dt.date(2005, 12, 30)}
    found = market(tmp_path, price_source="simulated", simulated_sessions=400, **span)
    delivered = found.ingest().prices["date"]
    assert str(delivered.min().date()) == "2005-06-01"
    assert str(delivered.max().date()) == "2005-12-30"
    narrower = market(
        tmp_path,
        price_source="simulated",
        simulated_sessions=400,
        **(span | {"ingestion_end_date": dt.date(2005, 7, 1)}),
    )
    assert str(narrower.prices()["date"].max().date()) == "2005-07-01"
