"""Settings: defaults, and errors that name the variable, the bad value and what is allowed."""

from __future__ import annotations

import datetime as dt

import pytest

from financial_assets.errors import SettingsError
from financial_assets.settings import Settings, load_settings
from financial_assets.settings.names import misspelt


def test_defaults_need_no_environment() -> None:
    settings = load_settings()
    assert settings.tickers == ("AAPL", "MSFT")
    assert settings.price_source == "sample"
    assert settings.sequence_length == 10
    assert settings.tracking_uri.startswith("sqlite:///")
    assert settings.home.is_absolute()


def test_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKERS", " aapl, ^vix ,BRK-B,")
    monkeypatch.setenv("INGESTION_START_DATE", "2018-01-02")
    monkeypatch.setenv("SEQUENCE_LENGTH", "20")
    settings = load_settings()
    assert settings.tickers == ("AAPL", "^VIX", "BRK-B")
    assert settings.ingestion_start_date == dt.date(2018, 1, 2)
    assert settings.sequence_length == 20


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGESTION_END_DATE", "")
    assert load_settings().ingestion_end_date is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PRICE_SOURCE", "bloomberg", ["bloomberg", "sample", "yahoo", "files", "simulated"]),
        ("SERVING_TARGET", "laptop", ["laptop", "local", "kubernetes", "gitops"]),
        ("SEQUENCE_LENGTH", "ten", ["ten", "integer"]),
        ("SEQUENCE_LENGTH", "500", ["500", "60"]),
        ("SEQUENCE_LENGTH", "nan", ["nan"]),
        ("TICKERS", "AAPL,AAPL", ["AAPL", "more than once"]),
        ("TICKERS", "AA PL", ["AA PL", "letters"]),
        ("TICKERS", " , ", ["at least one ticker"]),
        ("INGESTION_START_DATE", "2018-13-01", ["2018-13-01"]),
        ("EVALUATION_SHARE", "nan", ["nan"]),
        ("EVALUATION_SHARE", "1.5", ["1.5", "less than 1"]),
        ("COST_BPS", "-1", ["-1", "greater than or equal to 0"]),
        ("BUSINESS_AUM", "0", ["0", "greater than 0", "returns only"]),
        ("BUSINESS_AUM", "inf", ["inf", "finite"]),
        ("BUSINESS_HORIZON_SESSIONS", "0", ["0", "greater than or equal to 1"]),
        ("BUSINESS_LATENCY_COST_PER_MS", "-1", ["-1", "greater than or equal to 0"]),
        ("BUSINESS_IMPLEMENTATION_COST", "nan", ["nan", "number"]),
        ("REPLAY_WORKERS", "0", ["0", "greater than or equal to 1"]),
        ("SEED", "-5", ["-5"]),
        ("ALERTMANAGER_URL", "localhost:9093", ["localhost:9093", "http://"]),
        ("MLFLOW_TRACKING_URI", "file:///tmp/x", ["file:///tmp/x", "sqlite://"]),
        ("MLFLOW_TRACKING_URI", " http://host:99999", ["blank"]),
        ("MLFLOW_TRACKING_URI", "postgresql:/user:open@host/d", ["postgresql:***@host/d", "postgresql://"]),
        ("PREDICTION_LOG_URL", "sqlite:name.db", ["sqlite://"]),
        ("PREDICTION_LOG_URL", "postgresql://host/d\n", ["blank"]),
        ("DEVICE", "tpu", ["tpu", "auto"]),
        ("VARIANTS", "baseline,linear,baseline", ["baseline is listed more than once"]),
        ("VARIANTS", ",", ["at least one variant"]),
        ("ARTIFACT_STORE_URI", "ftp://host/x", ["ftp://host/x", "s3://", "gs://", "file://"]),
        ("ARTIFACT_STORE_URI", "/mnt/artifacts", ["/mnt/artifacts", "file://"]),
        ("ARTIFACT_STORE_URI", "s3:///path", ["names no bucket", "s3://models"]),
        ("ARTIFACT_STORE_URI", "s3://key:secret@bucket", ["no user", "environment"]),
        ("ARTIFACT_STORE_URI", "s3://bucket/x?versionId=1", ["query"]),
        ("ARTIFACT_STORE_URI", "file://mnt/artifacts", ["three slashes"]),
        ("ARTIFACT_STORE_URI", "file:///mnt/../etc", [".."]),
        ("ARTIFACT_STORE_SECRET", "My Secret", ["My Secret", "lower-case"]),
        ("KUBERNETES_NAMESPACE", "Prod_1", ["Prod_1", "lower-case"]),
        ("KUBERNETES_NAMESPACE", "x" * 64, ["63"]),
        ("SERVING_GATEWAY_URL", "seldon-mesh:80", ["seldon-mesh:80", "http://"]),
        ("SERVING_GATEWAY_URL", "http://", ["names no host"]),
        ("SERVING_GATEWAY_GRPC", "http://mesh:80", ["host:port"]),
        ("SERVING_GATEWAY_GRPC", "mesh", ["host:port"]),
        ("SERVING_GATEWAY_GRPC", "mesh:99999", ["host:port"]),
        ("GITOPS_BRANCH", "-force", ["-force", "branch"]),
        ("GITOPS_BRANCH", "a..b", ["branch"]),
        ("GITOPS_PATH", "/etc", ["inside the repository"]),
        ("GITOPS_PATH", "k8s/../..", ["inside the repository"]),
        ("GITOPS_PATH", ".git/hooks", ["inside the repository"]),
        ("RETRAIN_COOLDOWN_HOURS", "-1", ["-1", "greater than or equal to 0"]),
        ("RETRAIN_MAX_ATTEMPTS", "0", ["0", "greater than or equal to 1"]),
        ("SENSOR_INTERVAL", "4", ["4", "greater than or equal to 5"]),
    ],
)
def test_error_names_variable_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: list[str]
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    for part in [name, *expected]:
        assert part in str(caught.value)


