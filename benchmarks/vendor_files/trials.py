"""One damaged file: written, damaged, read, and judged against the true bars."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from financial_assets.errors import FinancialAssetsError
from financial_assets.market.frames import PRICE_COLUMNS, VALUE_COLUMNS
from financial_assets.market.sources.files import FilePrices

from .damage import BINARY_DAMAGE, PACKED_DAMAGE, TEXT_DAMAGE, Damage
from .forms import FORMS, SampleForm, true_prices

__all__ = ["SESSIONS", "TICKERS", "Outcome", "Sample", "judge", "naive_outcome", "prepared", "trial"]

TICKERS = ("AAPL", "MSFT")
SESSIONS = 25
_FAILURES = ("wrong", "hole", "traceback")
_PACKED = (".gz", ".bz2", ".xz", ".zip")
_BINARY = (".parquet", ".pq", ".feather", ".arrow", ".zst")


@dataclass(frozen=True)
class Sample:
    """An undamaged file or folder of a form, and the bars that it holds."""

    form: SampleForm
    root: Path
    place: Path
    expected: pd.DataFrame


@dataclass(frozen=True)
class Outcome:
    """What became of one damaged file.

    Attributes
    ----------
    kind
        ``true bars``, ``refused``, ``one ticker refused``, ``left to checks`` (missing values or repeated rows, which
        the checks of prices refuse); or a failure: ``wrong``, ``hole``, ``traceback``.
    """

    form: str
    damage: str
    kind: str
    detail: str = ""

    @property
    def is_failure(self) -> bool:
        """Whether it must not happen."""
        return self.kind in _FAILURES


def prepared(folder: Path, rng: np.random.Generator, forms: Sequence[SampleForm] = FORMS) -> list[Sample]:
    """A sample of each form."""
    samples: list[Sample] = []
    for number, form in enumerate(forms):
        root = folder / str(number)
        root.mkdir(parents=True)
        prices = true_prices(rng, TICKERS, SESSIONS)
        samples.append(Sample(form, root, form.write(prices, root).relative_to(root), form.expected(prices)))
    return samples


def trial(samples: Sequence[Sample], folder: Path, rng: np.random.Generator) -> Outcome:
    """Damage a file of a random sample in ``folder``, read it, and judge the result."""
    sample = samples[int(rng.integers(len(samples)))]
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sample.root, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith((".", "_")))
    target = files[int(rng.integers(len(files)))]
    kinds = PACKED_DAMAGE if target.suffix in _PACKED else BINARY_DAMAGE if target.suffix in _BINARY else TEXT_DAMAGE
    damage = kinds[int(rng.integers(len(kinds)))]
    try:
        target.write_bytes(damage.change(target.read_bytes(), rng))
    except UnicodeDecodeError:  # a damage of UTF-8 to a file of UTF-16
        damage = kinds[0]
    kind, detail = _judged(sample, folder / sample.place, damage)
    return Outcome(sample.form.name, damage.name, kind, detail)


def _judged(sample: Sample, place: Path, damage: Damage) -> tuple[str, str]:
    try:
        fetched = FilePrices(str(place), sample.form.rules).fetch(TICKERS)
    except FinancialAssetsError as error:
        lines = str(error).count("\n") + 1
        return ("refused", "") if lines <= 5 else ("wrong", f"{lines} lines of error")
    except Exception:
        return "traceback", traceback.format_exc(limit=-3)
    return judge(fetched.prices, sample.expected, set(fetched.failures), loses_rows=damage.loses_rows)


def judge(delivered: pd.DataFrame, true: pd.DataFrame, refused: set[str], *, loses_rows: bool) -> tuple[str, str]:
    """Kind of the outcome, and what is wrong with it."""
    both = delivered.merge(true, on=["date", "ticker"], how="left", suffixes=("", "_true"), indicator="found")
    foreign = both[both["found"] == "left_only"]
    if len(foreign):
        return "wrong", f"no such bar: {foreign.iloc[0][list(PRICE_COLUMNS)].tolist()}"
    values, expected = both[list(VALUE_COLUMNS)].to_numpy(), both[[f"{name}_true" for name in VALUE_COLUMNS]].to_numpy()
    differs = ~np.isclose(values, expected, rtol=1e-12, atol=0) & ~np.isnan(values)
    if differs.any():
        row = int(np.argwhere(differs)[0][0])
        return "wrong", f"{values[row].tolist()} instead of {expected[row].tolist()}"
    counts = delivered.drop_duplicates(["date", "ticker"])["ticker"].value_counts()
    short = [ticker for ticker in TICKERS if ticker not in refused and counts.get(ticker, 0) < SESSIONS]
    if short and not loses_rows:
        return "hole", f"{short[0]} has {counts.get(short[0], 0)} bars of {SESSIONS}"
    if np.isnan(values).any() or delivered.duplicated(["date", "ticker"]).any() or short:
        return "left to checks", ""
    return ("one ticker refused" if refused else "true bars"), ""


def naive_outcome(folder: Path, outcome: Outcome) -> str:
    """What a reader makes of the same file that takes the first date that fits and every number as it looks."""
    if outcome.kind != "refused":
        return "not asked"
    for path in folder.rglob("*.csv"):
        try:
            frame = pd.read_csv(path, sep=None, engine="python", on_bad_lines="skip", encoding_errors="replace")
            names = {str(name).lower(): name for name in frame}
            days = pd.to_datetime(frame[names["date"]], errors="coerce", format="mixed").dropna()
        except Exception:
            return "refused"
        is_true = days.dt.normalize().between("2018-01-02", "2018-02-05").all() if len(days) else False
        numbers = pd.to_numeric(frame[names["close"]], errors="coerce") if "close" in names else pd.Series(dtype=float)
        return "plausible" if is_true and numbers.notna().all() else "wrong"
    return "refused"
