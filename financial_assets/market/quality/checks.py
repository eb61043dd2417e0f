"""The verdict on delivered prices, rule by rule: what asset checks show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from financial_assets.errors import MarketDataError
from financial_assets.market.frames import KEY_COLUMNS, PRICE_COLUMNS, empty_prices, sort_prices
from financial_assets.market.quality.notes import QualityNote, left_out_days
from financial_assets.market.quality.overrides import Override, covered
from financial_assets.market.quality.results import QualityResult
from financial_assets.market.quality.screening import QualityPolicy, Screening, screen
from financial_assets.market.quality.sessions import completeness
from financial_assets.market.schemas import check_prices

CONSISTENCY = "no slip, other unit, unapplied split, copy or padding beside the neighbouring bars"

RULES = {
    "schema": "every row has a date and a ticker, and the rows are in order",
    "duplicates": "each ticker and session occurs once",
    "ohlc_order": "low <= open, close <= high within a tick",
    "impossible_values": "prices positive, volume >= 0, all finite, none absurd",
    "completeness": "a bar on every session of a listing that is over, and on no other day",
    "extreme_moves": "no move of the adjusted close beyond +50 % or -33 %",
    "consistency": CONSISTENCY,
    "override": "what QUALITY_OVERRIDES repairs",
}


def results_of(screening: Screening, stored: pd.DataFrame) -> tuple[QualityResult, ...]:
    """One result per rule.

    With the policy ``quarantine`` nothing blocks as long as any row is accepted or stored; with ``strict``, and for a
    frame that is no price frame, every impossible row does.
    """
    if not screening.is_readable:
        return check_prices(screening.decided)
    if screening.policy == "strict":
        return _strict(screening, stored)
    rows = pd.concat([screening.quarantined, screening.suspicious, screening.repaired], ignore_index=True)
    stops = not len(screening.accepted) and screening.checked > 0 and stored.empty
    empty = screening.checked == 0
    results: list[QualityResult] = []
    rules, shown = set(rows["rule"]), rows[[*PRICE_COLUMNS, "problem"]]
    for name, description in RULES.items():
        failures = shown[rows["rule"] == name].reset_index(drop=True) if name in rules else shown.iloc[:0]
        if name == "schema" and empty:
            failures = pd.DataFrame({"problem": ["the frame has no rows"]}).reindex(columns=failures.columns)
        if name != "override":
            is_blocking = name not in ("extreme_moves",) and (stops or (empty and name == "schema"))
            results.append(QualityResult(name, failures.empty, is_blocking, description, failures, screening.checked))
    return tuple(results)


def results_of_stored(
    stored: pd.DataFrame,
    notes: Sequence[QualityNote],
    *,
    policy: QualityPolicy,
    overrides: Sequence[Override],
    now: pd.Timestamp,
) -> tuple[QualityResult, ...]:
    """One result per rule about what is stored: its bars judged anew, and what the last ingestion has noted.

    Parameters
    ----------
    stored
        All bars in the store, which need not be those of one delivery.
    notes
        Of the last ingestion: rows that were left out or repaired are not among the bars.
    policy, overrides, now
        As of ``screen``. What overrides repair is stored repaired, and is not repaired twice.

    Raises
    ------
    MarketDataError
        The notes are of an earlier version, which did not keep the rule.
    """
    if any(note.rows and not note.rule for note in notes):
        raise MarketDataError(
            "the prices were stored by an earlier version, whose notes do not say which check failed: materialize "
            "raw_prices once"
        )
    decided = [override for override in overrides if override.action != "repair"]
    screening = screen(stored, stored=empty_prices(), policy=policy, overrides=decided, now=now)
    return tuple(_with_noted(result, notes) for result in results_of(screening, empty_prices()))


def _with_noted(result: QualityResult, notes: Sequence[QualityNote]) -> QualityResult:
    """With the noted rows of its rule that it has not found among the bars."""
    noted = pd.DataFrame(
        [
            (pd.NaT if day is None else pd.Timestamp(day), note.ticker, note.problem)
            for note in notes
            if note.rule == result.name
            for day in note.days or (None,)
        ],
        columns=["date", "ticker", "problem"],
    )
    found = result.failures
    if result.name == "completeness" and len(found):  # a bar that was left out leaves a gap, and is named already
        left_out = {(name, pd.Timestamp(day)) for name, days in left_out_days(notes).items() for day in days}
        keys = pd.MultiIndex.from_frame(found[["ticker", "date"]])
        found = found[~keys.isin(left_out)].reset_index(drop=True)
    if len(noted) and len(found):
        noted = noted[
            ~pd.MultiIndex.from_frame(noted[["ticker", "date"]]).isin(
                pd.MultiIndex.from_frame(found[["ticker", "date"]])
            )
        ]
    parts = [part for part in (found, noted.reindex(columns=found.columns)) if len(part)]
    failures = pd.concat(parts, ignore_index=True) if parts else found
    return replace(result, passed=failures.empty, failures=failures)


def _strict(screening: Screening, stored: pd.DataFrame) -> tuple[QualityResult, ...]:
    results = check_prices(screening.decided)
    if not blocks(results) and not stored.empty:
        results = tuple(_joined(result, stored, screening.decided) for result in results)
    results = tuple(_without_decided(result, screening) for result in results)
    quarantined, suspicious = (
        table.loc[table["rule"] == "consistency", [*PRICE_COLUMNS, "problem"]].reset_index(drop=True)
        for table in (screening.quarantined, screening.suspicious)
    )
    failures = quarantined if len(quarantined) else suspicious
    consistency = QualityResult(
        "consistency", failures.empty, len(quarantined) > 0, CONSISTENCY, failures, screening.checked
    )
    return (*results, consistency)


def _without_decided(result: QualityResult, screening: Screening) -> QualityResult:
    """Without the failures that an override accepts, and the sessions without a bar that one drops."""
    failures = result.failures
    if failures.empty or not screening.overridden:
        return result
    accepted, dropped = (
        covered(failures, [override for override, _ in screening.overridden if override.action == action])
        for action in ("accept", "drop")
    )
    # What cannot be accepted is among the quarantined rows, or makes its ticker wait.
    bad = pd.MultiIndex.from_frame(screening.quarantined[["ticker", "date"]])
    stays = pd.MultiIndex.from_frame(failures[["ticker", "date"]]).isin(bad)
    stays |= failures["ticker"].isin(list(screening.waiting)).to_numpy()
    failures = failures[~((accepted | (dropped & failures["close"].isna().to_numpy())) & ~stays)]
    return replace(result, passed=failures.empty, failures=failures.reset_index(drop=True))


def _joined(result: QualityResult, stored: pd.DataFrame, fetched: pd.DataFrame) -> QualityResult:
    """Completeness of what the store would hold: sound bars may still leave a hole behind what is stored."""
    if result.name != "completeness":
        return result
    both = sort_prices(pd.concat([stored, fetched]).drop_duplicates(list(KEY_COLUMNS), keep="last"))
    failures = completeness(both)
    return replace(result, passed=failures.empty, failures=failures, checked=len(both))


def blocks(results: tuple[QualityResult, ...]) -> bool:
    """Whether any failed check stops the data."""
    return any(result.blocking and not result.passed for result in results)
