"""Back-tests of the value at risk that the models forecast: per arm, ticker and tail, on sessions with a known outcome.

The 5 % and 1 % quantiles of the predicted log return are the value at risk at 95 and 99 %; the 95 % and 99 % quantiles
are the same for who is short. A session is *beyond* one if its return is. Kupiec's test asks whether that happens as
often as promised, Christoffersen's whether it happens on days that are independent of each other. Their distribution is
that of large samples: below 2.5 expected sessions nothing is said.

One arm has many of them, so that its p-values are adjusted by Holm's method (1979) over its tickers, tails and both
tests: at one look, the chance that any of them is called wrong although all are right is at most ``FAMILY_ALPHA``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from financial_assets.experiment.statistics.multiplicity import holm
from financial_assets.scoring.risk import christoffersen_of_counts, kupiec_of_counts

FAMILY_ALPHA = 0.01
"""Chance that an arm whose value at risk is right has a back-test that says otherwise, at one look."""

_FEWEST_EXPECTED = 2.5  # sessions beyond: a year of 250 sessions for 99 %
_TESTS = ("kupiec", "independence")
Side = Literal["lower", "upper"]
TAILS: Mapping[str, tuple[Side, float]] = {
    "q05": ("lower", 0.95),
    "q01": ("lower", 0.99),
    "q95": ("upper", 0.95),
    "q99": ("upper", 0.99),
}
"""Quantile column -> side of the return, and level of the value at risk."""


@dataclass(frozen=True, slots=True)
class TailBackTest:
    """One tail of one ticker's forecasts by one arm.

    Attributes
    ----------
    model, role, ticker
        Whose forecasts, of what.
    side, level
        ``lower``: losses of who is long; ``upper``: of who is short. 0.95 or 0.99.
    sessions, beyond
        Sessions with a known outcome, and those beyond the value at risk.
    expected
        ``sessions * (1 - level)``.
    kupiec, independence
        p-values of Kupiec's test of the frequency and Christoffersen's of independence; ``None`` with too few sessions.
    kupiec_holm, independence_holm
        The same, adjusted for the number of tests of the arm.
    """

    model: str
    role: str
    ticker: str
    side: Side
    level: float
    sessions: int
    beyond: int
    expected: float
    kupiec: float | None
    independence: float | None
    kupiec_holm: float | None = None
    independence_holm: float | None = None

    @property
    def verdict(self) -> str:
        """``fine``, ``too many``, ``too few``, ``in clusters``, or how many sessions are needed."""
        if self.kupiec_holm is None or self.independence_holm is None:
            return f"{_fewest(self.level):,} sessions are needed"
        if self.kupiec_holm <= FAMILY_ALPHA:
            return "too many" if self.beyond > self.expected else "too few"
        return "in clusters" if self.independence_holm <= FAMILY_ALPHA else "fine"

    @property
    def failed(self) -> bool:
        """Whether a test rejects after adjustment."""
        return self.verdict in ("too many", "too few", "in clusters")

    @property
    def name(self) -> str:
        """``VaR 95 %``; of the upper tail ``VaR 95 % of a short position``."""
        return f"VaR {100 * self.level:g} %" + (" of a short position" if self.side == "upper" else "")

    @property
    def sentence(self) -> str:
        """``26 of 500 sessions beyond it (25 expected; Kupiec p = 0.84, independence p = 0.51)``."""
        expected = f"{round(self.expected, 1):g} expected"
        if self.kupiec is None or self.independence is None:
            tests = f"too few for a test, {_fewest(self.level):,} sessions are needed"
        else:
            tests = f"Kupiec p = {self.kupiec:.2g}, independence p = {self.independence:.2g}"
        return f"{self.beyond:,} of {self.sessions:,} sessions beyond it ({expected}; {tests})"


def backtest_arms(rows: Mapping[str, pd.DataFrame], roles: Mapping[str, str]) -> tuple[TailBackTest, ...]:
    """The back-tests of all arms, in the order of ``roles``.

    Parameters
    ----------
    rows
        Model -> its due predictions, see :func:`backtest_arm`.
    roles
        Model -> role.
    """
    return tuple(
        tail for model, role in roles.items() if model in rows for tail in backtest_arm(model, role, rows[model])
    )


def backtest_arm(model: str, role: str, rows: pd.DataFrame) -> tuple[TailBackTest, ...]:
    """The back-tests of one arm, by ticker and tail.

    Parameters
    ----------
    model, role
        Of the arm.
    rows
        ``session``, ``ticker``, ``q01``, ``q05``, ``q95``, ``q99`` and ``log_return``; each session and ticker once.
        Sessions without a row are left out: the one after such a gap counts as the next.
    """
    columns = [*TAILS, "log_return"]
    numbers = {name: rows[name].to_numpy(np.float64) for name in columns}
    answered = np.flatnonzero(~np.any([np.isnan(values) for values in numbers.values()], axis=0))
    codes, names = pd.factorize(rows["ticker"].to_numpy()[answered], sort=True)
    order = answered[np.lexsort((rows["session"].to_numpy()[answered], codes))]
    numbers = {name: values[order] for name, values in numbers.items()}
    sessions = np.bincount(codes, minlength=len(names))
    counted = {
        column: _counts(
            numbers["log_return"] < numbers[column] if side == "lower" else numbers["log_return"] > numbers[column],
            sessions,
        )
        for column, (side, _) in TAILS.items()
    }
    tails = [
        (str(ticker), column, int(sessions[place]), counted[column][place])
        for place, ticker in enumerate(names)
        for column in TAILS
    ]
    tested = {
        f"{place} {name}": p_value
        for place, (_, column, count, beyond) in enumerate(tails)
        if count >= _fewest(TAILS[column][1])
        for name, p_value in zip(_TESTS, _p_values(column, count, *beyond), strict=True)
    }
    adjusted = holm(tested)
    return tuple(
        TailBackTest(
            model=model,
            role=role,
            ticker=ticker,
            side=TAILS[column][0],
            level=TAILS[column][1],
            sessions=count,
            beyond=beyond[0],
            expected=count * (1 - TAILS[column][1]),
            kupiec=tested.get(f"{place} kupiec"),
            independence=tested.get(f"{place} independence"),
            kupiec_holm=adjusted.get(f"{place} kupiec"),
            independence_holm=adjusted.get(f"{place} independence"),
        )
        for place, (ticker, column, count, beyond) in enumerate(tails)
    )


def _counts(beyond: np.ndarray, sessions: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Of each ticker: sessions beyond; of neighbours, both beyond, the first, and the second.

    ``beyond`` are the sessions of one ticker after those of the other, as many of each as ``sessions`` says.
    """
    ticker = np.repeat(np.arange(len(sessions)), sessions)
    neighbours = ticker[1:] == ticker[:-1]
    before, after = beyond[:-1] & neighbours, beyond[1:] & neighbours
    pairs = (beyond, ticker), (before & after, ticker[1:]), (before, ticker[1:]), (after, ticker[1:])
    counts = [np.bincount(of[flags], minlength=len(sessions)).tolist() for flags, of in pairs]
    return list(zip(*counts, strict=True))


