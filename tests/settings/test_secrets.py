"""A password in an address reaches nothing that is printed or written, whatever goes wrong with the address."""

import logging
import socket
import traceback
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

from financial_assets.assets.monitoring import drift
from financial_assets.automation.sensors import make_retrain_sensors
from financial_assets.cli.main import main
from financial_assets.errors import SettingsError
from financial_assets.resources import Models, make_resources
from financial_assets.settings import Settings, load_settings

SECRET = "Zq7Sword%40Fish"
FORMS = ("Zq7Sword", "Sword%40Fish", "Sword@Fish")
ADDRESSES = sorted(name for name in Settings.model_fields if name.endswith(("_url", "_uri", "_repository")))
PATHS = ("PRICE_FILES", "ROLLOUT_POLICY", "FINANCIAL_ASSETS_HOME")
CLUSTER = {
    "SERVING_TARGET": "gitops",
    "SERVING_GATEWAY_URL": "http://mesh",
    "ARTIFACT_STORE_URI": "s3://models",
    "GITOPS_REPOSITORY": "git@host:repository.git",
}


def leaks(*texts: str) -> list[str]:
    return [line for text in texts for line in text.splitlines() if any(form in line for form in FORMS)]


@pytest.fixture
def nobody() -> Iterator[str]:
    """``host:port`` where nobody listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{reserved.getsockname()[1]}"


def test_every_address_is_looked_at_here() -> None:
    assert sorted(name for name, field in Settings.model_fields.items() if not field.repr) == ADDRESSES


REFUSED = [
    f"ftp://user:{SECRET}@host/x",
    f"nonsense+driver://user:{SECRET}@host/x",
    f"postgresql://user:{SECRET}@host:port/x",
    f"postgresql+nonsense://user:{SECRET}@host/x",
    "postgresql://user:Zq7Sword@Fish@host/x",
    f"http://user:{SECRET}@host:port",
    "http://user:Zq7Sword/Fish@host",
    f"http://host?password={SECRET}",
    f"user:{SECRET}@host",
    f"s3://user:{SECRET}@bucket",
    f"s3://bucket/x?secret={SECRET}",
]


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (name, address)
        for name in (*map(str.upper, ADDRESSES), *PATHS)
        for address in REFUSED
        if name not in PATHS or "://" in address  # without a scheme it is a path, as far as anybody can tell
        if not (name.startswith("NOTIFY") and address.startswith("http://host?"))  # where webhooks have their secrets
    ],
)
def test_an_address_that_is_refused_is_shown_without_its_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, address: str
) -> None:
    for other, value in CLUSTER.items():
        monkeypatch.setenv(other, value)
    monkeypatch.setenv(name, address)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert f"{name}: got" in str(caught.value)
    assert leaks("".join(traceback.format_exception(caught.value))) == []


@dg.asset
def versions(models: Models) -> None:
    """What every asset of models does first."""
    models.registry().versions()


def test_neither_dagster_nor_a_log_nor_a_file_holds_the_secret(
    nobody: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Steps and sensors that cannot reach what their addresses name; the instance keeps its files on disk."""
    home, stored = tmp_path / "home", tmp_path / "dagster"
    stored.mkdir()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    market = {"financial_assets_home": home, "price_source": "simulated", "simulated_sessions": 400}
    mlflow = load_settings(**market, mlflow_tracking_uri=f"http://someone:{SECRET}@{nobody}")
    log = load_settings(
        **market,
        prediction_log_url=f"postgresql://someone:{SECRET}@{nobody}/log",
        alertmanager_url=f"http://someone:{SECRET}@{nobody}",
    )
    assert leaks(repr(mlflow), repr(log)) == []
    resources = make_resources(log)
    begun = make_resources(load_settings(**market))["market"]
    begun.ingest()
    begun.begin(begun.whole_panel().sessions)
    caplog.set_level(logging.DEBUG)
    with dg.DagsterInstance.local_temp(str(stored)) as instance:
        tries = ((versions, mlflow, "MLFLOW_TRACKING_URI"), (drift, log, "PREDICTION_LOG_URL"))
        for asset, settings, said in tries:
            failed = dg.materialize(
                [asset], resources=make_resources(settings), instance=instance, raise_on_error=False
            )
            (event,) = failed.get_step_failure_events()
            assert said in str(event.event_specific_data)  # it came as far as to the address
        (on_alert, _) = make_retrain_sensors(60)
        with (
            dg.build_sensor_context(instance=instance, resources=resources) as context,
            pytest.raises(Exception, match="ALERTMANAGER_URL") as caught,
        ):
            on_alert(context)
    assert leaks(caplog.text, "".join(traceback.format_exception(caught.value))) == []
    files = [path for folder in (home, stored) for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path for path in files if any(form.encode() in path.read_bytes() for form in FORMS)] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_TRACKING_URI", "mysql://u:Zq7Sword@h/d"),
        ("MLFLOW_TRACKING_URI", "postgresql://u:Zq7Sword@{nobody}/d"),
        ("MLFLOW_TRACKING_URI", "sqlite:///:memory:"),
        ("PREDICTION_LOG_URL", "postgresql://u:Zq7Sword@{nobody}/d?sslmode=nonsense"),
        ("PREDICTION_LOG_URL", "mysql://u:Zq7Sword@h/d"),
    ],
)
def test_the_doctor_has_a_finding_for_every_database(
    nobody: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("FINANCIAL_ASSETS_HOME", str(tmp_path))
    monkeypatch.setenv(name, value.format(nobody=nobody))
    found = CliRunner().invoke(main, ["doctor", "--json"])
    assert isinstance(found.exception, SystemExit)  # no traceback
    assert found.exit_code == 1
    assert name in found.output
    assert leaks(found.output) == []
