"""Cost of evaluating and deciding from a real SQLite log: a million predictions, one more day of a year-long test.

OMP_NUM_THREADS=1 python benchmarks/ab/scale.py [--only million --seed 1]

The log holds paired predictions of champion, challenger and shadow and one routed request a bar, in a file that was
just written and is in the page cache. Everything runs in one thread; the seconds are of its processor, the best of some
runs, so that a busy machine does not count; wall-clock time, which an idle machine brings down to that, stands beside.
"""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import sqlalchemy as sa
from table import Goal, Row, main, verdict

from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.decision.evidence import gather
from financial_assets.experiment.decision.guardrails import watch_traffic
from financial_assets.experiment.decision.history import EvidenceHistory
from financial_assets.experiment.decision.kept.shared import EVIDENCE_COLUMNS
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.decision.rule import decide
from financial_assets.experiment.evaluation.evaluate import DIRECT_COLUMNS, ROUTED_COLUMNS, Evaluation, evaluate
from financial_assets.experiment.evaluation.risk import deflated_sharpe
from financial_assets.experiment.outcomes import KnownPrices
from financial_assets.experiment.plan.plan import DailyDeviation, ExperimentPlan, make_plan
from financial_assets.experiment.plan.policy import RolloutPolicy, load_policy
from financial_assets.experiment.prediction_log import schema as log_schema
from financial_assets.experiment.prediction_log.kept_predictions import KeptPredictions
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.rollout.controller import TRAFFIC_COLUMNS, ExperimentController
from financial_assets.experiment.rollout.state import Rollout
from financial_assets.experiment.statistics.betting import BettingSequence
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


@dataclass(frozen=True)
class Run:
    """Seconds of the parts, and what came out."""

    read: float
    evaluate: float
    decide: float
    sharpe: float
    evaluation: Evaluation
    decision: Decision

    @property
    def total(self) -> float:
        """All of it."""
        return self.read + self.evaluate + self.decide + self.sharpe


def once(world: World) -> Run:
    """What the asset does: read, evaluate, decide; the deflated Sharpe ratio as if a promotion hung on it."""
    marks = [time.process_time()]
    routed = world.log.routed(world.epoch.experiment, columns=tuple(dict.fromkeys((*ROUTED_COLUMNS, *TRAFFIC_COLUMNS))))
    direct = world.log.direct(columns=tuple(dict.fromkeys((*DIRECT_COLUMNS, *EVIDENCE_COLUMNS))))
    marks.append(time.process_time())
    known = KnownPrices.of(world.panel, world.panel.sessions[-1])
    evaluation = evaluate(
        routed=routed,
        direct=direct,
        epochs=[world.epoch],
        panel=world.panel,
        outcomes=known.outcomes,
        baselines=world.rivals,
    )
    marks.append(time.process_time())
    decision = decide(
        world.plan,
        world.epoch,
        gather(world.plan, direct, world.rivals, known.outcomes),
        watch_traffic(world.plan, [world.epoch], routed),
        as_of=evaluation.as_of,
        deflated_sharpe=lambda: None,
    )
    marks.append(time.process_time())
    deflated_sharpe(world.plan, direct, known, versions=3, cost_bps=5.0)
    marks.append(time.process_time())
    read, evaluated, decided, luck = (after - before for before, after in itertools.pairwise(marks))
    return Run(read, evaluated, decided, luck, evaluation, decision)


def best(run: Callable[[], Run], times: int = 3) -> Run:
    """The fastest of some runs."""
    return min((run() for _ in range(times)), key=lambda one: one.total)


