"""The ticker against its covariates, and the covariates themselves: made for each one that the settings name.

A covariate has no known unit: a rate, an index, a score. So nothing here depends on its unit or its zero: a covariate
that is multiplied by a positive number changes no feature (no bit, for powers of two), and one that is shifted changes
the rounding only. The level of a sector's index is positive, and only ratios of it are taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from financial_assets.errors import FeatureError
from financial_assets.features import rolling
from financial_assets.features.bars import SCALE_LOOKBACK, SCALE_WINDOW, Bars, in_daily_scale, log_return
from financial_assets.features.feature import Feature

_feature = partial(Feature, "covariates")

SECTOR = "sector"
"""Name of the covariate that holds the index of a ticker's sector."""


def covariate_features(names: Sequence[str]) -> tuple[Feature, ...]:
    """The features of covariates, in the order of their channels.

    Raises
    ------
    FeatureError
        Features of two covariates would have the same name.
    """
    prefixes = [feature_prefix(name) for name in names]
    twice = [name for name, prefix in zip(names, prefixes, strict=True) if prefixes.count(prefix) > 1]
    if twice:
        raise FeatureError(
            f"COVARIATES and COVARIATE_FILES: the features of {', '.join(twice)} would have the same names; rename one"
        )
    features: list[Feature] = []
    for place, (name, prefix) in enumerate(zip(names, prefixes, strict=True)):
        features += _of_sector(place) if name == SECTOR else _of_level(place, prefix)
    return tuple(features)


def feature_prefix(covariate: str) -> str:
    """What names of features begin with: ``^TNX - ^IRX`` is ``tnx_minus_irx``, ``SPY[-1]`` is ``spy_lag_1``."""
    text = covariate.replace(" - ", " minus ").replace(" / ", " over ").replace("[-", " lag ")
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def _of_level(place: int, prefix: str) -> list[Feature]:
    def level(bars: Bars) -> Tensor:
        return bars.covariates[place]

    def z_score(bars: Bars) -> Tensor:
        return rolling.ratio(
            level(bars) - rolling.mean(level(bars), SCALE_WINDOW), rolling.std(level(bars), SCALE_WINDOW)
        )

    def change(bars: Bars) -> Tensor:
        daily = rolling.diff(level(bars))
        usual = torch.sqrt(rolling.mean(daily * daily, SCALE_WINDOW))
        return rolling.ratio(rolling.diff(level(bars), 5), usual * 5**0.5)

    def correlation(bars: Bars) -> Tensor:
        return rolling.correlation(log_return(bars), rolling.diff(level(bars)), SCALE_WINDOW)

    return [
        _feature(
            f"{prefix}_z_score_60",
            SCALE_WINDOW,
            f"({prefix} - mean({prefix}, 60)) / standard deviation of {prefix}, 60 bars",
            "standard",
            z_score,
            bounds=(-8.0, 8.0),
        ),
        _feature(
            f"{prefix}_change_5",
            SCALE_LOOKBACK,
            f"({prefix} - {prefix}[-5]) / (root mean square of 60 daily changes * sqrt(5))",
            "standard",
            change,
            bounds=(-6.0, 6.0),
        ),
        _feature(
            f"{prefix}_correlation_60",
            SCALE_LOOKBACK,
            f"correlation of the ticker's log return with the daily change of {prefix}, 60 bars",
            "standard",
            correlation,
        ),
    ]


def _of_sector(place: int) -> list[Feature]:
    def sector_return(bars: Bars, window: int = 1) -> Tensor:
        return rolling.log_ratio(bars.covariates[place], rolling.lag(bars.covariates[place], window))

    def relative(window: int) -> Callable[[Bars], Tensor]:
        return lambda bars: in_daily_scale(bars, log_return(bars, window) - sector_return(bars, window), window)

    return [
        *(
            _feature(
                f"sector_relative_return_{window}",
                max(window + 1, SCALE_LOOKBACK),
                f"(log(close / close[-{window}]) - log(sector / sector[-{window}])) / (scale * sqrt({window}))",
                "Moskowitz and Grinblatt (1999)",
                relative(window),
                bounds=(-6.0, 6.0),
            )
            for window in (5, 20, 60)
        ),
        _feature(
            "sector_correlation_60",
            SCALE_LOOKBACK,
            "correlation of the ticker's log return with that of its sector's index, 60 bars",
            "standard",
            lambda bars: rolling.correlation(log_return(bars), sector_return(bars), SCALE_WINDOW),
        ),
    ]
