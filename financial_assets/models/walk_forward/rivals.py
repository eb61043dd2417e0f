"""Models against each other on the rows that all of them answered: Diebold and Mariano's test, model confidence sets.

Losses: log loss of the direction; of quantiles the pinball loss in units of the causal volatility, and the joint loss
of value at risk and expected shortfall at 5 %; of scores that rank a session, on demand, minus the rank correlation.
The unit is the day; intervals allow for dependent days.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from financial_assets.models.forecasts import check_forecasts
from financial_assets.models.walk_forward.quantile_heads import QUANTILE_HEADS, QuantileHead, folds_of, tail_losses
from financial_assets.models.walk_forward.ranks import rank_correlations
from financial_assets.scoring.autocorrelation import FEWEST_DAYS
from financial_assets.scoring.classification import log_losses
from financial_assets.scoring.comparison import diebold_mariano, model_confidence_set
from financial_assets.scoring.quantiles import normalised_pinball_losses

RISK_RIVALS = ("ewma", "historical", "har", "garch")
"""Whom quantiles are compared with, one by one."""

DIRECTION_RIVALS = ("majority", "logistic", "trees")
"""Whom probabilities are compared with, one by one."""

RANKING_RIVALS = ("reversal", "momentum_20", "trees")
"""Whom scores are compared with, one by one."""

LOSS_HEADS = ("direction", *(head.name for head in QUANTILE_HEADS))
"""Heads that are compared unless others are named; ``excess_return`` needs a universe that can be ranked."""

COMPARISON_COLUMNS = (
    *("model", "rival", "head", "loss", "fold"),
    *("difference", "low", "high", "p_value", "days"),
)
SET_COLUMNS = ("head", "loss", "fold", "model", "mean_loss", "p_value", "included", "days")


@dataclass(frozen=True)
class _Loss:
    """A loss of the rows of one model ``[n]``; the columns that must be known; who is compared with all others."""

    head: str
    name: str
    columns: tuple[str, ...]
    of: Callable[[pd.DataFrame], np.ndarray]
    rivals: tuple[str, ...]
    horizon: int


def _losses() -> Iterator[_Loss]:
    def of_direction(rows: pd.DataFrame) -> np.ndarray:
        return log_losses(rows["probability_up"].to_numpy(), rows["outcome"].to_numpy() > 0)

    yield _Loss("direction", "log_loss", ("probability_up", "outcome"), of_direction, DIRECTION_RIVALS, 1)
    ranked = ("score", "excess", "volatility")
    yield _Loss("excess_return", "minus_rank_ic", ranked, _minus_rank_correlation, RANKING_RIVALS, 1)
    for head in QUANTILE_HEADS:
        columns = (*head.columns, head.outcome, "volatility")
        yield _Loss(head.name, "pinball_normalised", columns, _pinball(head), RISK_RIVALS, head.horizon)
        yield _Loss(head.name, "fz_lower_5%", columns, _tail(head), RISK_RIVALS, head.horizon)


def _minus_rank_correlation(rows: pd.DataFrame) -> np.ndarray:
    """That of its session, at each row: the mean of a day is the day's. NaN where there are too few tickers."""
    return -rows["date"].map(rank_correlations(rows)).to_numpy(np.float64)


def _pinball(head: QuantileHead) -> Callable[[pd.DataFrame], np.ndarray]:
    def loss(rows: pd.DataFrame) -> np.ndarray:
        unit = rows["volatility"].to_numpy() * head.horizon**0.5
        return normalised_pinball_losses(rows[head.outcome].to_numpy(), rows[list(head.columns)].to_numpy(), unit)

    return loss


def _tail(head: QuantileHead) -> Callable[[pd.DataFrame], np.ndarray]:
    return lambda rows: tail_losses(rows, head, "lower", 0.05)


