"""The price source of files: all files of a path as one price frame, and whose bars a broken file keeps back."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from financial_assets.errors import SourceError
from financial_assets.market.frames import KEY_COLUMNS, PRICE_COLUMNS, joined
from financial_assets.market.sources import FetchResult, deliver
from financial_assets.market.sources.files.contents import Content, open_contents, text_of
from financial_assets.market.sources.files.grids import NoTableError
from financial_assets.market.sources.files.places import find_files, hive_keys, ticker_of
from financial_assets.market.sources.files.reading import read_bars
from financial_assets.market.sources.files.rules import FileBars, FileRules

_MOST_NAMED = 3
"""Files named in one message; a folder may have thousands."""
_MOST_LINES = 5
"""Lines of one error."""
_US = ".US"
"""Stooq's ending of American tickers."""


@dataclass(frozen=True)
class FileProblem:
    """A file that cannot be read.

    Attributes
    ----------
    origin
        The file.
    reason
        What is wrong with it; names the file.
    tickers
        The tickers asked for whose bars it may hold.
    """

    origin: str
    reason: str
    tickers: frozenset[str]


class FilePrices:
    """Bars in files of any common form; ``docs/price-files.md`` lists them.

    Parameters
    ----------
    paths
        A file, a folder (with its sub-folders) or a glob.
    rules
        What the files do not say of themselves.
    """

    name: str = "files"
    live: bool = False

    def __init__(self, paths: str, rules: FileRules | None = None) -> None:
        self.paths = paths
        self.rules = rules or FileRules()

    def fetch(self, tickers: Sequence[str], start: dt.date | None = None, end: dt.date | None = None) -> FetchResult:
        """Bars of ``tickers``; see ``PriceSource.fetch``.

        A file that cannot be read keeps back the tickers whose bars it may hold, each with the reason: half a history
        would look like a whole one. Files of other tickers are left out and named in ``notes``.

        Raises
        ------
        SourceError
            No such file, or nothing of what was asked for could be read: names file, column and line.
        """
        asked = frozenset(tickers) | {ticker + _US for ticker in tickers}
        only = tickers[0] if len(tickers) == 1 else None
        read = list(survey(self.paths, replace(self.rules, only_ticker=only), asked))
        files = [file for file in read if isinstance(file, FileBars)]
        problems = [file for file in read if isinstance(file, FileProblem)]
        files = _without_us_ending(files, tickers)
        failures = {ticker: reason for file in files for ticker, reason in file.refused.items() if ticker in tickers}
        failures |= {ticker: problem.reason for problem in problems for ticker in tickers if ticker in problem.tickers}
        notes = _notes(files, problems, tickers)
        left = [ticker for ticker in tickers if ticker not in failures]
        if not left:
            raise SourceError(_listed(failures.values()))
        if not files:
            raise SourceError(_listed([problem.reason for problem in problems]))
        try:
            names = {ticker for file in files for ticker in file.tickers}
            held = join_bars(files)
            delivered = deliver(held, left, start, end, origin=f"PRICE_FILES={self.paths}", others=names - asked)
        except SourceError as error:
            reasons = [*failures.values(), *(problem.reason for problem in problems)]
            raise SourceError(_listed([*reasons, str(error)])) from error
        unread = "".join(f"; cannot be read: {problem.reason}" for problem in problems[:1])
        absent = {ticker: reason + unread for ticker, reason in delivered.failures.items()}
        return FetchResult(delivered.prices, absent | failures, notes)


def survey(paths: str, rules: FileRules, asked: Collection[str] | None = None) -> Iterator[FileBars | FileProblem]:
    """Every table of ``paths`` in the order of names: its bars, or why it cannot be read.

    Parameters
    ----------
    asked
        Tickers of interest: of files that are named after another one only the column names are read. ``None``: all.

    Raises
    ------
    SourceError
        There is no such file.
    """
    files = find_files(paths)
    if len(files) > 1:
        rules = replace(rules, only_ticker=None)
    for path, name in files:
        try:
            for content in open_contents(path, name):
                try:
                    yield read_bars(content, rules, asked)
                except SourceError as error:
                    yield FileProblem(content.origin, str(error), _affected(error, content.name, content, asked))
        except SourceError as error:
            yield FileProblem(str(path), str(error), _affected(error, name, None, asked))


