"""Which tickers of a session are sent as routed requests.

Routed requests show what serving is like: latency, failures, whether the split obeys the weights. Some dozens a session
show that as well as thousands, while skill is judged on pairs, which all tickers have. A sample keeps a large universe
from being sent one request at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.errors import ReplayError


@dataclass(frozen=True, slots=True)
class RoutedSample:
    """A simple random sample of the tickers of each session, without replacement.

    Attributes
    ----------
    size
        Tickers per session at most; 0: all.
    seed
        Of the draws. A session's sample depends on the seed, the session and its tickers only, so that a replay that
        was interrupted draws the same one.

    Raises
    ------
    ReplayError
        The size is negative.
    """

    size: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ReplayError(f"ROUTED_PER_SESSION={self.size}; allowed: 1 or more, or 0 for all tickers")

    def draw(
        self, session: pd.Timestamp, tickers: Sequence[str], begun: Collection[str] = ()
    ) -> tuple[tuple[str, ...], float]:
        """The tickers whose requests are routed, in their order, and the probability of each to be among them.

        Parameters
        ----------
        session
            The session that is predicted from.
        tickers
            Those that can be asked for.
        begun
            Tickers of the session that were requested already: where there are any in a universe that is sampled, its
            sample is drawn, and nothing is added to it although the universe has grown since.
        """
        if not self.size or len(tickers) <= self.size:
            return tuple(tickers), 1.0
        if begun:
            return tuple(ticker for ticker in tickers if ticker in begun), self.size / len(tickers)
        rng = np.random.default_rng([self.seed, session.toordinal()])
        places: list[int] = sorted(rng.choice(len(tickers), self.size, replace=False).tolist())
        return tuple(tickers[place] for place in places), self.size / len(tickers)
