"""The manifests as they would be applied: every rule on every overlay, and what is rendered from elsewhere."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import pg_url_from_config
from sqlalchemy import create_engine

from financial_assets.monitoring.boards import BOARDS, Board
from financial_assets.monitoring.boards.grafana import render as rendered
from financial_assets.serving.gitops.yaml_text import replace_resources
from tests.k8s import k8s_access_rules as access
from tests.k8s.k8s_objects import Object, instance, instance_files, of_kind, one
from tests.k8s.k8s_rules import RULES

pytestmark = pytest.mark.debian("kubernetes-client")

ROOT = Path(__file__).parents[2]
Render = Callable[[str], list[Object]]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("folder", ["base", "overlays/dev"])
def test_every_rule_holds(render: Render, folder: str, rule: str) -> None:
    assert list(RULES[rule](render(folder))) == []


def test_alert_rules_are_those_of_the_laptop(render: Render) -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    assert one(render("base"), "PrometheusRule", "financial-assets")["spec"] == rules
    made = runpy.run_path(str(ROOT / "deploy/prometheus/render_rule.py"))
    assert made["TARGET"].read_text() == made["render"](), "run deploy/prometheus/render_rule.py"


@pytest.mark.parametrize("folder", ["base", "overlays/dev"])
@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_the_sidecar_of_grafana_finds_every_board(render: Render, folder: str, board: Board) -> None:
    config = one(render(folder), "ConfigMap", f"grafana-{board.name}")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert config["data"] == {f"{board.name}.json": rendered(board)}
    assert len(config["data"][f"{board.name}.json"]) < 2**20, "etcd takes no larger object"


@pytest.mark.parametrize("folder", ["base", "overlays/dev"])
def test_dagster_takes_the_instance(
    render: Render, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubernetes.config.load_incluster_config", lambda: None)
    found = instance(instance_files(render(folder))["dagster.yaml"], tmp_path)  # Dagster's own schema of the file
    for name in ("HOST", "DB", "USERNAME", "PASSWORD"):
        monkeypatch.setenv(f"DAGSTER_PG_{name}", "x")
    storage = found.storage_data
    assert storage is not None
    config = process_config(
        resolve_to_config_type(DagsterPostgresStorage.config_type()), yaml.safe_load(storage.config_yaml)
    )
    assert config.value is not None, config.errors
    create_engine(pg_url_from_config(config.value))  # the driver that the URL names is installed
    launcher = found.run_launcher
    assert (launcher.job_namespace, launcher.instance_config_map) == ("financial-mlops-pytorch", "dagster-instance")
    assert type(found.run_coordinator).__name__ == "QueuedRunCoordinator"
    folder_of_logs = found.compute_log_manager._base_dir
    assert Path(folder_of_logs).is_relative_to("/var/lib/financial-assets")
    # Runs mount the whole instance folder's file, and the file names it.
    assert launcher.dagster_home == "/opt/dagster/home"


def test_nothing_but_the_kustomization_names_a_version_of_an_image() -> None:
    named = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (ROOT / "k8s").rglob("*.yaml")
        for line in path.read_text().splitlines()
        if line.strip().removeprefix("- ").startswith("image:") and ":" in line.split("image:", 1)[1].strip()
    ]
    assert named == []


@pytest.mark.parametrize("folder", ["base", "overlays/dev"])
def test_a_run_is_made_of_the_image_of_its_code_location(render: Render, folder: str) -> None:
    (location,) = one(render(folder), "Deployment", "dagster-code-location")["spec"]["template"]["spec"]["containers"]
    assert {"name": "DAGSTER_CURRENT_IMAGE", "value": location["image"]} in location["env"]


def test_the_folder_of_gitops_is_valid_empty_and_can_be_filled(render: Render, tmp_path: Path) -> None:
    path = ROOT / "k8s/overlays/dev/serving/kustomization.yaml"
    assert render("overlays/dev/serving") == []
    filled = yaml.safe_load(replace_resources(path.read_text(), ["model-baseline-predictor-v1.yaml"]))
    assert filled["resources"] == ["model-baseline-predictor-v1.yaml"]


def test_the_volume_of_the_shared_store_is_the_one_that_runs_write(render: Render) -> None:
    objects = render("overlays/dev")
    store = one(objects, "ConfigMap", "financial-assets-settings")["data"]["ARTIFACT_STORE_URI"].removeprefix("file://")
    claims = {item["metadata"]["namespace"]: item["spec"] for item in of_kind(objects, "PersistentVolumeClaim")}
    paths = {
        volume["spec"]["claimRef"]["namespace"]: volume["spec"]["hostPath"]["path"]
        for volume in of_kind(objects, "PersistentVolume")
        if volume["metadata"]["name"] == claims[volume["spec"]["claimRef"]["namespace"]]["volumeName"]
    }
    assert len(paths) == 2
    assert len(set(paths.values())) == 1
    containers = one(objects, "Server", "mlserver-financial")["spec"]["podSpec"]["containers"]
    (mount,) = next(c for c in containers if c["name"] == "rclone")["volumeMounts"]
    assert mount["mountPath"] == store
    assert store == f"/var/lib/financial-assets/{mount['subPath']}"


def test_the_guides_address_of_the_log_names_an_installed_driver() -> None:
    (address,) = re.findall(r"PREDICTION_LOG_URL=(\S+)", access.GUIDE.read_text())[:1]
    assert create_engine(address).dialect.driver == "psycopg2"
