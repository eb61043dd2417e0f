"""The leak alarm on served answers: no arm may be right too often to be honest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from financial_assets.experiment.arms import Arm
from financial_assets.experiment.outcomes import join_outcomes
from financial_assets.market.panel import PricePanel
from financial_assets.models.leak import LeakCheck, leak_alarm

__all__ = ["leak_checks"]

_FEWEST_DAYS = 2


def leak_checks(
    direct: pd.DataFrame, arms: Sequence[Arm], panel: PricePanel, *, bayes_accuracy: float | None = None
) -> dict[str, LeakCheck]:
    """Judge each arm on the sessions after its own data cut-off.

    Parameters
    ----------
    direct
        Paired predictions of the log.
    arms
        Which models to judge.
    panel
        Prices up to the market clock, for the outcomes.
    bayes_accuracy
        Of a simulated market, see ``leak_alarm``.

    Returns
    -------
    dict
        Model name to verdict, for arms with due outcomes on at least two days (an interval needs two).
    """
    answered = join_outcomes(direct[direct["status"] == "ok"], panel)
    verdicts: dict[str, LeakCheck] = {}
    for arm in arms:
        rows = answered[(answered["model"] == arm.model) & (answered["session"] > arm.data_cutoff)]
        if rows["session"].nunique() < _FEWEST_DAYS:
            continue
        up = rows["up"].to_numpy(bool)
        correct = (rows["probability_up"].to_numpy() > 0.5) == up
        share = float(up.mean())
        majority = max(share, 1.0 - share)
        verdicts[arm.model] = leak_alarm(correct, np.asarray(rows["session"]), majority, bayes_accuracy=bayes_accuracy)
    return verdicts
