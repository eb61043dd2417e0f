"""What the forecasts of a world carry: the best variant of each question against its rivals, and its coverage.

The best of several variants on some sessions looks better there than it is. So an interval of "the best variant" holds
for all variants at once: its confidence is ``1 - 0.05 / variants`` (Bonferroni), whichever turns out to be the best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.errors import ForecastError
from financial_assets.models.walk_forward.backtests import breaches
from financial_assets.models.walk_forward.quantile_heads import (
    QUANTILE_HEADS,
    TAIL_LEVELS,
    QuantileHead,
    implied_variance,
    variance_proxy,
)
from financial_assets.models.walk_forward.rivals import RISK_RIVALS
from financial_assets.models.walk_forward.scores import rank_correlations
from financial_assets.scoring.autocorrelation import FEWEST_DAYS, long_run_mean
from financial_assets.scoring.classification import log_losses
from financial_assets.scoring.comparison import diebold_mariano
from financial_assets.scoring.coverage import UniverseCoverage, universe_coverage
from financial_assets.scoring.intervals import Interval
from financial_assets.scoring.quantiles import normalised_pinball_losses
from financial_assets.scoring.volatility import qlike_losses

ERROR_RATE = 0.05
"""Of all intervals of one question together."""

DIRECTION_RULES = ("majority", "persistence", "logistic", "trees")
"""Whom directions are compared with: a constant first, then simple ways to know something."""

Loss = Callable[[pd.DataFrame], np.ndarray]


@dataclass(frozen=True)
class Comparison:
    """The best variant by one loss against one rival, on the rows that all models with the head answered.

    Attributes
    ----------
    head, loss
        Which.
    best, rival
        Models.
    gain
        Mean loss of the rival less that of the best variant: above 0 where the variant is better.
    variants
        Among how many it is the best; the interval allows for the choice.
    """

    head: str
    loss: str
    best: str
    rival: str
    gain: Interval
    variants: int

    @property
    def verdict(self) -> str:
        """What the interval carries."""
        return "better" if self.gain.low > 0 else "worse" if self.gain.high < 0 else "not told apart"


@dataclass(frozen=True)
class Coverage:
    """Lower value at risk of one model and head over all tickers and sessions.

    Attributes
    ----------
    promised
        Share of outcomes that should lie below.
    found
        Back-test; the days are the unit.
    """

    model: str
    head: str
    promised: float
    found: UniverseCoverage

    @property
    def share(self) -> Interval:
        """Share that lay below, with its 95 % band."""
        return self.found.interval()

    @property
    def holds(self) -> bool:
        """Whether the promised share lies inside the band."""
        return self.share.low <= self.promised <= self.share.high


def level_for(variants: int) -> float:
    """Confidence of an interval of the best of so many variants."""
    return 1 - ERROR_RATE / variants


def risk_comparisons(forecasts: pd.DataFrame, variances: pd.DataFrame, variants: Sequence[str]) -> list[Comparison]:
    """The best variant by QLIKE and by pinball in units of volatility, at either horizon, against ``RISK_RIVALS``.

    Parameters
    ----------
    forecasts
        Forecast table of all models.
    variances
        ``realised_variances`` of the panel.
    variants
        Those among which the best is chosen.
    """
    rows = forecasts.merge(variances, on=["date", "ticker"], how="left", validate="many_to_one")
    found: list[Comparison] = []
    for head in QUANTILE_HEADS:
        known = rows.dropna(subset=[*head.columns, head.outcome, "volatility"])
        known = known[np.isfinite(variance_proxy(known, head))]
        for name, loss in (("QLIKE", _qlike(head)), ("pinball", _pinball(head))):
            found += _comparisons(known, (head.name, name, head.horizon), loss, variants, RISK_RIVALS)
    return found


def direction_comparisons(forecasts: pd.DataFrame, variants: Sequence[str]) -> list[Comparison]:
    """The variant with the lowest log loss against ``DIRECTION_RULES``, the first of which knows nothing."""

    def loss(rows: pd.DataFrame) -> np.ndarray:
        return log_losses(rows["probability_up"].to_numpy(), rows["outcome"].to_numpy() > 0)

    known = forecasts.dropna(subset=["probability_up", "outcome"])
    return _comparisons(known, ("direction", "log loss", 1), loss, variants, DIRECTION_RULES)


def best_ranking(forecasts: pd.DataFrame, variants: Sequence[str]) -> tuple[str, Interval] | None:
    """The variant with the highest mean rank correlation, and that mean; ``None`` in a universe too small to rank."""
    known = forecasts.dropna(subset=["score", "excess", "volatility"])
    daily = {name: rank_correlations(known[known["model"] == name]).to_numpy() for name in variants}
    daily = {name: values for name, values in daily.items() if values.size >= FEWEST_DAYS}
    if not daily:
        return None
    best = max(daily, key=lambda name: float(daily[name].mean()))
    return best, long_run_mean(daily[best], level_for(len(variants))).interval


def coverages(forecasts: pd.DataFrame) -> list[Coverage]:
    """Lower values at risk of every model that says quantiles, by head and level."""
    found: list[Coverage] = []
    for model, rows in forecasts.groupby("model", sort=True):
        for head in QUANTILE_HEADS:
            known = rows.dropna(subset=[*head.columns, head.outcome])
            # Each of the series that do not overlap needs so many days.
            if known["date"].nunique() < FEWEST_DAYS * head.horizon:
                continue
            for promised in TAIL_LEVELS:
                hits = breaches(known, head, "lower", promised).to_numpy()
                found.append(Coverage(str(model), head.name, promised, universe_coverage(hits, promised, head.horizon)))
    return found


def _comparisons(
    rows: pd.DataFrame, key: tuple[str, str, int], loss: Loss, variants: Sequence[str], rivals: Sequence[str]
) -> list[Comparison]:
    head, name, horizon = key
    losses = pd.DataFrame(
        {
            str(model): pd.Series(loss(own), index=pd.MultiIndex.from_frame(own[["date", "ticker"]]))
            for model, own in rows.groupby("model", sort=True)
        }
    )
    missing = [model for model in variants if model not in losses]
    if missing:
        raise ForecastError(f"{', '.join(missing)} has no forecasts of {head}: nothing can be compared")
    present = [rival for rival in rivals if rival in losses]
    both = losses[[*variants, *present]].dropna()
    days = both.index.get_level_values("date")
    best = str(both[list(variants)].mean().idxmin())
    level = level_for(len(variants))
    return [
        Comparison(
            head,
            name,
            best,
            rival,
            diebold_mariano(both[rival], both[best], days, horizon=horizon, level=level).difference,
            len(variants),
        )
        for rival in present
    ]


def _qlike(head: QuantileHead) -> Loss:
    return lambda rows: qlike_losses(variance_proxy(rows, head), implied_variance(rows, head))


def _pinball(head: QuantileHead) -> Loss:
    def loss(rows: pd.DataFrame) -> np.ndarray:
        unit = rows["volatility"].to_numpy() * head.horizon**0.5
        return normalised_pinball_losses(rows[head.outcome].to_numpy(), rows[list(head.columns)].to_numpy(), unit)

    return loss
