"""Answers of a champion, and the signals that are made of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from financial_assets.serving.client.answers import Answer
from financial_assets.serving.signals import make_signals

MODEL, VERSION = "baseline-predictor-v3", 3
FRIDAY, MONDAY = pd.Timestamp("2010-01-29"), pd.Timestamp("2010-02-01")
LEVELS = np.array([-0.03, -0.02, 0.001, 0.015, 0.04])


def answer_of(probability: np.ndarray, quantiles: np.ndarray, route: str | None = MODEL) -> Answer:
    """The answer of a model of an earlier version."""
    return Answer(
        np.asarray(probability, np.float32), np.asarray(quantiles, np.float32), route, 1, "served", 0.01, "an-id"
    )


def whole_answer(
    probability: np.ndarray,
    quantiles: np.ndarray,
    further: np.ndarray | None = None,
    score: np.ndarray | None = None,
    route: str | None = MODEL,
) -> Answer:
    """The answer of a model with all heads; by default five sessions are twice as wide, and the score is 0, 1, 2 ..."""
    further = 2 * np.asarray(quantiles) if further is None else further
    score = np.arange(len(probability)) if score is None else score
    return replace(
        answer_of(probability, quantiles, route),
        return_quantiles_5d=np.asarray(further, np.float32),
        excess_return=np.asarray(score, np.float32),
    )


def signals_of(names: list[str], probability: list[float], quantiles: np.ndarray | None = None) -> pd.DataFrame:
    levels = np.tile(LEVELS, (len(names), 1)) if quantiles is None else quantiles
    answer = answer_of(np.array(probability), levels)
    return make_signals(names, answer, as_of=FRIDAY, model=MODEL, version=VERSION)


def signals_with_heads(
    names: list[str],
    probability: list[float],
    *,
    further: np.ndarray | None = None,
    score: list[float] | None = None,
) -> pd.DataFrame:
    levels = np.tile(LEVELS, (len(names), 1))
    answer = whole_answer(np.array(probability), levels, further, None if score is None else np.array(score))
    return make_signals(names, answer, as_of=FRIDAY, model=MODEL, version=VERSION)