def test_several_problems_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQUENCE_LENGTH", "x")
    monkeypatch.setenv("DEVICE", "tpu")
    with pytest.raises(SettingsError, match=r"(?s)SEQUENCE_LENGTH.*DEVICE|DEVICE.*SEQUENCE_LENGTH"):
        load_settings()


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"PRICE_SOURCE": "files"}, "PRICE_FILES: not set"),
        ({"PRICE_FILES": "x.csv"}, "PRICE_SOURCE"),
        ({"SIMULATED_REGIME_SHIFT": "1500", "SIMULATED_SESSIONS": "1500"}, "SIMULATED_REGIME_SHIFT"),
        (
            {"SERVING_TARGET": "kubernetes", "ARTIFACT_STORE_URI": "s3://m"},
            "SERVING_GATEWAY_URL: not set",
        ),
        (
            {"SERVING_TARGET": "gitops", "SERVING_GATEWAY_URL": "http://m"},
            "(?s)ARTIFACT_STORE_URI.*GITOPS_REPOSITORY",
        ),
        (
            {"SERVING_TARGET": "kubernetes", "ARTIFACT_STORE_URI": "s3://m", "SERVING_GATEWAY_URL": "https://mesh"},
            "SERVING_GATEWAY_GRPC: not set; .*https",
        ),
        ({"INGESTION_START_DATE": "2020-01-02", "INGESTION_END_DATE": "2019-01-02"}, "INGESTION_START_DATE"),
    ],
)
def test_contradictions_are_refused(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], named: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=named):
        load_settings()


@pytest.mark.parametrize(
    ("url", "grpc", "expected"),
    [
        ("http://seldon-mesh", None, "seldon-mesh:80"),
        ("http://seldon-mesh.inference:9000/", None, "seldon-mesh.inference:9000"),
        ("http://[::1]:9000", None, "[::1]:9000"),
        ("https://mesh", "mesh:9001", "mesh:9001"),
    ],
)
def test_grpc_is_where_the_gateway_is_unless_told(url: str, grpc: str | None, expected: str) -> None:
    cluster = {"serving_target": "kubernetes", "artifact_store_uri": "s3://models"}
    settings = load_settings(**cluster, serving_gateway_url=url, serving_gateway_grpc=grpc)
    assert settings.gateway_grpc == expected
    assert settings.serving_gateway_url == url.rstrip("/")


