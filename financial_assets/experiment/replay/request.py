"""What is asked of a replay, and where it lets its caller take part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd
from rich.console import Console

from financial_assets.errors import ReplayError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.replay.open_loop import OpenLoop, Timing
from financial_assets.experiment.replay.sampling import RoutedSample
from financial_assets.experiment.rollout.regimes import RequestRegimes

Mode = Literal["split", "shadow", "paired"]
"""``split``: routed by the weights. ``shadow``: the champion answers, the challenger gets copies. ``paired``: every arm
scores the same bars, nothing is routed."""

Decide = Callable[[], tuple[Sequence[Decision], WeightEpoch]]
"""Takes and applies the decisions of a session; the epoch is the current one afterwards."""


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What is asked of a replay.

    Attributes
    ----------
    epoch
        Current weight epoch; its weights must be those of the serving plane.
    sessions
        Sessions to predict from, in order, all after the data cut-off of every arm.
    lookback
        Bars per request.
    clock
        Session of the market clock at the start. If a killed replay completed it without deciding, the decision is
        taken first. ``None``: nothing can have been missed.
    mode
        What is sent; by default what ``split`` and what ``paired`` send.
    load
        Instants of the routed requests; by default a closed loop.
    workers
        Most requests in flight at once.
    ready_timeout
        Seconds to wait for a serving plane that does not answer.
    regimes
        The regime of each request, for epochs that split some regimes by weights of their own.
    sample
        Which tickers are routed; by default all. Pairs are always of all.

    Raises
    ------
    ReplayError
        If there are no workers, or nothing that a shadow could mirror.
    """

    epoch: WeightEpoch
    sessions: pd.DatetimeIndex
    lookback: int
    clock: pd.Timestamp | None = None
    mode: Mode | None = None
    load: OpenLoop | None = None
    workers: int = 2
    ready_timeout: float = 120.0
    regimes: RequestRegimes | None = None
    sample: RoutedSample = field(default_factory=RoutedSample)

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ReplayError(f"workers is {self.workers}; allowed: 1 or more")
        routed_challengers = [arm.model for arm in self.epoch.challengers if arm.weight]
        if self.mode == "shadow" and (routed_challengers or not self.epoch.challengers):
            cause = f"{routed_challengers[0]} is routed to" if routed_challengers else "there is no challenger"
            raise ReplayError(
                f"shadow: {cause} in weight epoch {self.epoch.number}; a mirror needs a challenger with weight 0"
            )


@dataclass(frozen=True, slots=True)
class ReplayHooks:
    """Where the caller takes part in a replay.

    Attributes
    ----------
    on_session
        Called with each session that has something to send, before it is sent (to move the market clock).
    decide
        Called at the end of each session that had something to send.
    timings
        In an open loop, every request is appended as it ends, so that the caller has them after an interruption too.
    console
        Where progress is shown: a live table on a terminal, lines elsewhere; ``None`` for silence.
    """

    on_session: Callable[[pd.Timestamp], None] = lambda _session: None
    decide: Decide | None = None
    timings: list[Timing] = field(default_factory=list)
    console: Console | None = None
