"""A large universe from files to validated features, and the steps of new sessions, beside the bare work.

    python benchmarks/universe.py [--tickers 2000 --sessions 1500 --smallest 100 --rounds 3]

The bare work is what nobody can leave out: pyarrow reads the file, the feature graph computes (no masks, no checks),
and the values are written to one flat file. Ours is the way of the assets: source, checks, store, panel, features,
checks, feature store. Each runs in a process of its own, whose peak memory is printed. Seconds are the processor's, all
threads together, so that other work on the machine disturbs them little; what the disk takes is not in them. The
exponent is that of ours between the smallest and the largest universe.

The new sessions follow one another, as they do in a year: one without news, one on which some 1.5 % of the tickers pay
a dividend, one with two splits, one on which the source has corrected five bars of the last days, and one without news
again, which finds what those before have left behind.
"""

from __future__ import annotations

import argparse
import datetime as dt
import gc
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset  # pyright: ignore[reportUnusedImport] # so that its import is not timed as reading
import pyarrow.parquet
import torch

from financial_assets.features.appending import append_features, next_sessions, save_features
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.features.schema import check_feature_panel
from financial_assets.market import calendar
from financial_assets.market.frames import PRICE_COLUMNS
from financial_assets.market.ingestion import ingest
from financial_assets.market.panel import build_layout, build_panel
from financial_assets.market.panels.continued import continued
from financial_assets.market.panels.stored import Basis, StoredPanel
from financial_assets.market.sources import FetchResult, deliver
from financial_assets.market.sources.files import FilePrices
from financial_assets.market.store import PriceStore

GIB = 2**30
CHUNK = 16

DAYS = ("quiet", "dividends", "splits", "corrections", "quiet again")
"""What happens on the new sessions."""

PAYING = 0.015
"""Share of the tickers that pay a dividend on a day with some."""

PRICES = ["open", "high", "low", "close"]


def simulated_prices(tickers: int, sessions: int, seed: int = 0) -> pd.DataFrame:
    """Random walks as a price frame, a quarterly dividend among them."""
    rng = np.random.default_rng(seed)
    days = calendar.sessions("2012-01-03", calendar.last_session())[:sessions]
    shape = (tickers, len(days))
    close = 50.0 * np.exp(np.cumsum(rng.normal(0.0, 0.015, shape), axis=1))
    opening = close * np.exp(rng.normal(0.0, 0.005, shape))
    reach = np.exp(np.abs(rng.normal(0.0, 0.004, (2, *shape))))
    factor = 0.995 ** np.floor(np.arange(len(days))[::-1] / 63.0)
    columns = {
        "date": np.tile(days.to_numpy(), tickers),
        "ticker": np.repeat([f"T{number:04d}" for number in range(tickers)], len(days)),
        "open": opening.ravel(),
        "high": (np.maximum(opening, close) * reach[0]).ravel(),
        "low": (np.minimum(opening, close) / reach[1]).ravel(),
        "close": close.ravel(),
        "volume": np.round(1e6 * np.exp(rng.normal(0.0, 0.3, shape))).ravel(),
        "adj_close": (close * factor).ravel(),
    }
    frame = pd.DataFrame(columns)
    frame["ticker"] = frame["ticker"].astype(object)
    return frame[list(PRICE_COLUMNS)]


