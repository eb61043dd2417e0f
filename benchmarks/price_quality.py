"""How many planted price faults are found, and how many alarms clean bars raise, beside the usual z-score rule.

    python benchmarks/price_quality.py [--bars FILE ... --plants 400 --seed 0]

Faults are planted into real bars, one ticker and one fault at a time, at random places: the bundled ones, or those of
``--bars`` (CSV or Parquet with the canonical columns). A fault counts as found when a row that it changed is marked; a
rule that marks many other rows as well would show in the false alarms. Those are rows of the untouched bars, per 10,000
ticker-years, once of severity *impossible* and once of any severity.

The rival marks returns and log volumes more than six standard deviations from their mean over the year before.

Exit status 1 if a goal is missed: 95 % of each kind found, at most 5 false alarms of severity *impossible* per 10,000
ticker-years.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from financial_assets.market.frames import PRICE_COLUMNS, empty_prices, sort_prices
from financial_assets.market.quality.screening import Screening, screen
from financial_assets.market.sources.sample import SAMPLE_TICKERS, SamplePrices

FOUND, FALSE_ALARMS = 0.95, 5.0
SESSIONS_PER_YEAR = 252
SPAN = 500
"""Sessions of the stretch into which a fault is planted."""
OHLC = ["open", "high", "low", "close"]
PRICES = [*OHLC, "adj_close"]
NOW = pd.Timestamp("2026-01-02 12:00", tz="UTC")

Plant = Callable[[pd.DataFrame, np.random.Generator], tuple[pd.DataFrame, np.ndarray]]
"""Bars of one ticker -> bars with a fault, and the positions of the rows that are wrong."""


def block(factors: tuple[float, ...], shortest: int, longest: int, columns: list[str] = PRICES) -> Plant:
    """Bars of a span in another unit."""

    def plant(bars: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
        length = int(rng.integers(shortest, longest + 1))
        first = int(rng.integers(30, len(bars) - length - 30))
        rows = np.arange(first, first + length)
        return scaled(bars, rows, columns, float(rng.choice(factors))), rows

    return plant


def tail(factors: tuple[float, ...], longest: int) -> Plant:
    """The newest bars in another unit: nothing comes back yet."""

    def plant(bars: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
        rows = np.arange(len(bars) - int(rng.integers(1, longest + 1)), len(bars))
        return scaled(bars, rows, PRICES, float(rng.choice(factors))), rows

    return plant


def split(ratios: tuple[float, ...]) -> Plant:
    """Bars before a day at the old level, volume too: a split that was not applied."""

    def plant(bars: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
        at, ratio = int(rng.integers(30, len(bars) - 30)), float(rng.choice(ratios))
        before = np.arange(at)
        wrong = scaled(scaled(bars, before, PRICES, ratio), before, ["volume"], 1.0 / ratio)
        return wrong, np.arange(at + 1)

    return plant


def wick(column: str, factors: tuple[float, ...]) -> Plant:
    """High or low of one bar far from its body."""
    return block(factors, 1, 1, [column])


def frozen(column_of_volume: float | None) -> Plant:
    """The last close repeated; ``None``: with the volumes as they are, else with this one."""

    def plant(bars: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
        rows = np.arange(len(bars) - int(rng.integers(10, 60)), len(bars))
        wrong = bars.copy()
        for name in OHLC:
            wrong.loc[rows, name] = bars["close"].iloc[rows[0] - 1]
        wrong.loc[rows, "adj_close"] = bars["adj_close"].iloc[rows[0] - 1]
        if column_of_volume is not None:
            wrong.loc[rows, "volume"] = column_of_volume
        return wrong, rows

    return plant


def frozen_volume(bars: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """The same volume again and again."""
    rows = span(bars, rng, 5, 40)
    wrong = bars.copy()
    wrong.loc[rows, "volume"] = bars["volume"].iloc[rows[0]]
    return wrong, rows


def copied(bars: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """A bar that repeats the one before."""
    rows = span(bars, rng, 1, 1)
    wrong = bars.copy()
    wrong.loc[rows, [*PRICES, "volume"]] = bars.loc[rows - 1, [*PRICES, "volume"]].to_numpy()
    return wrong, rows


def shifted(columns: list[str]) -> Plant:
    """Values of the session after, or before, over a span."""

    def plant(bars: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
        rows, by = span(bars, rng, 20, 120), int(rng.choice([-1, 1]))
        wrong = bars.copy()
        wrong.loc[rows, columns] = bars.loc[rows + by, columns].to_numpy()
        return wrong, rows

    return plant


def dividend(bars: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Adjusted closes before a day lowered by a distribution of 15 to 40 % that never was."""
    at = int(rng.integers(30, len(bars) - 30))
    return scaled(bars, np.arange(at), ["adj_close"], 1.0 - float(rng.uniform(0.15, 0.4))), np.array([at])


