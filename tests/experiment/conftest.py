"""A prediction log with one weight epoch, and the prices it is about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.market.panel import PricePanel
from tests.experiment.builders import arms, panel


@pytest.fixture
def log_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'predictions.db'}"


@pytest.fixture
def log(log_url: str) -> Iterator[PredictionLog]:
    with PredictionLog(log_url) as opened:
        yield opened


@pytest.fixture
def epoch(log: PredictionLog) -> WeightEpoch:
    return log.open_epoch("ab-experiment", arms(), "start", after=0)


@pytest.fixture(scope="session")
def prices() -> PricePanel:
    return panel(sessions=60, tickers=4)