def bring_news(prices: pd.DataFrame, kind: str, day: pd.Timestamp) -> None:
    """Change the prices, in place, as a source does that a dividend, a split or corrections reach on ``day``."""
    names, ticker = prices["ticker"].unique(), prices["ticker"]
    if kind == "dividends":
        is_paid = ticker.isin(names[1 :: round(1 / PAYING)]) & (prices["date"] < day)
        prices.loc[is_paid, "adj_close"] *= 0.995
    elif kind == "splits":
        # Also of the sessions to come, which trade at the new level.
        is_split = ticker.isin(names[2 : len(names) - 1 : len(names) // 2])
        prices.loc[is_split, [*PRICES, "adj_close"]] /= 2.0
        prices.loc[is_split, "volume"] *= 2.0
    elif kind == "corrections":
        recent = prices["date"].unique()
        recent = recent[recent < day][-3:]
        is_wrong = ticker.isin(names[3 :: len(names) // 5][:5]) & (prices["date"] == recent[0])
        prices.loc[is_wrong, [*PRICES, "adj_close"]] *= 1.001


class Delivery:
    """A live source that holds one frame."""

    name = "benchmark"
    live = True

    def __init__(self, prices: pd.DataFrame) -> None:
        self.prices = prices

    def fetch(self, tickers: Sequence[str], start: dt.date | None, end: dt.date | None) -> FetchResult:
        """See ``PriceSource.fetch``."""
        return deliver(self.prices, tickers, start, end, origin="the benchmark")


def bare(file: Path, folder: Path) -> dict[str, float]:
    """Seconds of reading, features and writing alone."""
    graph, times = FeatureGraph(), dict[str, float]()
    assert graph.fused
    start = time.process_time()
    table = pyarrow.parquet.read_table(file)
    times["reading"] = time.process_time() - start
    panel = build_panel(table.to_pandas())
    del table
    start = time.process_time()
    values = np.empty((len(panel.tickers), len(graph.names), len(panel.sessions)), dtype=np.float32)
    with torch.inference_mode():
        for first in range(0, len(panel.tickers), CHUNK):
            bars = torch.from_numpy(panel.values[first : first + CHUNK])
            values[first : first + CHUNK] = graph(bars).numpy()
    times["features"] = time.process_time() - start
    start = time.process_time()
    with (folder / "flat").open("wb") as stream:
        values.tofile(stream)
        stream.flush()
        os.fsync(stream.fileno())
    times["writing"] = time.process_time() - start
    (folder / "flat").unlink()
    return times


def panel_of(store: PriceStore, folder: Path) -> StoredPanel:
    """The panel of all that is stored, as ``MarketState.current_panel`` makes it, saved."""
    changes, path = store.history(), folder / "panel.npz"
    basis = Basis(len(changes), changes[-1].new_hash, (calendar.name(),), {})
    stored, now = StoredPanel.load(path), pd.Timestamp(max(change.last for change in changes if change.last))
    longer = None if stored is None else continued(stored, store, basis, store.read, None, now)
    current = StoredPanel(build_layout(store.read()), basis) if longer is None else longer
    current.save(path)
    return current


def whole(file: Path, folder: Path) -> dict[str, float]:
    """Seconds from a file to validated, stored features, by step."""
    store, times = PriceStore(folder / "prices"), dict[str, float]()
    tickers = pyarrow.parquet.read_table(file, columns=["ticker"]).column("ticker").unique().to_pylist()
    start = time.process_time()
    ingest(FilePrices(str(file)), store, tickers)
    times["ingestion"] = time.process_time() - start
    start = time.process_time()
    current = panel_of(store, folder)
    panel = current.panel
    times["panel"] = time.process_time() - start
    start = time.process_time()
    computed = compute_panel(panel, FeatureGraph(programs=folder))
    times["features"] = time.process_time() - start
    start = time.process_time()
    assert check_feature_panel(computed).empty
    times["validation"] = time.process_time() - start
    start = time.process_time()
    save_features(folder / "features.npz", computed, panel, current.lineage)
    times["writing"] = time.process_time() - start
    return times


def daily(file: Path, folder: Path) -> dict[str, float]:
    """Seconds of one new session of all tickers, by step."""
    store, times = PriceStore(folder / "prices"), dict[str, float]()
    prices = pd.read_parquet(file)
    tickers = sorted(prices["ticker"].unique())
    source = Delivery(prices)
    start = time.process_time()
    outcome = ingest(source, store, tickers)
    assert outcome.report is not None
    assert outcome.report.added == len(tickers)
    times["ingestion"] = time.process_time() - start
    start = time.process_time()
    current = panel_of(store, folder)
    panel = current.panel
    times["panel"] = time.process_time() - start
    start = time.process_time()
    appended = next_sessions(folder / "features.npz", panel, FeatureGraph(programs=folder), current.lineage)
    assert appended is not None
    times["features"] = time.process_time() - start
    start = time.process_time()
    assert not appended.unstable
    assert all(check_feature_panel(part).empty for part in appended.parts)
    append_features(folder / "features.npz", appended)
    times["validation and writing"] = time.process_time() - start
    return times


def apart(work: Callable[[Path, Path], dict[str, float]], file: Path, folder: Path) -> tuple[dict[str, float], float]:
    """The result of ``work`` in a fresh process, and that process's peak memory in GiB."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measured, (work, file, folder))


def _measured(
    work: Callable[[Path, Path], dict[str, float]], file: Path, folder: Path
) -> tuple[dict[str, float], float]:
    torch.set_num_threads(1)
    # Once per process, whatever the size of the universe: the calendar, and a pass over all that imports have left.
    calendar.sessions("2020-01-02", "2020-01-31")
    gc.collect()
    gc.freeze()
    times = work(file, folder)
    return times, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def show(name: str, times: dict[str, float], memory: float) -> float:
    total = sum(times.values())
    steps = ", ".join(f"{step} {seconds:.2f}" for step, seconds in times.items())
    print(f"  {name:<12}{total:8.2f} s  peak {memory:5.2f} GiB   ({steps})", flush=True)
    return total


def measure(tickers: int, sessions: int, rounds: int) -> tuple[float, float]:
    """Seconds of the bare work and of ours; prints what each kind of new session costs beside it."""
    print(f"{tickers:,} tickers x {sessions:,} sessions", flush=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prices = simulated_prices(tickers, sessions + len(DAYS))
        days = prices["date"].unique()
        known, last = days[sessions - 1], [folder / f"{number}.parquet" for number in range(len(DAYS))]
        first = folder / "known.parquet"
        prices[prices["date"] <= known].to_parquet(first, index=False)
        # A live source is asked for the last days only.
        for number, kind in enumerate(DAYS):
            day = days[sessions + number]
            bring_news(prices, kind, day)
            is_delivered = prices["date"].between(day - pd.Timedelta(days=40), day)
            prices[is_delivered].to_parquet(last[number], index=False)
        del prices
        bare_total = show("bare", *apart(bare, first, folder))
        totals, shares = list[float](), {kind: list[float]() for kind in DAYS}
        # A step of less than a second is at the mercy of whatever else the machine does: each round has a whole run
        # and its new sessions one after the other, and the median of the rounds' ratios counts.
        for _ in range(rounds):
            with tempfile.TemporaryDirectory(dir=folder) as state:
                totals.append(show("whole", *apart(whole, first, Path(state))))
                for kind, file in zip(DAYS, last, strict=True):
                    shares[kind].append(totals[-1] / show(kind, *apart(daily, file, Path(state))))
    total = statistics.median(totals)
    print(f"  ours over bare {total / bare_total:.2f}", flush=True)
    shown = ", ".join(f"{kind} 1/{statistics.median(values):.0f}" for kind, values in shares.items())
    print(f"  step of a new session over ours, median of {rounds}: {shown}", flush=True)
    return bare_total, total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickers", type=int, default=2000)
    parser.add_argument("--sessions", type=int, default=1500)
    parser.add_argument("--smallest", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    small = measure(arguments.smallest, arguments.sessions, arguments.rounds)
    large = measure(arguments.tickers, arguments.sessions, arguments.rounds)
    exponent = np.log(large[1] / small[1]) / np.log(arguments.tickers / arguments.smallest)
    print(f"exponent of cost from {arguments.smallest:,} to {arguments.tickers:,} tickers: {exponent:.2f}")


if __name__ == "__main__":
    main()
