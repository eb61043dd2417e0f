"""What a reader is told about files, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

ADJUSTMENTS: Mapping[str, str] = {
    "adj_close": "the files have an adjusted close; one without it is an error",
    "adjusted": "close is adjusted for splits and dividends",
    "splits": "close is adjusted for splits only; returns leave dividends out",
    "none": "close is as traded; every split in the span shows as a jump",
}
"""Values of ``ADJUSTMENT``, and what each says of files without an adjusted close."""


@dataclass(frozen=True)
class FileRules:
    """What files do not say of themselves.

    Attributes
    ----------
    adjustment
        Value of ``ADJUSTMENT``; ``None``: not said.
    date_order
        ``dmy`` or ``mdy``, for columns of dates that can be read in both ways.
    decimal_mark
        ``.`` or ``,``, for numbers that can be read in both ways.
    zone
        Time zone of the exchange.
    only_ticker
        Whose bars a file without any ticker holds: the only one asked for, where there is only one file.
    """

    adjustment: str | None = None
    date_order: str | None = None
    decimal_mark: str | None = None
    zone: str = "America/New_York"
    only_ticker: str | None = None


@dataclass(frozen=True)
class FileBars:
    """What was read from one file.

    Attributes
    ----------
    origin
        The file, and the member of an archive.
    form
        Vendor or layout that was recognised.
    adjustment
        Where ``adj_close`` comes from.
    columns
        ``date`` (datetime64[ns]), ``ticker`` (object, ``None``: missing), and float64 values, one entry per bar.
    refused
        Ticker to reason, for tickers with a cell that cannot be read; their rows are not in ``columns``.
    notes
        What was left out, or deserves to be known.
    tickers
        Tickers of its bars, sorted.
    """

    origin: str
    form: str
    adjustment: str
    columns: Mapping[str, np.ndarray]
    refused: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tickers: tuple[str, ...] = ()
