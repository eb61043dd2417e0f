"""A log and prices that grow, and the history that follows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.evidence import gather
from financial_assets.experiment.decision.guardrails import longest_of_pairs
from financial_assets.experiment.decision.history import EvidenceHistory, Gathered
from financial_assets.experiment.decision.looks import watch
from financial_assets.experiment.decision.series import needs_scaled_outcomes
from financial_assets.experiment.outcomes import KnownPrices
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.records import Forecast, Result
from financial_assets.experiment.prediction_log.schema import QUANTILE_5D_COLUMNS, QUANTILE_COLUMNS
from financial_assets.market import calendar
from financial_assets.market.panel import PricePanel
from tests.experiment.builders import CHALLENGER, CHAMPION, CUTOFF, panel

PRICES = panel(sessions=62, tickers=5)
AFTER = PRICES.sessions[PRICES.sessions > CUTOFF]
QUANTILES = np.array([-0.03, -0.02, 0.0, 0.02, 0.03])
RIVALS = ("majority", "logistic")


@dataclass
class Baselines:
    """Predictions by session; a new ``version`` of a session changes its token and its predictions."""

    versions: dict[pd.Timestamp, int]
    tickers: tuple[str, ...] = PRICES.tickers
    names: tuple[str, ...] = RIVALS

    @property
    def tokens(self) -> Mapping[pd.Timestamp, str]:
        return {session: f"{session}-{version}" for session, version in self.versions.items()}

    def of(self, sessions: Iterable[pd.Timestamp]) -> pd.DataFrame:
        parts = []
        for session in sorted(sessions):
            rng, count = np.random.default_rng([int(session.value % 2**32), self.versions[session]]), len(self.tickers)
            for name in self.names:
                wide = rng.uniform(0.5, 2.0, (count, 1)) * QUANTILES
                chance = rng.uniform(0.3, 0.7, (count, 1))
                parts.append((session, name, np.hstack([chance, chance - 0.5, wide, 2 * wide])))
        answers = ["probability_up", "excess_return", *QUANTILE_COLUMNS, *QUANTILE_5D_COLUMNS]
        frame = pd.DataFrame(np.vstack([np.empty((0, 12)), *(values for *_, values in parts)]), columns=answers)
        repeated = [(session, ticker, name) for session, name, _ in parts for ticker in self.tickers]
        return pd.concat([pd.DataFrame(repeated, columns=["date", "ticker", "model"]), frame], axis=1)

    def frame(self) -> pd.DataFrame:
        return self.of(self.versions)


@dataclass
class World:
    """A log and prices that grow, and the history that follows them."""

    log: PredictionLog
    epoch: WeightEpoch
    history: EvidenceHistory
    baselines: Baselines
    plan: ExperimentPlan
    prices: PricePanel = PRICES

    def predict(self, session: pd.Timestamp, tickers: tuple[str, ...] | None = None, answered: bool = True) -> None:
        rng = np.random.default_rng(int(session.value % 2**31))
        every = self.prices.tickers if tickers is None else tickers
        intents = self.log.begin_direct(self.epoch.arms, session, calendar.next_session(session), every)
        if answered:
            self.log.complete_direct([Result(one.id, said(rng), latency_s=0.001 * rng.random()) for one in intents])

    def look(self, as_of: pd.Timestamp, prices: PricePanel | None = None) -> Gathered:
        """What the history gives, after it was compared with everything computed from all rows."""
        known = KnownPrices.of((prices or self.prices).until(as_of), as_of)
        found = self.history.gather(self.plan, self.log, self.baselines, known)
        direct = self.log.direct((CHAMPION, CHALLENGER), since=pd.Timestamp(self.plan.starts_after), until=as_of)
        outcomes = known.scaled_outcomes if needs_scaled_outcomes(self.plan) else known.outcomes
        whole = gather(self.plan, direct, self.baselines.frame(), outcomes)
        ours, theirs = found.evidence, whole
        assert ours.digest == theirs.digest
        assert (ours.due, ours.missing, ours.coverage) == (theirs.due, theirs.missing, theirs.coverage)
        assert (list(ours.against), list(ours.guards)) == (list(theirs.against), list(theirs.guards))
        pairs = zip(
            [ours.main, ours.accuracy, *ours.against.values(), *ours.guards.values()],
            [theirs.main, theirs.accuracy, *theirs.against.values(), *theirs.guards.values()],
            strict=True,
        )
        for one, other in pairs:
            assert list(one.sessions) == list(other.sessions)
            np.testing.assert_array_equal(one.differences, other.differences)
            assert (one.rows, one.disagreements) == (other.rows, other.disagreements)
        assert found.always_on == watch(self.plan, whole)
        expected = longest_of_pairs(self.plan, direct)
        pd.testing.assert_frame_equal(
            found.longest[list(expected.columns)], expected, check_names=False, check_freq=False, check_exact=True
        )
        return found


def said(rng: np.random.Generator) -> Forecast:
    """An answer of all heads."""
    chance, wide = rng.random(), rng.uniform(0.5, 2.0)
    return Forecast(chance, tuple(wide * QUANTILES), tuple(2 * wide * QUANTILES), rng.standard_normal())
