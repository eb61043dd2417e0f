"""Drift thresholds are simulated once for all tests of this folder, of fewer worlds than the product takes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import pytest

from financial_assets.monitoring.drift import robust

CACHED = ("_peaks", "_tails", "_bound")
FEW = {name: lru_cache(maxsize=None)(getattr(robust, name).__wrapped__) for name in CACHED}
"""What these tests have simulated so far, beside what other tests of the same process have."""


# By module: a fixture of the session would last into whatever folder the same process comes to afterwards.
@pytest.fixture(scope="module", autouse=True)
def few_simulated_worlds() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(robust, "_WORLDS", 150)
        patch.setattr(robust, "_LEAST", 15)
        for name, few in FEW.items():
            patch.setattr(robust, name, few)
        yield


def forget() -> None:
    """As a new process: nothing in memory."""
    for few in FEW.values():
        few.cache_clear()
