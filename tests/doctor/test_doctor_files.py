"""Each file of the state folder, cut short, emptied, deleted or garbled: the doctor sees it and names what mends it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from financial_assets.assets.market import price_panel, raw_prices
from financial_assets.doctor import Finding, examine
from financial_assets.doctor.stores import check_artefacts
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.models.onnx.export import file_sha256
from financial_assets.resources import make_resources
from financial_assets.settings import load_settings
from financial_assets.tracking import ModelVersion
from tests.doctor.doctor_home import ARMS, BARS, CUTOFF, onnx_of

Harm = Callable[[Path], object]


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


HARMS: dict[str, Harm] = {
    "cut short": cut_short,
    "empty": lambda path: path.write_bytes(b""),
    "garbled": lambda path: path.write_bytes(b"\x80\x00no file of ours"),
    "deleted": Path.unlink,
}
# Files that other layers look at, or that can only be seen with a plane, have tests of their own.
DERIVED = {
    "panel/price_panel.npz": "price_panel",
    "features/features.npz": "features",
    "models/baselines.json": "baselines",
    "models/baseline/current.json": "models/baseline",
    "models/enhanced/print2/training/tensors.pt": "models/enhanced",
    "models/lightweight/print3/training/held_out.npz": "models/lightweight",
    "models/baseline/print1/training/training.json": "models/baseline",
}
OPTIONAL = {
    "models/baselines/2020-01-02.json": "baselines",
    "models/enhanced/print2/registered.json": "onnx/enhanced",
    "reports/ab-evaluation.html": "ab_evaluation",
    "reports/ab-evaluation.json": "ab_evaluation",
    f"reports/baseline-predictions/{CUTOFF:%Y-%m}.parquet": "ab_evaluation",
}
PAST = (
    "models/baselines/2019-01-02.json",
    "reports/decisions/2020-01-03-0123456789ab.json",
    "signals/2001-01-02.parquet",
    "signals/2001-01-02.csv",
)


def finding(layer: str) -> Finding:
    return next(found for found in examine() if found.layer == layer)


def commands(remedy: str) -> list[str]:
    return re.findall(r"`([^`]+)`", remedy)


@pytest.mark.parametrize("harm", HARMS)
def test_each_kept_file_is_seen_and_one_remedy_names_all_assets(home: Path, harm: str) -> None:
    for name in (*DERIVED, *OPTIONAL):
        HARMS[harm](home / name)
    found = finding("state files")
    assert found.state == "broken"
    seen = DERIVED if harm == "deleted" else DERIVED | OPTIONAL
    for name in seen:
        assert str(home / name) in found.detail or str((home / name).parent) in found.detail, name
    (command,) = commands(found.remedy)
    selected = command.split("--select ")[1].split(",")
    assert sorted(selected) == sorted(set(seen.values()))


def test_what_no_asset_makes_again_is_removed_with_what_is_lost(home: Path) -> None:
    for name in PAST:
        cut_short(home / name)
    found = finding("state files")
    assert found.state == "broken"
    (command,) = commands(found.remedy)
    program, option, *paths = shlex.split(command)
    assert (program, option) == ("rm", "-r")
    assert sorted(paths) == sorted(str(home / name) for name in PAST)
    assert "the signals of that session" in found.remedy
    assert "reference forecasters of that data cut-off" in found.remedy
    for path in paths:
        Path(path).unlink()
    assert finding("state files").state == "ok"


def test_what_can_go_without_harm_is_not_missed(home: Path) -> None:
    for path in [*home.rglob("*.lock"), *home.rglob(".*.lock"), home / "prices" / ".lock"]:
        path.unlink(missing_ok=True)
    shutil.rmtree(home / "reports")
    shutil.rmtree(home / "signals")
    assert {found.state for found in examine()} == {"ok"}


def test_a_marker_that_names_no_market_is_damaged(home: Path) -> None:
    (home / "market.json").write_text('["PRICE_SOURCE"]')
    found = finding("price store")
    assert found.state == "broken"
    assert commands(found.remedy)[0] == f"rm -r {home / 'market.json'}"


@pytest.mark.parametrize("harm", HARMS)
def test_clock_cutoffs_market_and_prices_are_put_back_by_raw_prices_together(home: Path, harm: str) -> None:
    paths = [home / "market.json", home / "prices" / "prices.parquet", home / "clock.json", home / "training.json"]
    for path in paths:
        HARMS[harm](path)
    found = finding("price store")
    assert found.state == "broken"
    assert [path for path in paths if str(path) not in found.detail] == []
    *remove, again = commands(found.remedy)
    assert remove == ([] if harm == "deleted" else [f"rm -r {' '.join(map(str, paths))}"])
    assert again.endswith("--select raw_prices")
    for path in paths:
        path.unlink(missing_ok=True)
    assert materialized("raw_prices")
    assert finding("price store").state == "ok"
    # A clock that began again would send the log's sessions once more; a cut-off computed anew could lie later.
    with PredictionLog(f"sqlite:///{home / 'predictions.db'}") as log:
        sent = log.routed()["session"].max()
    assert json.loads((home / "clock.json").read_text()) == {"as_of": f"{sent:%Y-%m-%d}"}
    cutoff = f"{CUTOFF:%Y-%m-%d}"
    assert json.loads((home / "training.json").read_text()) == {"data_cutoff": cutoff, "first_data_cutoff": cutoff}


def test_without_a_log_the_clock_begins_and_no_log_is_made(home: Path) -> None:
    before = (home / "clock.json").read_bytes()
    for name in ("clock.json", "training.json", "predictions.db"):
        (home / name).unlink()
    assert materialized("raw_prices")
    assert (home / "clock.json").read_bytes() == before
    assert not (home / "predictions.db").exists()


def materialized(asset: str) -> bool:
    """What the printed command does, in this process."""
    assets = {one.key.to_user_string(): one for one in (raw_prices, price_panel)}
    resources = {"market": make_resources(load_settings())["market"]}
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize([assets[asset]], resources=resources, instance=instance, raise_on_error=False).success


def test_a_card_that_is_damaged_and_a_registry_without_its_copy(home: Path) -> None:
    card = onnx_of(home, ARMS[0]).parent / "model-card.json"
    sound = card.read_bytes()
    cut_short(card)
    found = finding("artefacts")
    assert (found.state, str(card) in found.detail) == ("broken", True)
    assert "--select onnx/baseline,experiment" in found.remedy
    card.write_bytes(sound)
    copy = shutil.copytree(card.parent, home / "copy")
    registered = {"variant": "baseline", "fingerprint": "print1", "onnx_sha256": file_sha256(copy / "model.onnx")}
    version = ModelVersion("m", 1, "run", registered, source=copy.as_uri())
    assert check_artefacts(home / "models", ARMS[:1], [version], BARS).remedy == ""
    cut_short(copy / "model.onnx")
    assert (
        "--select onnx/baseline` uploads it again" in check_artefacts(home / "models", ARMS[:1], [version], BARS).remedy
    )
