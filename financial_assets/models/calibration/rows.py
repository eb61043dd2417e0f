"""What any calibration asks of the rows it learns from."""

from __future__ import annotations

import numpy as np

from financial_assets.errors import TrainingError

MINIMUM_CALIBRATION_ROWS = 100
"""With fewer rows than this the 1 % quantile has no conformal correction at all."""

MINIMUM_CALIBRATION_SESSIONS = 20
"""Sessions that the rows must come from: the tickers of one session move together, and hundreds of them know little
more than one. A plan, too, measures how much two models differ from 20 sessions on."""

LOG_SCALE_DEVIATION = 1.0
"""Standard deviation of the log-normal prior on a factor that calibrates: the Platt scale, the slope of the score."""


def check_rows(values: np.ndarray, days: np.ndarray | None = None) -> None:
    """Refuse too few rows or sessions, and rows that are not finite.

    Parameters
    ----------
    values
        What is calibrated ``[n, ...]``.
    days
        The decision session of each row ``[n]``; ``None`` where they were checked with other values of the same rows.

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
    sessions = MINIMUM_CALIBRATION_SESSIONS if days is None else len(np.unique(days))
    if sessions < MINIMUM_CALIBRATION_SESSIONS:
        raise TrainingError(
            f"the calibrate block has {sessions} sessions, {MINIMUM_CALIBRATION_SESSIONS} are needed, however many "
            "tickers they have: set an earlier INGESTION_START_DATE"
        )
    if not np.isfinite(values).all():
        raise TrainingError("the network's answers on the calibrate block are not finite")


def day_weights(days: np.ndarray) -> np.ndarray:
    """Weights ``[n]`` that add up to one on each day, however many tickers traded on it."""
    _, day, rows = np.unique(np.asarray(days).ravel(), return_inverse=True, return_counts=True)
    return 1.0 / rows[day]
