"""The session that is served: loaded once, answers made once, looked at again every second."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

from financial_assets.api.answers import signal_answers, signals_answer
from financial_assets.api.logs import FIELDS
from financial_assets.api.metrics import Metrics
from financial_assets.api.schemas.signals import Signal
from financial_assets.errors import FinancialAssetsError, SignalsError
from financial_assets.installation import Installation
from financial_assets.monitoring.metrics import open_log
from financial_assets.workflows.desk.risk import DeskRisk
from financial_assets.workflows.desk.session import (
    MAKE_SIGNALS,
    DeskSession,
    current_session,
    load_session,
)
from financial_assets.workflows.desk.signals import advise

if TYPE_CHECKING:
    from financial_assets.models.explanations.answers import AnswerExplanation
    from financial_assets.models.training import Training

LOOK_S = 1.0
"""Seconds for which the market clock is believed not to have moved."""
_LOOK_AT_EPOCH_S = 30.0
_EARLIER_KEPT = 4
_Value = TypeVar("_Value")
_log = logging.getLogger("financial_assets.api")


@dataclass(frozen=True, eq=False)
class ServedSession:
    """A session and what is answered about it.

    Attributes
    ----------
    session
        What is known.
    signals
        Ticker -> answer.
    bodies
        Ticker -> the same as JSON.
    all_of_them
        The answer about all tickers as JSON.
    is_current
        Whether it is the session of the market clock.
    halted
        The kill switch in a sentence, where it was on when the answers were made.
    """

    session: DeskSession
    signals: dict[str, Signal]
    bodies: dict[str, bytes]
    all_of_them: bytes
    is_current: bool
    halted: str | None

    @classmethod
    def of(cls, session: DeskSession, installation: Installation, *, is_current: bool) -> ServedSession:
        """Make all answers."""
        ab_test = installation.ab_test
        advice = advise(session, kelly_fraction=ab_test.business_kelly_fraction, kelly_cap=ab_test.business_kelly_cap)
        signals = signal_answers(session, advice)
        halt = installation.trading.switch.halt_in_force()
        halted = None if halt is None else halt.sentence
        whole = signals_answer(session, signals, is_current=is_current, halted=halted)
        return cls(
            session=session,
            signals={signal.ticker: signal for signal in signals},
            bodies={signal.ticker: signal.model_dump_json().encode() for signal in signals},
            all_of_them=whole.model_dump_json().encode(),
            is_current=is_current,
            halted=halted,
        )

    @cached_property
    def risk(self) -> DeskRisk:
        """Scenarios; their residuals are made at the first question."""
        return DeskRisk(self.session)

    @cached_property
    def explanations(self) -> dict[str, tuple[AnswerExplanation, ...]]:
        """Those that were asked for."""
        return {}


class Sessions:
    """Gives the current session, and earlier ones by their date.

    What takes long runs in threads of its own, at most two at a time, so that a question about a thousand positions
    keeps nobody waiting for a signal that lies ready.

    Parameters
    ----------
    installation
        State folder, log and settings.
    metrics
        Counts loads.
    look_s
        Seconds between two looks at the market clock.
    """

    def __init__(self, installation: Installation, metrics: Metrics, *, look_s: float = LOOK_S) -> None:
        self.installation = installation
        self._metrics = metrics
        self._look_s = look_s
        self._current: ServedSession | None = None
        self._stamp: tuple[object, ...] = ()
        self._looked = self._looked_at_epoch = float("-inf")
        self._epoch = 0
        self._earlier: OrderedDict[pd.Timestamp, ServedSession] = OrderedDict()
        self._loading = asyncio.Lock()
        self._heavy = ThreadPoolExecutor(max_workers=2, thread_name_prefix="desk")
        self._explaining = threading.Lock()
        self._training: tuple[int, Training] | None = None

    def close(self) -> None:
        """End the threads once they have answered."""
        self._heavy.shutdown(wait=True)

    async def current(self) -> ServedSession:
        """The session of the market clock.

        Raises
        ------
        SignalsError, MarketDataError, LogError, ExperimentError
            It cannot be served; an earlier one never takes its place.
        """
        if time.monotonic() - self._looked < self._look_s and self._current is not None:
            return self._current
        async with self._loading:
            if time.monotonic() - self._looked < self._look_s and self._current is not None:
                return self._current
            try:
                self._current = await self.in_thread(self._look)
            except FinancialAssetsError:
                self._current = None
                self._metrics.session.set(0)
                raise
            self._looked = time.monotonic()
            return self._current

    async def of(self, session: pd.Timestamp | None) -> ServedSession:
        """The session of that date, ``None`` for the current one; see :meth:`current`."""
        if session is None:
            return await self.current()
        if self._current is not None and session == self._current.session.as_of:
            return await self.current()
        halt = self.installation.trading.switch.halt_in_force()
        async with self._loading:
            kept = self._earlier.get(session)
            if kept is None or kept.halted != (None if halt is None else halt.sentence):
                self._earlier[session] = await self.in_thread(self._load_earlier, session)
            self._earlier.move_to_end(session)
            while len(self._earlier) > _EARLIER_KEPT:
                self._earlier.popitem(last=False)
            return self._earlier[session]

    async def in_thread(self, work: Callable[..., _Value], *arguments: object) -> _Value:
        """Run what takes long."""
        context = copy_context()  # the request's, so that what the thread logs has its id
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._heavy, lambda: context.run(work, *arguments))

    def explain(self, served: ServedSession, ticker: str) -> tuple[AnswerExplanation, ...]:
        """What moved the answers about a ticker; kept with the session."""
        from financial_assets.workflows.desk.explanation import explain_signal, load_training

        # One at a time: the gradients of torch take all threads that it is given, and the model is loaded once.
        with self._explaining:
            if ticker not in served.explanations:
                version = served.session.arm.version
                if self._training is None or self._training[0] != version:
                    self._training = version, load_training(self.installation.models, version)
                served.explanations[ticker] = explain_signal(served.session, ticker, self._training[1])
            return served.explanations[ticker]

    def _look(self) -> ServedSession:
        market = self.installation.market
        now = current_session(market)
        path = market.folder / "signals" / f"{now:%Y-%m-%d}.parquet"
        try:
            written = path.stat().st_mtime_ns
        except OSError as error:
            message = f"the signals of {now:%Y-%m-%d} have just been removed"
            raise SignalsError(message, stale=False, fix=MAKE_SIGNALS) from error
        if time.monotonic() - self._looked_at_epoch > _LOOK_AT_EPOCH_S:
            with open_log(self.installation.ab_test.log_url) as log:
                self._epoch = self.installation.ab_test.current_epoch(log).number
            self._looked_at_epoch = time.monotonic()
        stamp = (now, written, self._epoch, self.installation.trading.switch.halt_in_force())
        if self._current is not None and stamp == self._stamp:
            return self._current
        served = self._load(now, is_current=True)
        self._stamp = stamp
        self._earlier.clear()
        self._metrics.session.set(now.tz_localize("UTC").timestamp())
        return served

    def _load_earlier(self, session: pd.Timestamp) -> ServedSession:
        try:
            is_current = session == current_session(self.installation.market)
        except FinancialAssetsError:  # that there is no current one is for who asks for it
            is_current = False
        return self._load(session, is_current=is_current)

    def _load(self, session: pd.Timestamp, *, is_current: bool) -> ServedSession:
        began = time.perf_counter()
        loaded = load_session(self.installation.market, self.installation.ab_test, session)
        served = ServedSession.of(loaded, self.installation, is_current=is_current)
        self._metrics.loads.inc()
        _log.info(
            "session loaded",
            extra={
                FIELDS: {
                    "as_of": f"{session:%Y-%m-%d}",
                    "signals": len(served.signals),
                    "model": loaded.arm.model,
                    "seconds": round(time.perf_counter() - began, 3),
                }
            },
        )
        return served


def unknown_ticker(ticker: str, universe: Sequence[str]) -> str:
    """What to say of a ticker that is not in the universe."""
    from financial_assets.settings.names import nearest_names

    return f"{ticker} is not in the universe; the nearest: {nearest_names(ticker, list(universe))}"
