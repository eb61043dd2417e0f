"""Risk of positions on one session, from its signals and the joint residuals of its prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from financial_assets.errors import PortfolioError
from financial_assets.experiment.outcomes import outcome_matrices
from financial_assets.models.heads import HORIZONS
from financial_assets.portfolio.joint_risk.backtest import CoverageTest, PastForecasts, back_test
from financial_assets.portfolio.joint_risk.measures import PortfolioRisk, portfolio_risk
from financial_assets.portfolio.joint_risk.residuals import MOST_SCENARIOS, JointResiduals
from financial_assets.portfolio.joint_risk.scenarios import ForecastRange, scenario_returns
from financial_assets.workflows.desk.session import DeskSession

_SUFFIX = {1: "", 5: "_5d"}
_OUTCOME = {1: "log_return", 5: "outcome_5d"}


@dataclass(frozen=True, eq=False)
class HorizonRisk:
    """Risk over one horizon: ``sessions`` ahead, and how the 95 and 99 % value at risk of the whole has held."""

    sessions: int
    risk: PortfolioRisk
    back_test: tuple[CoverageTest, ...]


class DeskRisk:
    """Scenarios of one session, made once and used for every portfolio.

    Parameters
    ----------
    session
        Signals, prices and past forecasts.
    """

    def __init__(self, session: DeskSession) -> None:
        self.session = session

    @cached_property
    def residuals(self) -> Mapping[int, JointResiduals]:
        """By horizon."""
        return {horizon: JointResiduals.of(self.session.panel, horizon) for horizon in HORIZONS}

    @property
    def horizons(self) -> tuple[int, ...]:
        """Horizons that the model behind the signals answers for."""
        has_all = bool(self.session.signals["q05_5d"].notna().all())
        return tuple(horizon for horizon in HORIZONS if horizon == 1 or has_all)

    def scenarios(self, tickers: Sequence[str], horizon: int = 1, *, most: int = MOST_SCENARIOS) -> np.ndarray:
        """Simple returns ``[scenario, ticker]`` over ``horizon`` sessions from the as-of session on.

        Raises
        ------
        PortfolioError
            A ticker has no signal, or there are too few sessions in common.
        """
        rows = self.session.by_ticker
        missing = [name for name in tickers if name not in rows]
        if missing:
            raise PortfolioError(f"no signal of {', '.join(missing)} on {self.session.as_of:%Y-%m-%d}")
        columns = [f"{name}{_SUFFIX[horizon]}" for name in ("q05", "q50", "q95")]
        forecast = ForecastRange.of(*([rows[name][column] for name in tickers] for column in columns))
        return scenario_returns(self.residuals[horizon].known_at(self.session.as_of, tickers, most=most), forecast)

    def assess(
        self, values: Mapping[str, float], *, most: int = MOST_SCENARIOS, tested: bool = False
    ) -> tuple[HorizonRisk, ...]:
        """Risk of positions, by horizon.

        Parameters
        ----------
        values
            Ticker -> market value, negative for a short position.
        most
            Latest sessions that are scenarios.
        tested
            Also back-test the value at risk of these positions on all past sessions of the model.

        Raises
        ------
        PortfolioError
            See :meth:`scenarios`.
        """
        tickers, held = tuple(values), np.fromiter(values.values(), np.float64, len(values))
        return tuple(
            HorizonRisk(
                horizon,
                portfolio_risk(held, self.scenarios(tickers, horizon, most=most)),
                back_test(held, tickers, self.residuals[horizon], self._past(tickers, horizon), most=most)
                if tested
                else (),
            )
            for horizon in self.horizons
        )

    def _past(self, tickers: Sequence[str], horizon: int) -> PastForecasts:
        """What the model answered on earlier sessions, and what happened."""
        past, panel = self.session.past, self.session.panel
        sessions = pd.DatetimeIndex(np.sort(past["session"].unique()))

        def matrix(name: str) -> np.ndarray:
            table = past.pivot(index="session", columns="ticker", values=f"{name}{_SUFFIX[horizon]}")
            return table.reindex(index=sessions, columns=list(tickers)).to_numpy(np.float64)

        outcome = outcome_matrices(panel, (_OUTCOME[horizon],))[_OUTCOME[horizon]]
        rows = [panel.tickers.index(name) for name in tickers]
        places = panel.sessions.get_indexer(sessions)
        return PastForecasts(sessions, matrix("q05"), matrix("q50"), matrix("q95"), outcome[rows][:, places].T)