def _affected(
    error: SourceError, name: PurePosixPath, content: Content | None, asked: Collection[str] | None
) -> frozenset[str]:
    """The tickers asked for whose bars a file that cannot be read may hold."""
    asked = frozenset(asked or ())
    own = hive_keys(name).get("ticker") or hive_keys(name).get("symbol") or ticker_of(name)
    affected = asked & {own.upper()} if own else frozenset[str]()
    text: bytes | None = None
    with suppress(SourceError):
        text = text_of(content).upper() if content is not None and content.kind == "text" else None
    if isinstance(error, NoTableError) and name.suffix.lower() == ".txt":
        pass  # a README lies beside the prices and names their tickers
    elif text is not None:
        words = {ticker: re.escape(ticker.encode()) for ticker in asked}
        affected |= {
            ticker
            for ticker, word in words.items()
            if re.search(rb"(?<![A-Z0-9.^-])" + word + rb"(?![A-Z0-9.=-])", text)
        }
    elif own is None:
        affected = asked
    return affected | {ticker.removesuffix(_US) for ticker in affected}


def _without_us_ending(files: list[FileBars], tickers: Sequence[str]) -> list[FileBars]:
    """Stooq's AAPL.US as AAPL, where AAPL was asked for and is not there by itself."""
    held = {ticker for file in files for ticker in (*file.tickers, *file.refused)}
    renamed = {ticker + _US: ticker for ticker in tickers if ticker not in held and ticker + _US in held}
    if not renamed:
        return files
    changed: list[FileBars] = []
    for file in files:
        names = file.columns["ticker"]
        columns = {**file.columns, "ticker": np.array([renamed.get(name, name) for name in names], dtype=object)}
        refused = {renamed.get(ticker, ticker): reason for ticker, reason in file.refused.items()}
        changed.append(replace(file, columns=columns, refused=refused))
    return changed


def join_bars(files: Sequence[FileBars]) -> pd.DataFrame:
    """The bars of all files; a bar that two files hold alike stands once."""
    columns = {name: joined([file.columns[name] for file in files]) for name in PRICE_COLUMNS}
    frame = pd.DataFrame(columns, copy=False)
    owners: dict[str, int] = {}
    shared = {
        ticker
        for number, file in enumerate(files)
        for ticker in file.tickers
        if owners.setdefault(ticker, number) != number
    }
    if not shared:
        return frame
    number = np.repeat(np.arange(len(files)), [len(file.columns["date"]) for file in files])
    suspects = frame[frame["ticker"].isin(shared)].assign(file=number[frame["ticker"].isin(shared).to_numpy()])
    first = suspects.groupby(list(KEY_COLUMNS))["file"].transform("first")
    repeats = suspects.duplicated(list(PRICE_COLUMNS)) & (suspects["file"] != first)
    return frame.drop(index=suspects.index[repeats])


def _notes(files: Sequence[FileBars], problems: Sequence[FileProblem], tickers: Sequence[str]) -> tuple[str, ...]:
    skipped = [problem.reason for problem in problems if not problem.tickers & frozenset(tickers)]
    skipped += [reason for file in files for ticker, reason in file.refused.items() if ticker not in tickers]
    lines = [f"skipped, since nobody asked for it: {reason}" for reason in skipped[:_MOST_NAMED]]
    if len(skipped) > _MOST_NAMED:
        lines.append(f"skipped {len(skipped) - _MOST_NAMED} more files; `financial-assets prices check` names them all")
    said = [f"{file.origin}: {note}" for file in files for note in file.notes]
    lines += said[:_MOST_NAMED]
    if len(said) > _MOST_NAMED:
        lines.append(f"{len(said) - _MOST_NAMED} more notes on files; `financial-assets prices check` prints them all")
    declared = sorted({file.adjustment for file in files if file.adjustment == "ADJUSTMENT=none" and len(file.tickers)})
    lines += [f"{rule}: close is as traded, so splits and dividends count as returns" for rule in declared]
    return tuple(lines)


def grouped(reasons: Iterable[str]) -> list[str]:
    """Reasons in their order; files with the same fault share one."""
    files: dict[str, list[str]] = {}
    for reason in dict.fromkeys(reasons):
        origin, _, fault = reason.partition(": ")
        files.setdefault(fault or reason, []).append(origin if fault else "")
    return [
        (f"{origins[0]}: " if origins[0] else "")
        + fault
        + (f"\nThe same in {len(origins) - 1} more: {', '.join(origins[1 : _MOST_NAMED + 1])}" if origins[1:] else "")
        + (" ..." if len(origins) > _MOST_NAMED + 1 else "")
        for fault, origins in files.items()
    ]


def _listed(reasons: Iterable[str]) -> str:
    """Reasons on five lines at most."""
    groups = grouped(reasons)
    lines: list[str] = []
    for number, group in enumerate(groups):
        if lines and len(lines) + len(group.splitlines()) > _MOST_LINES - 1:
            rest = len(groups) - number
            return "\n".join([*lines, f"and {rest} more problems; `financial-assets prices check` names them all"])
        lines += group.splitlines()
    return "\n".join(lines)
