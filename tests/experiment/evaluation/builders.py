"""Constructed evidence for evaluations: forecasters of given skills on a random walk, and how their requests went."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.evaluation.evaluate import Evaluation
from financial_assets.experiment.outcomes import outcome_frame
from financial_assets.experiment.prediction_log.schema import QUANTILE_5D_COLUMNS, QUANTILE_COLUMNS
from financial_assets.market.panel import PricePanel
from tests.experiment.builders import CHALLENGER, CHAMPION, CUTOFF, arms, panel
from tests.experiment.decision.builders import evaluated

QUANTILES = (-0.03, -0.02, 0.0, 0.02, 0.03)
WEEK = 5**0.5
"""Quantiles of five sessions by those of one, on a random walk."""
OPENED = pd.Timestamp("2010-02-01 12:00", tz="UTC")
EPOCH = WeightEpoch("ab-experiment", 1, OPENED, arms(), "start")
PRICES = panel(sessions=142, tickers=4)
KEYS = outcome_frame(PRICES)
SECOND = "tiny-predictor-v4"


def forecasts(keys: pd.DataFrame, skill: float, rng: np.random.Generator, stretch: float = 0.1) -> pd.DataFrame:
    """Directions that are right with probability ``skill``."""
    right = rng.random(len(keys)) < skill
    sign = np.where(keys["up"].to_numpy() == right, 1.0, -1.0)
    rows = keys[["session", "ticker"]].assign(probability_up=0.5 + stretch * sign, excess_return=stretch * sign)
    week = [WEEK * quantile for quantile in QUANTILES]
    return rows.assign(**dict(zip((*QUANTILE_COLUMNS, *QUANTILE_5D_COLUMNS), (*QUANTILES, *week), strict=True)))


def evidence(
    skills: dict[str, float], *, days: int = 260, tickers: int = 10, seed: int = 1
) -> tuple[PricePanel, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Panel, routed, direct and baseline frames with forecasters of given skills."""
    rng = np.random.default_rng(seed)
    prices = panel(sessions=days + 22, tickers=tickers, seed=seed)
    keys = outcome_frame(prices)
    keys = keys[keys["session"] > CUTOFF].reset_index(drop=True)
    direct = [forecasts(keys, skill, rng).assign(model=name, status="ok") for name, skill in skills.items()]
    baselines = [
        keys[["session", "ticker"]].assign(model="majority", probability_up=0.53),
        forecasts(keys, 0.5, rng).assign(model="logistic")[["session", "ticker", "model", "probability_up"]],
        keys[["session", "ticker"]].assign(
            model="historical", probability_up=np.nan, **dict(zip(QUANTILE_COLUMNS, QUANTILES, strict=True))
        ),
    ]
    frame = pd.concat(baselines).rename(columns={"session": "date"})
    return prices, routed_rows(keys, rng), pd.concat(direct, ignore_index=True), frame


def routed_rows(keys: pd.DataFrame, rng: np.random.Generator, share: float = 0.7) -> pd.DataFrame:
    rows = forecasts(keys, 0.5, rng)
    return rows.assign(
        experiment="ab-experiment",
        epoch=1,
        regime=None,
        propensity=np.nan,
        inclusion=1.0,
        model=np.where(rng.random(len(rows)) < share, CHAMPION, CHALLENGER).astype(object),
        status="ok",
        attempts=1,
        latency_s=rng.gamma(4, 0.001, len(rows)),
    )


def judge(skills: dict[str, float], **options: int) -> Evaluation:
    prices, routed, direct, baselines = evidence(skills, **options)
    return evaluated(routed=routed, direct=direct, epochs=[EPOCH], panel=prices, baselines=baselines)


def routed_by_scores(bias: float, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame, list[WeightEpoch]]:
    """Routed and paired rows of two weight epochs, of which the second follows scores, in a market that gets harder."""
    rng = np.random.default_rng(seed)
    keys = KEYS[KEYS["session"] > PRICES.sessions[21]].reset_index(drop=True)
    early = (keys["session"] < PRICES.sessions[80]).to_numpy()
    skill = np.where(early, 0.5 + bias, 0.5)
    right = {name: rng.random(len(keys)) < skill for name in (CHAMPION, CHALLENGER)}
    up = keys["up"].to_numpy()
    probability = {name: np.where(up == hit, 0.6, 0.4) for name, hit in right.items()}
    share = np.where(early, 0.2, 0.8)
    chosen = rng.random(len(keys)) < share
    frame = keys[["session", "ticker"]].assign(
        experiment="ab-experiment",
        epoch=np.where(early, 1, 2),
        regime=None,
        inclusion=1.0,
        model=np.where(chosen, CHALLENGER, CHAMPION).astype(object),
        probability_up=np.where(chosen, probability[CHALLENGER], probability[CHAMPION]),
        status="ok",
        attempts=1,
        latency_s=0.002,
        **dict.fromkeys(QUANTILE_COLUMNS, 0.0),
    )
    direct = pd.concat(
        [frame.assign(model=name, probability_up=values) for name, values in probability.items()], ignore_index=True
    )
    weights = ((80, 20), (20, 80))
    epochs = [
        replace(
            EPOCH,
            number=number,
            arms=(replace(EPOCH.champion, weight=one), replace(EPOCH.arms[1], weight=other)),
            reason=reason,
        )
        for number, (one, other), reason in zip((1, 2), weights, ("start", "hedge: would give 0.2/0.8"), strict=True)
    ]
    return frame, direct, epochs
