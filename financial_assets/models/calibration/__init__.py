"""Calibration on a block that the network never saw: of the probability, the quantiles, and the score that ranks."""

from financial_assets.models.calibration.conformal import QuantileShifts, conformal_shifts
from financial_assets.models.calibration.direction import PlattScaling, fit_platt
from financial_assets.models.calibration.layer import Calibration, FittedCalibration
from financial_assets.models.calibration.ranking import ScoreSlope, fit_slope
from financial_assets.models.calibration.rows import MINIMUM_CALIBRATION_ROWS, MINIMUM_CALIBRATION_SESSIONS

__all__ = [
    "MINIMUM_CALIBRATION_ROWS",
    "MINIMUM_CALIBRATION_SESSIONS",
    "Calibration",
    "FittedCalibration",
    "PlattScaling",
    "QuantileShifts",
    "ScoreSlope",
    "conformal_shifts",
    "fit_platt",
    "fit_slope",
]
