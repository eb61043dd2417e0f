"""Trainings that were stored before a model had heads for five sessions and for ranking, or a long-run variance.

What such a model answers, it goes on answering: its champion keeps its calibration block, which drift detection and the
planning of experiments read. What it never learned is NaN, and so is whatever would be computed from it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from financial_assets.features.bars import KNOWN_VARIANCES
from financial_assets.models.calibration import QuantileShifts
from financial_assets.models.heads import HORIZONS, QUANTILE_LEVELS
from financial_assets.models.volatility import LONG_RUN, HarVolatility

EARLIER_FORMAT = 1

_READ_OUTS = ("direction", "quantiles")
"""Heads of the earlier network, each with weights of its own."""

Parts = tuple[dict[str, Any], dict[str, dict[str, Tensor]], dict[str, np.ndarray]]


def upgraded(manifest: dict[str, Any], tensors: dict[str, dict[str, Tensor]], held_out: dict[str, np.ndarray]) -> Parts:
    """The parts of a stored training in the form of today's.

    Its volatility was the EWMA volatility, which is today's forecast without anything fitted; that of five sessions is
    its multiple, by which nothing is multiplied but NaN.

    Parameters
    ----------
    manifest, tensors, held_out
        What the three files of a training of ``EARLIER_FORMAT`` hold.

    Raises
    ------
    KeyError
        A part is missing.
    """
    rows = len(held_out["logit"])
    unknown = np.full(rows, np.nan)
    shifts = np.stack([tensors["calibration"]["shifts"].double().numpy(), np.full(len(QUANTILE_LEVELS), np.nan)])
    none = QuantileShifts.none()
    windows = manifest["windows"]["calibrate"]
    return (
        {
            **manifest,
            "calibration": {
                "platt": manifest["platt"],
                "shifts": [
                    {
                        "centres": none.centres.tolist(),
                        "shifts": np.tile(of_horizon, (len(none.centres), 1)).tolist(),
                        "rows": windows,
                        "effective_rows": windows // horizon,
                        "pooled": True,
                    }
                    for horizon, of_horizon in zip(HORIZONS, shifts, strict=True)
                ],
                "score": {"slope": float("nan"), "unconstrained_slope": float("nan")},
            },
        },
        {
            "network": _with_heads(tensors["network"]),
            "scaler": tensors["scaler"],
            "volatility": HarVolatility.random_walk().state_dict(),
        },
        {
            **held_out,
            "multiples_5d": np.full((rows, len(QUANTILE_LEVELS)), np.nan),
            "score": unknown,
            "outcome_5d": unknown,
            "excess": unknown,
            "volatility": held_out["volatility"][:, None] * np.sqrt(HORIZONS),
        },
    )


def stored_volatility(coefficients: dict[str, Tensor]) -> HarVolatility:
    """The forecaster of stored coefficients; one that was fitted without the long-run variance has slope 0 for it.

    It goes on forecasting what it did, to the last bit.

    Raises
    ------
    ValueError
        There are slopes of some other number of variances.
    """
    slopes = coefficients["slopes"]
    if len(slopes) == len(KNOWN_VARIANCES) - 1:
        slopes = torch.cat([slopes[:LONG_RUN], torch.zeros_like(slopes[:1]), slopes[LONG_RUN:]])
    if len(slopes) != len(KNOWN_VARIANCES):
        raise ValueError(f"slopes of {len(slopes)} variances, where {len(KNOWN_VARIANCES)} are known")
    return HarVolatility(**{**coefficients, "slopes": slopes})


def _with_heads(network: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a network that ends in ``Heads``; those of the heads that it did not have are NaN."""
    weights = {name: value for name, value in network.items() if name.split(".")[0] not in _READ_OUTS}
    for part in ("weight", "bias"):
        direction, quantiles = (network[f"{head}.{part}"] for head in _READ_OUTS)
        weights[f"heads.linear.{part}"] = torch.cat(
            [direction, quantiles, torch.full_like(quantiles, torch.nan), torch.full_like(direction, torch.nan)]
        )
    return weights
