"""Rows of a drift report: what is known of a stream before it is judged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from financial_assets.monitoring.drift.samples import kolmogorov_smirnov, population_stability


def blank_row(name: str, state: str, reference: int) -> dict[str, Any]:
    """A stream without a statistic; ``reference`` is its number of sessions of reference."""
    return {
        "name": name,
        "state": state,
        "aspect": "",
        **dict.fromkeys(("statistic", "threshold", "now"), float("nan")),
        "alarmed": False,
        **dict.fromkeys(("since", "ended", "onset"), pd.NaT),
        "direction": "",
        **dict.fromkeys(("shift", "chance", "psi", "ks"), float("nan")),
        "reference": reference,
        "coefficient": float("nan"),
    }


def distances(reference: np.ndarray, monitored: np.ndarray) -> dict[str, float]:
    """PSI and KS of the known values, for display only."""
    before, after = reference[np.isfinite(reference)], monitored[np.isfinite(monitored)]
    return {"psi": population_stability(before, after), "ks": kolmogorov_smirnov(before, after)}
