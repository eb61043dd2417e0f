"""The prices that the models are judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from financial_assets.errors import SourceError
from financial_assets.market.panel import PricePanel, build_panel
from financial_assets.market.sources import FetchResult
from financial_assets.market.sources.files import FileBars, FilePrices, FileRules, survey
from financial_assets.market.sources.sample import SAMPLE_TICKERS, SamplePrices
from financial_assets.market.sources.simulated import SimulatedMarket, SimulatedPrices

SIMULATED_TICKERS, SIMULATED_SESSIONS = 20, 1200


@dataclass(frozen=True, eq=False)
class World:
    """Prices, and what is known of them.

    Attributes
    ----------
    name
        A word, which names the folder of its forecasts too.
    title
        Heading of its section.
    description
        What the prices are: a sentence or two.
    panel
        Prices of all sessions that may be read.
    bayes_accuracy
        Share of directions that the best possible predictor gets right, where the market is simulated.
    """

    name: str
    title: str
    description: str
    panel: PricePanel
    bayes_accuracy: float | None = None


def sample_world() -> World:
    """The bundled bars."""
    panel = build_panel(_whole(SamplePrices().fetch(SAMPLE_TICKERS)))
    description = (
        f"Real daily bars of {', '.join(panel.tickers)} ({span_of(panel)}), bundled with the project. Four large "
        "stocks that are still known today are neither a universe to rank nor a random draw: they survived."
    )
    return World("sample", "The bundled sample", description, panel)


def simulated_world(tickers: int = SIMULATED_TICKERS, sessions: int = SIMULATED_SESSIONS) -> World:
    """Walks whose next direction follows the last one more often than not, with volatility that comes in clusters."""
    market = SimulatedMarket(sessions=sessions)
    source = SimulatedPrices(market)
    panel = build_panel(_whole(source.fetch([f"S{number:02d}" for number in range(1, tickers + 1)])))
    description = (
        f"{tickers} simulated tickers, {span_of(panel)} (`PRICE_SOURCE=simulated`, seed {market.seed}). The direction "
        f"of a move goes on in {market.bayes_accuracy:.0%} of the sessions, by ticker, so that nobody can be right "
        "more often, and yesterday's winners are tomorrow's more often than not: there is something to rank. "
        "Each ticker's volatility is the exponential of a slow autoregression of its own; there is no common factor."
    )
    return World("simulated", "A simulated universe", description, panel, source.bayes_accuracy)


def world_of_files(path: Path, tickers: Sequence[str] = (), end: pd.Timestamp | None = None) -> World:
    """Bars of a file in any form that ``PRICE_FILES`` reads.

    Parameters
    ----------
    path
        The file.
    tickers
        Which of its tickers; none: all.
    end
        The last session that is read; ``None``: all.

    Raises
    ------
    SourceError
        There is no such file, or a ticker cannot be read.
    """
    read = list(survey(str(path), FileRules()))
    held = sorted({ticker for file in read if isinstance(file, FileBars) for ticker in file.tickers})
    fetched = FilePrices(str(path)).fetch(list(tickers) or held, end=None if end is None else end.date())
    panel = build_panel(_whole(fetched))
    description = f"{len(panel.tickers)} tickers, {span_of(panel)}."
    return World(path.name.split(".")[0], f"Prices of `{path.name}`", description, panel)


def span_of(panel: PricePanel) -> str:
    """Number of sessions, the first and the last."""
    first, last = panel.sessions[0], panel.sessions[-1]
    return f"{len(panel.sessions):,} sessions, {first:%Y-%m-%d} to {last:%Y-%m-%d}"


def _whole(fetched: FetchResult) -> pd.DataFrame:
    """The prices; half a universe would be judged in place of the whole."""
    if fetched.failures:
        raise SourceError("; ".join(f"{ticker}: {reason}" for ticker, reason in fetched.failures.items()))
    return fetched.prices