def as_the_asset_does(world: World) -> tuple[float, float, float, float]:
    """Seconds to read, evaluate, and decide as the controller does, which reads what it needs itself; wall."""
    wall = time.perf_counter()
    marks = [time.process_time()]
    routed = world.log.routed(world.epoch.experiment, columns=ROUTED_COLUMNS)
    direct = world.log.direct(columns=DIRECT_COLUMNS)
    marks.append(time.process_time())
    known = KnownPrices.of(world.panel, world.panel.sessions[-1])
    judgements = ExperimentController(Rollout(world.log, world.rules)).decide(
        known, lambda _: world.rivals, cost_bps=5.0
    )
    marks.append(time.process_time())
    evaluate(
        routed=routed,
        direct=direct,
        epochs=[world.epoch],
        panel=world.panel,
        outcomes=known.outcomes,
        baselines=world.rivals,
        judgements=judgements,
    )
    deflated_sharpe(world.plan, direct, known, versions=3, cost_bps=5.0)
    marks.append(time.process_time())
    read, decided, evaluated = (after - before for before, after in itertools.pairwise(marks))
    return read, evaluated, decided, time.perf_counter() - wall


def million(rng: np.random.Generator) -> Iterator[Row]:
    """A million predictions: 250 tickers, 1,000 sessions, three arms in pairs and one routed request."""
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(rng, Path(folder), 1000, 250)
        read, evaluated, decided, wall = min((as_the_asset_does(world) for _ in range(2)), key=lambda run: sum(run[:3]))
        began = time.process_time()
        world.log.direct()
        world.log.routed()
        whole = time.process_time() - began
        bare = min(grouped(Path(folder)) for _ in range(2))
        world.log.close()
    what = f"{world.rows:,} logged predictions evaluated and decided upon, reading included"
    total = read + evaluated + decided
    parts = f"read {read:.1f}, evaluate {evaluated:.1f}, decide and read for it {decided:.1f}; wall clock {wall:.1f}"
    parts += f"; {total / bare:.1f} times as long as pandas takes to read the same rows and to average them by day"
    control = f"all columns read instead of those needed: {whole:.1f} s for reading alone"
    yield Row("-", what, "<= 10 s", f"{total:.1f} s ({parts})", control, verdict(total <= 10))


def grouped(folder: Path) -> float:
    """Seconds that pandas takes to read the rows' keys and probabilities, and for their mean by session and model."""
    (path,) = folder.glob("*.db")
    began = time.process_time()
    for table in ("direct_predictions", "routed_predictions"):
        with closing(sqlite3.connect(path)) as connection:
            query = f"SELECT session, ticker, model, probability_up FROM {table}"
            rows = pd.read_sql_query(query, connection, parse_dates=["session"])
        rows.groupby(["session", "model"])["probability_up"].mean()
    return time.process_time() - began


