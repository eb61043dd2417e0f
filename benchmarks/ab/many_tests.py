"""The two-sided test, for simulations: decisions ask about either side by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from financial_assets.experiment.statistics.capital import STAKES, log_e_process

__all__ = ["two_sided_log_e"]


def two_sided_log_e(
    differences: NDArray[np.float64], margin: float = 0.0, *, stakes: Sequence[float] = STAKES
) -> NDArray[np.float64]:
    """Log e-process against "the mean is ``margin``": half of the capital on either side."""
    above, below = (log_e_process(sign * differences, sign * margin, stakes=stakes) for sign in (1, -1))
    return np.logaddexp(above, below) - math.log(2)
