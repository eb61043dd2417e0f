"""Cost of evaluating and deciding from a real SQLite log: a million predictions, one more day of a year-long test.

OMP_NUM_THREADS=1 python benchmarks/ab/scale.py [--only million --seed 1]

The log holds paired predictions of champion, challenger and shadow and one routed request a bar, in a file that was
just written and is in the page cache. Everything runs in one thread; the seconds are of its processor, the best of some
runs, so that a busy machine does not count; wall-clock time, which an idle machine brings down to that, stands beside.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from prediction_logs import BySession, World, make_world, write
from table import Goal, Row, main, verdict

from financial_assets.experiment.decision.evidence import gather
from financial_assets.experiment.decision.guardrails import watch_traffic
from financial_assets.experiment.decision.history import EvidenceHistory
from financial_assets.experiment.decision.kept.shared import EVIDENCE_COLUMNS
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.decision.rule import decide
from financial_assets.experiment.decision.series import needs_scaled_outcomes
from financial_assets.experiment.evaluation.evaluate import DIRECT_COLUMNS, ROUTED_COLUMNS, Evaluation, evaluate
from financial_assets.experiment.evaluation.risk import deflated_sharpe
from financial_assets.experiment.outcomes import KnownPrices
from financial_assets.experiment.prediction_log import decisions as log_decisions
from financial_assets.experiment.prediction_log.kept_predictions import KeptPredictions
from financial_assets.experiment.rollout.controller import TRAFFIC_COLUMNS, ExperimentController
from financial_assets.experiment.rollout.state import Rollout
from financial_assets.experiment.statistics.betting import BettingSequence
from financial_assets.workflows.decisions import reads_of_evaluation


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
        gather(
            world.plan,
            direct,
            world.rivals,
            known.scaled_outcomes if needs_scaled_outcomes(world.plan) else known.outcomes,
        ),
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
    """Seconds to read, evaluate, and decide as the controller does, by the rows that were read; wall."""
    wall = time.perf_counter()
    marks = [time.process_time()]
    reads = reads_of_evaluation(world.log)
    routed = reads.routed(world.epoch.experiment, columns=ROUTED_COLUMNS)
    direct = reads.direct(columns=DIRECT_COLUMNS)
    marks.append(time.process_time())
    known = KnownPrices.of(world.panel, world.panel.sessions[-1])
    judgements = ExperimentController(Rollout(world.log, world.rules)).decide(
        known, lambda _: world.rivals, cost_bps=5.0, reads=reads
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
    parts = f"read {read:.1f}, evaluate {evaluated:.1f}, decide {decided:.1f}; wall clock {wall:.1f}"
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


def sealing(rng: np.random.Generator) -> Iterator[Row]:
    """What the seals of a session's rows and of its decision add to deciding on it, by what is kept."""
    shares = {tickers: sealing_shares(rng, tickers) for tickers in (10, 500)}
    what = "sealing of one more session's rows and decision in a year-long test: the asset's reading, evaluation and "
    what += "decision with it, over those without"
    parts = "; ".join(f"{tickers} tickers: {1 + whole:.3f}" for tickers, (_, whole) in shares.items())
    control = "the decision alone: " + "; ".join(f"{1 / (1 - alone):.2f}" for alone, _ in shares.values())
    yield Row("-", what, "<= 1.02", parts, control, verdict(max(whole for _, whole in shares.values()) <= 0.02))


def sealing_shares(rng: np.random.Generator, tickers: int) -> tuple[float, float]:
    """Of sealing in deciding by what is kept, and beside all that the asset does; medians over the last days."""
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(rng, Path(folder), 252, tickers, routed_per_session=50, held_back=12)
        kept = ExperimentController(Rollout(world.log, world.rules), EvidenceHistory(Path(folder) / "evidence"))
        rivals, spent = BySession(world.rivals), list[float]()
        shares, sealed, days = list[float](), list[float](), world.panel.sessions[-12:]

        def timed(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any) -> Any:
                began = time.process_time()
                try:
                    return function(*arguments)
                finally:
                    spent.append(time.process_time() - began)

            return call

        names = ("open_chain", "seal_rows", "seal_artefacts", "seal_decision")
        patches = [patch.object(log_decisions, name, timed(getattr(log_decisions, name))) for name in names]
        with contextlib.ExitStack() as stack:
            for each in patches:
                stack.enter_context(each)
            for session, later in itertools.pairwise(days):
                write(world, rng, pd.DatetimeIndex([session, later]), routed_per_session=50)
                known, began = KnownPrices.of(world.panel.until(later), later), time.process_time()
                spent.clear()
                kept.decide(known, lambda _: rivals, cost_bps=5.0)
                sealed.append(sum(spent))
                shares.append(sealed[-1] / (time.process_time() - began))
        whole = min(sum(as_the_asset_does(world)[:3]) for _ in range(2))
        world.log.close()
    return float(np.median(shares[1:])), float(np.median(sealed[1:])) / whole


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
    "sealing": sealing,
    "sequence": sequence,
}

if __name__ == "__main__":
    main(GOALS, __doc__, alone=tuple(GOALS))
