"""What is restored from the prediction log when files are lost."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from financial_assets.experiment.prediction_log import log as prediction_log
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.installation.recovery import recover_cutoffs
from tests.experiment.decision.builders import EPOCH


@pytest.mark.parametrize("hours", [1, -1], ids=["forward", "set back"])
def test_the_first_cutoff_is_the_earliest_wherever_the_machines_clock_stood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """An epoch of retrained models, which was opened an hour after the first by the machine's clock, or before it."""
    url, path = f"sqlite:///{tmp_path / 'predictions.db'}", tmp_path / "training.json"
    began = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
    instants: Iterator[dt.datetime] = iter([began, began + dt.timedelta(hours=hours)])
    monkeypatch.setattr(prediction_log, "utc_now", lambda: next(instants))
    first = EPOCH.data_cutoff
    champion, *others = EPOCH.arms
    retrained = [replace(arm, version=arm.version + 10, data_cutoff=first + pd.Timedelta(days=28)) for arm in others]
    with PredictionLog(url) as log:
        log.open_epoch(EPOCH.experiment, EPOCH.arms, "start", after=0)
        log.open_epoch(EPOCH.experiment, (champion, *retrained), "retrained", after=1)
    assert f"{first:%Y-%m-%d}" in recover_cutoffs(path, url, tmp_path / "models")
    found = json.loads(path.read_text())
    assert found["first_data_cutoff"] == f"{first:%Y-%m-%d}"
    assert found[f"data_cutoff of models/{retrained[0].variant}"] == f"{first + pd.Timedelta(days=28):%Y-%m-%d}"
