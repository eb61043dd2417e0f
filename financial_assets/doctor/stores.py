"""The layers below serving: state folder, prices, MLflow, prediction log, artefacts."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import sqlalchemy as sa

from financial_assets.disk import state_of_disk
from financial_assets.doctor.damage import Readings, read_json, remedy_of
from financial_assets.doctor.databases import need_tables, reading_engine, sqlite_file
from financial_assets.doctor.walk import RUN, Checked, LayerError, materialize
from financial_assets.errors import MarketDataError, SettingsError
from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.prediction_log import schema as log_schema
from financial_assets.experiment.prediction_log.reader import LogReader
from financial_assets.folders import is_open_to_others
from financial_assets.installation import MarketState
from financial_assets.market.clock import ClockGap
from financial_assets.market.day_state import read_days
from financial_assets.market.schemas import check_prices
from financial_assets.models.request_shape import SERVED_LOOKBACK
from financial_assets.serving.local.repository import artefact_folder
from financial_assets.tracking import ModelRegistry, ModelVersion

SCARCE_BYTES = 1 << 30
"""Less free disk causes a warning: logs and model versions add up."""
LEAST_BYTES = 100 << 20
"""Less free disk is an error: databases fail half-way when it runs out."""
_ROWS = 8  # tickers in a test request: enough to see NaN, quick with a universe of hundreds


@dataclass(frozen=True)
class LogState:
    """State of the prediction log: the current weight epoch, its completed routed requests, those without an arm."""

    epoch: WeightEpoch
    completed: int
    unattributed: int


def check_state_folder(home: Path, free_bytes: int | None = None) -> Checked[Path]:
    """The state folder exists, may be written to, and its disk has room (``free_bytes``; default: as measured)."""
    if not home.exists():
        raise LayerError(
            f"{home} does not exist", f"{RUN} makes it; or set FINANCIAL_ASSETS_HOME to where the state is"
        )
    if not home.is_dir():
        raise LayerError(f"{home} is not a folder", "set FINANCIAL_ASSETS_HOME to a folder")
    if not os.access(home, os.W_OK | os.X_OK):
        raise LayerError(f"{home} cannot be written to", state_of_disk(home / "market.json"))
    free = shutil.disk_usage(home).free if free_bytes is None else free_bytes
    detail = f"{home}, {free / 1e9:.1f} GB free"
    remedy = f"make room on the disk of {home}, or set FINANCIAL_ASSETS_HOME"
    if free < LEAST_BYTES:
        raise LayerError(detail, remedy)
    if free < SCARCE_BYTES:
        return Checked(home, detail, remedy)
    if is_open_to_others(home):
        return Checked(
            home, f"{detail}; other users of this machine can read it", f"`chmod 700 {shlex.quote(str(home))}`"
        )
    return Checked(home, detail)


def check_price_store(market: MarketState) -> Checked[np.ndarray]:
    """Prices are there, possible, and reach the market clock; the value is bars ``[n, 256, channel]`` for models."""
    prices = _stored_prices(market)
    waiting = market.waiting_tickers()
    missing = sorted(set(market.tickers) - set(prices["ticker"]) - set(waiting))
    if missing:
        raise LayerError(f"no prices of {', '.join(missing)}", f"{materialize('raw_prices')}, or set TICKERS")
    # With quarantine a session without a true bar is left out of the store on purpose.
    allowed = {"completeness", "impossible_values"} if market.quality_policy == "quarantine" else set[str]()
    failed = [
        result
        for result in check_prices(prices)
        if result.blocking and not result.passed and result.name not in allowed
    ]
    if failed:
        detail = "; ".join(f"{result.name}: {len(result.failures)} problems" for result in failed)
        prices_file = shlex.quote(str(market.store().path))
        raise LayerError(f"checks fail: {detail}", f"`rm {prices_file}`, then {materialize('raw_prices')}")
    try:
        read_days(market.days_path)
    except MarketDataError as error:
        remedy = f"with no run under way, `rm -r {shlex.quote(str(market.days_path))}`"
        raise LayerError(str(error), remedy) from error
    now = market.clock().now()
    try:
        panel = market.panel()
    except MarketDataError as error:
        raise LayerError(str(error), f"correct the setting that it names, then {materialize('raw_prices')}") from error
    _, bars = panel.windows(panel.sessions[-1], SERVED_LOOKBACK)
    if not len(bars):
        detail = f"no ticker traded on {panel.sessions[-1]:%Y-%m-%d} and has {SERVED_LOOKBACK} sessions before it"
        raise LayerError(detail, f"set INGESTION_START_DATE earlier, then {materialize('raw_prices')}")
    newest = prices.groupby("ticker")["date"].max()
    late = ", ".join(f"{ticker} {day:%Y-%m-%d}" for ticker, day in newest[newest < now].items())
    detail = f"{len(prices):,} bars of {len(newest)} tickers, clock at {now:%Y-%m-%d}"
    if ahead := ClockGap(now, newest.max()).sessions:
        detail += f", {abs(ahead):,} sessions {'before' if ahead > 0 else 'after'} the newest bar"
    if waiting:
        detail += f"; waiting, because their bars cannot be used: {', '.join(waiting)}"
    if not late:
        return Checked(bars[:_ROWS], detail)
    remedy = "`DAGSTER_HOME=$PWD dagster job execute -m financial_assets.definitions -j daily`"
    return Checked(bars[:_ROWS], f"{detail}; prices end before it: {late}", remedy)


def _read_marker(path: Path) -> None:
    marker = read_json(path)
    if not isinstance(marker, dict) or "PRICE_SOURCE" not in marker:
        raise ValueError("it names no PRICE_SOURCE")


def _refuse_damage(market: MarketState) -> None:
    """The four files that ``raw_prices`` restores, examined together: one remedy fixes them all."""
    readings, folder = Readings(), market.folder
    marker, clock, training = (folder / f"{name}.json" for name in ("market", "clock", "training"))
    prices = folder / "prices" / "prices.parquet"
    if not marker.exists() and not prices.parent.is_dir():
        raise LayerError(f"{folder} holds no prices", RUN)
    readings.read(marker, _read_marker, "raw_prices", remove=[marker])
    readings.read(prices, pd.read_parquet, "raw_prices", remove=[prices])
    if market.is_historical:
        readings.read(clock, lambda _: market.clock().now(), "raw_prices", remove=[clock])
    for pin in (market.first_cutoff(), market.cutoff()):
        readings.read(training, lambda _, pin=pin: _need(pin.get()), "raw_prices", remove=[training])
    if readings.damages:
        raise LayerError(
            "; ".join(dict.fromkeys(damage.problem for damage in readings.damages)),
            f"{remedy_of(readings.damages)} restores it: prices from the source, the clock to the last session of the "
            "prediction log (without a log it begins again), data cut-offs to those of the log's arms",
        )


def _stored_prices(market: MarketState) -> pd.DataFrame:
    _refuse_damage(market)
    try:
        path = market.store().path
    except SettingsError as error:
        remedy = "set FINANCIAL_ASSETS_HOME to another folder, or PRICE_SOURCE and its settings to what this one holds"
        raise LayerError(str(error), remedy) from error
    try:
        return market.prices()
    except MarketDataError as error:
        again = materialize("raw_prices")
        remove = f"`rm -r {shlex.quote(str(path))}`, then " if path.exists() else ""
        raise LayerError(str(error), f"{remove}{again}") from error


def _need(session: pd.Timestamp | None) -> None:
    if session is None:
        raise MarketDataError("no data cut-off: the sessions that models may learn from are unknown")


def check_registry(tracking_uri: str) -> Checked[tuple[ModelVersion, ...]]:
    """MLflow answers, and its registry holds versions and the alias that the experiment sets."""
    if not tracking_uri.startswith(("http://", "https://")) and sqlite_file(tracking_uri) != Path(":memory:"):
        # Checked first: MLflow itself retries for minutes where a database cannot be reached.
        need_tables(tracking_uri, ("experiments", "model_versions"), "MLFLOW_TRACKING_URI")
    versions = ModelRegistry(tracking_uri).versions()
    if not versions:
        raise LayerError("the registry holds no model version", RUN)
    aliases = [f"{alias} is version {version.version}" for version in versions for alias in version.aliases]
    detail = f"{len(versions)} model versions; {', '.join(aliases) or 'no aliases'}"
    has_champion = any("champion" in version.aliases for version in versions)
    return Checked(versions, detail, "" if has_champion else materialize("experiment"))


def check_log(url: str, experiment: str) -> Checked[LogState]:
    """The prediction log can be read and holds the rollout state; open intents are counted."""
    need_tables(url, log_schema.metadata.tables, "PREDICTION_LOG_URL")
    with LogReader(reading_engine(url)) as reader:
        with reader.engine.connect() as connection:
            version = connection.execute(sa.select(sa.func.max(log_schema.version.c.version))).scalar()
        if version != log_schema.SCHEMA_VERSION:
            detail = f"the log's schema is version {version}; this release reads version {log_schema.SCHEMA_VERSION}"
            raise LayerError(detail, "set PREDICTION_LOG_URL to a new database, or use the release that wrote this one")
        epoch = reader.current_epoch(experiment)
        if epoch is None:
            raise LayerError(f"{experiment} has not started: no weight epoch", materialize("experiment"))
        status = reader.routed(experiment, epoch=epoch.number, columns=("status",))["status"]
    opened = int((status == "pending").sum())
    state = LogState(epoch, len(status) - opened, int((status == "unattributed").sum()))
    detail = f"weight epoch {epoch.number}; {state.completed:,} routed requests completed, {opened} open"
    return Checked(state, detail, f"{materialize('predictions')} sends open ones again" if opened else "")


def check_artefacts(
    models: Path, arms: Sequence[Arm], versions: Sequence[ModelVersion], bars: np.ndarray
) -> Checked[tuple[Path, ...]]:
    """Each arm's ONNX file is there, is the registered one, and answers finite numbers; the registry has a copy."""
    by_number = {version.version: version for version in versions}
    files = tuple(_check_artefact(models, arm, by_number.get(arm.version), bars) for arm in arms)
    lost = [arm for arm in arms if not _has_copy(by_number[arm.version])]
    detail = f"{len(arms)} arms: files as registered, answers finite"
    if not lost:
        return Checked(files, detail)
    names = ", ".join(arm.model for arm in lost)
    assets = ",".join(dict.fromkeys(f"onnx/{arm.variant}" for arm in lost))
    return Checked(
        files, f"{detail}; the registry's copy is damaged: {names}", f"{materialize(assets)} uploads it again"
    )


