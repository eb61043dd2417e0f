"""One delivery beside what is stored: the rows that it brings, their entry in the history, and what to tell of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from financial_assets.errors import PriceDataError
from financial_assets.market import quality
from financial_assets.market.corporate_actions import explain_restatement, find_corporate_actions
from financial_assets.market.frames import (
    PRICE_COLUMNS,
    VALUE_COLUMNS,
    combined_hash,
    empty_prices,
    hash_prices,
    of_tickers,
    places_before,
    renumbered,
    sort_prices,
    ticker_codes,
)
from financial_assets.market.log.history import Change
from financial_assets.market.log.replay import BAR, GONE, rescaled_rows
from financial_assets.market.restatement import among, compare, reconcile

_FACTORS = ("ticker", "before", "price_factor", "volume_factor", "adj_close_factor")


@dataclass(frozen=True)
class UpsertReport:
    """What an upsert did.

    Attributes
    ----------
    added
        Rows whose ticker and session were not stored before.
    unchanged
        Rows that were stored with the same values.
    restated
        Stored rows that the source now delivers with other values: date, ticker, and for each value column
        ``<name>_stored`` and ``<name>_delivered``.
    corporate_actions
        Splits and dividends on the added or restated sessions: see ``find_corporate_actions``.
    held_back
        Ticker to reason, for those of which nothing was written: their history was restated by more than one factor,
        but not delivered from its stored beginning, and half of a restated history beside half of the old one would be
        a false jump. Fetch their whole span and upsert again.
    rescaled
        Tickers whose sessions before ``before`` were multiplied by one factor instead, because all of the oldest
        overlapping bars differ by it: ``ticker, before, price_factor, volume_factor, adj_close_factor``.
    removed
        Stored rows that were removed (price columns).
    """

    added: int
    unchanged: int
    restated: pd.DataFrame
    corporate_actions: pd.DataFrame
    held_back: Mapping[str, str] = field(default_factory=dict)
    rescaled: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(_FACTORS)))
    removed: pd.DataFrame = field(default_factory=empty_prices)

    @property
    def restatements(self) -> pd.DataFrame:
        """Why history was restated, one row per ticker: see ``explain_restatement``."""
        return explain_restatement(self.restated)


def prepare(
    delivered: pd.DataFrame,
    gone: pd.DataFrame,
    stored: pd.DataFrame,
    *,
    first_days: pd.Series,
    changes: Sequence[Change],
    now: dt.datetime,
    read: Callable[[tuple[str, ...]], pd.DataFrame],
) -> tuple[UpsertReport, pd.DataFrame, Change]:
    """What to tell of a delivery, the rows to append for it, and their entry.

    Parameters
    ----------
    delivered
        See ``canonical``.
    gone
        Keys of stored bars to remove.
    stored
        Stored bars of the tickers and the span of both, and the bar before each of them; maybe others.
    first_days
        Ticker to its first stored session.
    changes
        The history so far.
    now
        When the delivery is known.
    read
        Gives all stored bars of some tickers.
    """
    both, is_stored, differs = compare(stored, delivered)
    restatement = reconcile(both, differs, first_days)
    taken = ~of_tickers(delivered, restatement.held_back)
    is_fresh = taken & (~is_stored | differs)
    fresh = delivered if is_fresh.all() else delivered[is_fresh]
    removed = stored[among(stored, gone) & ~among(stored, delivered)] if len(gone) else stored.iloc[:0]
    replaced = stored[among(stored, delivered[taken & differs])] if differs.any() else stored.iloc[:0]
    before, after = _rescaled(restatement.factors, read)
    parts = [_of_kind(fresh, BAR), _of_kind(removed, GONE)]
    parts += [rescaled_rows(restatement.factors)] if restatement.factors else []
    filled = [part for part in parts if len(part)] or parts[:1]
    rows = pd.concat(filled, ignore_index=True) if len(filled) > 1 else filled[0]
    old_hash = changes[-1].new_hash if changes else hash_prices(empty_prices())
    new_hash = combined_hash(old_hash, hash_prices(fresh), hash_prices(pd.concat([removed, replaced])))
    days = rows["date"]
    change = Change(
        number=len(changes) + 1,
        # Two changes in one tick of the clock, or a clock set back, must not change places.
        known_at=max([now, *(entry.known_at for entry in changes[-1:])]),
        added=int((~is_stored & taken).sum()),
        replaced=len(replaced),
        removed=len(removed),
        rescaled=tuple(ticker for ticker, *_ in restatement.factors),
        first=days.min().date() if len(days) else None,
        last=days.max().date() if len(days) else None,
        old_hash=old_hash,
        new_hash=combined_hash(new_hash, hash_prices(after), hash_prices(before)),
    )
    columns = [f"{name}_{side}" for name in VALUE_COLUMNS for side in ("stored", "delivered")]
    report = UpsertReport(
        added=change.added,
        unchanged=int((is_stored & ~differs).sum()),
        restated=both.loc[differs[both.index], ["date", "ticker", *columns]].reset_index(drop=True),
        corporate_actions=_actions_on(stored[~among(stored, removed)] if len(removed) else stored, fresh),
        held_back=restatement.held_back,
        rescaled=pd.DataFrame(list(restatement.factors), columns=list(_FACTORS)),
        removed=removed.reset_index(drop=True),
    )
    return report, rows, change


def _rescaled(
    factors: Sequence[tuple[str, pd.Timestamp, float, float, float]],
    read: Callable[[tuple[str, ...]], pd.DataFrame],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows that ``factors`` change, before and after."""
    if not factors:
        return empty_prices(), empty_prices()
    stored = read(tuple(ticker for ticker, *_ in factors))
    codes, names = ticker_codes(stored["ticker"])
    limits = {ticker: before for ticker, before, *_ in factors}
    is_old = stored["date"].to_numpy() < np.array([limits[name] for name in names], dtype="datetime64[ns]")[codes]
    table = rescaled_rows(factors).set_index("ticker").loc[names, list(VALUE_COLUMNS)].to_numpy(np.float64)
    old = stored[is_old]
    new = old.copy()
    new[list(VALUE_COLUMNS)] = old[list(VALUE_COLUMNS)].to_numpy() * table[codes[is_old]]
    return old, new


