"""A search that takes no time: the fit is replaced by a loss that is a function of the settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from financial_assets.errors import DivergenceError
from financial_assets.features.graph import FeaturePanel
from financial_assets.market.panel import PricePanel
from financial_assets.models.fitting.gradient import Epoch
from financial_assets.models.fitting.network import Fit
from financial_assets.models.search import search as module
from financial_assets.models.search.result import SearchResult
from financial_assets.models.search.search import HyperparameterSearch, SearchBudget
from financial_assets.models.training_data import TrainingData
from financial_assets.models.variants import Variant

EPOCHS = 6


def loss_of(variant: Variant) -> float:
    """Least for many units that are dropped often."""
    return 0.7 + 1.0 / variant.hidden + abs(variant.dropout - 0.3)


class FakeFit:
    """Stands in for ``fit_network``; keeps the settings that it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Variant] = []
        self.before_epoch: Callable[[Variant, int], None] = lambda variant, number: None
        self.diverges: Callable[[Variant], bool] = lambda variant: False

    def __call__(self, variant: Variant, data: TrainingData, *, on_epoch: Callable[[Epoch], None], **_: Any) -> Fit:
        self.asked.append(variant)
        history: list[Epoch] = []
        for number in range(1, EPOCHS + 1):
            self.before_epoch(variant, number)
            if self.diverges(variant):
                raise DivergenceError("not finite")
            history.append(Epoch(number, 1.0, loss_of(variant) + 0.1 / number, 0.5, 0.0))
            on_epoch(history[-1])
        decided = data.sessions[data.stop.sessions]
        scored = decided.min(), decided.max()
        missing: Any = None
        return Fit(missing, missing, data, tuple(history), EPOCHS, scored, "cpu")


@pytest.fixture
def fake_fit(monkeypatch: pytest.MonkeyPatch) -> FakeFit:
    fit = FakeFit()
    monkeypatch.setattr(module, "fit_network", fit)
    return fit


@pytest.fixture
def searched(tiny: Variant) -> Variant:
    """A variant whose settings lie in the space."""
    return replace(tiny, hidden=16)


@pytest.fixture
def run_search(
    tmp_path: Path,
    searched: Variant,
    features: FeaturePanel,
    panel: PricePanel,
    cutoff: pd.Timestamp,
    sequence_length: int,
) -> Callable[..., SearchResult]:
    """Searches in a folder of the test; ``changes`` are arguments of ``run``, or fields of the search."""

    def run(trials: int | None = None, *, folder: str = "search", **changes: Any) -> SearchResult:
        fields = {name: changes.pop(name) for name in ("ledger", "clock", "seed", "runs") if name in changes}
        settings: dict[str, Any] = {"sequence_length": sequence_length, "seed": 7, "device": "cpu", **fields}
        arguments: dict[str, Any] = {
            "variant": searched,
            "features": features,
            "panel": panel,
            "cutoff": cutoff,
            "evaluation_after": cutoff,
            "budget": SearchBudget(trials=trials) if trials is not None else None,
            **changes,
        }
        return HyperparameterSearch(tmp_path / folder, **settings).run(**arguments)

    return run
