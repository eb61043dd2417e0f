"""A planted pair through the real graph and gateway: the better risk head is promoted, with a record to read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.workflows.demonstration import PAIRS, judge, stop

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


def test_the_better_head_is_promoted(tmp_path: Path) -> None:
    better, said = PAIRS[0], list[str]()
    try:
        verdict = judge(better, tmp_path, said.append, os.environ)
    finally:
        stop(tmp_path, os.environ)
    assert verdict.said == "promoted" == better.verdict
    record = json.loads(verdict.record.read_text())
    assert record["action"] == "promote"
    assert (record["champion"], record["challenger"]) == ("constant-predictor-v1", "har-predictor-v2")
    assert verdict.report.stat().st_size > 0
    with PredictionLog(f"sqlite:///{tmp_path / 'state' / 'predictions.db'}") as log:
        epoch = log.current_epoch(verdict.decision.experiment)
        plan = log.plan(verdict.decision.experiment, record["champion"], record["challenger"])
    assert epoch is not None
    assert (epoch.champion.variant, epoch.champion.weight) == ("har", 100)
    assert plan is not None
    assert plan.spread.basis.startswith("251 days of the sessions before the test")
    assert plan.can_promote
    count = len(said)
    assert judge(better, tmp_path, said.append, os.environ).decision == verdict.decision, (
        "what has ended is read from its log"
    )
    assert len(said) == count