def comparison_table(
    forecasts: pd.DataFrame, *, heads: Sequence[str] = LOSS_HEADS, every_pair: bool = False
) -> pd.DataFrame:
    """Every model against each of the named rivals, on the rows that both answered.

    Parameters
    ----------
    forecasts
        Forecast table of any models and folds.
    heads
        Whose losses.
    every_pair
        Each two models once, whatever they are called, instead of the named rivals.

    Returns
    -------
    pandas.DataFrame
        ``COMPARISON_COLUMNS``: ``difference`` of the mean losses with its 95 % interval, negative where the model is
        better than the rival; ``p_value`` of equal losses, two-sided. A fold with too few days has no row.

    Raises
    ------
    ForecastError
        It is not a forecast table.
    """
    rows: list[dict[str, object]] = []
    for loss, fold, table in _loss_tables(check_forecasts(forecasts), heads):
        named = [name for name in loss.rivals if name in table]
        pairs = [(model, rival) for rival in named for model in table.columns if model != rival]
        for model, rival in combinations(table.columns, 2) if every_pair else pairs:
            both = table[[model, rival]].dropna()
            days = both.index.get_level_values("date")
            if days.nunique() < max(FEWEST_DAYS, loss.horizon + 1):
                continue
            found = diebold_mariano(both[model], both[rival], days, horizon=loss.horizon)
            keys = {"model": model, "rival": rival, "head": loss.head, "loss": loss.name, "fold": fold}
            interval = found.difference
            figures = {"difference": interval.estimate, "low": interval.low, "high": interval.high}
            rows.append({**keys, **figures, "p_value": found.p_value, "days": interval.days})
    return pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))


def confidence_sets(
    forecasts: pd.DataFrame, *, heads: Sequence[str] = LOSS_HEADS, alpha: float = 0.1, repetitions: int = 1000
) -> pd.DataFrame:
    """For each head and loss, the models that the best one may be among (Hansen, Lunde and Nason 2011).

    On the rows that all models with the head answered. Models whose losses are equal on all days are one: their names
    are joined by ``=``.

    Parameters
    ----------
    forecasts
        Forecast table of any models and folds.
    heads
        Whose losses.
    alpha
        Error rate: the best is left out with at most this probability.
    repetitions
        Of the bootstrap; its seed is fixed.

    Returns
    -------
    pandas.DataFrame
        ``SET_COLUMNS``, the best first; ``included`` says who cannot be excluded. No rows of a loss with fewer than two
        models, or of a fold with too few days.
    """
    rows: list[dict[str, object]] = []
    for loss, fold, table in _loss_tables(check_forecasts(forecasts), heads):
        daily = table.dropna(axis=1, how="all").dropna().groupby("date").mean()
        names, columns = _distinct(daily)
        if len(names) < 2 or len(daily) < FEWEST_DAYS:
            continue
        found = model_confidence_set(
            daily[columns].to_numpy(), names, alpha, horizon=loss.horizon, repetitions=repetitions
        )
        means = dict(zip(names, daily[columns].mean(), strict=True))
        for name, p_value in found.p_values.items():
            keys = {"head": loss.head, "loss": loss.name, "fold": fold, "model": name, "mean_loss": means[name]}
            rows.append({**keys, "p_value": p_value, "included": name in found.included, "days": len(daily)})
    return pd.DataFrame(rows, columns=list(SET_COLUMNS))


def _loss_tables(forecasts: pd.DataFrame, heads: Sequence[str]) -> Iterator[tuple[_Loss, str, pd.DataFrame]]:
    """For each loss and fold, the losses by date and ticker, a column per model; NaN where one did not answer."""
    for loss in (loss for loss in _losses() if loss.head in heads):
        known = forecasts.dropna(subset=list(loss.columns))
        for fold, part in folds_of(known):
            by_model: Mapping[str, pd.Series] = {
                str(model): pd.Series(loss.of(rows), index=pd.MultiIndex.from_frame(rows[["date", "ticker"]]))
                for model, rows in part.groupby("model", sort=True)
            }
            if by_model:
                yield loss, fold, pd.DataFrame(by_model)


def _distinct(daily: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Models that differ on some day: their names, joined where they do not, and a column of each."""
    groups: list[list[str]] = []
    for name in daily.columns:
        same = next((group for group in groups if _is_same(daily[group[0]], daily[name])), None)
        if same is None:
            groups.append([name])
        else:
            same.append(name)
    return [" = ".join(group) for group in groups], [group[0] for group in groups]


def _is_same(one: Sequence[float] | pd.Series, other: Sequence[float] | pd.Series) -> bool:
    # As ``model_confidence_set`` sees it: a difference that never changes has no error to be judged by.
    return bool(np.ptp(np.asarray(one) - np.asarray(other)) == 0)