def span(bars: pd.DataFrame, rng: np.random.Generator, shortest: int, longest: int) -> np.ndarray:
    length = int(rng.integers(shortest, longest + 1))
    first = int(rng.integers(30, len(bars) - length - 30))
    return np.arange(first, first + length)


def scaled(bars: pd.DataFrame, rows: np.ndarray, columns: list[str], factor: float) -> pd.DataFrame:
    wrong = bars.copy()
    wrong.loc[rows, columns] *= factor
    return wrong


KINDS: dict[str, Plant] = {
    "slip: one bar x10 or /10": block((10.0, 0.1), 1, 1),
    "slip: one bar x100 or /100": block((100.0, 0.01), 1, 1),
    "slip: close alone x10 or /10": block((10.0, 0.1), 1, 1, ["close", "adj_close"]),
    "slip: adj_close alone x1.1": block((1.1, 1.0 / 1.1), 1, 1, ["adj_close"]),
    "block: 2 to 120 bars x10, /10": block((10.0, 0.1), 2, 120),
    "block: 2 to 120 bars x100, /100, x1000": block((100.0, 0.01, 1000.0), 2, 120),
    "block: 2 to 60 bars x3, x7.3, x0.4": block((3.0, 7.3, 0.4), 2, 60),
    "block: newest 1 to 10 bars x10, x100, /100": tail((10.0, 100.0, 0.01), 10),
    "split not applied: 4:1, 10:1, 2:1, 3:1": split((4.0, 10.0, 2.0, 3.0)),
    "split not applied: 3:2, 5:4, 6:5": split((1.5, 1.25, 1.2)),
    "reverse split not applied: 1:5, 1:10": split((0.2, 0.1)),
    "high x1.5 to x10": wick("high", (1.5, 2.0, 10.0)),
    "low /1.5 to /10": wick("low", (1 / 1.5, 0.5, 0.1)),
    "volume x100, /100, x1000: one bar": block((100.0, 0.01, 1000.0), 1, 1, ["volume"]),
    "volume x100, /100, x1000: 5 to 120 bars": block((100.0, 0.01, 1000.0), 5, 120, ["volume"]),
    "volume x10, /10: 10 to 120 bars": block((10.0, 0.1), 10, 120, ["volume"]),
    "volume frozen": frozen_volume,
    "padding: last close, volume 0": frozen(0.0),
    "price frozen, volume goes on": frozen(None),
    "copy of the bar before": copied,
    "closes of another session": shifted(["close", "adj_close"]),
    "adj_close of another session": shifted(["adj_close"]),
    "false dividend": dividend,
}


def found_by_us(bars: pd.DataFrame) -> np.ndarray:
    screening = screened(bars)
    marked = pd.concat([screening.quarantined, screening.suspicious])["date"].dropna()
    return bars["date"].isin(marked).to_numpy()


def screened(bars: pd.DataFrame) -> Screening:
    return screen(bars, stored=empty_prices(), now=NOW)


def found_by_z_score(bars: pd.DataFrame) -> np.ndarray:
    """Returns and log volumes six standard deviations from their mean over the year before; bars out of order."""
    series = [bars["adj_close"].apply(np.log).diff(), bars["volume"].replace(0.0, np.nan).apply(np.log)]
    marked = (bars["high"] < bars[["open", "close"]].max(axis=1)) | (bars["low"] > bars[["open", "close"]].min(axis=1))
    for values in series:
        past = values.shift().rolling(SESSIONS_PER_YEAR, min_periods=20)
        marked |= (values - past.mean()).abs() > 6.0 * past.std()
    return marked.to_numpy()


