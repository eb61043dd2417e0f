"""Cost of a day's answers to three questions about one challenger, in a year-long test whose evidence is kept.

OMP_NUM_THREADS=1 python benchmarks/ab/questions.py [--seed 1]

The last sessions are decided one after the other, with one question and with three, from the same log; seconds are of
the processor, the best of these sessions. Reading the log is left out and stands beside.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from prediction_logs import CUTOFF, BySession, World, make_world
from table import Goal, Row, main, verdict

from financial_assets.experiment.decision.history import EvidenceHistory
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.metrics.registry import METRICS
from financial_assets.experiment.outcomes import KnownPrices
from financial_assets.experiment.plan.daily_deviation import DailyDeviation
from financial_assets.experiment.plan.planning import make_plan
from financial_assets.experiment.plan.sections import QuestionPolicy
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.rollout.controller import ExperimentController
from financial_assets.experiment.rollout.state import Rollout

SESSIONS, TICKERS, LAST = 252, 20, 20
"""Days of the test, its universe (ranking needs as many tickers), and how many days are decided."""

FURTHER = (QuestionPolicy("ranking", "rank_ic"), QuestionPolicy("risk", "pinball"))
"""Asked beside the direction."""

RIVALS = ("majority", "logistic", "reversal", "momentum", "filtered", "ewma", "har")
READS = ("last_direct", "direct_after", "direct", "routed")
ALLOWED_MS = 60


@dataclass
class TimedLog:
    """A log that knows how long its rows took to read."""

    log: PredictionLog
    seconds: float = field(default=0.0, init=False)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.log, name)
        return partial(self._timed, found) if name in READS else found

    def _timed(self, read: Callable[..., object], *arguments: object, **named: object) -> object:
        began = time.process_time()
        try:
            return read(*arguments, **named)
        finally:
            self.seconds += time.process_time() - began


@dataclass(frozen=True)
class Days:
    """Seconds of the quickest day beyond reading and of its reading, and all answers."""

    beyond: float
    reading: float
    answers: list[Decision]


def asked_of(world: World, further: tuple[QuestionPolicy, ...]) -> World:
    """The same log with plans for further questions."""
    for one in further:
        spread = DailyDeviation(5 * METRICS[one.metric].plausible_effect, "the benchmark")
        rules, epoch = replace(world.rules, questions=further), world.epoch
        world.log.register_plan(
            make_plan(rules, epoch, epoch.challengers[0], spread, CUTOFF, asked=one, traffic_question="direction")
        )
    return replace(world, rules=replace(world.rules, questions=further))


def decided(world: World, history: EvidenceHistory) -> Days:
    """Decide the last days, the first of which makes what is kept."""
    log, rivals = TimedLog(world.log), BySession(world.rivals)
    controller = ExperimentController(Rollout(cast(PredictionLog, log), world.rules), history)
    spent, answers = list[tuple[float, float]](), list[Decision]()
    for session in world.panel.sessions[-LAST:]:
        known, log.seconds = KnownPrices.of(world.panel.until(session), session), 0.0
        began = time.process_time()
        judgements = controller.decide(known, lambda _: rivals, cost_bps=5.0)
        spent.append((time.process_time() - began - log.seconds, log.seconds))
        answers += [one.decision for one in judgements]
    return Days(*min(spent[1:]), answers)


def questions(rng: np.random.Generator) -> Iterator[Row]:
    """One more day of a year-long test with 20 tickers, one question beside three."""
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(rng, Path(folder), SESSIONS, TICKERS, routed_per_session=TICKERS, rivals=RIVALS)
        one = decided(world, EvidenceHistory(Path(folder) / "one"))
        world = asked_of(world, FURTHER)
        three = decided(world, EvidenceHistory(Path(folder) / "three"))
        known = KnownPrices.of(world.panel, world.panel.sessions[-1])
        whole = ExperimentController(Rollout(world.log, world.rules)).decide(
            known, lambda _: world.rivals, cost_bps=5.0
        )
        world.log.close()
    equal = [judgement.decision for judgement in whole] == three.answers[-len(whole) :]
    spent = 1000 * three.beyond
    what = "one more session of a year-long test of 20 tickers with three questions, decided by what is kept, beyond "
    what += "reading its rows"
    parts = f"{spent:.0f} ms, {three.beyond / one.beyond:.2f} times one question; {len(whole)} answers, the same as "
    parts += f"from all rows: {'yes' if equal else 'NO'}"
    control = f"one question: {1000 * one.beyond:.0f} ms; reading for three: {1000 * three.reading:.0f} ms"
    met = equal and len(whole) == 1 + len(FURTHER) and spent <= ALLOWED_MS
    yield Row("-", what, f"<= {ALLOWED_MS} ms", parts, control, verdict(met))


GOALS: dict[str, Goal] = {"questions": questions}

if __name__ == "__main__":
    sys.exit(main(GOALS, __doc__, alone=tuple(GOALS)) > 0)
