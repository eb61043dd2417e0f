"""Fixtures of the tests of kept evidence."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from financial_assets.experiment.decision import history as history_module
from financial_assets.experiment.decision.evidence import EvidenceDays


@pytest.fixture
def tabulated(monkeypatch: pytest.MonkeyPatch) -> list[list[pd.Timestamp]]:
    """Sessions of each tabulation."""
    made: list[list[pd.Timestamp]] = []
    tabulate = history_module.tabulate

    def counted(*given: Any, only: list[pd.Timestamp], **further: Any) -> EvidenceDays:
        made.append(sorted(only))
        return tabulate(*given, only=only, **further)

    monkeypatch.setattr(history_module, "tabulate", counted)
    return made