def test_a_local_target_needs_no_gateway() -> None:
    settings = load_settings()
    assert (settings.serving_target, settings.gateway_grpc) == ("local", "")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TICKER", "TICKERS"),
        ("ticker", "TICKERS"),
        ("TICKRES", "TICKERS"),
        ("PRICE_FILE", "PRICE_FILES"),
        ("SEQUENCE_LEN", "SEQUENCE_LENGTH"),
        ("PRICES_SOURCE", "PRICE_SOURCE"),
        ("PREDICTION_LOG", "PREDICTION_LOG_URL"),
        ("PREDICTION_LOG_URI", "PREDICTION_LOG_URL"),
        ("RETRAIN_COOLDOWN", "RETRAIN_COOLDOWN_HOURS"),
        ("FINANCIAL_ASSETS_HOM", "FINANCIAL_ASSETS_HOME"),
        ("FINANCIAL_ASSETS_TICKERS", "TICKERS"),
        ("FINANCIAL_ASSETS_SOURCE", "PRICE_SOURCE"),
        ("MLFLOW_TRACKING_URL", "MLFLOW_TRACKING_URI"),
        ("INGESTION_START", "INGESTION_START_DATE"),
        ("SIMULATED_SESSION", "SIMULATED_SESSIONS"),
        ("ALERT_MANAGER_URL", "ALERTMANAGER_URL"),
    ],
)
def test_a_variable_that_looks_like_a_setting_is_named_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "anything")
    monkeypatch.setenv("DEVICE", "tpu")
    with pytest.raises(SettingsError, match=rf"(?s){name}: is not a setting; did you mean {meant}\?.*DEVICE: got"):
        load_settings()


