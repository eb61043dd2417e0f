"""Files of the state folder that no other layer reads: derived ones can be written again, records cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from financial_assets.doctor.damage import Readings, read_json, remedy_of
from financial_assets.doctor.walk import Checked, LayerError
from financial_assets.errors import MarketDataError
from financial_assets.features.stored.reading import load_features
from financial_assets.installation import ABTestState, MarketState, ModelStore
from financial_assets.market.panel import PricePanel
from financial_assets.models.artifacts.artifact import CARD_FILE, ONNX_FILE, is_whole
from financial_assets.models.artifacts.registration import RECORD_FILE
from financial_assets.models.artifacts.storage import load_training
from financial_assets.models.artifacts.tracked import read_pointer
from financial_assets.models.baselines.fitted import Baselines
from financial_assets.models.onnx.export import file_sha256
from financial_assets.models.variants import VARIANTS

_SIGNALS = "the signals of that session as they were published"
_DECISION = "that copy of a decision, whose record is in the prediction log"
_JUDGED = "reference forecasters of that data cut-off: decisions of plans that began with them are compared with others"


def check_state_files(market: MarketState, models: ModelStore, ab_test: ABTestState) -> Checked[None]:
    """Files that assets hand to each other can be read; a missing one deserves a look once a model was trained."""
    readings, trained = Readings(), [name for name in VARIANTS if (models.folder / name).is_dir()]
    if trained:
        readings.read(market.panel_path, PricePanel.load, "price_panel")
        readings.read(market.features_path, load_features, "features")
        readings.read(models.baselines_path, Baselines.load, "baselines")
    fitted = sorted((models.folder / "baselines").glob("*.json"))
    latest = _cutoff(models.baselines_path) or max((path.stem for path in fitted), default="")
    for path in fitted:
        readings.read_one_of_many(path, Baselines.load, "baselines", is_current=path.stem == latest, lost=_JUDGED)
    for variant in trained:
        _read_variant(readings, models.folder / variant)
    _read_reports(readings, ab_test)
    _read_signals(readings, market)
    detail, remedy = "; ".join(damage.problem for damage in readings.damages), remedy_of(readings.damages)
    if any(not damage.missing for damage in readings.damages):
        raise LayerError(detail, remedy)
    if readings.damages:  # serving does not need them, and a machine that only serves never had them
        return Checked(None, detail, remedy)
    return Checked(None, f"{len(trained)} variants, panel, features, baselines, reports and signals can be read")


def _cutoff(path: Path) -> str:
    try:
        return str(json.loads(path.read_text())["cutoff"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _read_variant(readings: Readings, folder: Path) -> None:
    """The pointer, and the files of its training that the next step reads."""
    variant, pointer = folder.name, dict[str, str]()
    readings.read(folder / "current.json", lambda path: pointer.update(read_pointer(path)), f"models/{variant}")
    for identity in sorted(path for path in folder.iterdir() if path.is_dir()):
        is_current = identity.name == pointer.get("fingerprint", identity.name)
        # The registry keeps what an earlier arm needs, and it is fetched on demand.
        for path, read, asset, needed in (
            (identity / "training", load_training, f"models/{variant}", is_current),
            (identity / RECORD_FILE, read_json, f"onnx/{variant}", False),
        ):
            readings.read_one_of_many(path, read, asset, is_current=is_current, needed=needed, lost="")
        if is_current:
            readings.read(identity / "artifact", _read_artifact, f"onnx/{variant}", needed=False)


def _read_artifact(folder: Path) -> None:
    if not is_whole(folder, file_sha256(folder / ONNX_FILE)):
        raise ValueError(f"{folder / ONNX_FILE} and {CARD_FILE} do not belong together")


def _read_reports(readings: Readings, ab_test: ABTestState) -> None:
    report = ab_test.report_path
    for path, read in (
        (report, _read_html),
        (report.with_suffix(".json"), read_json),
        *((path, pd.read_parquet) for path in sorted(ab_test.rivals_path.glob("*.parquet"))),
    ):
        readings.read(path, read, "ab_evaluation", needed=False)
    for path in sorted(ab_test.decisions_folder.glob("*.json")):
        readings.read(path, read_json, remove=[path], lost=_DECISION)


def _read_html(path: Path) -> None:
    if not path.read_text().rstrip().endswith("</html>"):
        raise ValueError("it does not end with </html>")


def _read_signals(readings: Readings, market: MarketState) -> None:
    folder = market.folder / "signals"
    for path in sorted((*folder.glob("*.parquet"), *folder.glob("*.csv"))):
        read = pd.read_parquet if path.suffix == ".parquet" else _read_table
        is_current = path.stem == _now(market)
        readings.read_one_of_many(path, read, "daily_signals", is_current=is_current, lost=_SIGNALS)


def _read_table(path: Path) -> None:
    text = path.read_text()
    if not text.endswith("\n") or pd.read_csv(path).empty:
        raise ValueError("it holds no rows, or an incomplete one")


def _now(market: MarketState) -> str:
    try:
        return f"{market.clock().now():%Y-%m-%d}"
    except MarketDataError:  # the price store's layer says so
        return ""
