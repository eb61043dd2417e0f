"""Logs on disk as they stand after a long test, written in large batches: what deciding and reporting are timed on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import sqlalchemy as sa

from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.plan.daily_deviation import DailyDeviation
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.plan.planning import make_plan
from financial_assets.experiment.plan.policy import RolloutPolicy, load_policy
from financial_assets.experiment.prediction_log import schema as log_schema
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.market import calendar
from financial_assets.market.panel import CHANNELS, PricePanel

CUTOFF = pd.Timestamp("2010-01-29")
CHAMPION, CHALLENGER, SHADOW = "baseline-predictor-v1", "enhanced-predictor-v2", "lightweight-predictor-v3"
QUANTILES = dict(zip(log_schema.QUANTILE_COLUMNS, (-0.03, -0.02, 0.0, 0.02, 0.03), strict=True))
WEEK = dict(zip(log_schema.QUANTILE_5D_COLUMNS, (-0.06, -0.04, 0.0, 0.04, 0.06), strict=True))
BATCH = 100_000


@dataclass(frozen=True)
class World:
    """A log on disk with everything that a decision needs beside it."""

    log: PredictionLog
    epoch: WeightEpoch
    rules: RolloutPolicy
    plan: ExperimentPlan
    panel: PricePanel
    rivals: pd.DataFrame
    rows: int


def prices(rng: np.random.Generator, sessions: int, tickers: int) -> PricePanel:
    """Random walks; the first sessions lie before the cut-off."""
    days = calendar.sessions("2010-01-04", pd.Timestamp("2010-01-04") + pd.Timedelta(days=2 * sessions + 60))
    days = days[: int(days.searchsorted(CUTOFF, side="right")) + sessions + 1]
    steps = 0.006 * rng.standard_normal((1, len(days))) + 0.01 * rng.standard_normal((tickers, len(days)))
    close = 100 * np.exp(np.cumsum(steps, axis=1))
    values = np.empty((tickers, len(CHANNELS), len(days)), dtype=np.float32)
    values[:] = close[:, None, :]
    values[:, CHANNELS.index("volume")] = 1e6
    values[:, CHANNELS.index("day")] = days.to_numpy().astype("datetime64[D]").astype(np.int64)
    names = tuple(f"T{number:03d}" for number in range(tickers))
    return PricePanel(names, days, values, np.ones((tickers, len(days)), dtype=bool))


def answers(rng: np.random.Generator, count: int) -> list[dict[str, object]]:
    """The columns that every answered request has."""
    now = pd.Timestamp("2011-01-01", tz="UTC").to_pydatetime()
    probability, latency = rng.uniform(0.3, 0.7, count).tolist(), rng.uniform(0.001, 0.004, count).tolist()
    common = {"status": "ok", "failure": None, "error": None, "attempts": 1, **QUANTILES}
    common |= {"intended_at": now, "sent_at": now, "completed_at": now, **WEEK}
    values = zip(probability, rng.standard_normal(count).tolist(), latency, strict=True)
    return [
        {**common, "probability_up": chance, "excess_return": score, "latency_s": seconds}
        for chance, score, seconds in values
    ]


def write(world: World, rng: np.random.Generator, sessions: pd.DatetimeIndex, routed_per_session: int) -> int:
    """Write the log in large batches, as it would stand after all of these sessions; how many rows."""
    days = [day.date() for day in sessions]
    keys = [(day, later, name) for day, later in itertools.pairwise(days) for name in world.panel.tickers]
    paired = [
        {"session": day, "target_session": later, "ticker": ticker, "model": arm.model}
        | {"variant": arm.variant, "model_version": arm.version}
        for day, later, ticker in keys
        for arm in world.epoch.arms
    ]
    routed = [
        {"request_id": f"{day}.{name}", "experiment": world.epoch.experiment, "epoch": 1, "session": day}
        | {"target_session": later, "ticker": name, "model": CHALLENGER if chosen else CHAMPION, "variant": "x"}
        | {"model_version": 1, "propensity": 0.3 if chosen else 0.7}
        for (day, later, name), chosen in zip(keys, rng.random(len(keys)) < 0.3, strict=True)
        if name in world.panel.tickers[:routed_per_session]
    ]
    with world.log.engine.begin() as connection:
        for table, rows in ((log_schema.direct, paired), (log_schema.routed, routed)):
            for begin in range(0, len(rows), BATCH):
                part = rows[begin : begin + BATCH]
                filled = [row | answer for row, answer in zip(part, answers(rng, len(part)), strict=True)]
                connection.execute(sa.insert(table), filled)
    return len(paired) + len(routed)


def make_world(
    rng: np.random.Generator,
    folder: Path,
    sessions: int,
    tickers: int,
    routed_per_session: int | None = None,
    held_back: int = 0,
    rivals: Sequence[str] = ("majority", "logistic", "persistence"),
) -> World:
    """A world in which models know nothing; the predictions of the last ``held_back`` sessions are not logged yet."""
    arms = (
        Arm(CHAMPION, "baseline", 1, "champion", 70, CUTOFF),
        Arm(CHALLENGER, "enhanced", 2, "challenger", 30, CUTOFF),
        Arm(SHADOW, "lightweight", 3, "shadow", 0, CUTOFF),
    )
    panel = prices(rng, sessions, tickers)
    after = panel.sessions[panel.sessions > CUTOFF]
    index = pd.MultiIndex.from_product([after, panel.tickers], names=["date", "ticker"])
    frames = [
        index.to_frame(index=False).assign(
            model=name, probability_up=(chance := rng.uniform(0.4, 0.6, len(index))), excess_return=chance, **QUANTILES
        )
        for name in rivals
    ]
    log = PredictionLog(f"sqlite:///{folder / f'{sessions}-{tickers}.db'}")
    epoch = log.open_epoch("ab-experiment", arms, "start", after=0)
    rules = load_policy()
    asked = replace(rules.test, metric="accuracy", plausible_effect=0.1)
    rules = replace(rules, experiment="ab-experiment", test=asked, questions=())
    plan = make_plan(rules, epoch, epoch.challengers[0], DailyDeviation(0.1, "the benchmark"), CUTOFF)
    world = World(log, epoch, rules, log.register_plan(plan), panel, pd.concat(frames, ignore_index=True), 0)
    return replace(world, rows=write(world, rng, after[: len(after) - held_back], routed_per_session or tickers))


class BySession:
    """Predictions of the baselines as a history asks for them."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frames = {pd.Timestamp(str(day)): rows for day, rows in frame.groupby("date")}
        self.tokens = dict.fromkeys(self._frames, "1")

    def of(self, sessions: Iterable[pd.Timestamp]) -> pd.DataFrame:
        """Those of some sessions."""
        return pd.concat([self._frames[session] for session in sorted(sessions)], ignore_index=True)
