"""How networks are fitted that take no gradient steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from financial_assets.models.fitting.boosted import fit_boosted
from financial_assets.models.fitting.ensemble import fit_ensemble
from financial_assets.models.fitting.gradient import Epoch, evaluate
from financial_assets.models.fitting.linear import fit_linear
from financial_assets.models.fitting.rows import sample
from financial_assets.models.training_data import TrainingData
from financial_assets.models.variants import STOP_WINDOWS, Variant

__all__ = ["FITTERS", "Fitter", "look_at"]

Fitter = Callable[[Any, Variant, TrainingData, int], Mapping[str, float]]
"""Fits a network in place on the CPU: the network, its variant, data with scaled features, and the seed; returns what
it has chosen."""

FITTERS: Mapping[str, Fitter] = MappingProxyType(
    {"linear": fit_linear, "boosted": fit_boosted, "ensemble": fit_ensemble}
)
"""By the name that a ``Variant`` gives its network; a network that is not named here is trained by gradient steps."""


def look_at(network: nn.Module, variant: Variant, data: TrainingData, seed: int, started: float) -> Epoch:
    """The one epoch of a network that was fitted at once: its losses on the fit and the stop block.

    Parameters
    ----------
    network, variant, data, seed
        As for its ``Fitter``.
    started
        When the fit began, by ``time.perf_counter``.

    Raises
    ------
    TrainingError
        If a loss is not finite.
    """
    (fit, _), (stop, accuracy) = (
        evaluate(network, windows, sample(len(windows), STOP_WINDOWS, seed)) for windows in (data.fit, data.stop)
    )
    return Epoch(1, fit.total, stop.total, accuracy, time.perf_counter() - started, fit.by_head, stop.by_head)
