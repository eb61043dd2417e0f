"""What any calibration asks of the rows it learns from."""

from __future__ import annotations

import numpy as np

from financial_assets.errors import TrainingError

MINIMUM_CALIBRATION_ROWS = 100
"""With fewer rows than this the 1 % quantile has no conformal correction at all."""

LOG_SCALE_DEVIATION = 1.0
"""Standard deviation of the log-normal prior on a factor that calibrates: the Platt scale, the slope of the score."""


def check_rows(values: np.ndarray) -> None:
    """Refuse too few rows, and rows that are not finite.

    Raises
    ------
    TrainingError
        Names how many there are, and which settings give more.
    """
    if len(values) < MINIMUM_CALIBRATION_ROWS:
        raise TrainingError(
            f"the calibrate block has {len(values)} windows, {MINIMUM_CALIBRATION_ROWS} are needed: add TICKERS or set "
            "an earlier INGESTION_START_DATE"
        )
    if not np.isfinite(values).all():
        raise TrainingError("the network's answers on the calibrate block are not finite")


def day_weights(days: np.ndarray) -> np.ndarray:
    """Weights ``[n]`` that add up to one on each day, however many tickers traded on it."""
    _, day, rows = np.unique(np.asarray(days).ravel(), return_inverse=True, return_counts=True)
    return 1.0 / rows[day]
