"""What people are told about a screening: counts of rows, spans, reasons and the fix, each once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import pandas as pd

from financial_assets.market.quality.overrides import Override, covered
from financial_assets.market.quality.screening import Screening

Outcome = Literal["waits", "left out", "suspicious", "repaired"]

_MOST_NAMED = 10
"""Tickers that a message names; a universe may have hundreds."""

_FIXES: dict[Outcome, str] = {
    "waits": (
        "Correct the source, begin later (INGESTION_START_DATE, for all tickers), or decide in QUALITY_OVERRIDES: "
        "drop, repair or accept these rows."
    ),
    "left out": (
        "These sessions count as not traded. Correct the source, or decide in QUALITY_OVERRIDES: repair or accept "
        "these rows."
    ),
    "suspicious": (
        "Bars that are there are used, but for padding; a session without a bar is not traded. Decide in "
        "QUALITY_OVERRIDES: accept what is true, drop or repair what is not."
    ),
    "repaired": "The rows as delivered are in the metadata of raw_prices.",
}
_TITLES: dict[Outcome, str] = {
    "waits": "{tickers} waiting, nothing of it is stored ({rows} that cannot be used)",
    "left out": "{rows} of {tickers} left out, as impossible",
    "suspicious": "{rows} of {tickers} suspicious",
    "repaired": "{rows} of {tickers} repaired",
}


@dataclass(frozen=True)
class QualityNote:
    """Rows of one ticker with one kind of problem.

    Attributes
    ----------
    ticker, outcome
        Whose bars, and what became of them.
    problem
        What is wrong; of several rows with different figures, that of the first.
    days
        Their days (ISO), in order; a row without a date has none.
    rows
        How many rows.
    first_clean
        For bars that cannot be used: the first later day without any (ISO), ``None`` if there is none yet.
    rule
        The check that the rows fail; empty without rows, and in notes of earlier versions.
    """

    ticker: str
    outcome: Outcome
    problem: str
    days: tuple[str, ...]
    rows: int
    first_clean: str | None = None
    rule: str = ""

    @property
    def sentence(self) -> str:
        """``AAPL: 3 rows left out (2019-03-29 to 2019-04-02): prices are about 1/100 of those of the bars around``."""
        if self.outcome != "waits":
            return f"{self.ticker}: {_count(self.rows, 'row')} {self.outcome} ({self.span}): {self.problem}"
        if not self.rows:
            return f"{self.ticker} waits: {self.problem}"
        clean = "there is no clean day after them"
        if self.first_clean is not None:
            clean = f"the first clean day is {self.first_clean}"
        return f"{self.ticker} waits: {_count(self.rows, 'row')} cannot be used ({self.span}): {self.problem}; {clean}"

    @property
    def span(self) -> str:
        """First and last day."""
        if not self.days:
            return "no date"
        return self.days[0] if self.days[0] == self.days[-1] else f"{self.days[0]} to {self.days[-1]}"


def notes_of(screening: Screening) -> tuple[QualityNote, ...]:
    """One note per ticker, outcome and kind of problem, by ticker."""
    notes: list[QualityNote] = []
    tables: tuple[tuple[Outcome, pd.DataFrame], ...] = (
        ("left out", screening.quarantined),
        ("suspicious", screening.suspicious),
        ("repaired", screening.repaired),
    )
    for outcome, table in tables:
        # Figures differ from row to row; the kind of problem does not.
        kind = table["problem"].map(lambda problem: re.sub(r"\d[\d.,]*", "#", str(problem)).replace("+", "-"))
        for (ticker, _), rows in table.groupby([table["ticker"].astype("object"), kind], dropna=False, sort=True):
            waits = outcome == "left out" and ticker in screening.waiting
            clean = screening.first_clean.get(str(ticker)) if outcome == "left out" else None
            notes.append(
                QualityNote(
                    ticker=str(ticker),
                    outcome="waits" if waits else outcome,
                    problem=str(rows["problem"].iloc[0]),
                    days=tuple(rows["date"].dropna().dt.strftime("%Y-%m-%d")),
                    rows=len(rows),
                    first_clean=None if clean is None else f"{clean:%Y-%m-%d}",
                    rule=str(rows["rule"].iloc[0]),
                )
            )
    named = {note.ticker for note in notes if note.outcome == "waits"}
    notes += [
        QualityNote(ticker, "waits", reason, (), 0)
        for ticker, reason in screening.waiting.items()
        if ticker not in named
    ]
    return tuple(sorted(notes, key=lambda note: note.ticker))


def warnings_of(notes: Sequence[QualityNote]) -> list[str]:
    """One message per outcome: how many rows of how many tickers, which and why, and what to do."""
    messages: list[str] = []
    for outcome, title in _TITLES.items():
        chosen = [note for note in notes if note.outcome == outcome]
        if not chosen:
            continue
        tickers = list(dict.fromkeys(note.ticker for note in chosen))
        rows = sum(note.rows for note in chosen)
        counted = title.format(rows=_count(rows, "row"), tickers=_count(len(tickers), "ticker"))
        shown = [f"  {note.sentence}" for note in chosen if note.ticker in tickers[:_MOST_NAMED]]
        rest = sum(note.rows for note in chosen if note.ticker in tickers[_MOST_NAMED:])
        more = (
            [f"  and {_count(rest, 'row')} of {_count(len(tickers) - _MOST_NAMED, 'ticker')} more"]
            if len(tickers) > _MOST_NAMED
            else []
        )
        messages.append("\n".join([f"Prices: {counted}:", *shown, *more, f"  {_FIXES[outcome]}"]))
    return messages


def notes_within(notes: Iterable[QualityNote], first: pd.Timestamp, last: pd.Timestamp) -> tuple[QualityNote, ...]:
    """Notes about bars between two days, both included: nothing of what becomes known later.

    That a ticker waits is known on all days: it has no bars.
    """
    begin, end = f"{first:%Y-%m-%d}", f"{last:%Y-%m-%d}"
    chosen: list[QualityNote] = []
    for note in notes:
        days = tuple(day for day in note.days if begin <= day <= end)
        if note.outcome == "waits":
            chosen.append(note)
        elif days:
            chosen.append(replace(note, days=days, rows=len(days)))
    return tuple(chosen)


def still_left_out(
    earlier: Iterable[QualityNote], judged_from: Mapping[str, pd.Timestamp], overrides: Sequence[Override]
) -> tuple[QualityNote, ...]:
    """Notes about bars left out that lie before what was judged now: the bars are stored, and no truer than before.

    Parameters
    ----------
    earlier
        Notes of the ingestion before.
    judged_from
        Ticker to the first day whose bars were judged again with all their neighbours; others were not judged.
    overrides
        Decisions of a person: what they accept is used.
    """
    kept: list[QualityNote] = []
    for note in earlier:
        dates = pd.to_datetime(list(note.days))
        keys = pd.DataFrame({"date": dates, "ticker": note.ticker})
        accepted = covered(keys, [override for override in overrides if override.action == "accept"])
        days = tuple(
            day
            for day, at, use in zip(note.days, dates, accepted, strict=True)
            if at < judged_from.get(note.ticker, pd.Timestamp.max) and not use
        )
        if note.outcome == "left out" and days:
            kept.append(replace(note, days=days, rows=len(days)))
    return tuple(kept)


def without_left_out(prices: pd.DataFrame, notes: Iterable[QualityNote]) -> pd.DataFrame:
    """Stored prices without the bars of which a later ingestion found that they cannot be true."""
    days = left_out_days(notes)
    wrong = [(ticker, pd.Timestamp(day)) for ticker in days for day in days[ticker]]
    if not wrong:
        return prices
    suspects = prices[prices["ticker"].isin(list(days))]
    keys = pd.MultiIndex.from_frame(suspects[["ticker", "date"]])
    return prices.drop(index=suspects.index[keys.isin(wrong)]).reset_index(drop=True)


def left_out_days(notes: Iterable[QualityNote]) -> dict[str, tuple[str, ...]]:
    """Ticker to the days (ISO, in order) of bars that cannot be true."""
    days: dict[str, set[str]] = {}
    for note in notes:
        if note.outcome in ("left out", "waits") and note.days:
            days.setdefault(note.ticker, set()).update(note.days)
    return {ticker: tuple(sorted(days[ticker])) for ticker in sorted(days)}


def explained(reasons: Mapping[str, str], notes: Iterable[QualityNote]) -> dict[str, str]:
    """Why each ticker has no signal, with what is wrong with its bars."""
    doubts: dict[str, list[str]] = {}
    waiting: set[str] = set()
    for note in notes:
        if note.outcome != "repaired":
            doubts.setdefault(note.ticker, []).append(note.sentence.removeprefix(note.ticker).lstrip(": "))
            waiting |= {note.ticker} if note.outcome == "waits" else set()
    # That a waiting ticker has no prices is a consequence, and to run again would change nothing.
    return {
        name: "; ".join([*([] if name in waiting else [reason]), *doubts.get(name, [])])
        for name, reason in reasons.items()
    }


def notes_to_json(notes: Iterable[QualityNote]) -> str:
    """The notes as a JSON list."""
    return json.dumps([asdict(note) for note in notes], indent=1)


def notes_from_json(text: str) -> tuple[QualityNote, ...]:
    """What ``notes_to_json`` wrote.

    Raises
    ------
    ValueError
        The text is something else.
    """
    try:
        return tuple(QualityNote(**entry | {"days": tuple(entry["days"])}) for entry in json.loads(text))
    except (TypeError, KeyError) as error:
        raise ValueError(f"not a list of quality notes: {error}") from error


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
