"""E-process and confidence sequence for the mean of bounded daily differences, valid at every look.

A gambler starts with 1 and stakes a fraction of the capital each day on "the mean is above m". Were the mean of every
day, given the past, at most m, no stake could be expected to gain: the capital is then a non-negative supermartingale,
and reaches 1/alpha with probability at most alpha over an unlimited time (Ville 1939). Capital against m is evidence,
an *e-value*; all m that have not been refuted form a confidence sequence (Waudby-Smith and Ramdas 2024, Estimating
means of bounded random variables by betting, JRSS-B 86, arXiv 2010.09686).

The stakes are a fixed mixture: equal parts of the capital are played with constant fractions, so that whatever edge
there is, some part is near the growth-optimal stake, mean over variance (Kelly 1956; Cover 1991, universal portfolios;
Orabona and Jun 2024, arXiv 2110.14099). ``capital.STAKES`` suits any edge; ``capital.planned_stakes`` is sharper about
the one that the plan names, and as valid about all. Nothing is estimated during the test, and the result does not
depend on the order of the days. The set that is not refuted is an interval, because capital falls as m rises.

Only additions, multiplications and divisions of IEEE doubles in a fixed order make the capital: replaying the days
gives it bit for bit. The null hypothesis is the strong one: *each* day's conditional mean is at most m. A challenger
that is better in one regime only may refute it; :mod:`.bernstein` speaks of the running average instead (Choe and
Ramdas 2024, Comparing sequential forecasters, Operations Research, arXiv 2110.00115).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.errors import ExperimentError
from financial_assets.experiment.statistics import capital


@dataclass(frozen=True, slots=True, eq=False)
class BettingSequence:
    """State of a test that is fed one day at a time; :meth:`start` makes it, :meth:`update` gives the next one.

    Attributes
    ----------
    bound
        Largest possible size of a difference.
    stakes
        Fractions of the most that may be staked.
    margins
        Candidate means ``[margin]``, rising.
    days, total
        Days seen and the sum of their differences.
    up, down
        Capital by stake that the mean is above, below each margin: ``[stake, margin]``.
    peak_up, peak_down
        Largest mixed capital at any look so far ``[margin]``.
    """

    bound: float
    stakes: tuple[float, ...]
    margins: NDArray[np.float64]
    days: int
    total: float
    up: NDArray[np.float64]
    down: NDArray[np.float64]
    peak_up: NDArray[np.float64]
    peak_down: NDArray[np.float64]

    @classmethod
    def start(
        cls, margins: ArrayLike | None = None, *, bound: float = 1.0, stakes: Sequence[float] = capital.STAKES
    ) -> BettingSequence:
        """A test without data; ``margins`` default to a grid of thousandths up to a fifth of the bound."""
        if margins is None:
            margins = capital.margin_grid(bound / 1000, bound / 5, bound)
        grid = capital.checked_margins(np.asarray(margins, np.float64), bound)
        parts = capital.checked_stakes(stakes)
        shape = (len(parts), grid.size)
        peak = np.ones(grid.size)
        return cls(bound, parts, grid, 0, 0.0, np.ones(shape), np.ones(shape), peak, peak.copy())

    def update(self, difference: float) -> BettingSequence:
        """The state one day later."""
        x = float(capital.checked_days([difference], self.bound)[0])
        up = capital.play(self.up, self.stakes, (x - self.margins) / (self.bound + self.margins))
        down = capital.play(self.down, self.stakes, (self.margins - x) / (self.bound - self.margins))
        return dataclasses.replace(
            self,
            days=self.days + 1,
            total=self.total + x,
            up=up,
            down=down,
            peak_up=np.maximum(self.peak_up, capital.mixed(up)),
            peak_down=np.maximum(self.peak_down, capital.mixed(down)),
        )

    def extend(self, differences: Iterable[float]) -> BettingSequence:
        """The state after more days: bit for bit that of one :meth:`update` each, and much faster."""
        values, state = list(differences), self
        for begin in range(0, len(values), _AT_ONCE):
            state = state.follow(values[begin : begin + _AT_ONCE])[0]
        return state

    def follow(self, differences: Sequence[float]) -> tuple[BettingSequence, NDArray[np.float64], NDArray[np.float64]]:
        """The state after more days, and the mixed capital after each of them.

        Parameters
        ----------
        differences
            ``[days]``. All of them are held in memory by stake and margin: give some hundred at a time.

        Returns
        -------
        BettingSequence
            Bit for bit that of one :meth:`update` each.
        ndarray
            Capital that the mean is above each margin ``[day, margin]``.
        ndarray
            Capital that it is below.
        """
        days = capital.checked_days(differences, self.bound)[:, None, None]
        if not len(days):
            nothing = np.empty((0, self.margins.size))
            return self, nothing, nothing.copy()
        parts = np.array(self.stakes)[:, None]
        up = 1.0 + parts * ((days - self.margins) / (self.bound + self.margins))
        down = 1.0 + parts * ((self.margins - days) / (self.bound - self.margins))
        up[0] *= self.up
        down[0] *= self.down
        with np.errstate(over="ignore"):  # infinite: played day by day below
            for wealth in (up, down):
                np.multiply.accumulate(wealth, axis=0, out=wealth)
        # What exceeds the most capital is given away on the very day on which it is reached.
        if max(float(up.max()), float(down.max())) > capital.MOST_CAPITAL:
            return self._day_by_day(differences)
        total = self.total
        for x in days.ravel().tolist():
            total += x
        above, below = capital.mixed(up.swapaxes(0, 1)), capital.mixed(down.swapaxes(0, 1))
        state = dataclasses.replace(
            self,
            days=self.days + len(days),
            total=total,
            up=up[-1].copy(),
            down=down[-1].copy(),
            peak_up=np.maximum(self.peak_up, above.max(axis=0)),
            peak_down=np.maximum(self.peak_down, below.max(axis=0)),
        )
        return state, above, below

    def _day_by_day(
        self, differences: Sequence[float]
    ) -> tuple[BettingSequence, NDArray[np.float64], NDArray[np.float64]]:
        state, above, below = self, [], []
        for difference in differences:
            state = state.update(difference)
            above.append(capital.mixed(state.up))
            below.append(capital.mixed(state.down))
        return state, np.stack(above), np.stack(below)

    def log_e(self, margin: float = 0.0) -> float:
        """Logarithm of the present e-value against "the mean is not above ``margin``"."""
        at = int(np.argmin(np.abs(self.margins - margin)))
        if not math.isclose(float(self.margins[at]), margin, rel_tol=1e-9, abs_tol=1e-12):
            raise ExperimentError(
                f"margin {margin} is none of the {self.margins.size} margins from {self.margins[0]} to "
                f"{self.margins[-1]} that this test was started with: name it in the plan before the first day"
            )
        return math.log(float(capital.mixed(self.up)[at]))

    def interval(self, alpha: float) -> tuple[float, float]:
        """Two-sided confidence sequence for all days at once: the outermost margins refuted, ``alpha / 2`` a side.

        ``-bound`` and ``bound`` while none is. True means lie between these margins or at most a step of the grid
        beyond.
        """
        if not 0 < alpha < 1:
            raise ExperimentError(f"alpha must lie strictly between 0 and 1, not {alpha}")
        above, below = (np.flatnonzero(peak >= 2 / alpha) for peak in (self.peak_up, self.peak_down))
        low = float(self.margins[above[-1]]) if above.size else -self.bound
        return low, float(self.margins[below[0]]) if below.size else self.bound


_AT_ONCE = 256  # days: bounds the memory
