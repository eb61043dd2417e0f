"""Prometheus metrics of the experiment, computed from the prediction log and the state folder at each scrape.

Nothing is counted in memory: counters and histograms are totals over the log, so they survive a restart of the
exporter, and a log that cannot be read yields an error, not the numbers of yesterday. Names are those of the original
system where their meaning is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

import pandas as pd
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from financial_assets.errors import FinancialAssetsError, LogNotFoundError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.plan.sections import GuardrailPolicy
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.reader import LogReader
from financial_assets.market.calendar import sessions_closed
from financial_assets.market.panel import PricePanel
from financial_assets.monitoring.accuracy import rolling_accuracy
from financial_assets.monitoring.exported.source import Source
from financial_assets.monitoring.families import EXPERIMENT, accuracy, gauge, histogram, requests, traffic
from financial_assets.monitoring.log_totals import LogTotals, read_totals
from financial_assets.monitoring.questions import questions

LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Upper bounds in seconds, those of the original."""

PROBABILITY_BUCKETS = tuple(tenth / 10 for tenth in range(1, 11))
"""Upper bounds of answered probabilities."""

WINDOW = 60
"""Sessions of the rolling accuracy."""

LEVEL = 0.99
"""Confidence of the rolling accuracy's intervals: they are looked at every day, so 95 % would cry wolf."""

_log = logging.getLogger(__name__)


def open_log(url: str) -> PredictionLog:
    """The prediction log at ``url``, which must exist: reading it must not make one.

    Raises
    ------
    LogNotFoundError
        It does not exist.
    LogError
        It cannot be used.
    """
    with suppress(ArgumentError):  # a malformed URL is for the log to explain
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database and not Path(parsed.database).is_file():
            raise LogNotFoundError(f"there is no prediction log {parsed.database}; run `financial-assets run`")
    return PredictionLog(url, busy_timeout_s=5.0)


class ExperimentCollector(Collector):
    """Reads log and prices afresh at each scrape.

    Parameters
    ----------
    log
        Opens the prediction log; called at each scrape, because a connection to a file that was replaced would go on
        reading the old one.
    panel
        Prices up to the market clock.
    further
        What else is read of the state, whether or not there is a log.
    window
        Sessions of the rolling accuracy.
    level
        Confidence of its intervals.
    now
        The current UTC instant.
    halted
        Whether the kill switch is on; ``None``: there is no metric of it.
    """

    def __init__(
        self,
        log: Callable[[], LogReader],
        panel: Callable[[], PricePanel],
        *,
        further: Sequence[Source] = (),
        window: int = WINDOW,
        level: float = LEVEL,
        now: Callable[[], pd.Timestamp] = lambda: pd.Timestamp.now(tz="UTC"),
        halted: Callable[[], bool] | None = None,
    ) -> None:
        if window < 2:
            raise ValueError(f"window is {window}; an interval needs at least two sessions")
        self._open, self._panel, self._window, self._level, self._now = log, panel, window, level, now
        self._halted = halted
        self._further = further

    def collect(self) -> Iterator[Metric]:
        """All families; of a source that cannot be read, only that it cannot."""
        health = GaugeMetricFamily(
            "ab_test_exporter_up",
            "1 if the source could be read at this scrape; if 0, what is made from it is left out (the exporter's log "
            "says why)",
            labels=["source"],
        )
        families: list[Metric] = []
        try:
            with closing(self._open()) as log:
                totals = read_totals(log.engine, LATENCY_BUCKETS, PROBABILITY_BUCKETS)
                alphas = {epoch.experiment: _srm_alpha(log, epoch) for epoch in totals.current_epochs}
                meaning = "Seconds to the end of a routed request"
                families += [
                    *requests(totals),
                    histogram("ab_test_response_time_seconds", meaning, totals.latency),
                    histogram("ab_test_prediction_value", "Answered probability of a rise", totals.probability),
                    *traffic(totals, alphas),
                    *self._age(totals),
                    *questions(log, totals.current_epochs),
                ]
                health.add_metric(["log"], 1)
                families += self._from_outcomes(log, totals.current_epochs, health)
        except (FinancialAssetsError, OSError) as error:
            _log.error("the prediction log cannot be read: %s", error)
            health = GaugeMetricFamily(health.name, health.documentation, labels=["source"])
            health.add_metric(["log"], 0)
            families = []
        yield health
        if self._halted is not None:
            meaning = "1 while the kill switch is on: no orders, champion and traffic are frozen"
            yield GaugeMetricFamily("financial_assets_trading_halted", meaning, value=float(self._halted()))
        yield from families
        # Not in the family above: an unreadable part of the state does not make the experiment's alerts blind.
        meaning = "1 if a part of the state could be read at this scrape; a part that is not made yet has no series"
        further = GaugeMetricFamily("financial_assets_source_up", meaning, labels=["source"])
        made = [family for source in self._further for family in source.collect(further)]
        if further.samples:
            yield further
        yield from made

    def _from_outcomes(
        self, log: LogReader, epochs: tuple[WeightEpoch, ...], health: GaugeMetricFamily
    ) -> list[Metric]:
        try:
            panel = self._panel()
        except (FinancialAssetsError, OSError) as error:
            _log.error("prices cannot be read: %s", error)
            health.add_metric(["prices"], 0)
            return []
        scores = rolling_accuracy(log, epochs, panel, self._window, self._level)
        health.add_metric(["prices"], 1)
        return [*accuracy(scores, f"over the last {self._window} sessions with a known outcome", self._level)]

    def _age(self, totals: LogTotals) -> list[Metric]:
        since = "since the latest answered request, or since the experiment began when there is none"
        now = self._now()
        began = {epoch.experiment: epoch.opened_at for epoch in reversed(totals.epochs)}
        last = {experiment: totals.last_answer.get(experiment, began[experiment]) for experiment in sorted(began)}
        seconds = {(experiment,): (now - instant).total_seconds() for experiment, instant in last.items()}
        sessions = {(experiment,): sessions_closed(instant, now) for experiment, instant in last.items()}
        closed = f"Sessions of the exchange's calendar that have closed {since}"
        return [
            gauge("ab_test_seconds_since_last_prediction", f"Seconds {since}", seconds, EXPERIMENT),
            gauge("ab_test_sessions_since_last_prediction", closed, sessions, EXPERIMENT),
        ]


def _srm_alpha(log: LogReader, epoch: WeightEpoch) -> float:
    """The registered error probability of the sample-ratio test; the smallest of several challengers' plans.

    Where no test is registered it is the default of the rollout policy, which the exporter does not read.
    """
    plans = [log.plan(epoch.experiment, epoch.champion.model, arm.model) for arm in epoch.challengers]
    return min((plan.guardrails.srm_alpha for plan in plans if plan), default=GuardrailPolicy().srm_alpha)
