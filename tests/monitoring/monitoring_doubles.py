"""A random-walk market, a log filled as a replay would, and alert rules that do not wait."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.outcomes import outcome_frame
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.records import Forecast, Result
from financial_assets.market import calendar
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.monitoring import local

EXPERIMENT = "ab-experiment"
BASELINE, ENHANCED, SHADOW = "baseline-predictor-v1", "enhanced-predictor-v2", "lightweight-predictor-v3"
QUANTILES = (-0.03, -0.02, 0.0, 0.02, 0.03)


def arms(champion: int = 70, challenger: int = 30, cutoff: pd.Timestamp | None = None) -> tuple[Arm, ...]:
    last = cutoff or pd.Timestamp("2009-12-31")
    return (
        Arm(BASELINE, "baseline", 1, "champion", champion, last),
        Arm(ENHANCED, "enhanced", 2, "challenger", challenger, last),
        Arm(SHADOW, "lightweight", 3, "shadow", 0, last),
    )


def panel(sessions: int, tickers: int, seed: int = 0) -> PricePanel:
    """Independent random walks from January 2010."""
    days = calendar.sessions("2010-01-04", pd.Timestamp("2010-01-04") + pd.Timedelta(days=2 * sessions))[:sessions]
    steps = 0.01 * np.random.default_rng(seed).standard_normal((tickers, sessions))
    values = np.ones((tickers, len(CHANNELS), sessions), dtype=np.float32)
    values[:, :4] = 100 * np.exp(np.cumsum(steps, axis=1))[:, None]
    names = tuple(f"T{i:02d}" for i in range(tickers))
    return PricePanel(names, days, values, np.ones((tickers, sessions), dtype=bool))


def fill(
    log: PredictionLog,
    epoch: WeightEpoch,
    prices: PricePanel,
    sessions: pd.DatetimeIndex,
    *,
    right: Callable[[str], bool] | None = None,
    route: Callable[[int], str] | None = None,
    failed_every: int = 0,
) -> None:
    """Log routed and direct answers of ``sessions``.

    ``right`` says whether a model knows the outcome or its opposite; default: it guesses. ``route`` says who gets the
    n-th request; default: seven of ten the champion. Every ``failed_every``-th request fails.
    """
    up = outcome_frame(prices).set_index(["session", "ticker"])["up"]
    rng = np.random.default_rng(len(sessions))
    sent = 0
    for session in sessions:
        target = prices.sessions[prices.sessions.get_loc(session) + 1]
        guesses = {
            (ticker, arm.model): Forecast(_probability(rng, up.get((session, ticker)), arm.model, right), QUANTILES)
            for ticker in prices.tickers
            for arm in epoch.arms
        }
        results: list[Result] = []
        for intent in log.begin_routed(epoch, session, target, prices.tickers):
            sent += 1
            model = route(sent) if route else (BASELINE if sent % 10 < 7 else ENHANCED)
            latency = float(rng.uniform(0.001, 0.2))
            if failed_every and sent % failed_every == 0:
                results.append(Result(intent.id, failure="failed", route=model, latency_s=latency))
            else:
                results.append(Result(intent.id, guesses[intent.ticker, model], route=model, latency_s=latency))
        log.complete_routed(results)
        direct = log.begin_direct(epoch.arms, session, target, prices.tickers)
        log.complete_direct([Result(intent.id, guesses[intent.ticker, intent.model]) for intent in direct])


def _probability(rng: np.random.Generator, up: bool | None, model: str, right: Callable[[str], bool] | None) -> float:
    if right is None or up is None:
        return float(rng.uniform())
    return 0.9 if right(model) == up else 0.1


def hasty_configuration(folder: Path) -> Path:
    """The repository's configuration with nothing changed but how long a rule and a notification wait."""
    shutil.copytree(local.configuration_folder(), folder)
    for name, pattern in (("rules.yml", r"for: \w+"), ("alertmanager.yml.j2", r"group_wait: \w+")):
        path = folder / name
        changed, count = re.subn(pattern, lambda found: found[0].split(":")[0] + ": 1s", path.read_text())
        assert count
        path.write_text(changed)
    return folder
