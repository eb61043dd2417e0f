"""The streams that are watched for drift: one value per session for every feature, and one for the champion's loss.

The loss is measured in units of what the model itself puts at stake. A model is bolder in some months than in others;
its excess loss grows in proportion, and a sum of unscaled losses would wander off without any drift.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit

from financial_assets.errors import MonitoringError
from financial_assets.experiment.arms import Arm
from financial_assets.experiment.outcomes import join_outcomes, outcome_frame
from financial_assets.features.graph import FeaturePanel
from financial_assets.market.outcomes import next_session_return
from financial_assets.market.panel import PricePanel
from financial_assets.models.answers import Answers
from financial_assets.models.calibration import MINIMUM_CALIBRATION_ROWS, MINIMUM_CALIBRATION_SESSIONS, fit_platt
from financial_assets.models.external.answers import ExternalGraph
from financial_assets.models.training import Training
from financial_assets.scoring.classification import log_losses

_FEWEST_SESSIONS = 60
"""Of an external model that has learned from fewer, the share of ups in so many of the first stands for the rest."""

_NO_ANSWERS = (np.empty(0), np.empty(0), np.empty(0, dtype=bool))

_PARTS = 10
"""Parts of the held-out block, each calibrated on the others; more where the others would be too few."""


def feature_means(features: FeaturePanel) -> pd.DataFrame:
    """Mean of each feature over the valid tickers of each session.

    Returns
    -------
    pandas.DataFrame
        float64, index session, one column per feature; sessions without a valid ticker are left out.
    """
    valid = features.valid.astype(np.float64)
    tickers = valid.sum(axis=0)
    has_tickers = tickers > 0
    means = np.empty((int(has_tickers.sum()), len(features.names)))
    # Feature by feature: a float64 copy of the whole panel would triple the memory.
    for column in range(len(features.names)):
        values = np.where(features.valid, features.values[:, column, :], 0.0)
        if values.shape[1] == 1:
            # NumPy adds up the rows of a matrix one after the other, but those of a single column by halves: a session
            # has the same mean to the last bit, whether it comes alone or among others.
            values = np.repeat(values, 2, axis=1)
        sums = values.sum(axis=0, dtype=np.float64)[: len(has_tickers)]
        means[:, column] = sums[has_tickers] / tickers[has_tickers]
    return pd.DataFrame(means, index=pd.DatetimeIndex(features.sessions[has_tickers]), columns=list(features.names))


def daily_excess_loss(
    sessions: np.ndarray, probability_up: np.ndarray, up: np.ndarray, majority_up: float
) -> pd.Series:
    """Log loss of a session's answers beyond that of always answering ``majority_up``, over its standard deviation.

    The baseline sees the same outcomes, so a session that was hard for everybody does not count against the model. An
    answer p instead of the baseline's m puts ``w = logit(p) - logit(m)`` at stake: the difference of both losses takes
    two values, w apart, and its standard deviation is ``|w| sqrt(m (1 - m))`` if the baseline is right. A session is
    the mean difference over the root mean square of those deviations; 0 where nothing is at stake.

    Parameters
    ----------
    sessions, probability_up, up
        One answer per row ``[n]``.
    majority_up
        The constant probability, strictly between 0 and 1.

    Raises
    ------
    MonitoringError
        If ``majority_up`` is not such a probability.
    """
    if not 0.0 < majority_up < 1.0:
        raise MonitoringError(f"the majority baseline answers {majority_up}: the fit block holds one direction only")
    if len(up) == 0:
        return pd.Series(dtype=np.float64, index=pd.DatetimeIndex([]))
    baseline = np.full(len(up), majority_up)
    excess = log_losses(probability_up, up) - log_losses(baseline, up)
    stake = _log_odds(probability_up) - _log_odds(baseline)
    answers = pd.DataFrame(
        {"excess": excess, "variance": stake**2 * majority_up * (1.0 - majority_up)}, index=pd.DatetimeIndex(sessions)
    )
    days = answers.groupby(level=0).mean().sort_index()
    deviation = days["variance"] ** 0.5
    return (days["excess"] / deviation.where(deviation > 0, 1.0)).rename(None)


def _log_odds(probability: np.ndarray) -> np.ndarray:
    """Log odds as the difference of both outcomes' losses: with the loss's own limits, 0 and 1 stay finite."""
    never, always = np.zeros(len(probability), dtype=bool), np.ones(len(probability), dtype=bool)
    return log_losses(probability, never) - log_losses(probability, always)


@dataclass(frozen=True, eq=False)
class DriftReference:
    """What a champion's stream of losses is compared with.

    Attributes
    ----------
    begins
        First session that it learned from, as far as it is known.
    majority_up
        Share of "up" in what it learned from: the majority baseline's answer.
    loss
        Daily excess loss on sessions that it did not learn from, before it was served.
    """

    begins: pd.Timestamp
    majority_up: float
    loss: pd.Series

    @classmethod
    def of(cls, model: Training | ExternalGraph, panel: PricePanel) -> DriftReference:
        """That of a training is its calibrate block.

        An external model may have learned from every session up to its data cut-off: answers there would look better
        than it is. Its losses have no reference, so that the first ones that are served become it
        (:func:`.detection.detect_drift`).
        """
        if isinstance(model, Training):
            share = majority_share(model, panel)
            return cls(model.spans["fit"][0], share, held_out_excess_loss(model, share))
        last = max(int(panel.sessions.searchsorted(model.cutoff, side="right")), _FEWEST_SESSIONS)
        outcome = next_session_return(panel)[:, :last]
        outcome = outcome[np.isfinite(outcome)]
        if not len(outcome):
            raise MonitoringError(f"no price up to {model.cutoff:%Y-%m-%d} is left: set INGESTION_START_DATE back")
        return cls(panel.sessions[0], float((outcome > 0).mean()), daily_excess_loss(*_NO_ANSWERS, majority_up=0.5))


def majority_share(training: Training, panel: PricePanel) -> float:
    """Share of "up" among the outcomes of the training's own fit block and tickers: the majority baseline's answer."""
    first, last = training.spans["fit"]
    inside = (panel.sessions >= first) & (panel.sessions <= last)
    rows = [row for row, ticker in enumerate(panel.tickers) if ticker in set(training.tickers)]
    outcome = next_session_return(panel)[rows][:, inside]
    outcome = outcome[np.isfinite(outcome)]
    if not len(outcome):
        raise MonitoringError(
            f"no price of the model's fit block ({first:%Y-%m-%d} to {last:%Y-%m-%d}) is left: set "
            "INGESTION_START_DATE back, or train again"
        )
    return float((outcome > 0).mean())


def held_out_excess_loss(training: Training, majority_up: float) -> pd.Series:
    """Daily excess loss of a model on its calibrate block, the reference of what it does once it is served.

    See ``cross_fitted_excess_loss``.
    """
    return cross_fitted_excess_loss(training.held_out, majority_up)


def cross_fitted_excess_loss(answers: Answers, majority_up: float) -> pd.Series:
    """Daily excess loss of uncalibrated answers on a block, each calibrated by the rest of the block.

    No network has seen the calibrate block, but the two parameters of the Platt scaling were fitted on it, the share of
    ups among them. Judged by its own calibration a model looks better than it is, and its later loss would look like a
    rise. So each tenth of the sessions is calibrated on the others (cross-fitting).

    Raises
    ------
    MonitoringError
        If what is left of the block is too little to calibrate on.
    """
    sessions = np.asarray(answers.session)
    probability = np.empty(len(sessions))
    days = np.unique(sessions)
    spare = max(len(sessions) - MINIMUM_CALIBRATION_ROWS, 1)
    for part in np.array_split(days, min(len(days), max(_PARTS, 2 * len(sessions) // spare))):
        inside = np.isin(sessions, part)
        rest = ~inside
        few = int(rest.sum()) < MINIMUM_CALIBRATION_ROWS or len(days) - len(part) < MINIMUM_CALIBRATION_SESSIONS
        if few or len(np.unique(answers.up[rest])) < 2:
            raise MonitoringError(
                f"the model's calibrate block has {len(sessions)} answers, too few to judge its loss by: set an "
                "earlier INGESTION_START_DATE"
            )
        platt = fit_platt(answers.logit[rest], answers.up[rest], sessions[rest])
        probability[inside] = expit(platt.scale * answers.logit[inside] + platt.bias)
    return daily_excess_loss(sessions, probability, answers.up, majority_up)


def served_excess_loss(direct: pd.DataFrame, arm: Arm, panel: PricePanel, majority_up: float) -> pd.Series:
    """Daily excess loss of an arm's paired predictions after its data cut-off whose outcome is known.

    Parameters
    ----------
    direct
        Paired predictions of the log: ``session``, ``ticker``, ``model``, ``status``, ``probability_up``.
    arm
        Whose predictions.
    panel
        Prices up to the market clock, for the outcomes.
    majority_up
        See ``daily_excess_loss``.
    """
    mine = direct[(direct["status"] == "ok") & (direct["model"] == arm.model) & (direct["session"] > arm.data_cutoff)]
    rows = join_outcomes(mine, outcome_frame(panel))
    return daily_excess_loss(
        rows["session"].to_numpy(), rows["probability_up"].to_numpy(np.float64), rows["up"].to_numpy(bool), majority_up
    )
