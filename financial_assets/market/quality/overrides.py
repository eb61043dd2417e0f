"""Decisions of a person about single bars, kept in a YAML file: accept, drop or repair, each with its reason."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from financial_assets.errors import SettingsError
from financial_assets.market.frames import VALUE_COLUMNS

_PRICES = tuple(name for name in VALUE_COLUMNS if name != "volume")
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Override(BaseModel):
    """What to do with the bars of one ticker over a span of days, both included.

    ``accept`` keeps bars that the rules doubt, and acknowledges sessions without a bar; values that cannot be (missing,
    negative) stay out. ``drop`` leaves the bars out. ``repair`` multiplies all prices by ``price_factor`` and volumes
    by ``volume_factor``, or sets single values (``set``) of a span of one day; the result is checked like any bar.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ticker: Annotated[str, StringConstraints(strip_whitespace=True, to_upper=True, min_length=1)]
    first: dt.date = Field(alias="from")
    last: dt.date = Field(alias="to")
    action: Literal["accept", "drop", "repair"]
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    price_factor: _Positive | None = None
    volume_factor: _Positive | None = None
    values: dict[
        Literal["open", "high", "low", "close", "adj_close", "volume"],
        Annotated[float, Field(ge=0, allow_inf_nan=False)],
    ] = Field(default={}, alias="set")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.first > self.last:
            raise ValueError(f"from {self.first} is later than to {self.last}")
        changes = self.price_factor is not None or self.volume_factor is not None or bool(self.values)
        if changes != (self.action == "repair"):
            raise ValueError("price_factor, volume_factor or set belong to action repair, which needs one of them")
        if self.values and self.first != self.last:
            raise ValueError("set changes one day: from and to must be the same")
        return self

    def __str__(self) -> str:
        span = f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"
        return f"{self.action} {self.ticker} {span}: {self.reason}"


_OVERRIDES = TypeAdapter(tuple[Override, ...])


def load_overrides(path: Path | None) -> tuple[Override, ...]:
    """Read the file that ``QUALITY_OVERRIDES`` names; ``None``: no overrides.

    Raises
    ------
    SettingsError
        The file is missing, is not YAML, or breaks the form; the message names file, entry and key.
    """
    if path is None:
        return ()
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"QUALITY_OVERRIDES: {path} cannot be read: {reason}") from error
    except (yaml.YAMLError, ValueError) as error:  # yaml.safe_load raises ValueError for a day like 2019-02-30
        raise SettingsError(f"QUALITY_OVERRIDES: {path} is not YAML: {' '.join(str(error).split())}") from error
    example = '{ticker: AAPL, from: 2019-02-01, to: 2019-02-01, action: drop, reason: "..."}'
    if document is not None and not isinstance(document, list):
        raise SettingsError(f"QUALITY_OVERRIDES: {path} is not a list of entries, each like\n- {example}")
    try:
        return _OVERRIDES.validate_python(document or ())
    except ValidationError as error:
        lines = [
            f"QUALITY_OVERRIDES: {path}: entry {_place(problem['loc'])}: "
            f"{problem['msg'].removeprefix('Value error, ')}, not {problem['input']!r}"
            for problem in error.errors()
        ]
        raise SettingsError("\n".join([*lines, f"an entry is e.g. {example}"])) from None


def _place(location: tuple[int | str, ...]) -> str:
    """``2.from``: the second entry's key ``from``."""
    entry, *keys = location
    return ".".join([str(int(entry) + 1), *map(str, keys)])


def covered(prices: pd.DataFrame, overrides: Sequence[Override]) -> np.ndarray:
    """Which rows (``date`` and ``ticker``) lie in the span of any of ``overrides``."""
    mask = np.zeros(len(prices), dtype=bool)
    for override in overrides:
        mask |= (prices["ticker"] == override.ticker).to_numpy() & prices["date"].between(
            pd.Timestamp(override.first), pd.Timestamp(override.last)
        ).to_numpy()
    return mask


def repair(prices: pd.DataFrame, override: Override) -> tuple[pd.DataFrame, np.ndarray]:
    """The frame with the repaired bars, and which rows they are."""
    rows = covered(prices, [override])
    if not rows.any():
        return prices, rows
    repaired = prices.copy()
    if override.price_factor is not None:
        repaired.loc[rows, list(_PRICES)] *= override.price_factor
    if override.volume_factor is not None:
        repaired.loc[rows, "volume"] *= override.volume_factor
    for name, value in override.values.items():
        repaired.loc[rows, name] = float(value)
    return repaired, rows
