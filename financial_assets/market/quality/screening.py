"""The screening: which delivered bars are let in, which are left out, which tickers wait, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from financial_assets.market.frames import PRICE_COLUMNS, empty_prices, of_tickers, renumbered, ticker_codes
from financial_assets.market.quality.bars import Bars
from financial_assets.market.quality.form import date_faults, has_form, key_faults
from financial_assets.market.quality.overrides import Override, covered
from financial_assets.market.quality.sessions import missing_sessions
from financial_assets.market.quality.shapes import mark_shifted_closes
from financial_assets.market.quality.sieve import (
    Sieve,
    apply_overrides,
    fit_ranges,
    judge_neighbours,
    sort_rows,
    take_marks,
    take_repeats,
)
from financial_assets.market.quality.values import row_faults

QualityPolicy = Literal["quarantine", "strict"]
"""``quarantine``: bad bars are left out, the rest goes on. ``strict``: one bad bar stops everything."""

MOST_BAD, FEW_BAD = 0.05, 5
"""A ticker waits when more than this share of its bars cannot be used, and more bars than this."""

_COLUMNS = (*PRICE_COLUMNS, "rule", "problem")


@dataclass(frozen=True)
class Screening:
    """What became of delivered bars.

    Attributes
    ----------
    policy
        By which they were judged.
    accepted
        Price frame of what may be stored, repaired rows included, sorted.
    decided
        What was delivered, after the overrides that drop and repair: with ``strict``, all or nothing of it is stored.
    quarantined, suspicious, repaired
        Rows as delivered or stored (a missing session has no values), with ``rule`` and ``problem``; a row occurs once
        in ``quarantined``, and once per rule in the others. Those of ``quarantined`` are left out, the others are in.
    waiting
        Ticker to reason: too much of it is bad, so nothing of it is accepted.
    first_clean
        Ticker to the first delivered day after its last quarantined bar (``None``: there is none).
    overridden
        Each override with the number of delivered rows in its span.
    checked
        Number of delivered rows.
    is_readable
        Whether the frame has the form of a price frame; nothing is accepted otherwise.
    """

    policy: QualityPolicy
    accepted: pd.DataFrame
    decided: pd.DataFrame
    quarantined: pd.DataFrame
    suspicious: pd.DataFrame
    repaired: pd.DataFrame
    waiting: Mapping[str, str]
    first_clean: Mapping[str, pd.Timestamp | None]
    overridden: tuple[tuple[Override, int], ...]
    checked: int
    is_readable: bool = True


def screen(
    prices: pd.DataFrame,
    *,
    stored: pd.DataFrame,
    policy: QualityPolicy = "quarantine",
    overrides: Sequence[Override] = (),
    now: pd.Timestamp,
    histories: Mapping[str, int] | None = None,
) -> Screening:
    """Judge delivered bars one by one, in the light of their neighbours and of what is stored.

    Parameters
    ----------
    prices
        Price frame as a source delivered it.
    stored
        What the store holds of the same tickers: the bars before the delivered ones.
    policy
        With ``strict`` nothing is repaired but what an override repairs.
    overrides
        What a person has decided about single bars.
    now
        The current instant (with a time zone).
    histories
        Ticker to the number of bars in the store, where ``stored`` has the last ones only.
    """
    delivered = renumbered(prices)
    if not has_form(delivered):
        nothing = _table([])
        return Screening(
            policy, empty_prices(), delivered, nothing, nothing, nothing, {}, {}, (), len(delivered), is_readable=False
        )
    repairs = policy == "quarantine"
    accept = [override for override in overrides if override.action == "accept"]
    rows = delivered if list(delivered) == list(PRICE_COLUMNS) else delivered[list(PRICE_COLUMNS)]
    sieve = Sieve(rows, accept, delivered)
    overridden = apply_overrides(sieve, overrides)
    decided = sieve.rows
    sieve.take(key_faults(sieve.rows), "schema", final=True)
    sieve.take(date_faults(pd.DatetimeIndex(sieve.rows["date"]), now), "completeness", final=True)
    take_repeats(sieve, repairs=repairs)
    sieve.take(row_faults(sieve.rows), "impossible_values", final=True)
    sort_rows(sieve)
    if len(sieve.rows):
        take_marks(sieve, Bars.of(sieve.rows), [mark_shifted_closes])
        fit_ranges(sieve, repairs=repairs)
    if len(sieve.rows):
        judge_neighbours(sieve, stored, rejudge=policy == "quarantine")
    return _conclude(sieve, stored, policy, decided, overridden, histories or {})


def _conclude(
    sieve: Sieve,
    stored: pd.DataFrame,
    policy: QualityPolicy,
    decided: pd.DataFrame,
    overridden: tuple[tuple[Override, int], ...],
    histories: Mapping[str, int],
) -> Screening:
    quarantined = _table(sieve.taken)
    waiting = _waiting(sieve, quarantined, stored, histories)
    accepted = sieve.rows[~sieve.rows["ticker"].isin(list(waiting))] if waiting else sieve.rows
    return Screening(
        policy=policy,
        accepted=renumbered(accepted),
        decided=renumbered(decided),
        quarantined=quarantined,
        suspicious=_table([*sieve.doubted, _missing(accepted, stored, quarantined, overridden)]),
        repaired=_table(sieve.repaired),
        waiting=waiting,
        first_clean=_first_clean(sieve.delivered, quarantined),
        overridden=overridden,
        checked=len(sieve.delivered),
    )


def _waiting(
    sieve: Sieve, quarantined: pd.DataFrame, stored: pd.DataFrame, histories: Mapping[str, int]
) -> dict[str, str]:
    if quarantined.empty and not sieve.leaps:
        return {}
    bad = quarantined["ticker"].value_counts()
    codes, names = ticker_codes(stored["ticker"])
    held = dict(zip(map(str, names), np.bincount(codes, minlength=len(names)).tolist(), strict=True)) | dict(histories)
    delivered = sieve.delivered["ticker"].value_counts()
    left = set(sieve.rows["ticker"].unique())
    reasons: dict[str, str] = {}
    for name, count in bad.items():
        kept = held.get(str(name), 0)
        rows = max(int(delivered.get(name, 0)), kept)
        # A live source delivers the last days only: all of them may be bad, and still be few of the ticker's.
        has_nothing = name not in left and not kept
        if has_nothing or (count > FEW_BAD and count > MOST_BAD * rows):
            reasons[str(name)] = f"{count:,} of {rows:,} rows cannot be used"
    for name in sieve.leaps & left - set(reasons):
        reasons[name] = "its price moves by more than a factor of 1000 between two bars"
    return reasons


def _first_clean(delivered: pd.DataFrame, quarantined: pd.DataFrame) -> dict[str, pd.Timestamp | None]:
    if quarantined.empty:
        return {}
    last_bad = quarantined.groupby("ticker")["date"].max()
    rows = delivered[of_tickers(delivered, last_bad.index)]
    later = rows[rows["date"] > rows["ticker"].map(last_bad)].groupby("ticker")["date"].min()
    return {str(name): later.get(name) for name in last_bad.index}


def _missing(
    accepted: pd.DataFrame,
    stored: pd.DataFrame,
    quarantined: pd.DataFrame,
    overridden: Sequence[tuple[Override, int]],
) -> pd.DataFrame:
    """Sessions without any bar, neither delivered nor stored, that nobody has acknowledged."""
    # A bar that was left out is named already.
    missing = missing_sessions(accepted, stored, quarantined.dropna(subset=["date", "ticker"]))
    # Who drops a bar knows that its session has none.
    missing = missing[~covered(missing, [override for override, _ in overridden if override.action != "repair"])]
    return missing.reindex(columns=[*PRICE_COLUMNS, "problem"]).assign(rule="completeness")


def _table(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [part[list(_COLUMNS)] for part in parts if len(part)]
    if not filled:
        return empty_prices().assign(rule=pd.Series(dtype="object"), problem=pd.Series(dtype="object"))
    rows = pd.concat([part.astype(dict.fromkeys(("ticker", "rule", "problem"), "object")) for part in filled])
    return rows.sort_values(["ticker", "date", "rule"], kind="stable", ignore_index=True)