def service_links(service: str) -> list[str]:
    """What Kubernetes writes into each container for a service, and Docker for a link."""
    port = [f"PORT_8080_TCP{end}" for end in ("", "_PROTO", "_PORT", "_ADDR")]
    return [f"{service}_{end}" for end in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", *port)]


FOREIGN = """
    PATH HOME USER SHELL LANG LC_ALL TERM PWD OLDPWD TMPDIR EDITOR DISPLAY HOSTNAME LOGNAME MAIL TZ SHLVL
    COLUMNS LINES XDG_CONFIG_HOME XDG_DATA_HOME XDG_RUNTIME_DIR SSH_AUTH_SOCK SSH_AGENT_PID SSH_CONNECTION
    GPG_TTY DEBIAN_FRONTEND HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY SSL_CERT_FILE SSL_CERT_DIR
    REQUESTS_CA_BUNDLE CURL_CA_BUNDLE PYTHONPATH PYTHONHOME PYTHONUNBUFFERED PYTHONHASHSEED PYTHONWARNINGS
    VIRTUAL_ENV CONDA_PREFIX CONDA_DEFAULT_ENV CONDA_EXE CONDA_SHLVL PIP_INDEX_URL PIP_CACHE_DIR
    PIP_NO_CACHE_DIR PIP_REQUIRE_VIRTUALENV UV_CACHE_DIR POETRY_HOME CI GITHUB_ACTIONS GITHUB_TOKEN GITHUB_SHA
    GITHUB_REF GITHUB_REPOSITORY GITHUB_WORKSPACE GITHUB_RUN_ID RUNNER_OS GITLAB_CI CI_COMMIT_SHA CI_JOB_TOKEN
    CI_PROJECT_PATH CI_REGISTRY_IMAGE JENKINS_URL BUILD_NUMBER BUILD_URL JOB_NAME CIRCLECI TRAVIS BUILDKITE
    BITBUCKET_COMMIT TEAMCITY_VERSION AGENT_NAME SYSTEM_TEAMPROJECT DOCKER_HOST DOCKER_CONFIG DOCKER_BUILDKIT
    COMPOSE_PROJECT_NAME COMPOSE_FILE CONTAINER_NAME IMAGE_TAG KUBECONFIG KUBERNETES_PORT
    KUBERNETES_SERVICE_HOST KUBERNETES_SERVICE_PORT KUBERNETES_SERVICE_PORT_HTTPS POD_NAME POD_NAMESPACE POD_IP
    NODE_NAME NAMESPACE SERVICE_ACCOUNT HELM_NAMESPACE KUBE_CONTEXT KUBE_NAMESPACE AWS_ACCESS_KEY_ID
    AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_REGION AWS_DEFAULT_REGION AWS_PROFILE AWS_ENDPOINT_URL
    AWS_ROLE_ARN AWS_WEB_IDENTITY_TOKEN_FILE GOOGLE_APPLICATION_CREDENTIALS GOOGLE_CLOUD_PROJECT AZURE_CLIENT_ID
    MINIO_ROOT_USER POSTGRES_USER POSTGRES_PASSWORD POSTGRES_DB PGHOST PGPORT PGUSER PGPASSWORD PGDATABASE
    DATABASE_URL REDIS_URL SENTRY_DSN LOG_LEVEL LOGLEVEL DEBUG ENV ENVIRONMENT STAGE PORT HOST WORKERS
    WEB_CONCURRENCY TIMEOUT SECRET MLFLOW_TRACKING_USERNAME MLFLOW_TRACKING_PASSWORD MLFLOW_TRACKING_TOKEN
    MLFLOW_TRACKING_INSECURE_TLS MLFLOW_TRACKING_SERVER_CERT_PATH MLFLOW_TRACKING_CLIENT_CERT_PATH
    MLFLOW_TRACKING_AWS_SIGV4 MLFLOW_TRACKING_DIR MLFLOW_EXPERIMENT_ID MLFLOW_RUN_ID MLFLOW_REGISTRY_URI
    MLFLOW_S3_ENDPOINT_URL MLFLOW_ARTIFACT_ROOT MLFLOW_HOST MLFLOW_BACKEND_STORE_URI MLFLOW_HTTP_REQUEST_TIMEOUT
    MLFLOW_HTTP_REQUEST_MAX_RETRIES MLFLOW_DISABLE_TELEMETRY DAGSTER_HOME DAGSTER_CURRENT_IMAGE DAGSTER_RUN_ID
    DAGSTER_JOB_NAME DAGSTER_PG_PASSWORD DAGSTER_K8S_PG_PASSWORD_SECRET DAGSTER_GRPC_TIMEOUT_SECONDS
    DAGSTER_DISABLE_TELEMETRY MLSERVER_HTTP_PORT MLSERVER_PARALLEL_WORKERS OMP_NUM_THREADS MKL_NUM_THREADS
    CUDA_VISIBLE_DEVICES NVIDIA_VISIBLE_DEVICES PYTORCH_CUDA_ALLOC_CONF TORCH_HOME DEVICES DEVICE_ID DEVICE_NAME
    SPEED SEEDS SEEDED FEED NEED PROGRESS_BAR TICKER_URL REQUESTS_CA_BUNDLE REQUEST_TIMEOUT_MS REQUEST_ID READY
    SERVING_PORT MODEL_NAME PRICE PRICES SOURCE BUSINESS_UNIT BUSINESS_NAME REPLAY_ID GITOPS_TOKEN GITOPS_USER
    GITOPS_PASSWORD ALERTMANAGER_HOST ALERTMANAGER_PORT ARTIFACT_STORE_TOKEN FINANCIAL_ASSETS_IMAGE
    FINANCIAL_ASSETS_VERSION GIT_AUTHOR_NAME GIT_DIR GIT_SSH_COMMAND
"""
SERVICES = """
    MLFLOW MLFLOW_TRACKING PREDICTION_LOG ALERTMANAGER ALERTMANAGER_OPERATED SERVING_GATEWAY ARTIFACT_STORE
    EXPORTER DAGSTER_WEBSERVER FINANCIAL_ASSETS FINANCIAL_ASSETS_EXPORTER SELDON_MESH POSTGRESQL KUBERNETES
    PRICE_SOURCE TICKERS
"""


def test_variables_of_others_are_not_taken_for_ours() -> None:
    settings = [name.upper() for name in Settings.model_fields]
    foreign = [*FOREIGN.split(), *(link for service in SERVICES.split() for link in service_links(service))]
    assert len(foreign) > 300
    assert misspelt(foreign, settings) == []
    assert misspelt(settings, settings) == []


def test_every_setting_is_documented() -> None:
    undocumented = [name for name, field in Settings.model_fields.items() if not field.description]
    assert undocumented == []
