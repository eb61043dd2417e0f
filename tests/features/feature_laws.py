"""The laws that every feature keeps, as checkers: causal, fixed lookback, scale-invariant, always finite.

The property tests run them over the whole catalogue, and against planted violators that they must catch. Bars are
float32 ``[ticker, 7, session]`` in the channel order of ``PricePanel``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from financial_assets.features.bars import BAR_CHANNELS
from financial_assets.features.causality import same_bits
from financial_assets.features.graph import FeatureGraph

SCALE_TOLERANCE = 2e-3
"""Largest change, as a share of a feature's range, when bars are multiplied by a factor that is no power of two.

Each rescaled price is rounded anew (6e-8), which a difference of nearby prices magnifies some thousand times.
"""

_CHANNEL = {name: place for place, name in enumerate(BAR_CHANNELS)}
_PRICES = slice(_CHANNEL["open"], _CHANNEL["close"] + 1)


@dataclass(frozen=True)
class Violation:
    """A feature that breaks a law, and how."""

    law: str
    feature: str
    detail: str


def causal_violations(graph: FeatureGraph, bars: Tensor, later: Tensor) -> tuple[Violation, ...]:
    """Features whose values over ``bars`` change, in any bit, when the bars ``later`` follow or the axis ends there."""
    sessions = bars.shape[-1]
    with torch.inference_mode():
        alone, followed = graph(bars), graph(torch.cat((bars, later), dim=-1))[..., :sessions]
    return _differences("causal", graph, alone, followed, "changes with later bars")


def fixed_lookback_violations(graph: FeatureGraph, bars: Tensor) -> tuple[Violation, ...]:
    """Features whose last value is not, bit for bit, that of their last ``lookback`` bars alone, or after NaN."""
    violations: list[Violation] = []
    with torch.inference_mode():
        whole = graph(bars)[..., -1:]
        for lookback, rows in _by_lookback(graph):
            if lookback > bars.shape[-1]:
                raise ValueError(f"{lookback} bars are needed to check the law, not {bars.shape[-1]}")
            poisoned = bars.clone()
            poisoned[..., :-lookback] = torch.nan
            window, after_nan = graph(bars[..., -lookback:])[..., -1:], graph(poisoned)[..., -1:]
            violations += _differences("fixed_lookback", graph, whole, window, f"needs more than {lookback} bars", rows)
            violations += _differences(
                "fixed_lookback", graph, whole, after_nan, f"NaN {lookback} bars ago matters", rows
            )
    return tuple(violations)


def tightness_violations(graph: FeatureGraph, bars: Tensor) -> tuple[Violation, ...]:
    """Features that never feel the oldest of their ``lookback`` bars: they claim more than they need."""
    violations: list[Violation] = []
    with torch.inference_mode():
        whole = graph(bars)[..., -1]
        for lookback, rows in _by_lookback(graph):
            moved = [graph(_oldest_moved(bars[..., -lookback:], factor))[..., -1] for factor in (3.0, 1.0 / 3.0)]
            felt = torch.stack([whole != other for other in moved]).any(dim=0).any(dim=0)
            violations += [
                Violation("tight", graph.names[row], f"does not depend on the oldest of {lookback} bars")
                for row in rows
                if not bool(felt[row])
            ]
    return tuple(violations)


def scale_violations(
    graph: FeatureGraph, bars: Tensor, *, prices: float = 1.0, volume: float = 1.0, market: float = 1.0
) -> tuple[Violation, ...]:
    """Features that change when prices, volume and market are multiplied.

    Powers of two must not change a bit; other factors may change ``SCALE_TOLERANCE`` of a feature's range.
    """
    scaled = bars.clone()
    scaled[..., _PRICES, :] *= prices
    scaled[..., _CHANNEL["volume"], :] *= volume
    scaled[..., _CHANNEL["market"], :] *= market
    with torch.inference_mode():
        before, after = graph(bars), graph(scaled)
    exact = all(np.frexp(factor)[0] == 0.5 for factor in (prices, volume, market))
    if not exact:
        known = graph.lookback - 1
        close = (before - after).abs() <= SCALE_TOLERANCE * (graph.high - graph.low)
        before, after = before[..., known:], torch.where(close, before, after)[..., known:]
    detail = f"changes with prices x {prices:g}, volume x {volume:g}, market x {market:g}"
    return _differences("scale", graph, before, after, detail)


def always_finite_violations(graph: FeatureGraph, bars: Tensor) -> tuple[Violation, ...]:
    """Features that are not finite somewhere, before they are clipped: clipping would hide an infinity."""
    with torch.inference_mode():
        sound = torch.isfinite(graph.unclipped(bars))
    rows = torch.nonzero(~sound.movedim(-2, 0).flatten(1).all(dim=1)).flatten().tolist()
    return tuple(Violation("always_finite", graph.names[row], "is not finite") for row in rows)


def neutral_violations(
    graph: FeatureGraph, still: Tensor, families: Sequence[str] | None = None
) -> tuple[Violation, ...]:
    """Features that are not exactly neutral at the end of bars in which nothing moves, or nothing is traded.

    ``families`` restricts the check; features without a neutral value (of the date alone) are left out.
    """
    with torch.inference_mode():
        values = graph(still)[..., -1]
    return tuple(
        Violation("always_finite", feature.name, f"is {values[..., row].flatten()[0]:g}, not {feature.neutral:g}")
        for row, feature in enumerate(graph.features)
        if feature.neutral is not None
        and (families is None or feature.family in families)
        and not bool((values[..., row] == torch.tensor(feature.neutral, dtype=values.dtype)).all())
    )


def _differences(
    law: str, graph: FeatureGraph, a: Tensor, b: Tensor, detail: str, rows: Sequence[int] | None = None
) -> tuple[Violation, ...]:
    agree = same_bits(a, b).movedim(-2, 0).flatten(1).all(dim=1)
    return tuple(
        Violation(law, name, detail)
        for row, name in enumerate(graph.names)
        if not bool(agree[row]) and (rows is None or row in rows)
    )


def _by_lookback(graph: FeatureGraph) -> Iterator[tuple[int, list[int]]]:
    for lookback in sorted({feature.lookback for feature in graph.features}):
        yield lookback, [row for row, feature in enumerate(graph.features) if feature.lookback == lookback]


def _oldest_moved(window: Tensor, factor: float) -> Tensor:
    moved = window.clone()
    moved[..., _PRICES, 0] *= factor
    # A range that is only rescaled would go unnoticed by what looks at its shape.
    moved[..., _CHANNEL["close"], 0] *= factor
    moved[..., _CHANNEL["volume"], 0] *= 2.0 * factor
    moved[..., _CHANNEL["market"], 0] *= factor
    moved[..., len(_CHANNEL) :, 0] *= factor
    moved[..., _CHANNEL["day"], 0] -= 2.0 if factor > 1.0 else 3.0
    return moved


def covariate_scale_violations(
    graph: FeatureGraph, bars: Tensor, *, factor: float = 1.0, shift: float = 0.0
) -> tuple[Violation, ...]:
    """Features that change when covariates are multiplied by a positive ``factor`` and shifted.

    Powers of two must not change a bit; other factors, and shifts, may change ``SCALE_TOLERANCE`` of a feature's range.
    """
    scaled = bars.clone()
    scaled[..., len(_CHANNEL) :, :] = scaled[..., len(_CHANNEL) :, :] * factor + shift
    with torch.inference_mode():
        before, after = graph(bars), graph(scaled)
    if shift or np.frexp(factor)[0] != 0.5:
        known = graph.lookback - 1
        close = (before - after).abs() <= SCALE_TOLERANCE * (graph.high - graph.low)
        before, after = before[..., known:], torch.where(close, before, after)[..., known:]
    return _differences("scale", graph, before, after, f"changes with covariates x {factor:g} + {shift:g}")
