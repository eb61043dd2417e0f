"""Writes ``docs/features.md``: the catalogue, and where each indicator of the original system went.

    python docs/write_features.py > docs/features.md

Fed raw, most indicators of the original carry the price or volume level into the model: the same pattern at another
price looks different, and every split breaks the series. Their names are as in the original, without the ticker suffix.
"""

from __future__ import annotations

from dataclasses import dataclass

from financial_assets.features.catalogue import CATALOGUE
from financial_assets.features.feature import Feature
from financial_assets.features.indicators.covariates import SECTOR, covariate_features


@dataclass(frozen=True)
class Original:
    """An indicator of the original: its name, the set it belongs to, what it computed."""

    name: str
    group: str
    formula: str


_BASIC = (
    *((name, f"raw {name.lower()}") for name in ("Open", "High", "Low", "Close", "Volume")),
    *((f"Close_lag_{lag}", f"raw close {lag} rows before") for lag in (1, 2, 3, 4, 5)),
    *((f"Volume_lag_{lag}", f"raw volume {lag} rows before") for lag in (1, 2, 3)),
    *((f"SMA_Close_{window}", f"mean of {window} closes") for window in (5, 10, 20)),
    ("RSI_Close_14", "RSI of 14 rows, 0 to 100"),
    ("Daily_Return", "close / close[-1] - 1"),
)
_ADVANCED = (
    *((f"momentum_{window}", f"close / close[-{window}] - 1") for window in (3, 5, 10, 20)),
    *((f"volatility_{window}", f"standard deviation of {window} closes, not returns") for window in (5, 10, 20)),
    *((f"vol_ratio_{window}", f"volatility_{window} / its mean of 50 rows") for window in (5, 10, 20)),
    ("volume_sma", "mean of 20 volumes"),
    ("volume_ratio", "volume / volume_sma"),
    ("price_volume", "close * volume"),
    *((f"price_vs_sma_{window}", f"close / mean of {window} closes - 1") for window in (10, 20, 50)),
    ("high_low_ratio", "high / low"),
    ("close_vs_high", "close / high"),
    ("close_vs_low", "close / low"),
    ("gap", "open / close[-1] - 1"),
    ("intraday_return", "close / open - 1"),
    *((f"rsi_{window}", f"RSI of {window} rows, 0 to 100") for window in (9, 14, 21)),
    ("macd", "EMA 12 - EMA 26 of the close, in currency"),
    ("macd_signal", "EMA 9 of macd"),
    ("macd_histogram", "macd - macd_signal"),
    ("bb_upper", "mean + 2 standard deviations of 20 closes, in currency"),
    ("bb_lower", "mean - 2 standard deviations of 20 closes, in currency"),
    ("bb_position", "(close - bb_lower) / (bb_upper - bb_lower)"),
    ("vwap", "volume-weighted price of 20 rows, in currency"),
    ("price_vs_vwap", "close / vwap - 1"),
)

ORIGINALS: tuple[Original, ...] = (
    *(Original(name, "basic", formula) for name, formula in _BASIC),
    *(Original(name, "advanced", formula) for name, formula in _ADVANCED),
)
"""17 basic indicators per ticker and the shared daily return (35 for two tickers), and the 32 advanced ones."""


def counterparts(original: str) -> tuple[Feature, ...]:
    """The features that replace an indicator of the original."""
    return tuple(feature for feature in CATALOGUE if original in feature.replaces)


def feature_table() -> str:
    """``docs/features.md``: the catalogue, and where each indicator of the original went."""
    families: dict[str, list[Feature]] = {}
    for feature in CATALOGUE:
        families.setdefault(feature.family, []).append(feature)
    lines = [
        "# Features",
        "",
        "Written by `python docs/write_features.py > docs/features.md`; a test keeps it up to date.",
        "",
        f"{len(CATALOGUE)} features in {len(families)} families; the longest looks back "
        f"{max(feature.lookback for feature in CATALOGUE)} bars. `x[-n]` is the value n bars ago, `scale` the root",
        "mean square of the last 60 daily log returns. All are causal, unchanged when prices, volume or the market are",
        "multiplied, and equal to their neutral value when nothing moves (`tests/features/feature_laws.py`).",
    ]
    for family, members in families.items():
        lines += ["", f"## {family}", "", "| feature | bars | formula | neutral | range | source |"]
        lines += ["| --- | --- | --- | --- | --- | --- |"]
        lines += [_row(feature) for feature in members]
    lines += [
        "",
        "## covariates",
        "",
        "Made for each [covariate](covariates.md) that the settings name; `x` stands for its name. Those of the",
        "sector come with `SECTOR_INDEX`. They do not depend on a covariate's unit or zero either.",
        "",
        "| feature | bars | formula | neutral | range | source |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_row(feature) for feature in covariate_features(("x", SECTOR))]
    lines += [
        "",
        "## Indicators of the original system",
        "",
        "| original | set | it computed | here |",
        "| --- | --- | --- | --- |",
    ]
    for original in ORIGINALS:
        names = ", ".join(f"`{feature.name}`" for feature in counterparts(original.name))
        lines.append(f"| `{original.name}` | {original.group} | {_cell(original.formula)} | {names} |")
    return "\n".join(lines) + "\n"


def _row(feature: Feature) -> str:
    low, high = feature.bounds
    neutral = "" if feature.neutral is None else f"{feature.neutral:.3g}"
    return (
        f"| `{feature.name}` | {feature.lookback} | {_cell(feature.formula)} | {neutral} | {low:g} to {high:g} "
        f"| {_cell(feature.source)} |"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(feature_table(), end="")
