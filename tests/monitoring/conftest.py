"""Drift thresholds are simulated once for all tests of this folder, of fewer worlds than the product takes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from financial_assets.monitoring.drift import robust


@pytest.fixture(scope="session", autouse=True)
def few_simulated_worlds() -> Iterator[None]:
    forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(robust, "_WORLDS", 150)
        patch.setattr(robust, "_LEAST", 15)
        yield
    forget()


def forget() -> None:
    """As a new process: nothing in memory."""
    robust._peaks.cache_clear()
    robust._tails.cache_clear()
    robust._bound.cache_clear()
