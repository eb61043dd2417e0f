"""The doctor on what is stored: a fault planted in each layer is named first, with its remedy; nothing changes."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from financial_assets.doctor import examine
from financial_assets.doctor.stores import check_artefacts, check_log, check_registry, check_state_folder
from financial_assets.doctor.walk import LayerError
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.records import Result
from financial_assets.market.store import PriceStore
from financial_assets.models.onnx.export import file_sha256
from financial_assets.serving.manifests import EXPERIMENT_NAME
from financial_assets.tracking import MlflowTracker, ModelRegistry, ModelVersion
from tests.doctor.doctor_home import ARMS, BARS, named_first, onnx_of, snapshot
from tests.serving.tiny_models import write_model


def test_a_bad_setting_leaves_all_else_not_reached(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQUENCE_LENGTH", "ten")
    findings = named_first("settings", detail="SEQUENCE_LENGTH: got 'ten'", remedy="set or unset the variable")
    assert {finding.state for finding in findings[1:]} == {"not reached"}


def test_a_malformed_policy_is_a_setting(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "policy.yaml").write_text("experiment: [")
    monkeypatch.setenv("ROLLOUT_POLICY", str(home / "policy.yaml"))
    named_first("settings", detail="is not YAML", remedy="variable")


def test_a_deleted_file_of_hyperparameters_is_a_warning(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERPARAMETERS", str(home / "deleted.yaml"))
    settings, *others = examine()
    assert (settings.state, settings.remedy) == ("warn", "correct HYPERPARAMETERS, or the file that it names")
    assert f"HYPERPARAMETERS: {home / 'deleted.yaml'} cannot be read" in settings.detail
    assert "not reached" not in {finding.state for finding in others[:2]}


def test_a_damaged_table_of_covariates_is_a_setting(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "macro.csv"
    table.write_text("date,known_at,name,value\n2020-01-02,2020-01-02,cpi,high\n", encoding="utf-8")
    monkeypatch.setenv("COVARIATE_FILES", str(table))
    named_first("settings", detail="macro.csv, row 2, value: 'high' is not a number", remedy="correct the file")


def test_a_home_that_is_not_there_or_a_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINANCIAL_ASSETS_HOME", str(home / "absent"))
    named_first("state folder", detail="does not exist", remedy="FINANCIAL_ASSETS_HOME")
    monkeypatch.setenv("FINANCIAL_ASSETS_HOME", str(home / "clock.json"))
    named_first("state folder", detail="is not a folder", remedy="FINANCIAL_ASSETS_HOME")


def test_a_full_disk_and_a_folder_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_state_folder(tmp_path, free_bytes=2 << 30).remedy == ""
    assert "make room" in check_state_folder(tmp_path, free_bytes=1 << 29).remedy
    with pytest.raises(LayerError, match=r"0\.0 GB free"):
        check_state_folder(tmp_path, free_bytes=1 << 20)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(LayerError, match="cannot be written to"):
        check_state_folder(tmp_path)


def _damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_damaged_store_file(home: Path) -> None:
    _damage(home / "prices" / "prices.parquet")
    findings = named_first("price store", detail="is damaged", remedy="`rm -r ")
    assert {f.layer: f.state for f in findings}["artefacts"] == "not reached"


def test_a_damaged_change_of_the_store(home: Path) -> None:
    store = PriceStore(home / "prices")
    bars = store.read()
    store.upsert(bars.assign(volume=bars["volume"].where(bars["date"] < bars["date"].max(), 1.0)))
    (change,) = (home / "prices" / "changes").glob("*.parquet")
    _damage(change)
    named_first("price store", detail=change.name, remedy="materialize")
    change.unlink()
    named_first("price store", detail="the history names it", remedy="materialize")


def test_an_impossible_stored_price(home: Path) -> None:
    path = home / "prices" / "prices.parquet"
    prices = pd.read_parquet(path)
    prices.loc[10, "high"] = prices.loc[10, "low"] / 2
    prices.to_parquet(path, index=False)
    named_first("price store", detail="ohlc_order: ", remedy="materialize")


def test_a_ticker_without_prices_another_source_and_a_lost_clock(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKERS", "AAA,ZZZ")
    named_first("price store", detail="no prices of ZZZ", remedy="TICKERS")
    monkeypatch.setenv("TICKERS", "AAA,BBB")
    monkeypatch.setenv("SIMULATED_SIGNAL", "0.9")
    named_first("price store", detail="holds the state of", remedy="FINANCIAL_ASSETS_HOME")
    monkeypatch.delenv("SIMULATED_SIGNAL")
    (home / "clock.json").unlink()
    named_first("price store", detail="clock.json is missing", remedy="--select raw_prices` restores it")


@pytest.mark.parametrize("content", ["", "{", '{"claim": 7}'])
def test_damaged_trading_days(home: Path, content: str) -> None:
    (home / "days.json").write_text(content)
    named_first("price store", detail="days.json", remedy=f"`rm -r {home}/days.json`")
    (home / "days.json").unlink()
    assert {finding.layer: finding.state for finding in examine()}["price store"] == "ok"


def test_prices_that_end_before_the_clock_are_a_warning(home: Path) -> None:
    path = home / "prices" / "prices.parquet"
    prices = pd.read_parquet(path)
    now = pd.Timestamp(json.loads((home / "clock.json").read_text())["as_of"])
    prices[(prices["ticker"] == "AAA") | (prices["date"] < now)].to_parquet(path, index=False)
    found = {finding.layer: finding for finding in examine()}["price store"]
    assert (found.state, "BBB" in found.detail, "-j daily" in found.remedy) == ("warn", True, True)


# --- MLflow and the prediction log -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plant", "detail"),
    [
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: path.write_bytes(b"no database" * 500), "file is not a database"),
        (lambda path: path.write_bytes(b""), "lacks the tables experiments, model_versions"),
        (
            lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
            "database disk image is malformed",
        ),
    ],
    ids=["missing", "damaged", "empty", "truncated"],
)
def test_mlflows_database(
    home: Path, monkeypatch: pytest.MonkeyPatch, plant: Callable[[Path], object], detail: str
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    plant(home / "mlflow.db")
    before = snapshot(home)
    findings = named_first(
        "MLflow",
        detail=detail,
        remedy="MLFLOW_" if detail in ("does not exist", "lacks the tables experiments, model_versions") else "`mv ",
    )
    assert {f.layer: f.state for f in findings}["artefacts"] == "not reached"
    assert snapshot(home) == before


def test_an_unreachable_server_and_a_registry_without_versions_or_aliases(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(Exception, match="is the server running there"):
            check_registry(f"http://127.0.0.1:{closed.getsockname()[1]}")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracker, registry = MlflowTracker(uri, "x", tmp_path / "artifacts"), ModelRegistry(uri)
    with tracker.run("x", tags={}, params={}) as run:
        run.log_artifact(made / "clock.json", "model")
    with pytest.raises(LayerError, match="holds no model version"):
        check_registry(uri)
    registry.register(run.id, "model", {"variant": "baseline"})
    assert "--select experiment" in check_registry(uri).remedy


def test_a_log_that_is_absent_damaged_or_holds_no_epoch(home: Path) -> None:
    path = home / "predictions.db"
    path.unlink()
    named_first("prediction log", detail="does not exist", remedy="PREDICTION_LOG_URL")
    assert not path.exists()
    path.write_bytes(b"no database" * 500)
    named_first("prediction log", detail="file is not a database", remedy=f"put {path} back")
    path.unlink()
    PredictionLog(f"sqlite:///{path}").close()
    findings = named_first("prediction log", detail="no weight epoch", remedy="--select experiment")
    states = {finding.layer: finding.state for finding in findings}
    assert (states["gateway"], states["routing"], states["artefacts"]) == ("ok", "not reached", "not reached")


def test_a_locked_log(home: Path) -> None:
    path = home / "predictions.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        holder.execute("UPDATE weight_epochs SET reason = 'x'")
        named_first("prediction log", detail="locked", remedy=f"`fuser {path}`")


def test_open_intents_and_requests_without_an_arm_are_warnings(home: Path) -> None:
    with PredictionLog(f"sqlite:///{home / 'predictions.db'}") as log:
        epoch = log.current_epoch(EXPERIMENT_NAME)
        assert epoch is not None
        days = pd.bdate_range("2024-01-02", periods=2)
        first, _ = log.begin_routed(epoch, days[0], days[1], ["AAA", "BBB"])
        log.complete_routed([Result(first.id, None, "failed", error="503")])
        before = (home / "predictions.db").read_bytes()
        found = {finding.layer: finding for finding in examine()}  # while a writer has the log open
        assert (home / "predictions.db").read_bytes() == before
    assert (found["prediction log"].state, "1 open" in found["prediction log"].detail) == ("warn", True)
    assert (found["attribution"].state, "1 of 3" in found["attribution"].detail) == ("warn", True)


def test_a_log_of_another_release(home: Path) -> None:
    with contextlib.closing(sqlite3.connect(home / "predictions.db")) as connection, connection:
        connection.execute("UPDATE prediction_log_version SET version = 99")
    with pytest.raises(LayerError, match="version 99"):
        check_log(f"sqlite:///{home / 'predictions.db'}", EXPERIMENT_NAME)


# --- artefacts -------------------------------------------------------------------------------------------------------


def test_a_damaged_or_missing_onnx_file(home: Path) -> None:
    path = onnx_of(home, ARMS[2])
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    named_first("artefacts", detail="lightweight-predictor-v3: SHA-256", remedy="--select onnx/lightweight")
    path.unlink()
    findings = named_first("artefacts", detail="does not exist", remedy="--select onnx/lightweight")
    assert {f.layer: f.state for f in findings}["attribution"] == "ok"  # serving has a copy of its own


def _registered(path: Path, version: int = 1) -> ModelVersion:
    tags = {"variant": "baseline", "fingerprint": path.parents[1].name, "onnx_sha256": file_sha256(path)}
    return ModelVersion("m", version, "run", tags)


def test_a_registered_file_that_cannot_run_or_answers_nan(tmp_path: Path) -> None:
    path = tmp_path / "baseline" / "print1" / "artifact" / "model.onnx"
    write_model(path.parent, float("nan"))
    with pytest.raises(LayerError, match="answers NaN"):
        check_artefacts(tmp_path, ARMS[:1], [_registered(path)], BARS)
    path.write_bytes(b"no model")
    with pytest.raises(LayerError, match="onnxruntime cannot run"):
        check_artefacts(tmp_path, ARMS[:1], [_registered(path)], BARS)
    with pytest.raises(LayerError, match="the registry has no version 1"):
        check_artefacts(tmp_path, ARMS[:1], [_registered(path, version=2)], BARS)
