"""Fits ``LinearNetwork``: one regression per head, solved instead of trained."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from financial_assets.models.fitting.regression import Linear, fit_logistic, fit_quantiles, fit_ridge
from financial_assets.models.fitting.rows import decision_rows
from financial_assets.models.networks.linear import LinearNetwork
from financial_assets.models.training_data import TrainingData
from financial_assets.models.variants import Variant
from financial_assets.scoring.quantiles import QUANTILE_LEVELS

__all__ = ["fit_linear"]

_MOST_ROWS = 65_536
"""Rows of a block that are looked at; hundreds for each coefficient, and some seconds."""


def fit_linear(network: LinearNetwork, variant: Variant, data: TrainingData, seed: int) -> Mapping[str, float]:
    """Fit in place on the fit block; the stop block chooses the regularisation of each head.

    Parameters
    ----------
    network, variant
        To be fitted; the variant has no setting that matters here.
    data
        With scaled features.
    seed
        Of the rows of a large block.

    Returns
    -------
    Mapping
        The regularisation of each head.

    Raises
    ------
    TrainingError
        If a block holds one direction only.
    """
    fit, stop = (decision_rows(windows, _MOST_ROWS, seed) for windows in (data.fit, data.stop))
    one, five = (
        fit_quantiles((fit.inputs, known), (stop.inputs, stopped), QUANTILE_LEVELS)
        for known, stopped in (
            (fit.scaled_return, stop.scaled_return),
            (fit.scaled_return_5d, stop.scaled_return_5d),
        )
    )
    regressions = {
        "logistic": fit_logistic((fit.inputs, fit.up), (stop.inputs, stop.up)),
        "quantiles": one,
        "quantiles_5d": five,
        "ridge": fit_ridge((fit.inputs, fit.excess), (stop.inputs, stop.excess)),
    }
    _write(network, list(regressions.values()))
    return {f"{name} regularisation": regression.strength for name, regression in regressions.items()}


@torch.no_grad()
def _write(network: LinearNetwork, regressions: list[Linear]) -> None:
    """Put the regressions into the read-outs, in the order of the heads."""
    linear = network.heads.linear
    linear.weight.copy_(torch.from_numpy(np.hstack([each.coefficients for each in regressions]).T))
    linear.bias.copy_(torch.from_numpy(np.concatenate([each.intercepts for each in regressions])))