class BySession:
    """Predictions of the baselines as a history asks for them."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frames = {pd.Timestamp(str(day)): rows for day, rows in frame.groupby("date")}
        self.tokens = dict.fromkeys(self._frames, "1")

    def of(self, sessions: Iterable[pd.Timestamp]) -> pd.DataFrame:
        """Those of some sessions."""
        return pd.concat([self._frames[session] for session in sorted(sessions)], ignore_index=True)


def appended(rng: np.random.Generator) -> Iterator[Row]:
    """The last days of a year-long test with 500 tickers, of which 50 a session are routed, by what is kept."""
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(rng, Path(folder), 252, 500, routed_per_session=50)
        kept = ExperimentController(Rollout(world.log, world.rules), EvidenceHistory(Path(folder) / "evidence"))
        rivals, spent = BySession(world.rivals), list[float]()
        found: list[Decision] = []
        for session in world.panel.sessions[-6:]:
            known = KnownPrices.of(world.panel.until(session), session)
            began = time.process_time()
            found += [one.decision for one in kept.decide(known, lambda _: rivals, cost_bps=5.0)]
            spent.append(time.process_time() - began)
        whole = min((as_the_asset_does(world) for _ in range(2)), key=lambda run: sum(run[:3]))
        known = KnownPrices.of(world.panel, world.panel.sessions[-1])
        (computed,) = ExperimentController(Rollout(world.log, world.rules)).decide(
            known, lambda _: world.rivals, cost_bps=5.0
        )
        equal = found[-1] == computed.decision
        world.log.close()
    full, day = sum(whole[:3]), min(spent[1:])
    what = "one more session of a year-long test of 500 tickers: its evidence and decision, by what is kept"
    parts = f"1/{full / day:.0f} of the full evaluation; the same decision: {'yes' if equal else 'NO'}"
    control = f"deciding from all rows: 1/{full / whole[2]:.1f} of it; nothing kept yet: 1/{full / spent[0]:.1f}"
    yield Row("-", what, "<= 1/50", parts, control, verdict(equal and 50 * day <= full))


def reported(rng: np.random.Generator) -> Iterator[Row]:
    """The rows and figures of the report on the last day of the same test, by what is kept."""
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(rng, Path(folder), 252, 500, routed_per_session=50, held_back=1)
        stored = KeptPredictions(Path(folder) / "predictions")
        stored.direct(world.log, DIRECT_COLUMNS)
        write(world, rng, world.panel.sessions[-2:], routed_per_session=50)
        marks = [time.process_time()]
        direct = stored.direct(world.log, DIRECT_COLUMNS)
        marks.append(time.process_time())
        routed = world.log.routed(world.epoch.experiment, columns=ROUTED_COLUMNS)
        known = KnownPrices.of(world.panel, world.panel.sessions[-1])
        evaluate(
            routed=routed,
            direct=direct,
            outcomes=known.outcomes,
            epochs=[world.epoch],
            panel=world.panel,
            baselines=world.rivals,
        )
        marks.append(time.process_time())
        every = world.log.direct(columns=DIRECT_COLUMNS)
        marks.append(time.process_time())
        equal = direct.equals(every)
        world.log.close()
    kept, evaluated, read = (after - before for before, after in itertools.pairwise(marks))
    what = "the same for the report: its rows by what is kept, its figures from all of them"
    parts = f"rows 1/{read / kept:.0f} of reading all; the same rows: {'yes' if equal else 'NO'}; with the figures "
    parts += f"1/{(read + evaluated) / (kept + evaluated):.1f} of reading and evaluating all"
    control = f"figures alone: {evaluated / read:.1f} times reading all rows, of which the books are most"
    yield Row("-", what, "rows <= 1/10", parts, control, verdict(equal and 10 * kept <= read))


def daily(rng: np.random.Generator) -> Iterator[Row]:
    """The last day of a year-long test with 10 tickers."""
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(rng, Path(folder), 252, 10)
        found = best(lambda: once(world), 9)
        world.log.close()
    spent = 1000 * (found.decide + found.sharpe)
    what = "one day's decision in a year-long test of 10 tickers, computed from all its rows, beyond reading them"
    parts = (
        f"{spent:.0f} ms (of which deflated Sharpe ratio {1000 * found.sharpe:.0f}; reading {1000 * found.read:.0f})"
    )
    control = f"the report's full evaluation of that day: {1000 * found.evaluate:.0f} ms"
    yield Row("-", what, "<= 50 ms", parts, control, verdict(spent <= 50))


def sequence(rng: np.random.Generator) -> Iterator[Row]:
    """The confidence sequence alone, a year of it anew, beside one day at a time."""
    days, times = rng.uniform(-0.2, 0.2, 252), list[float]()
    for _ in range(20):
        began = time.process_time()
        BettingSequence.start().extend(days).interval(0.01)
        times.append(time.process_time() - began)
    began, daily = time.process_time(), BettingSequence.start()
    for day in days.tolist():
        daily = daily.update(day)
    one_by_one = time.process_time() - began
    spent = 1000 * float(np.median(times))
    what = "a year's confidence sequence, computed from all its days"
    control = f"one day at a time: {1000 * one_by_one:.0f} ms"
    yield Row("-", what, "<= 50 ms", f"{spent:.2f} ms", control, verdict(spent <= 50))


GOALS: dict[str, Goal] = {
    "million": million,
    "daily": daily,
    "appended": appended,
    "reported": reported,
    "sequence": sequence,
}

if __name__ == "__main__":
    main(GOALS, __doc__, alone=tuple(GOALS))
