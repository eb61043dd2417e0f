"""Scores of one forecaster on given rows: accuracy, proper scores, quantiles, profit and loss, and the leak alarm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from financial_assets.experiment.evaluation.measures import ProfitAndLoss, Skill, TickerSkill
from financial_assets.experiment.metrics.metric import Metric
from financial_assets.experiment.metrics.paired import without_gaps
from financial_assets.experiment.metrics.registry import EARLIER_METRICS
from financial_assets.experiment.prediction_log.schema import QUANTILE_COLUMNS
from financial_assets.models.scores import LeakCheck, leak_alarm
from financial_assets.portfolio import performance, simulation
from financial_assets.portfolio.books import positions_from_probabilities
from financial_assets.scoring.classification import hits, majority_rate, reliability_curve
from financial_assets.scoring.intervals import Interval, day_clustered_mean, day_clustered_proportion


@dataclass(frozen=True)
class TradingGrid:
    """Traded returns on all evaluated tickers and every session from the first evaluated one to the last.

    Attributes
    ----------
    tickers, sessions
        Axes.
    exits
        Session at whose open a position of each session is left ``[session]``: the second after it.
    returns
        Simple returns ``[ticker, session]``, open t+1 to open t+2; NaN where not known or not evaluated.
    """

    tickers: pd.Index
    sessions: pd.DatetimeIndex
    exits: pd.DatetimeIndex
    returns: np.ndarray

    def place(self, rows: pd.DataFrame, column: str) -> np.ndarray:
        """A column of ``rows`` as ``[ticker, session]``; NaN where there is no row."""
        return self.spread(self.spots(rows), rows[column])

    def spots(self, rows: pd.DataFrame) -> np.ndarray:
        """Where rows lie on the grid ``[row]``, for :meth:`spread`."""
        row = self.tickers.get_indexer(pd.Index(rows["ticker"]))
        return row * len(self.sessions) + self.sessions.get_indexer(pd.DatetimeIndex(rows["session"]))

    def spread(self, spots: np.ndarray, values: pd.Series) -> np.ndarray:
        """Values of rows as ``[ticker, session]``; NaN where there is no row."""
        grid = np.full((len(self.tickers), len(self.sessions)), np.nan)
        grid.ravel()[spots] = values
        return grid


def trading_grid(rows: pd.DataFrame, sessions: pd.DatetimeIndex) -> TradingGrid:
    """The grid of ``rows`` (``session``, ``ticker``, ``traded_return``) on the calendar ``sessions``."""
    within = sessions[(sessions >= rows["session"].min()) & (sessions <= rows["session"].max())]
    tickers = pd.Index(sorted(rows["ticker"].unique()))
    # Beyond the calendar nothing is traded yet, so that the last session may stand for those to come.
    exits = sessions[np.minimum(sessions.get_indexer(within) + 2, len(sessions) - 1)]
    grid = TradingGrid(tickers, within, exits, np.empty(0))
    return replace(grid, returns=grid.place(rows, "traded_return"))


def skill_of(name: str, role: str, rows: pd.DataFrame, grid: TradingGrid, cost_bps: float, level: float) -> Skill:
    """Score one forecaster.

    Parameters
    ----------
    name, role
        As shown.
    rows
        One row per session and ticker: ``probability_up``, ``q01`` ... ``q99`` (NaN where it gives none), ``up``,
        ``log_return``.
    grid
        Traded returns.
    cost_bps
        Costs per side in basis points.
    level
        Confidence of the intervals.
    """
    direction, quantiles = without_gaps(rows, ["probability_up"]), without_gaps(rows, QUANTILE_COLUMNS)
    probability, has_direction = direction["probability_up"].to_numpy(), len(direction) > 0
    return Skill(
        name=name,
        role=role,
        accuracy=accuracy_of(direction, level),
        brier=_loss(EARLIER_METRICS["brier"], direction, level),
        log_loss=_loss(EARLIER_METRICS["log_loss"], direction, level),
        pinball=_loss(EARLIER_METRICS["pinball"], quantiles, level),
        coverage_90=_coverage(quantiles, "q05", "q95", level),
        coverage_98=_coverage(quantiles, "q01", "q99", level),
        share_up=float(np.mean(probability > 0.5)) if has_direction else None,
        pnl=profit_of(direction, grid, cost_bps) if has_direction else None,
        reliability=reliability_curve(probability, direction["up"].to_numpy()) if has_direction else (),
    )


def accuracy_of(rows: pd.DataFrame, level: float) -> Interval | None:
    """Share of right directions with its day-clustered interval; ``None`` with fewer than two days."""
    if rows["session"].nunique() < 2:
        return None
    right = hits(rows["probability_up"].to_numpy(), rows["up"].to_numpy())
    return day_clustered_proportion(right, rows["session"].to_numpy(), level)


def buy_and_hold(grid: TradingGrid, cost_bps: float) -> ProfitAndLoss | None:
    """Long in every evaluated ticker all the time."""
    if not np.isfinite(grid.returns).any():
        return None
    return _summary(simulation.buy_and_hold(grid.returns, cost_bps), grid)


def ticker_skills(rows: dict[str, pd.DataFrame]) -> tuple[TickerSkill, ...]:
    """Accuracy by ticker of each forecaster; ``rows`` are frames by forecaster, the first gives the counts."""
    if not rows:
        return ()
    shares = dict[str, dict[str, float]]()
    for name, frame in rows.items():
        right = hits(frame["probability_up"].to_numpy(), frame["up"].to_numpy())
        shares[name] = {ticker: share for ticker, (_, share) in _shares(frame, right).items()}
    reference = next(iter(rows.values()))
    return tuple(
        TickerSkill(
            ticker=ticker,
            observations=count,
            share_up=share_up,
            accuracy={name: own[ticker] for name, own in shares.items() if ticker in own},
        )
        for ticker, (count, share_up) in _shares(reference, reference["up"].to_numpy(bool)).items()
    )


def _shares(rows: pd.DataFrame, flags: np.ndarray) -> dict[str, tuple[int, float]]:
    """Ticker -> how many rows it has, and the share of them that is flagged."""
    codes, tickers = pd.factorize(rows["ticker"], sort=True)
    counts, flagged = np.bincount(codes, minlength=len(tickers)), np.bincount(codes[flags], minlength=len(tickers))
    shares = zip(counts.tolist(), (flagged / counts).tolist(), strict=True)
    return dict(zip(map(str, tickers), shares, strict=True))


def _loss(metric: Metric, rows: pd.DataFrame, level: float) -> Interval | None:
    """Mean loss with its day-clustered interval; ``None`` with fewer than two days."""
    if rows["session"].nunique() < 2:
        return None
    return day_clustered_mean(-metric.scores(rows), rows["session"].to_numpy(), level)


def _coverage(rows: pd.DataFrame, low: str, high: str, level: float) -> Interval | None:
    if rows["session"].nunique() < 2:
        return None
    inside = rows["log_return"].between(rows[low], rows[high]).to_numpy()
    return day_clustered_proportion(inside, rows["session"].to_numpy(), level)


def profit_of(rows: pd.DataFrame, grid: TradingGrid, cost_bps: float) -> ProfitAndLoss | None:
    """Profit and loss of taking the side of each answer; ``None`` where no return is known.

    Parameters
    ----------
    rows
        ``session``, ``ticker``, ``probability_up`` without NaN.
    grid
        Traded returns.
    cost_bps
        Costs per side in basis points.
    """
    if not np.isfinite(grid.returns).any():
        return None
    positions = positions_from_probabilities(grid.place(rows, "probability_up"))
    result = simulation.profit_and_loss(positions, grid.returns, cost_bps)
    return _summary(result, grid)


def _summary(result: simulation.PortfolioReturns, grid: TradingGrid) -> ProfitAndLoss:
    # Ratios of a book that was wiped out are those of the days until then: the empty days after would dilute them.
    until_ruin = performance.until_ruin(result.net)
    net, before = result.net, np.hstack([np.zeros((len(result.held), 1)), result.held[:, :-1]])
    trades = int(np.count_nonzero((result.held != 0) & (result.held != before)))
    return ProfitAndLoss(
        sharpe=performance.sharpe_ratio(until_ruin),
        total_return=performance.cumulative_return(net),
        max_drawdown=performance.max_drawdown(net),
        win_rate=performance.win_rate(until_ruin),
        turnover_cost=float(result.costs.sum()),
        trades=trades,
        per_trade=float(net.sum()) * len(result.held) / trades if trades else None,
        daily=tuple(map(float, net)),
        wiped_out=None if result.wiped_out is None else grid.exits[result.wiped_out].date().isoformat(),
    )


def leak_checks(rows: Mapping[str, pd.DataFrame], *, bayes_accuracy: float | None = None) -> dict[str, LeakCheck]:
    """The leak alarm on served answers: no arm may be right too often to be honest.

    Parameters
    ----------
    rows
        Model -> its due answers after its own data cut-off (``session``, ``probability_up``, ``up``).
    bayes_accuracy
        Of a simulated market, see ``leak_alarm``.

    Returns
    -------
    dict
        Model name to verdict, for arms with due outcomes on at least two days (an interval needs two).
    """
    return {
        model: leak_alarm(
            hits(answers["probability_up"].to_numpy(), answers["up"].to_numpy()),
            answers["session"].to_numpy(),
            majority_rate(answers["up"].to_numpy()),
            bayes_accuracy=bayes_accuracy,
        )
        for model, answers in rows.items()
        if answers["session"].nunique() > 1
    }
