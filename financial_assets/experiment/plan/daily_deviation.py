"""How much the daily differences of two models are expected to vary: what a plan is sized by."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from financial_assets.errors import ExperimentError
from financial_assets.experiment.paired_score import PairedMetric

if TYPE_CHECKING:
    pass

FEWEST_REFERENCE_DAYS = 20


@dataclass(frozen=True, slots=True)
class DailyDeviation:
    """What the daily paired differences are expected to vary by.

    Attributes
    ----------
    deviation
        Standard deviation of one day's mean difference, in units of the score.
    basis
        Where the number comes from, in words.
    regime
        Factor in ``deviation`` for a block that was calmer than the past, at least 1.
    inflation
        Variance of a mean of such days over that of independent ones, at least 1.
    skewness, autocorrelation
        Of those days, the first autocorrelation in its standard errors: they decide whether a mean of days is nearly
        normal; 0 where nothing was measured.
    sample
        The days themselves, for simulations; not part of a record.
    beside
        Pairs of the name of a series, ``against <baseline>`` or ``guard <name>``, and its values on the same days,
        where they were measured; likewise.
    """

    deviation: float
    basis: str
    skewness: float = 0.0
    autocorrelation: float = 0.0
    sample: tuple[float, ...] = field(default=(), compare=False, repr=False)
    regime: float = 1.0
    inflation: float = 1.0
    beside: tuple[tuple[str, tuple[float, ...]], ...] = field(default=(), compare=False, repr=False)

    @property
    def long_run(self) -> float:
        """Deviation of independent days whose mean would be as uncertain: what power is computed from."""
        return self.deviation * math.sqrt(self.inflation)

    @classmethod
    def of_days(cls, differences: np.ndarray, basis: str) -> DailyDeviation | None:
        """Measured on days that are no evidence of the test; ``None`` with fewer than 20 or without any difference."""
        if len(differences) < FEWEST_REFERENCE_DAYS:
            return None
        deviation = float(np.std(differences, ddof=1))
        if deviation <= 0:
            return None
        # Imported here: it needs scipy, for which whoever reads recorded plans need not wait.
        from financial_assets.experiment.statistics.long_run import autocorrelation, skewness

        return cls(
            deviation,
            f"{len(differences)} days of {basis}",
            skewness=float(skewness(differences)),
            autocorrelation=float(autocorrelation(differences)),
            sample=tuple(map(float, differences)),
        )

    @classmethod
    def assumed(cls, tickers: int, metric: PairedMetric = "accuracy") -> DailyDeviation:
        """Cautious figures for when nothing was measured: models that disagree half the time, correlated tickers.

        The variance of a day's mean over ``tickers`` is ``discordance * (1 + (tickers - 1) * correlation) / tickers``
        (Kish 1965, Survey sampling: the design effect). It is that of right or wrong, and an upper bound for Brier
        scores.

        Raises
        ------
        ExperimentError
            Without a ticker, or for a loss without bound, about which nothing can be assumed.
        """
        if tickers < 1:
            raise ExperimentError("a plan needs at least one ticker")
        if metric not in ("accuracy", "brier"):
            raise ExperimentError(
                f"how much the two models differ in {metric} from day to day was not measured on 20 common days of "
                "calibration, and it cannot be assumed: train both here, give external models a data_cutoff with a "
                "year of prices before it, or set test.metric of the rollout policy to accuracy or brier"
            )
        discordance, correlation = 0.5, 0.4
        variance = discordance * (1 + (tickers - 1) * correlation) / tickers
        basis = f"assumed: discordance {discordance:g}, correlation {correlation:g} between {tickers} tickers"
        return cls(math.sqrt(variance), basis)
