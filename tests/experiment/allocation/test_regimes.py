from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from financial_assets.errors import ExperimentError
from financial_assets.experiment.allocation.regimes import Regime
from financial_assets.scoring.regimes import trend_directions, volatility_terciles

CLOSE = 100 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.01, 700)))


@settings(max_examples=30)
@given(st.integers(290, 699), st.floats(0.2, 5.0))
def test_a_regime_is_known_before_its_session(session: int, factor: float) -> None:
    changed = CLOSE.copy()
    changed[session:] *= factor * np.linspace(1, 2, changed.size - session)
    for regime_of in (volatility_terciles, trend_directions):
        assert regime_of(changed)[: session + 1] == regime_of(CLOSE)[: session + 1]


@pytest.mark.parametrize("regime_of", [volatility_terciles, trend_directions])
def test_and_yesterday_matters(regime_of: object) -> None:
    """The other half of the law: yesterday's bar can change today's regime."""
    assert callable(regime_of)
    changed = 0
    for session in range(300, 700, 10):
        moved = CLOSE.copy()
        moved[session - 1] *= 1.3 if regime_of(CLOSE)[session] != "high" else 1.0
        moved[session - 1] *= 0.5 if regime_of(CLOSE)[session] == "up" else 1.0
        changed += regime_of(moved)[session] != regime_of(CLOSE)[session]
    assert changed > 10


def test_terciles_are_thirds_and_follow_volatility() -> None:
    seen = [value for value in volatility_terciles(CLOSE) if value]
    assert volatility_terciles(CLOSE).index(seen[0]) == 20 + 252
    assert all(0.2 < seen.count(value) / len(seen) < 0.5 for value in ("low", "mid", "high"))
    loud = CLOSE.copy()
    loud[600:] *= np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.05, 100)))
    assert set(volatility_terciles(loud)[621:]) == {"high"}


def test_the_market_has_six_regimes() -> None:
    values = list(zip(volatility_terciles(CLOSE), trend_directions(CLOSE), strict=True))
    assert all(volatility is None for volatility, _ in values[:272])
    seen = {Regime.of(volatility=str(volatility), trend=str(trend)).label for volatility, trend in values[272:]}
    assert seen == {f"{volatility}-{trend}" for volatility in ("low", "mid", "high") for trend in ("up", "down")}


def test_a_trend_is_that_of_the_closes() -> None:
    rising = np.linspace(100, 200, 100)
    assert trend_directions(rising)[:61] == [None] * 61
    assert set(trend_directions(rising)[61:]) == {"up"}
    assert set(trend_directions(rising[::-1])[61:]) == {"down"}


def test_regimes_have_one_name_each() -> None:
    regime = Regime.of(time="closing", volatility="high", sector="energy", trend="up")
    assert regime.label == "high-up-energy-closing"
    assert regime == Regime((("volatility", "high"), ("trend", "up"), ("sector", "energy"), ("time", "closing")))
    with pytest.raises(ExperimentError, match="unknown regime dimension mood"):
        Regime.of(mood="bad")
    with pytest.raises(ExperimentError, match="letters and digits"):
        Regime.of(sector="real-estate")
    with pytest.raises(ExperimentError, match="in this order"):
        Regime((("trend", "up"), ("volatility", "high")))


@pytest.mark.parametrize("close", [[], [1.0, 0.0], [1.0, np.nan], [[1.0]]])
def test_levels_that_are_none_are_refused(close: object) -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        trend_directions(close)  # type: ignore[arg-type]