def canonical(frame: pd.DataFrame) -> pd.DataFrame:
    """A delivery as it is stored: the price columns in their types, sorted.

    Raises
    ------
    PriceDataError
        A column is missing or of a wrong type, a key occurs twice, or a value cannot be.
    """
    complaint = "these prices cannot be stored"
    absent = [name for name in PRICE_COLUMNS if name not in frame]
    if absent:
        raise PriceDataError(f"{complaint}: the price frame lacks {', '.join(absent)}", frame.head(0))
    try:
        delivered = sort_prices(frame, copy=False).astype(empty_prices().dtypes.to_dict(), copy=False)
    except (ValueError, TypeError) as error:
        raise PriceDataError(f"{complaint}: a column is of a wrong type: {error}", frame.head(0)) from error
    quality.require_possible(delivered, complaint)
    return delivered


def _of_kind(prices: pd.DataFrame, kind: int) -> pd.DataFrame:
    """The rows of a change, which share their values with ``prices``."""
    rows = renumbered(prices)
    rows["kind"] = np.int8(kind)
    return rows


def _actions_on(stored: pd.DataFrame, changed: pd.DataFrame) -> pd.DataFrame:
    """Splits and dividends on the changed sessions, which follow the stored ones."""
    if not len(stored):
        return find_corporate_actions(changed)
    # Of what is stored only the bars before them tell.
    places = np.unique(places_before(stored, changed))
    kept = stored.iloc[places[places >= 0]]
    kept = kept[~among(kept, changed)]
    actions = find_corporate_actions(sort_prices(pd.concat([kept, changed])) if len(kept) else changed)
    return actions[among(actions, changed)].reset_index(drop=True)