def _has_copy(version: ModelVersion) -> bool:
    """Whether the registry's own files are whole; only a store on this machine is looked at."""
    from financial_assets.models.artifacts.artifact import is_whole

    if not version.source.startswith(("file:", "/")):
        return True
    return is_whole(artefact_folder(version.source), version.tags.get("onnx_sha256", ""))


def _check_artefact(models: Path, arm: Arm, version: ModelVersion | None, bars: np.ndarray) -> Path:
    from financial_assets.models.artifacts.artifact import CARD_FILE, ONNX_FILE, is_whole
    from financial_assets.models.onnx.export import file_sha256, onnx_session, run_onnx

    remedy = materialize(f"onnx/{arm.variant},experiment")
    if version is None or version.tags.get("variant") != arm.variant:
        raise LayerError(
            f"{arm.model} takes part, but the registry has no version {arm.version} of {arm.variant}",
            f"set MLFLOW_TRACKING_URI to the registry that has it; if that is gone, {remedy}",
        )
    path = models / arm.variant / version.tags.get("fingerprint", "") / "artifact" / ONNX_FILE
    if not path.is_file():
        raise LayerError(f"{arm.model}: {path} does not exist", f"{remedy} fetches it from the registry")
    registered, digest = version.tags.get("onnx_sha256", ""), file_sha256(path)
    if digest != registered:
        detail = f"{arm.model}: SHA-256 of {path} is {digest[:12]}, registered is {registered[:12] or 'none'}"
        raise LayerError(detail, f"{remedy} fetches the registered file again")
    try:
        answers = run_onnx(onnx_session(path), bars)
    except Exception as error:  # onnxruntime's exceptions share no public base class
        raise LayerError(f"{arm.model}: onnxruntime cannot run {path}: {error}", RUN) from error
    if not all(np.isfinite(values).all() for values in answers if values is not None):
        raise LayerError(f"{arm.model}: {path} answers NaN or infinity for the newest bars", RUN)
    if not is_whole(path.parent, registered):
        raise LayerError(f"{arm.model}: {path.parent / CARD_FILE} is missing or damaged", f"{remedy} fetches it again")
    return path
