"""Which prices, of which tickers, over which span."""

from __future__ import annotations

import csv
import datetime as dt
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode

from financial_assets.settings.base import LocalPath, LocalPattern, SettingsGroup
from financial_assets.settings.names import nearest_names

_NAME = r"[A-Za-z0-9.\-^=_]{1,40}"
_LAGGED = rf"{_NAME}(\[-[1-9]\])?"
_COVARIATE = rf"{_LAGGED}( [-/] {_LAGGED})?"
_TICKER_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-^=")


class MarketSettings(SettingsGroup):
    """Universe and price source."""

    tickers: Annotated[tuple[str, ...], NoDecode] = ("AAPL", "MSFT")
    """Tickers of the universe, separated by commas; ``UNIVERSE_FILE`` replaces them."""

    universe_file: LocalPath | None = None
    """CSV of dated membership: ticker, from, to (YYYY-MM-DD, empty: open), sector, currency. A ticker is traded, and
    counts in the market's index, while it belongs to the universe; those that left stay in the past."""

    market_calendar: str = "XNYS"
    """Exchange whose sessions, time zone and closes count: any name of exchange_calendars (``XNYS``, ``XLON``,
    ``24/7`` for every day)."""

    price_source: Literal["sample", "yahoo", "files", "simulated"] = "sample"
    """Where prices come from: ``sample`` (bundled real bars, no network), ``yahoo``, ``files`` or ``simulated``."""

    price_files: LocalPattern | None = None
    """For ``PRICE_SOURCE=files``: a file (CSV, Parquet, Arrow; packed or not), a folder of them, or a glob."""

    adjustment: Literal["adj_close", "adjusted", "splits", "none"] | None = None
    """For ``PRICE_SOURCE=files``: what close is in files without an adjusted close. ``adjusted``: adjusted for splits
    and dividends; ``splits``: for splits only; ``none``: as traded; ``adj_close``: every file has the column."""

    date_order: Literal["dmy", "mdy"] | None = None
    """For ``PRICE_SOURCE=files``: order of day and month in dates that can be read in both ways, such as 01/02/2018."""

    decimal_mark: Literal["point", "comma"] | None = None
    """For ``PRICE_SOURCE=files``: decimal mark of numbers that can be read in both ways, such as 1.234 between
    semicolons."""

    ingestion_start_date: dt.date | None = None
    """First session to ingest (YYYY-MM-DD); default: the source's first."""

    ingestion_end_date: dt.date | None = None
    """Last session to ingest (YYYY-MM-DD); default: the source's last."""

    recheck_sessions: int = Field(default=20, ge=0, le=1000)
    """For a live source: each ticker's whole history is fetched again once in so many sessions, another part of the
    universe each session, so that corrections of bars before the usual fifteen days are seen; 0: never."""

    quality_policy: Literal["quarantine", "strict"] = "quarantine"
    """What happens to bars that cannot be true: ``quarantine`` leaves them out and goes on with the rest, ``strict``
    stops the run."""

    quality_overrides: LocalPath | None = None
    """YAML file of decisions about single bars: ticker, from, to, action (accept, drop or repair) and reason."""

    covariates: Annotated[tuple[str, ...], NoDecode] = ()
    """Further tickers of the price source that models see beside each bar, separated by commas (``^VIX,SPY``); also
    differences and ratios of two (``^TNX - ^IRX``, ``HYG / LQD``), of tickers or of names in ``COVARIATE_FILES``.
    ``SPY[-1]`` is the close of one session before: for markets that close later than ``MARKET_CALENDAR``'s."""

    covariate_files: LocalPattern | None = None
    """Dated tables that models see beside each bar (CSV or Parquet): date, known_at, name, value and, for values of one
    ticker, ticker. Files, folders and globs, separated by commas. Only ``known_at`` decides from when on a value is
    seen."""

    covariate_max_age: int = Field(default=180, ge=1, le=3650)
    """Days for which a value of ``COVARIATE_FILES`` stays after it became known; then it counts as unknown."""

    sector_index: bool = False
    """Whether models see the index of each ticker's sector beside its bars; ``UNIVERSE_FILE`` names the sectors."""

    evaluation_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the sessions, the latest ones, that no model sees before the first retraining."""

    simulated_sessions: int = Field(default=1500, ge=400, le=5000)
    """For ``PRICE_SOURCE=simulated``: number of sessions."""

    simulated_signal: float = Field(default=0.2, ge=0, le=1)
    """For ``PRICE_SOURCE=simulated``: strength of the predictable part, 0 (random walk) to 1."""

    simulated_pattern: Literal["momentum", "volume_reversal", "parity"] = "momentum"
    """For ``PRICE_SOURCE=simulated``: what predicts; ``parity`` takes a larger network to learn than the others."""

    simulated_regime_shift: int | None = Field(default=None, ge=1)
    """For ``PRICE_SOURCE=simulated``: session number from which the signal turns against what was learnt."""

    @field_validator("market_calendar")
    @classmethod
    def _check_calendar(cls, value: str) -> str:
        if value != "XNYS":  # the list of names takes a second to import
            import exchange_calendars

            names = exchange_calendars.get_calendar_names(include_aliases=True)
            if value not in names:
                raise ValueError(
                    f"{value!r} is not a calendar of exchange_calendars; did you mean {nearest_names(value, names)}? "
                    "24/7 has every day (crypto currencies); all names: "
                    '`python -c "import exchange_calendars as ec; print(*ec.get_calendar_names())"`'
                )
        return value

    @field_validator("covariates", mode="before")
    @classmethod
    def _split_covariates(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(" ".join(part.split()) for part in value.split(",") if part.strip())

    @field_validator("covariates")
    @classmethod
    def _check_covariates(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            if not re.fullmatch(_COVARIATE, entry):
                raise ValueError(
                    f"{entry!r} is neither a ticker nor two of them with a sign between blanks, such as ^TNX - ^IRX or "
                    "HYG / LQD; each of them may be that of 1 to 9 sessions before: SPY[-1]"
                )
        repeated = sorted({entry for entry in value if [other.upper() for other in value].count(entry.upper()) > 1})
        if repeated:
            raise ValueError(f"{', '.join(repeated)} is listed more than once")
        return tuple(entry.upper() for entry in value)

    @field_validator("tickers", mode="before")
    @classmethod
    def _split_tickers(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(part.strip().upper() for part in value.split(",") if part.strip())

    @field_validator("tickers")
    @classmethod
    def _check_tickers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("needs at least one ticker, e.g. AAPL,MSFT")
        for ticker in value:
            if not 1 <= len(ticker) <= 16 or not set(ticker) <= _TICKER_CHARACTERS:
                raise ValueError(f"{ticker!r} is not a ticker: letters, digits and . - ^ = only, at most 16")
        repeated = sorted({ticker for ticker in value if value.count(ticker) > 1})
        if repeated:
            raise ValueError(f"{', '.join(repeated)} is listed more than once")
        return value

    @model_validator(mode="before")
    @classmethod
    def _take_universe(cls, values: Any) -> Any:
        """Every command must know the tickers, so they are read here; ``market.universe`` checks the whole file."""
        file = values.get("universe_file") if isinstance(values, dict) else None
        if not file:
            return values
        try:
            with Path(str(file)).expanduser().open(encoding="utf-8-sig", newline="") as stream:
                header, *lines = csv.reader(stream)
            place = [name.strip().lower() for name in header].index("ticker")
        except (OSError, ValueError, csv.Error) as error:
            raise ValueError(f"UNIVERSE_FILE: {file} is not a CSV file with a column ticker ({error})") from None
        cells = [line[place].strip() for line in lines if len(line) > place]
        named = {cell.upper().replace("/", "-") for cell in cells if cell}
        return values | {"tickers": tuple(sorted(named))}

    @model_validator(mode="after")
    def _check_market(self) -> Self:
        if self.price_source == "files" and self.price_files is None:
            raise ValueError("PRICE_FILES: not set; PRICE_SOURCE=files needs a file, a folder or a glob")
        if self.price_source != "files" and self.price_files is not None:
            raise ValueError(
                f"PRICE_FILES: set to {self.price_files!r}, but PRICE_SOURCE is {self.price_source!r}; "
                "set PRICE_SOURCE=files or unset PRICE_FILES"
            )
        if self.simulated_regime_shift is not None and self.simulated_regime_shift >= self.simulated_sessions:
            raise ValueError(
                f"SIMULATED_REGIME_SHIFT: {self.simulated_regime_shift} is not below "
                f"SIMULATED_SESSIONS {self.simulated_sessions}"
            )
        if self.sector_index and self.universe_file is None:
            raise ValueError("SECTOR_INDEX: set, but UNIVERSE_FILE is not; its column sector says who belongs where")
        start, end = self.ingestion_start_date, self.ingestion_end_date
        if start is not None and end is not None and start >= end:
            raise ValueError(f"INGESTION_START_DATE: {start} is not before INGESTION_END_DATE {end}")
        return self