def false_alarms(bars: pd.DataFrame) -> tuple[float, float, float, float]:
    """Marked rows of clean bars per 10,000 ticker-years: impossible, any severity, z-score; and ticker-years."""
    years = len(bars) / SESSIONS_PER_YEAR
    screening = screened(bars)
    naive = sum(int(found_by_z_score(rows.reset_index(drop=True)).sum()) for _, rows in bars.groupby("ticker"))
    rows = screening.suspicious.drop_duplicates(["ticker", "date"])
    for row in screening.quarantined.itertuples():
        print(f"  false alarm: {row.ticker} {row.date:%Y-%m-%d} {row.problem}")
    impossible = len(screening.quarantined)
    return 1e4 * impossible / years, 1e4 * (impossible + len(rows)) / years, 1e4 * naive / years, years


def detection(kind: Plant, bars: pd.DataFrame, plants: int, rng: np.random.Generator) -> tuple[float, float]:
    """Share of planted faults of which a row is marked, by the screening and by the z-score rule."""
    by_ticker = [rows.reset_index(drop=True) for _, rows in bars.groupby("ticker")]
    ours = naive = 0
    for _ in range(plants):
        rows = by_ticker[int(rng.integers(len(by_ticker)))]
        first = int(rng.integers(0, len(rows) - SPAN))
        wrong, at = kind(rows.iloc[first : first + SPAN].reset_index(drop=True), rng)
        ours += bool(found_by_us(wrong)[at].any())
        naive += bool(found_by_z_score(wrong)[at].any())
    return ours / plants, naive / plants


def read(files: list[Path]) -> pd.DataFrame:
    """The bars of ``files``, or the bundled ones; index tickers, which have no volume, are left out."""
    if not files:
        return SamplePrices().fetch(SAMPLE_TICKERS, None, None).prices
    parts = [pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path) for path in files]
    bars = pd.concat(parts)
    bars = bars.assign(date=pd.to_datetime(bars["date"]), volume=bars["volume"].astype("float64"))
    bars = bars.drop_duplicates(["ticker", "date"])[list(PRICE_COLUMNS)]
    return sort_prices(bars[~bars["ticker"].str.startswith("^")])


def cost(bars: pd.DataFrame, tickers: int, sessions: int) -> None:
    """What the screening of a large universe costs beside reading it once."""
    rng = np.random.default_rng(0)
    one = [rows.reset_index(drop=True).tail(sessions) for _, rows in bars.groupby("ticker")]
    longest = max(one, key=len)
    parts = [longest.assign(ticker=f"T{at:04d}") for at in range(tickers)]
    universe = pd.concat(parts, ignore_index=True)
    universe[PRICES] *= np.exp(rng.normal(0, 1e-4, len(universe)))[:, None]
    begun = time.process_time()
    screened(universe)
    ours = time.process_time() - begun
    begun = time.process_time()
    universe.groupby("ticker")["adj_close"].rolling(SESSIONS_PER_YEAR).std()
    rival = time.process_time() - begun
    print(f"screening of {len(universe):,} bars: {ours / rival:.1f} times one rolling standard deviation by pandas")


def main() -> int:
    """Print the tables; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=Path, nargs="*", default=[], help="files of clean real bars")
    parser.add_argument("--plants", type=int, default=400, help="planted faults per kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--universe", type=int, default=2000, help="tickers of the timed universe; 0: not timed")
    arguments = parser.parse_args()
    bars, rng = read(arguments.bars), np.random.default_rng(arguments.seed)
    missed: list[str] = []
    print(f"{'found of planted faults':46} {'screening':>10} {'z-score':>10}")
    for name, kind in KINDS.items():
        ours, naive = detection(kind, bars, arguments.plants, rng)
        print(f"{name:46} {ours:>9.1%} {naive:>9.1%}", flush=True)
        missed += [name] if ours < FOUND else []
    impossible, any_severity, naive, years = false_alarms(bars)
    print(f"\nfalse alarms per 10,000 ticker-years, on {years:,.0f} clean ones (2008: {has(bars, 2008)}, 2020:")
    print(f"{has(bars, 2020)}, 2021: {has(bars, 2021)}): impossible {impossible:,.0f}, of any severity", end=" ")
    print(f"{any_severity:,.0f}, z-score {naive:,.0f}")
    missed += ["false alarms"] if impossible > FALSE_ALARMS else []
    if arguments.universe:
        cost(bars, arguments.universe, 1500)
    print(f"goals missed: {', '.join(missed)}" if missed else "goals met")
    return 1 if missed else 0


def has(bars: pd.DataFrame, year: int) -> str:
    """Whether the bars have the year."""
    return "yes" if (bars["date"].dt.year == year).any() else "no"


if __name__ == "__main__":
    sys.exit(main())