def summary(tails: Sequence[TailBackTest]) -> str:
    """What the back-tests of one arm say together, in one sentence or two."""
    tested = [tail for tail in tails if tail.kupiec is not None]
    if not tested:
        most = max((tail.sessions for tail in tails), default=0)
        return f"Too few sessions for a back-test: {most:,} have a known outcome, {_fewest(0.95):,} are needed."
    wrong = [f"{tail.ticker}, {tail.name}: {tail.verdict}, {tail.sentence}" for tail in tails if tail.failed]
    family = f"at a family level of {100 * FAMILY_ALPHA:g} % (Holm)"
    if wrong:
        return f"{len(wrong)} of {len(tested)} tails are rejected {family}. {'; '.join(wrong)}."
    untested = len(tails) - len(tested)
    left = f" {untested} more have too few sessions." if untested else ""
    return f"No tail is rejected of {len(tested)} {family}.{left}"


def _p_values(column: str, sessions: int, beyond: int, both: int, first: int, second: int) -> tuple[float, float]:
    """Of Kupiec's test and Christoffersen's, by what :func:`_counts` counts."""
    frequency = kupiec_of_counts(beyond, sessions, 1 - TAILS[column][1])
    return frequency.p_value, christoffersen_of_counts(both, first, second, sessions - 1).p_value


def _fewest(level: float) -> int:
    return round(_FEWEST_EXPECTED / (1 - level))
